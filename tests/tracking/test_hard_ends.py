"""Ends at the worst moment: in the middle of a call, during another end, by somebody else's hand."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.processes import SECONDS_MAX, Place
from tests.tracking.test_it_never_hurts import locked


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def signalled(place: Place, script: str, *numbers: int, **env: str) -> tuple[int, str]:
    """Start *script*, send it the signals once it says that it is up, and return its exit code and stderr."""
    process = place.start(script, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    for number in numbers:
        process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, err


def end(place: Place) -> tuple[Any, ...]:
    row = place.row()
    return row["status"], row["end_reason"], row["exit_code"]


@pytest.mark.parametrize("again", range(4))
def test_a_signal_in_the_middle_of_a_call(place: Place, again: int) -> None:
    """Whatever lock the interrupted frame holds, the end is recorded in the ledger itself, and the process dies of it."""
    script = """
import ledger
run = ledger.start_run("r")
print("up", flush=True)
while True:
    run.log({"loss": 0.5})
"""
    code, err = signalled(place, script, signal.SIGTERM, signal.SIGTERM)

    assert code == -signal.SIGTERM, err
    assert end(place) == ("crashed", "signal", 143), err
    assert place.types()[-1] == "crashed"


def test_a_signal_while_another_end_is_being_recorded(place: Place) -> None:
    """The end of the block is kept: the signal waits for it."""
    script = """
import ledger
with ledger.track("r") as run:
    run.log({"loss": 0.5})
    print("up", flush=True)
"""
    with place.ledger() as book:
        book.insert_run("r", None, {})
    with locked(place.path):
        signalled(place, script, signal.SIGTERM)
    place.sync()

    assert place.row()["status"] in ("completed", "crashed")
    assert "metrics_logged" in place.types()


def test_a_handler_that_exits_twice_loses_no_end(place: Place) -> None:
    """The script's own handler raises SystemExit in the middle of the drain, and the end is there all the same."""
    script = """
import signal, sys, time, ledger
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with ledger.track("r") as run:
    run.log({"loss": 0.5})
    print("up", flush=True)
    time.sleep(60)
"""
    with place.ledger() as book:
        book.insert_run("r", None, {})
    with locked(place.path):
        code, err = signalled(place, script, signal.SIGTERM, signal.SIGTERM)
    place.sync()

    assert code == 143, err
    assert end(place) == ("crashed", "signal", 143)


def test_a_survived_signal_is_no_end(place: Place) -> None:
    """A handler that comes back lets the run go on to an end of its own."""
    script = """
import os, signal, sys, ledger
signal.signal(signal.SIGHUP, lambda *_: None)
with ledger.track("r") as run:
    os.kill(os.getpid(), signal.SIGHUP)
    sys.exit(0)
"""
    place.run(script)

    assert end(place) == ("completed", None, 0)


def test_an_exception_shows_though_another_hook_has_taken_the_place_of_ours(place: Place) -> None:
    """Libraries replace sys.excepthook without calling what was there; the interpreter has noted the exception."""
    script = """
import sys, ledger
run = ledger.start_run("r")
sys.excepthook = lambda *_: None
raise ValueError("x")
"""
    code, _, _ = place.run(script)

    assert code == 1
    assert end(place) == ("crashed", "exception", 1)


def test_ctrl_c_in_asyncio_is_a_stop(place: Place) -> None:
    """What asyncio makes of a Ctrl-C inside the block is somebody's wish to stop, and nobody's mistake."""
    script = """
import asyncio, os, signal, ledger
async def main():
    with ledger.track("r"):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    place.run(script)

    assert end(place)[:2] == ("failed", "user")


def test_an_exit_of_a_thread_is_not_the_processes(place: Place) -> None:
    """sys.exit in a thread ends that thread."""
    script = """
import sys, threading, ledger
run = ledger.start_run("r")
thread = threading.Thread(target=lambda: sys.exit(3))
thread.start()
thread.join()
"""
    place.run(script)

    assert end(place) == ("completed", None, 0)


def test_a_child_process_joins_and_does_not_end_the_run(place: Place) -> None:
    """A process that the tracked one starts, and that tracks too, records to the same run, whose end is its parent's."""
    child = "import ledger\nwith ledger.track() as run: run.log({'child': 1})"
    script = f"""
import subprocess, sys, ledger
with ledger.track("r") as run:
    subprocess.run([sys.executable, "-c", {child!r}], check=True)
    with ledger.Ledger(sys.argv[1] if sys.argv[1:] else {str(place.path)!r}) as book:
        print(book.get_run("r")["status"])
    run.log({{"parent": 1}})
"""
    _, out, err = place.run(script)
    types = place.types()

    assert out == "running\n", err
    assert (types.count("started"), types.count("completed"), types.count("metrics_logged")) == (1, 1, 2)


def test_the_word_of_an_earlier_end_does_not_cover_a_later_death(place: Place) -> None:
    """Under exec a second block of the same run that is killed is a crash, though the first completed."""
    script = """
import os, ledger
with ledger.track(): pass
with ledger.track() as run: os.kill(os.getpid(), 9)
"""
    words = [sys.executable, "-m", "ledger", "exec", "--run-id", "r", "--", sys.executable, "-c", script]
    done = subprocess.run(words, env=place.environment(), capture_output=True, text=True, timeout=SECONDS_MAX)

    assert done.returncode == 137
    assert end(place) == ("crashed", "signal", 137)


def test_a_signal_that_comes_to_a_child_before_it_is_itself_ends_it(place: Place) -> None:
    """It waits until the child has the handlers that were there before ours, and is not lost in between."""
    script = """
import os, signal
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
import ledger
with ledger.track("r") as run:
    child = os.fork()
    if child == 0:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    code, out, err = place.run(script)

    assert (code, out) == (0, f"-{signal.SIGTERM.value}\n"), err
    assert end(place) == ("completed", None, None)
