"""`ledger sweep` at the command line: once and again and again, for people and for machines, and how it is stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, origin
from ledger.cli import sweeping
from ledger.cli.main import main
from ledger.events import Heartbeat, Launched, Started
from tests.store.crowd import ROOT

SILENT = timedelta(hours=2)


@pytest.fixture
def ledger(path: Path) -> Path:
    """Make a ledger with one run that is lost, one that never beat, and one of each that is a job's."""
    then = origin.utc_now() - SILENT
    with Ledger(path) as book:
        for run, job in (("lost", None), ("unknown", None), ("lost-job", "1014"), ("unknown-job", "1010")):
            book.append(
                [Launched(run_id=run, occurred_at=then, instance_id=job), Started(run_id=run, occurred_at=then)]
            )
            if run.startswith("lost"):
                book.append(Heartbeat(run_id=run, occurred_at=then))
    return path


@pytest.fixture
def sacct(tmp_path: Path) -> str:
    """Give a command line, with a blank in it, that answers as sacct does: one job runs, one has ended."""
    folder = tmp_path / "login node"
    folder.mkdir()
    ended = int((origin.utc_now() - timedelta(hours=1)).timestamp())
    lines = f"1010|1010|OUT_OF_MEMORY|0:125|1714550400|{ended}\n1014|1014|RUNNING|0:0|1714550400|Unknown\n"
    script = folder / "sacct"
    script.write_text(f"#!/bin/sh\nprintf '{lines}'\n".replace("\n1014", "\\n1014").replace("Unknown\n", "Unknown\\n"))
    script.chmod(0o755)
    return shlex.quote(str(script))


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    return (main(list(words)), *capsys.readouterr())


def statuses(path: Path) -> dict[str, str]:
    with Ledger(path) as book:
        return {row["run_id"]: row["status"] for row in book.query_runs()}


def test_people_see_each_run_and_why(ledger: Path, sacct: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a run, and how many have ended."""
    code, out, err = asked(capsys, "--db", str(ledger), "sweep", "--sacct", sacct, "--witness", "slurm")
    masked = re.sub(r"2:0\d:\d\d", "2:00:00", out)  # a clock goes on
    lines = [line.split(maxsplit=2) for line in masked.splitlines()[2:-1]]

    assert (code, err) == (0, "")
    assert sorted(lines) == [
        ["lost", "lost", "presumed crashed  silent for 2:00:00; no witness knows of it"],
        ["lost-job", "lost", "left              slurm: job 1014 is RUNNING"],
        ["unknown", "unknown", "left              it never beat, so only a witness could tell"],
        ["unknown-job", "unknown", "crashed           slurm: job 1010 ended as OUT_OF_MEMORY"],
    ]
    assert out.splitlines()[-1] == "2 runs ended"
    assert statuses(ledger) == {
        "lost": "crashed",
        "lost-job": "running",
        "unknown": "running",
        "unknown-job": "crashed",
    }


def test_machines_get_the_verdicts(ledger: Path, sacct: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With all that was concluded, by name."""
    said = ("--db", str(ledger), "--json", "sweep", "--sacct", sacct, "--witness", "slurm")
    code, out, err = asked(capsys, *said)
    verdicts = {verdict["run_id"]: verdict for verdict in json.loads(out)["verdicts"]}

    assert (code, err) == (0, "")
    ended_at = verdicts["unknown-job"].pop("ended_at")
    assert verdicts["unknown-job"] == {
        "run_id": "unknown-job", "liveness": "unknown", "action": "crashed", "end_reason": "oom", "detected_by": "slurm",
        "presumed": False, "exit_code": None, "why": "slurm: job 1010 ended as OUT_OF_MEMORY",
    }  # fmt: skip
    with Ledger(ledger) as book:
        row = book.get_run("unknown-job")
    assert row is not None
    assert row["ended_at"] == ended_at
    assert {run: verdict["action"] for run, verdict in verdicts.items()} == {
        "lost": "crashed", "lost-job": "left", "unknown": "left", "unknown-job": "crashed",
    }  # fmt: skip


def test_a_dry_run_says_that_it_is_one(ledger: Path, sacct: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And leaves every run as it was."""
    code, out, _ = asked(capsys, "--db", str(ledger), "sweep", "--dry-run", "--sacct", sacct, "--witness", "slurm")

    assert (code, out.splitlines()[-1]) == (0, "2 runs would be ended; nothing was recorded")
    assert set(statuses(ledger).values()) == {"running"}


def test_nothing_to_find_is_no_failure(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code says nothing of it; there has to be a ledger."""
    assert asked(capsys, "--db", str(path), "sweep")[0] == 3
    with Ledger(path) as book:
        book.init_db()
    assert asked(capsys, "--db", str(path), "sweep") == (0, "no run is lost, and none is unknown\n", "")
    assert json.loads(asked(capsys, "--db", str(path), "sweep", "--json")[1]) == {"verdicts": []}


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["--every", "soon"], 'argument --every: a span of time is wanted: seconds, or "90s"'),
        (["--every", "0"], "more than nothing is wanted"),
        (["--witness", "slrum"], "Did you mean 'slurm'?"),
        (["--sacct", "ssh 'x"], "a command line is wanted"),
        (["--sacct", "sacct", "--witness", "process"], "slurm is not asked here"),
        (["--region", "us-east-1", "--witness", "process"], "ec2 is not asked here"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    path: Path, words: list[str], mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the mend, before the ledger is opened."""
    code, _, err = asked(capsys, "--db", str(path), "sweep", *words)

    assert (code, mend in err) == (2, True), err
    assert not path.exists()


def test_a_witness_that_cannot_be_asked_is_said_on_stderr(ledger: Path, tmp_path: Path) -> None:
    """And the sweep goes on without it: what a person sees who runs it by hand."""
    command = ["sweep", "--sacct", str(tmp_path / "none"), "--witness", "slurm", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "ledger", "--db", str(ledger), *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "sweep: slurm has no word to say." in done.stderr
    assert "slurm could not be asked" in done.stdout


@contextmanager
def sweeping_on(path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run `ledger sweep --every` in a process of its own, and end it at last."""
    command = [
        sys.executable,
        "-m",
        "ledger",
        "--db",
        str(path),
        "sweep",
        "--every",
        "0.1s",
        "--witness",
        "process",
        *words,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_DB_")}
    with subprocess.Popen(command, cwd=ROOT, text=True, env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_goes_on_until_it_is_stopped(ledger: Path, number: signal.Signals, code: int) -> None:
    """One line of JSON a sweep; what falls silent meanwhile is found; SIGTERM ends it quietly, Ctrl-C as always."""
    with sweeping_on(ledger, "--json") as process:
        first, second = line(process), line(process)
        with Ledger(ledger) as book:
            book.append(Heartbeat(run_id="later", occurred_at=origin.utc_now() - SILENT))
        third = line(process)
        while "later" not in {verdict["run_id"] for verdict in third["verdicts"]}:
            third = line(process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (code, "")
    acted = [{v["run_id"]: v["action"] for v in said["verdicts"]} for said in (first, second)]
    assert acted == [
        {"lost": "crashed", "lost-job": "crashed", "unknown": "left", "unknown-job": "left"},
        {"unknown": "left", "unknown-job": "left"},
    ]
    assert statuses(ledger)["later"] == "crashed"


def test_a_ledger_that_is_away_is_waited_for(ledger: Path) -> None:
    """It is said on stderr and on stdout, and the next sweep finds what there is."""
    away = ledger.with_name("away.db")
    with sweeping_on(ledger, "--json") as process:
        assert "verdicts" in line(process)
        ledger.rename(away)
        said = line(process)
        while "verdicts" in said:
            said = line(process)
        assert said["kind"] == "NoLedger"
        away.rename(ledger)
        while "verdicts" not in said:
            said = line(process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert f"no ledger at {ledger}" in err
    assert "This sweep is left out." in err


def test_a_ledger_that_was_never_there_is_an_error(path: Path) -> None:
    """A mistyped place is not waited for."""
    with sweeping_on(path) as process:
        _, err = process.communicate(timeout=60)

    assert process.returncode == 3
    assert "Create it with `ledger init`" in err


def test_a_ledger_that_is_locked_is_waited_for(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even at the first sweep."""
    from ledger.handle import Handle

    turns = iter([False, True])
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sweeping.threading.Event, "wait", lambda self, _: (blocker.rollback(), next(turns))[1])
    made = Handle.__init__
    monkeypatch.setattr(Handle, "__init__", lambda self, url: made(self, url, busy_seconds_max=0.1))
    with closing(sqlite3.connect(ledger, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        code, out, err = asked(capsys, "--db", str(ledger), "sweep", "--every", "5m", "--witness", "process")

    assert code == 0
    assert "was locked" in err
    assert "2 runs ended" in out
    assert "it never beat" not in out, "what is left is not said again and again"
    assert signal.getsignal(signal.SIGTERM) is before
