"""What of the interpreter tells how a process ends: uncaught exceptions, exit codes, signals, the exit itself.

Installed once, with the first run, and each passes on to what was there before. Nothing of it acts in a
process that was forked from the one that tracks.
"""

from __future__ import annotations

import atexit
import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Protocol

from ledger.tracking.endings import Ending, by_exception, by_exit_code, by_signal, stopped
from ledger.tracking.surroundings import is_interactive

__all__ = ["active", "release", "watch"]

_SIGNALS = ("SIGTERM", "SIGHUP")


class Ends(Protocol):
    """A run that wants to know how its process ends."""

    def end(self, ending: Ending, seconds_max: float) -> None: ...
    def last_word_at(self) -> float: ...
    def was_forked(self) -> None: ...


class _Process:
    """What was seen of this process's end so far."""

    def __init__(self) -> None:
        self.installed = False
        self.handled: dict[int, Callable[..., object] | int] = {}  # signals, and what handled them before us
        self.active: list[Ends] = []
        self.uncaught: BaseException | None = None
        self.shown_before: object = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        self.exit_said: tuple[float, object] | None = None
        self.signal: int | None = None
        # The signal that ends the process, once that is recorded; 0 meanwhile.
        self.ended_by: int | None = None
        # Ends are recorded by a thread: the frame that a signal interrupts may hold any lock.
        self.asked: SimpleQueue[int] = SimpleQueue()
        self.done = threading.Event()


_process = _Process()
_masks: dict[int, set[int]] = {}  # of the threads that are forking, as they were
_DRAIN_SECONDS_MAX = 10.0
_MOMENT_SECONDS = 0.2
_SIGNAL_SECONDS_MAX = 5.0  # who sends SIGTERM sends SIGKILL soon


def active() -> list[Ends]:
    """Return the runs that are being tracked in this process."""
    return list(_process.active)


def watch(run: Ends) -> None:
    """Tell *run* how this process ends, until it is released."""
    if not _process.installed:
        _process.installed = True
        _install()
    if not _process.handled and threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            if hasattr(signal, name):
                _handle(getattr(signal, name))
        threading.Thread(target=_end_when_asked, args=(_process,), name="ledger ends", daemon=True).start()
    _process.active.append(run)


def release(run: Ends) -> None:
    _process.active = [one for one in _process.active if one is not run]


def signalled() -> Ending | None:
    """Return the end that a signal asked for, where somebody else's handler made an exit of it."""
    return None if _process.signal is None else by_signal(_process.signal, time.time())


def _install() -> None:
    atexit.register(_at_exit)
    sys.excepthook = _chained_excepthook(sys.excepthook)
    setattr(sys, "exit", _noting_exit(sys.exit))  # noqa: B010 -- to a type checker no plain assignment
    quitter = type(getattr(builtins, "exit", None))
    if quitter.__module__ == "_sitebuiltins":  # `exit` and `quit`, as `site` makes them
        setattr(quitter, "__call__", _noting_quit(quitter.__call__))  # noqa: B010 -- the same


def _chained_excepthook(before: Callable[..., object]) -> Callable[..., None]:
    def hook(kind: type[BaseException], exc: BaseException, tb: TracebackType | None) -> None:
        _process.uncaught = exc
        before(kind, exc, tb)

    return hook


def _noting_exit(before: Callable[..., object]) -> Callable[..., object]:
    """`sys.exit` as it was, but for what it was called with: nobody else tells it to who runs at exit."""

    def exit(status: object = None, /) -> object:
        _note_exit(status)
        return before(status)

    exit.__doc__ = before.__doc__
    return exit


def _note_exit(code: object) -> None:
    if threading.current_thread() is threading.main_thread():  # in another it ends that thread alone
        _process.exit_said = (time.monotonic(), code)


def _noting_quit(before: Callable[..., object]) -> Callable[..., object]:
    def quit(self: object, code: object = None) -> object:
        _note_exit(code)
        return before(self, code)

    return quit


def _handle(number: int) -> None:
    before = signal.getsignal(number)
    if before is None or before is signal.SIG_IGN:  # not Python's, or to be survived, as under nohup
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if callable(before):  # its owner decides what becomes of the process
            _process.signal = number
            before(number, frame)
            _process.signal = None  # it has come back, and the run goes on
        elif _process.ended_by == number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif _process.ended_by is None:  # else it is the same again, while the end is being recorded
            _process.ended_by = 0
            _process.asked.put(number)

    _process.handled[number] = before
    signal.signal(number, handler)


def _end_when_asked(process: _Process) -> None:
    number = process.asked.get()
    until = time.monotonic() + _SIGNAL_SECONDS_MAX
    for run in active():
        run.end(by_signal(number, time.time()), max(0.5, until - time.monotonic()))
    process.ended_by = number
    process.done.set()
    os.kill(os.getpid(), number)


def _at_exit() -> None:
    if _process.ended_by is not None:
        _process.done.wait(_DRAIN_SECONDS_MAX)
        time.sleep(_MOMENT_SECONDS)  # the signal that is to end us comes now
    until = time.monotonic() + _DRAIN_SECONDS_MAX
    for run in active():
        run.end(_seen(run), max(0.5, until - time.monotonic()))


def _seen(run: Ends) -> Ending:
    """How the process ends, for a run that nobody has finished."""
    said = _process.exit_said
    exits = said is not None and said[0] >= run.last_word_at()  # else it was caught, and training went on
    uncaught = _process.uncaught or _last_shown(_process)
    if uncaught is not None:
        return by_exception(uncaught, exit_code=1)
    if said is not None and exits:
        return signalled() or by_exit_code(said[1])
    return stopped() if is_interactive() else Ending("completed", exit_code=0)


def _last_shown(process: _Process) -> BaseException | None:
    """What the interpreter itself has noted as uncaught, where somebody's hook has taken the place of ours."""
    found = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return None if found is process.shown_before or is_interactive() else found


def _before_fork() -> None:
    """Hold back the signals that we handle: one that comes to a child before it is itself would be lost there."""
    if _process.handled:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _process.handled)


def _after_fork() -> None:
    if (mask := _masks.pop(threading.get_ident(), None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    """A child tracks nothing of its parent's, and its end is not the run's."""
    global _process  # noqa: PLW0603 -- the one place where it is replaced
    forked, before = active(), _process
    _process = _Process()
    _process.installed = before.installed
    for number, handler in before.handled.items():
        # One that only Python handles can come a moment before a wait that nothing ends any more: a pool would
        # wait for ever for a worker that it has told to end.
        signal.signal(number, handler)
    for run in forked:
        run.was_forked()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
