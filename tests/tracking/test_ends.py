"""Every way in which a training process can end, as a real process: the status, why, when, and the error log."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.events.times import parse_moment
from tests.tracking.processes import Place

WITHIN = """
import os, signal, sys, time, ledger
def way():
{way}
with ledger.track("r", config={{"batch_size": 8}}, heartbeat_seconds=0.2) as run:
    run.log({{"loss": 0.5}}, step=3)
    way()
"""
OUTSIDE = """
import os, signal, sys, time, ledger
def way():
{way}
run = ledger.start_run("r", config={{"batch_size": 8}}, heartbeat_seconds=0.2)
run.log({{"loss": 0.5}}, step=3)
way()
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@dataclass(frozen=True)
class End:
    """One way to end: what the process does, how it then exits, and what the ledger shows."""

    way: str
    exit_code: int
    status: str
    reason: str | None = None
    recorded_code: int | None = None
    log: str | None = None
    env: tuple[tuple[str, str], ...] = ()


ENDS: dict[str, End] = {
    "normally": End("pass", 0, "completed"),
    "by an exception": End('raise ValueError("no such layer")', 1, "crashed", "exception", None, "ValueError: no such"),
    "out of memory": End("raise MemoryError", 1, "crashed", "oom", None, "MemoryError"),
    "by sys.exit()": End("sys.exit()", 0, "completed", None, 0),
    "by sys.exit(0)": End("sys.exit(0)", 0, "completed", None, 0),
    "by sys.exit(3)": End("sys.exit(3)", 3, "failed", None, 3),
    "by exit(3)": End("exit(3)", 3, "failed", None, 3),
    "by sys.exit(text)": End('sys.exit("bad config")', 1, "failed", None, 1, "bad config"),
    "by Ctrl-C": End("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", -2, "failed", "user", 130),
    "by SIGTERM": End("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -15, "crashed", "signal", 143),
    "by SIGHUP": End("os.kill(os.getpid(), signal.SIGHUP); time.sleep(9)", -1, "crashed", "signal", 129),
    "by scancel": End(
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -15, "failed", "user", 143, env=(("SLURM_JOB_ID", "7"),)
    ),
    "by a job's time limit": End(
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -15, "crashed", "timeout", 143,
        env=(("SLURM_JOB_ID", "7"), ("SLURM_JOB_END_TIME", "1700000000")),
    ),
}  # fmt: skip
# The process's own exit code is known where nobody can catch the exception any more.
OUTSIDE_CODES = {"normally": 0, "by an exception": 1, "out of memory": 1}


@pytest.mark.parametrize("where", ["in the block", "outside a block"])
@pytest.mark.parametrize("name", list(ENDS))
def test_an_end_is_recorded_as_what_it_was(place: Place, name: str, where: str) -> None:
    """Status, reason, exit code and error log are right, and nothing is recorded after the end."""
    end = ENDS[name]
    script = (WITHIN if where == "in the block" else OUTSIDE).format(way=f"    {end.way}")

    code, _, err = place.run(script, env=dict(end.env))
    row = place.row()

    recorded = end.recorded_code if where == "in the block" else OUTSIDE_CODES.get(name, end.recorded_code)
    assert code == end.exit_code, err
    assert (row["status"], row["end_reason"], row["exit_code"]) == (end.status, end.reason, recorded), err
    assert row["final_metrics_json"] == '{"loss":0.5}'
    assert place.types()[-1] == end.status
    if end.log is None:
        assert row["error_log_s3_key"] is None
    else:
        assert end.log in Path(row["error_log_s3_key"]).read_text(encoding="utf-8")
        with place.ledger() as book:
            (last,) = book.events("r", types=end.status)
        assert end.log in last.event.error_log  # type: ignore[attr-defined]


def test_another_handler_decides_and_the_end_is_the_signals(place: Place) -> None:
    """Where the script has a handler of its own it is called, and what it then raises is the end by that signal."""
    script = """
    import os, signal, sys, time, ledger
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ledger.track("r") as run:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(9)
    """
    code, _, err = place.run(script)
    row = place.row()

    assert (code, row["status"], row["end_reason"], row["exit_code"]) == (0, "crashed", "signal", 143), err


def test_a_handler_that_survives_its_signal_ends_nothing(place: Place) -> None:
    """A script that catches SIGTERM, saves and goes on to its end has completed."""
    script = """
    import os, signal, ledger
    signal.signal(signal.SIGTERM, lambda *_: print("saved"))
    with ledger.track("r") as run:
        os.kill(os.getpid(), signal.SIGTERM)
    """
    code, out, err = place.run(script)

    assert (code, out, place.row()["status"]) == (0, "saved\n", "completed"), err


def test_an_exit_that_was_caught_is_no_end(place: Place) -> None:
    """A SystemExit that somebody catches does not end training."""
    script = """
    import sys, ledger
    run = ledger.start_run("r")
    try:
        sys.exit(3)
    except SystemExit:
        run.log({"loss": 1})
    """
    place.run(script)

    assert place.row()["status"] == "completed"


def test_stopping_by_hand_may_mean_completed(place: Place) -> None:
    """With stopped_means="completed" a Ctrl-C completes the run, and why it ended is told apart."""
    script = """
    import os, signal, time, ledger
    with ledger.track("r", stopped_means="completed") as run:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    """
    place.run(script)
    row = place.row()

    assert (row["status"], row["end_reason"], row["exit_code"]) == ("completed", "user", 130)


UNSEEN = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "os._exit": "os._exit(3)",
    "a segfault": "import ctypes; ctypes.string_at(0)",
    "an abort": "os.abort()",
}


@pytest.mark.parametrize("way", UNSEEN.values(), ids=list(UNSEEN))
def test_what_nobody_in_the_process_can_see_shows_by_its_lease(place: Place, way: str) -> None:
    """The run stays running, what was logged before is there, and it is lost once its lease has run out."""
    script = WITHIN.format(way=f"    run.flush(); {way}")

    place.run(script)
    row = place.row()
    with place.ledger() as book:
        # Heartbeats every 0.2 s promise the next one within a second.
        later = parse_moment(row["last_seen_at"]).timestamp()
        view = book.as_of(datetime.fromtimestamp(later + 10).astimezone())
        liveness = [found["run_id"] for found in view.query_runs({"liveness": "lost"})]

    assert (row["status"], row["ended_at"]) == ("running", None)
    assert "metrics_logged" in place.types()
    assert liveness == ["r"]


def test_a_process_group_that_vanishes_is_lost(place: Place) -> None:
    """A machine that is gone says nothing: heartbeats stop, and the launcher's death changes nothing."""
    script = WITHIN.format(way="    run.flush(); print('up', flush=True); time.sleep(99)")
    process = place.start(script, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with place.ledger() as book:
        seen = parse_moment(place.row()["last_seen_at"])
        then = [book.as_of(seen.replace(year=seen.year + 1)).query_runs()[0]["liveness"]]

    assert then == ["lost"]


def test_the_launchers_death_is_not_the_runs(place: Place) -> None:
    """A training process whose launcher is killed goes on and records its own end."""
    training = WITHIN.format(way="    time.sleep(1)")
    launcher = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {training!r}], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("up", flush=True)
time.sleep(99)
"""
    process = place.start(launcher)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()

    assert _until_ended(place)["status"] == "completed"


def _until_ended(place: Place) -> dict[str, Any]:
    for _ in range(600):
        if place.path.exists():
            with place.ledger() as book:
                row = book.get_run("r")
            if row is not None and row["ended_at"] is not None:
                return row
        time.sleep(0.1)
    raise AssertionError("the run did not end within a minute")


def test_started_says_which_process(place: Place) -> None:
    """The start tells the process by its pid and start time, so that a witness can look for it."""
    process = place.start(WITHIN.format(way="    pass"))
    process.communicate(timeout=60)
    with place.ledger() as book:
        (started,) = book.events("r", types="started")

    assert started.event.process["pid"] == process.pid  # type: ignore[attr-defined]
    assert {"host", "boot_id", "pid"} <= set(started.event.process)  # type: ignore[attr-defined]


def test_a_crash_before_the_run_begins_is_nobodys_here(place: Place) -> None:
    """What dies before `track` records nothing: that is seen by `ledger exec`, or by the launch that stays silent."""
    code, _, _ = place.run("import ledger\nraise RuntimeError('too early')\nledger.track('r')")

    assert code == 1
    assert not place.path.exists()


def test_the_terminal_of_a_dead_shell(place: Place) -> None:
    """Under nohup, which ignores SIGHUP, a hang-up ends nothing."""
    script = """
    import os, signal, ledger
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ledger.track("r") as run:
        os.kill(os.getpid(), signal.SIGHUP)
    """
    code, _, err = place.run(script)

    assert (code, place.row()["status"]) == (0, "completed"), err
