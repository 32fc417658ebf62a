"""A queue of the writers that wait for one file, in the order in which they came.

Asking SQLite for its write lock again and again is no queue: who has just committed asks first, and
under load others wait for seconds. So writers first line up for a lock on the file's folder, which
the kernel hands from one to the next; whoever has that asks SQLite, and gives it on with the answer.
Nothing is written for it, and the kernel takes it from a process that dies. Where there is no such
lock (some network filesystems, Windows), writers do without the queue.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

__all__ = ["Queue"]


class Queue:
    """The queue for the files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self._closing: weakref.finalize[[int], Queue] | None = None  # also closes it for a ledger that is just dropped

    @contextmanager
    def head(self, seconds_max: float) -> Iterator[None]:
        """Wait for the head of the queue, and hold it inside the block.

        After *seconds_max* it goes on without: whoever is at the head may have been stopped there.
        """
        place = None if self._at_once() else _Place(self._folder)
        try:
            if place is not None:
                place.wait(seconds_max)
            yield
        finally:
            if place is not None:
                place.leave()
            elif self._descriptor is not None:
                flock(self._descriptor, LOCK_UN)

    def _at_once(self) -> bool:
        """Take the head where nobody has it; where there is no such lock to be had, there is no queue."""
        if sys.platform == "win32":
            return True
        try:
            if self._descriptor is None:
                self._descriptor = _opened(self._folder)
                self._closing = weakref.finalize(self, os.close, self._descriptor)
            flock(self._descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
        return True

    def close(self) -> None:
        """Close it, before a fork above all: a child's copy of the descriptor would hold the lock too."""
        if self._closing is not None:
            self._closing()
            self._descriptor = self._closing = None


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_CLOEXEC)


class _Place:
    """One wait in the queue, on a descriptor of its own."""

    def __init__(self, folder: Path) -> None:
        self._guard = threading.Lock()
        self._came = threading.Event()
        self._waiting = self._left = False
        self._descriptor = _opened(folder)

    def wait(self, seconds_max: float) -> None:
        # A lock that is waited for takes no time-out; waiting for a thread that waits for it does.
        self._waiting = True
        try:
            threading.Thread(target=self._wait, daemon=True, name="ledger-queue").start()
        except RuntimeError:  # no more threads are to be had: go on without the queue
            self._waiting = False
            return
        self._came.wait(seconds_max)

    def _wait(self) -> None:
        try:
            flock(self._descriptor, LOCK_EX)
        finally:
            with self._guard:
                self._waiting = False
                if self._left:
                    self._give_on()
            self._came.set()

    def leave(self) -> None:
        with self._guard:
            self._left = True
            if not self._waiting:  # else the thread gives it on, when its turn has come for nobody
                self._give_on()

    def _give_on(self) -> None:
        flock(self._descriptor, LOCK_UN)  # a child that was forked meanwhile has a copy that closing would not unlock
        os.close(self._descriptor)
