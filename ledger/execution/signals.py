"""Signals while a command runs: held back in us, and handed on to the child that did not get them by itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from ledger.execution.memory import Kills, grown, kills
from ledger.execution.relay import Relay

__all__ = ["Death", "Held", "held_back", "wait_for_end"]

# What the kernel sends for a process's own faults and writes, and what cannot be held back. SIGCHLD is for us.
_LEFT_ALONE = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU, signal.SIGSEGV,
    signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGXFSZ,
}  # fmt: skip
_HANDED_ON = frozenset(map(int, signal.valid_signals() - _LEFT_ALONE))
_OF_JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_FROM_A_PROCESS = 0  # si_code is at most that


@dataclass(frozen=True)
class Held:
    """The signals that are held back, and what was before."""

    signals: frozenset[int]
    before: frozenset[int]


@dataclass(frozen=True)
class Death:
    """How a child ended, and whether the kernel had killed for want of memory meanwhile."""

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


@contextlib.contextmanager
def held_back() -> Iterator[Held]:
    """Hold back in this thread, and in what it starts, all that is handed on; what came too late is forgotten."""
    signals = _HANDED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # with which the kernel would keep no child's end for us
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield Held(signals, frozenset(map(int, before)))
    finally:
        while signal.sigtimedwait(signals, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_for_end(child: int, held: Held, before: Kills, relay: Relay | None = None) -> Death:
    """Wait until the child has ended, and hand on to it what comes meanwhile; stop and go on as it does.

    *before* are the kernel's counts from before the child began, in our own group, which is its group then.
    """
    while True:
        info = signal.sigwaitinfo(held.signals)
        if info.si_signo != signal.SIGCHLD:
            _hand_on(info, child, relay)
        elif (death := _death_of(child, before)) is not None:
            return death
        else:
            _stop_like(child)


def _hand_on(info: signal.struct_siginfo, child: int, relay: Relay | None) -> None:
    fitted = info.si_signo == signal.SIGWINCH and relay is not None and relay.fit_window()
    # Its window has its size only now: what the child may have read before was the old one.
    if fitted or not _came_by_itself(info, child, relay):
        with contextlib.suppress(OSError):
            os.kill(child, info.si_signo)


def _came_by_itself(info: signal.struct_siginfo, child: int, relay: Relay | None) -> bool:
    """Whether the child got it as we did: what a terminal sends, or `kill` with a group, is for all of a group."""
    group_was_told = relay.also_got((info.si_signo, info.si_code, info.si_pid)) if relay is not None else None
    if group_was_told is None:
        group_was_told = info.si_code > _FROM_A_PROCESS
    try:
        return group_was_told and os.getpgid(child) == os.getpgrp()
    except ProcessLookupError:
        return True


def _death_of(child: int, before: Kills) -> Death | None:
    found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    out_of_memory = grown(before, kills(child))  # which is asked before nobody knows the child any more
    os.waitpid(child, 0)
    if found.si_code == os.CLD_EXITED:
        return Death(exit_code=found.si_status, out_of_memory=out_of_memory)
    return Death(signal=found.si_status, out_of_memory=out_of_memory)


def _stop_like(child: int) -> None:
    """Where a terminal stopped the child, stop too, so that the shell sees a stopped job. SIGCONT ends that."""
    found = os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG)
    if found is not None and found.si_code == os.CLD_STOPPED and found.si_status in _OF_JOB_CONTROL:
        os.kill(os.getpid(), signal.SIGSTOP)
