"""A crash is recorded by who saw it, and never over an end that is known."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import InvalidFact, RunNotFound


@pytest.fixture
def running(book: Ledger) -> Ledger:
    """Give a ledger with one run that is running."""
    book.insert_run("r", None, {})
    book.update_run_status("r", "running")
    return book


def row(book: Ledger) -> dict[str, Any]:
    found = book.get_run("r")
    assert found is not None
    return found


def test_a_crash_says_what_was_seen(running: Ledger) -> None:
    """Exit code, reason, who saw it, and what the run said last."""
    running.record_crash("r", exit_code=137, end_reason="oom", error_log="Killed\n", detected_by="launcher")
    (crash,) = running.events(types="crashed")

    assert (row(running)["status"], row(running)["exit_code"], row(running)["end_reason"]) == ("crashed", 137, "oom")
    assert (crash.error_log, crash.detected_by, crash.presumed) == ("Killed\n", "launcher", None)


@pytest.mark.parametrize("status", ["completed", "failed", "crashed"])
def test_a_known_end_stays(status: str, running: Ledger) -> None:
    """Nothing is appended; a run that was started again may crash again."""
    running.update_run_status("r", status, exit_code=3)
    before = list(running.events())
    running.record_crash("r", exit_code=9)
    assert list(running.events()) == before

    running.update_run_status("r", "running")
    running.record_crash("r", exit_code=9)
    assert (row(running)["status"], row(running)["exit_code"]) == ("crashed", 9)


def test_a_wrong_call_records_nothing(running: Ledger) -> None:
    """An unknown run, and a reason that is none."""
    before = list(running.events())
    with pytest.raises(RunNotFound):
        running.record_crash("nobody")
    with pytest.raises(InvalidFact):
        running.record_crash("r", end_reason="bad luck")

    assert list(running.events()) == before


def test_of_two_ends_at_once_one_is_there(running: Ledger, path: Path) -> None:
    """The run's own word and its witness's, in whatever order they come: a completed run is never seen to crash."""
    for number in range(20):
        running.insert_run(f"r{number}", None, {})
        gate = threading.Barrier(2)
        with Ledger(path) as other:

            def complete() -> None:
                gate.wait()
                other.update_run_status(f"r{number}", "completed")

            thread = threading.Thread(target=complete)
            thread.start()
            gate.wait()
            running.record_crash(f"r{number}", exit_code=1)
            thread.join()
        types = [event.type for event in running.events(f"r{number}")]

        assert types in (["launched", "completed"], ["launched", "crashed", "completed"])
        assert (running.get_run(f"r{number}") or {})["status"] == "completed"
