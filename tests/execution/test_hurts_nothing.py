"""Whatever becomes of the ledger, the command's run is not touched by it, and nothing recorded is lost silently."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import AskedWrongly, MissingExtra, NotConfigured
from ledger.events import Started
from ledger.execution.recorder import Recorder
from ledger.execution.run import execute
from tests.execution.conftest import Ground

PYTHON = sys.executable


def spool_of(ground: Ground) -> Path:
    return ground.folder / "state" / "training-run-ledger" / "spool"


def brought_in(ground: Ground) -> tuple[int, int]:
    """Sync the spool into the ledger; return how many events were new and how many known."""
    with Ledger(ground.path) as book:
        synced = book.sync(spool_of(ground))
    return synced.new, synced.known


def test_a_locked_ledger_delays_the_end_shortly(ground: Ground) -> None:
    """While another process holds the lock the command runs as ever; its events wait in a spool and come in once."""
    with Ledger(ground.path) as book:
        book.init_db()
    with closing(sqlite3.connect(ground.path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        done = ground.exec("sh", "-c", "echo fine; exit 3")
        holder.execute("ROLLBACK")

    assert (done.returncode, done.stdout) == (3, b"fine\n")
    assert str(spool_of(ground)).encode() in done.stderr
    assert ground.types() == []
    assert brought_in(ground)[0] == 4
    assert brought_in(ground)[0] == 0
    assert ground.end() == ("failed", None, 3)


@pytest.mark.parametrize("place", ["/proc/nowhere/runs.db", "{folder}/text/runs.db", "{folder}/text"])
def test_a_place_that_takes_nothing_is_no_harm(place: str, ground: Ground) -> None:
    """A read-only folder, one that cannot be there, a file that is no ledger: the events are in a spool."""
    (ground.folder / "text").write_text("no ledger, but long enough to be taken for a file of another kind\n" * 40)
    done = ground.exec("true", words=("--db", place.format(folder=ground.folder), "--run-id", "r1"))

    assert done.returncode == 0
    assert str(spool_of(ground)).encode() in done.stderr
    assert brought_in(ground)[0] == 4
    assert ground.end() == ("completed", None, 0)


def test_a_full_disk_is_no_harm(ground: Ground) -> None:
    """Where neither ledger nor spool take a byte, the command ends as it does, and what is lost is said."""

    def nothing_more() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = ground.exec("sh", "-c", "echo fine; echo err >&2; exit 3", preexec_fn=nothing_more)

    assert (done.returncode, done.stdout) == (3, b"fine\n")
    assert done.stderr.startswith(b"err\n")
    assert b"event(s) could not be recorded" in done.stderr


def test_without_a_place_nothing_starts(ground: Ground) -> None:
    """No variable says where the ledger is: an error with the mend before the command runs."""
    del ground.environment["TRAINING_DB_PATH"]
    done = ground.exec("touch", "ran")

    assert done.returncode == 3
    assert b"export TRAINING_DB_PATH" in done.stderr
    assert not (ground.folder / "ran").exists()


def test_switched_off_it_only_runs(ground: Ground) -> None:
    """With TRAINING_DB_URL=off the command runs, its exit code is kept, and nothing is recorded anywhere."""
    done = ground.exec("sh", "-c", "exit 3", env={**ground.environment, "TRAINING_DB_URL": "off"})

    assert done.returncode == 3
    assert not ground.path.exists()
    assert not list(spool_of(ground).glob("*"))


def test_into_a_spool_alone(ground: Ground) -> None:
    """A node without a route to the ledger records into a spool, which is said."""
    done = ground.exec("true", words=("--db", f"spool://{ground.folder}/s", "--run-id", "r1"))
    with Ledger(ground.path) as book:
        book.sync(ground.folder / "s")

    assert f"{ground.folder}/s" in done.stderr.decode()
    assert ground.end() == ("completed", None, 0)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--config", "missing.yaml"), "cannot be read"),
        (("--config", "list.json"), "a mapping is wanted"),
        (("--config", "broken.json"), "is no JSON"),
        (("--config", "broken.yaml"), "is no YAML"),
        (("--config", "deep.json"), "not nested deeper"),
        (("--heartbeat", "0"), "more than nothing is wanted"),
        (("--heartbeat", "soon"), "a span of time is wanted"),
        (("--run-id", " "), "run_id"),
    ],
)
def test_what_is_asked_wrongly_starts_nothing(words: tuple[str, ...], error: str, ground: Ground) -> None:
    """A config that cannot be read and a wrong word are errors before the command runs."""
    (ground.folder / "list.json").write_text("[1]")
    (ground.folder / "broken.json").write_text("{")
    (ground.folder / "broken.yaml").write_text("a: [")
    (ground.folder / "deep.json").write_text('{"a": ' * 95 + "1" + "}" * 95)
    done = ground.exec("touch", "ran", words=words)

    assert done.returncode == 2
    assert error in done.stderr.decode()
    assert not (ground.folder / "ran").exists()


def test_no_command_is_asked_wrongly(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from Python it refuses the same."""
    with pytest.raises(NotConfigured):
        execute(["true"])
    with pytest.raises(AskedWrongly, match="no command"):
        execute([], place=ground.path)


def test_what_the_recorder_needs_is_asked_for_first(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config of YAML without PyYAML, a spool in S3 without boto3: an error with the mend before the command runs."""
    (ground.folder / "c.yaml").write_text("a: 1\n")
    for module in ("yaml", "boto3"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match="yaml"):
        execute(["touch", str(ground.folder / "ran")], place=ground.path, config=ground.folder / "c.yaml")
    with pytest.raises(MissingExtra, match="aws"):
        execute(["touch", str(ground.folder / "ran")], place="s3://bucket/prefix")

    assert not (ground.folder / "ran").exists()


def test_a_launch_that_is_known_is_not_told_again(ground: Ground) -> None:
    """Where a launcher has told of the run, exec only adds what it lacks."""
    with Ledger(ground.path) as book:
        book.insert_run("r1", None, {"a": 1}, "CHAIN1", host="ec2")
        book.insert_run("r2", None, {}, "CHAIN1", host="ec2")
    (ground.folder / "c.json").write_text('{"batch_size": 8}')
    ground.exec("true", words=("--run-id", "r1", "--chain", "CHAIN1"))
    ground.exec("true", words=("--run-id", "r2", "--config", "c.json"))

    assert ground.types("r1").count("launched") == 1
    assert ground.types("r2").count("launched") == 2
    assert (ground.row("r2")["batch_size"], ground.row("r2")["host"]) == (8, "ec2")


def test_a_recorder_that_hangs_is_left(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database call that never returns holds the end up so long and no longer; the events go into a spool."""
    monkeypatch.setenv("XDG_STATE_HOME", str(ground.folder / "state"))
    monkeypatch.setattr("ledger.execution.recorder.DRAIN_SECONDS_MAX", 0.2)
    monkeypatch.setattr("ledger.execution.recorder.ASIDE_SECONDS_MAX", 30.0)

    gone_on = threading.Event()
    appended = Ledger.append

    def hang(book: Ledger, *words: object) -> object:
        if "/spool/" not in book.url:
            gone_on.wait(60)
        return appended(book, *words)

    monkeypatch.setattr(Ledger, "append", hang)
    recorder = Recorder(ground.path, lambda _: [], 60.0)
    recorder.start()
    recorder.tell(lambda _: [Started(run_id="r1")])
    recorder.tell(lambda _: [Started(run_id="r2")])
    left = recorder.finish()
    gone_on.set()
    recorder._thread.join(60)
    monkeypatch.undo()

    assert (left.spool or "").startswith(str(spool_of(ground)))
    brought_in(ground)
    assert (ground.types("r1"), ground.types("r2")) == (["started"], ["started"])  # though what hung came through, too


def test_the_handler_of_a_crash_gets_its_words(ground: Ground) -> None:
    """It runs after the end was recorded, with the run id and the log as words and in the environment."""
    handler = (
        'printf "%s\\n" "$1" "$2" "$RUN_ID" "$CHAIN_OF_CUSTODY_ID" "$ERROR_LOG" "$EXIT_CODE" "$END_REASON" > told; '
        f"{PYTHON} -m ledger show $1 --json > shown; exit 5"
    )
    words = ("--run-id", "r1", "--chain", "C", "--on-crash", handler)
    done = ground.exec(PYTHON, "-c", "1/0", words=words)
    log = str(ground.row()["error_log_s3_key"])

    assert done.returncode == 1
    assert (ground.folder / "told").read_text().split("\n") == ["r1", log, "r1", "C", log, "1", "exception", ""]
    assert json.loads((ground.folder / "shown").read_text())["status"] == "crashed"
    assert b"the handler of the crash failed, with exit code 5" in done.stderr


def test_no_crash_no_handler(ground: Ground) -> None:
    """A run that failed by its own decision has none."""
    ground.exec("sh", "-c", "exit 3", words=("--run-id", "r1", "--on-crash", "touch handled"))
    assert not (ground.folder / "handled").exists()


def test_with_json_the_outcome_is_an_object(ground: Ground) -> None:
    """It is the last line of stderr, whatever came of the command; stdout is the command's, and so are words behind --."""
    done = ground.exec("sh", "-c", "echo out", words=("--json", "--run-id", "r1"))
    said = json.loads(done.stderr)

    assert done.stdout == b"out\n"
    assert {"run_id": "r1", "status": "completed", "exit_code": 0, "spool": None}.items() <= said.items()
    del ground.environment["TRAINING_DB_PATH"]
    assert ground.exec("echo", "--json").stdout == b""


def test_python_gets_the_exit_code(ground: Ground) -> None:
    """`execute` runs a command for a program of ours, prints nothing, and returns the exit code."""
    code = (
        "from ledger.execution.run import execute\n"
        f"code = execute(['sh', '-c', 'exit 3'], place={str(ground.path)!r}, run_id='r1', config={{'batch_size': 4}})\n"
        "assert code == 3, code\n"
    )
    done = subprocess.run([PYTHON, "-c", code], env=ground.environment, capture_output=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (ground.row()["batch_size"], ground.end()) == (4, ("failed", None, 3))
