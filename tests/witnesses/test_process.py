"""The process witness, with real processes: alive, killed, a zombie, a pid given out again, other boots and machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import origin
from ledger.events.times import text_of
from ledger.witnesses.kinds import Testimony
from ledger.witnesses.process import LocalProcess

LONG_AGO = "2001-01-01T00:00:00.000000Z"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that does nothing until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as child:
        yield child
        child.kill()


def asked(process: object, **row: Any) -> Testimony | None:
    run = {"run_id": "r", "last_seen_at": None, "started_at": LONG_AGO, "process": process, **row}
    return LocalProcess().testify([run]).get("r")


def identity(pid: int) -> dict[str, Any]:
    found = origin.process(pid)
    assert found is not None
    return dict(found)


def test_a_process_that_runs_lives(child: subprocess.Popen[bytes]) -> None:
    """By all that tells it from others, also as JSON brought it back."""
    word = asked(identity(child.pid))

    assert word == Testimony(alive=True, words=f"pid {child.pid} on {origin.machine()[0]} is running")


def test_a_process_that_was_killed_is_dead(child: subprocess.Popen[bytes]) -> None:
    """As a zombie, which its parent has not fetched yet, and afterwards."""
    said = identity(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = asked(said)
    child.wait()
    gone = asked(said)

    assert zombie == gone
    assert gone == Testimony(alive=False, words=f"pid {child.pid} on {said['host']} is gone", end_reason="unknown")


def test_a_pid_that_was_given_out_again_is_another_process(child: subprocess.Popen[bytes]) -> None:
    """The same pid with another moment of its start."""
    word = asked({**identity(child.pid), "started": 1})

    assert word is not None
    assert (word.alive, word.words.endswith("is another process by now")) == (False, True)


def test_a_machine_that_was_started_anew_has_killed_it(child: subprocess.Popen[bytes]) -> None:
    """Though a process with that pid is there; unless the run was seen since: then its machine only has our name."""
    elsewhen = {**identity(child.pid), "boot_id": "11111111-2222-3333-4444-555555555555"}
    booted_at = origin.booted_at()
    assert booted_at is not None
    since = text_of(booted_at + timedelta(seconds=1))
    word = asked(elsewhen)

    assert word is not None
    assert (word.alive, "was started anew since" in word.words) == (False, True)
    assert asked(elsewhen, last_seen_at=since) is None
    assert asked(elsewhen, started_at=since) is None
    assert asked({**elsewhen, "boot_id": ""}) is None


def test_when_a_machine_was_started_lies_in_the_past() -> None:
    """As the system says it."""
    booted_at = origin.booted_at()

    assert booted_at is not None
    assert datetime(2001, 1, 1, tzinfo=UTC) < booted_at < origin.utc_now()


@pytest.mark.parametrize(
    "change",
    [
        {"host": "elsewhere"},
        {"namespace": "pid:[1]"},
        {"pid": None},
        {"pid": "1"},
        {"pid": True},
        {"pid": 0},
        {"pid": -1},
        {"pid": 2**40},
        {"started": None, "boot_id": None},
    ],
    ids=str,
)
def test_what_is_not_ours_to_know_is_no_word(change: dict[str, Any], child: subprocess.Popen[bytes]) -> None:
    """Another machine, another container, and what is no identity of a process."""
    assert asked({**identity(child.pid), **change}) is None


@pytest.mark.parametrize("process", [None, {}, [], "x", 7, {"host": {}}])
def test_a_start_that_names_no_process_is_no_word(process: object) -> None:
    """As update_run_status says it."""
    assert asked(process) is None


def test_an_identity_without_its_start_proves_nothing(child: subprocess.Popen[bytes]) -> None:
    """Where a system does not say when a process was started, a pid may be anybody's."""
    said = identity(child.pid)
    del said["started"]

    assert asked(said) is None


def test_a_name_that_everybody_has_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is the name of every machine that was given none."""
    monkeypatch.setattr(origin, "machine", lambda: ("localhost", "another boot"))
    said = {"host": "localhost", "boot_id": "a boot", "pid": 7, "started": 1, "namespace": "pid:[1]"}

    assert asked(said) is None


def test_a_process_that_is_hidden_is_not_taken_for_gone(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc hides what others run (hidepid), the signal that may not be sent tells that somebody is there."""
    said = identity(child.pid)

    def refused(pid: int, number: int) -> None:
        assert (pid, number) == (child.pid, 0)
        raise PermissionError

    ours = origin.process
    with monkeypatch.context() as patch:
        patch.setattr(origin, "process", lambda pid=None: ours() if pid is None else None)
        patch.setattr(os, "kill", refused)
        assert (asked(said), origin.has_ended(said)) == (None, None)

        def unreadable(pid: int | None = None) -> object:
            if pid is None:
                return ours()
            raise PermissionError

        patch.setattr(origin, "process", unreadable)
        assert (asked(said), origin.has_ended(said)) == (None, None)


def test_many_are_asked_at_once() -> None:
    """Each run gets its own word."""
    here = identity(os.getpid())
    runs = [{"run_id": f"r{n}", "process": {**here, "started": here["started"] + n % 2}} for n in range(100)]
    words = LocalProcess().testify(runs)

    assert [words[f"r{n}"].alive for n in range(100)] == [True, False] * 50
