"""Each way to end, as a real process: what is recorded of it, and that nothing of it is hidden from who called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.events.times import parse_moment
from tests.execution.conftest import Ground, until

PYTHON = sys.executable
END_SECONDS_MAX = 2.0

# How the child ends, its exit code as a shell has it, the end that is recorded, and what its error log holds.
ENDS: dict[str, tuple[str, int, tuple[str, str | None], str | None]] = {
    "exit 0": ("print('fine', file=sys.stderr)", 0, ("completed", None), None),
    "exit 3": ("print('so be it', file=sys.stderr); sys.exit(3)", 3, ("failed", None), "so be it\n"),
    "an exception": ("raise ValueError('bad loss')", 1, ("crashed", "exception"), "ValueError: bad loss\n"),
    "an import error": ("import nothing_of_that_name", 1, ("crashed", "exception"), "ModuleNotFoundError"),
    "sys.exit with words": ("sys.exit('no data')", 1, ("failed", None), "no data\n"),
    "os._exit": ("os._exit(7)", 7, ("failed", None), None),
    "a segfault": ("ctypes.string_at(0)", 139, ("crashed", "signal"), None),
    "an abort": ("os.abort()", 134, ("crashed", "signal"), None),
    "SIGKILL": ("os.kill(os.getpid(), 9)", 137, ("crashed", "signal"), None),
    "SIGTERM": ("os.kill(os.getpid(), 15)", 143, ("crashed", "signal"), None),
    "Ctrl-C": ("os.kill(os.getpid(), 2); time.sleep(60)", 130, ("failed", "user"), "KeyboardInterrupt"),
    "no room": ("raise MemoryError", 1, ("crashed", "oom"), "MemoryError\n"),
}


@pytest.mark.parametrize("way", ENDS)
def test_every_end_is_seen(way: str, ground: Ground) -> None:
    """Status, reason, exit code and error log are recorded within two seconds of the death; the exit code is kept."""
    code, exit_code, (status, end_reason), log = ENDS[way]
    say = "import ctypes, os, sys, time; open('last', 'w').write(str(time.time()))"

    done = ground.exec(PYTHON, "-c", f"{say}\n{code}")

    assert done.returncode == exit_code
    assert ground.end() == (status, end_reason, exit_code)
    events = {event.type: event for event in ground.events()}
    died_at = float((ground.folder / "last").read_text())
    assert 0 <= events[status].occurred_at.timestamp() - died_at < END_SECONDS_MAX
    path = ground.row()["error_log_s3_key"]
    if log is None:
        assert path is None
        assert getattr(events[status].event, "error_log", None) is None
    else:
        text = Path(str(path)).read_text(encoding="utf-8")
        assert log in text
        assert done.stderr.startswith(text.encode())
        assert events[status].event.error_log == text
        assert ground.types().index("crash_data_attached") < ground.types().index(status)
    assert (b"run r1" in done.stderr) == (status != "completed")


@pytest.mark.parametrize(("name", "code"), [("nothing_of_that_name", 127), ("./text", 126), ("./text/below", 127)])
def test_what_cannot_start_has_failed(name: str, code: int, ground: Ground) -> None:
    """A command that is not there, or cannot be executed, ends as in a shell, and its run never started."""
    (ground.folder / "text").write_text("no program")

    done = ground.exec(name)

    assert done.returncode == code
    assert ground.end() == ("failed", None, code)
    assert ground.row()["started_at"] is None
    assert name.encode() in done.stderr


def test_a_beginning_and_an_end_are_told(ground: Ground) -> None:
    """A run that went well is launched, started in a process, alive, completed; and nobody is bothered with it."""
    done = ground.exec(
        "sh",
        "-c",
        "echo out; echo err >&2; sleep 0.3",
        words=("--run-id", "r1", "--chain", "ABC123", "--run-name", "n"),
    )

    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert ground.types() == ["launched", "started", "heartbeat", "completed"]
    launched, started, heartbeat, _ = (event.event for event in ground.events())
    assert (launched.self_reported, launched.host, started.process["host"]) == (
        True,
        os.uname().nodename,
        os.uname().nodename,
    )
    assert heartbeat.lease_seconds == 300
    row = ground.row()
    assert (row["chain_of_custody_id"], row["run_name"], row["duration_seconds"]) == ("ABC123", "n", 0)


def test_it_says_that_it_lives_until_the_end(ground: Ground) -> None:
    """Heartbeats come all the while, each with a lease of five of them."""
    process = ground.start(
        "sh", "-c", "until [ -e go ]; do sleep 0.05; done", words=("--run-id", "r1", "--heartbeat", "0.4s")
    )
    until(lambda: ground.types().count("heartbeat") >= 3, "three heartbeats")
    assert ground.row()["liveness"] == "alive"
    (ground.folder / "go").touch()
    process.communicate(timeout=60)

    assert ground.end() == ("completed", None, 0)
    assert {event.event.lease_seconds for event in ground.events() if event.type == "heartbeat"} == {2}


@pytest.mark.parametrize(
    ("number", "slurm", "end"),
    [
        (signal.SIGTERM, {}, ("crashed", "signal", 143)),
        (signal.SIGTERM, {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": "99999999999"}, ("failed", "user", 143)),
        (signal.SIGTERM, {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": "1700000000"}, ("crashed", "timeout", 143)),
    ],
)
def test_told_to_end_it_waits_for_its_child(number: int, slurm: dict[str, str], end: tuple, ground: Ground) -> None:
    """SIGTERM to exec reaches the child, whose end is then recorded; under Slurm it is somebody's decision."""
    process = ground.start("sh", "-c", "touch ready; exec sleep 60", env={**ground.environment, **slurm})
    until((ground.folder / "ready").exists, "the child runs")
    process.send_signal(number)
    process.communicate(timeout=60)

    assert process.returncode == 143
    assert ground.end() == end
    assert ground.row()["instance_id"] == slurm.get("SLURM_JOB_ID")


def test_the_killed_witness_hurts_nobody(ground: Ground) -> None:
    """After kill -9 of exec the child goes on, writes its stderr unharmed, and ends well; its run has no end, and a lease."""
    child = "until [ -e go ]; do sleep 0.05; done; for n in 1 2 3; do echo line $n >&2 || exit 9; done; echo $? > ended"
    with (ground.folder / "err").open("wb") as err:
        process = ground.start("sh", "-c", child, stderr=err, stdout=subprocess.DEVNULL)
        until(lambda: "heartbeat" in ground.types(), "it is recorded")
        process.kill()
        process.wait()
    (ground.folder / "go").touch()
    until(lambda: (ground.folder / "err").read_text() == "line 1\nline 2\nline 3\n", "all of its stderr")
    until((ground.folder / "ended").exists, "its end")

    assert (ground.folder / "ended").read_text() == "0\n"
    assert ground.row()["status"] == "running"
    assert parse_moment(ground.row()["last_seen_at"]) is not None
