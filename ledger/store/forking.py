"""What a fork does to open files of SQLite, and what keeps a child from using what it inherited.

SQLite keeps its notion of who locks a file in the process's memory, one for all connections to it. A child
has a copy of that which nobody brings up to date: whatever it opened would take locks that are others', or
none. So files are closed before a fork; one that could not be is of no use to the child, however it is opened.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from ledger.store.translation import forked_meanwhile

__all__ = [
    "Identity", "Lendable", "Reader", "at_forks", "connect", "disown", "identity", "in_transaction", "keep",
    "refuse_disowned", "stop",
]  # fmt: skip

Identity = tuple[int, int]  # device and inode: a file may be replaced by another of its name

_disowned: set[Identity] = set()


def identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116 -- a third of the time of Path.stat, before every use
    except OSError:
        return None
    return found.st_dev, found.st_ino


def disown(file: Identity) -> None:
    """Let nobody in this process, nor in its children, connect to a file that it inherited open."""
    _disowned.add(file)


def refuse_disowned(path: str) -> None:
    """Raise LedgerUnreachable where this process inherited the file open."""
    if _disowned and identity(path) in _disowned:
        raise forked_meanwhile(path)


class Lendable(sqlite3.Connection):
    """A connection; whoever it *is_lent* to does not close it.

    *may_mix* says whether what it has read may be of several states: somebody wrote, and it does not look for that.
    """

    is_lent = False
    may_mix: Callable[[], bool] = staticmethod(bool)  # of one that looks: False

    def close(self) -> None:
        if self.is_lent:
            raise sqlite3.ProgrammingError("this connection is lent, and the ledger's to close")
        super().close()


def connect(path: str, *, timeout_seconds: float = 30.0, at_rest: bool = False) -> Lendable:
    """Return a connection that begins no transactions of its own and may move between threads.

    One to a file *at rest* reads it without looking whether somebody writes. Raises LedgerUnreachable for a file
    that was open in this process's parent while it forked.
    """
    refuse_disowned(path)
    return sqlite3.connect(
        f"file:{quote(path)}?immutable=1" if at_rest else path,
        timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
        factory=Lendable,
        cached_statements=256,
        uri=at_rest,
    )


class Reader:
    """One that reads, and in which thread."""

    __slots__ = ("connection", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.connection: sqlite3.Connection | None = None


def in_transaction(connection: sqlite3.Connection) -> bool:
    """Whether it is in the middle of something; one that somebody closed is not."""
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:
        return False


def stop(connection: sqlite3.Connection) -> None:
    """Let whatever goes on with an inherited connection fail: what is running, and what is yet to be run."""
    connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    connection.set_progress_handler(lambda: 1, 1)


def keep(*inherited: object) -> None:
    """Never close these: SQLite would clear away the files of whoever uses them, or take it for the parent's close."""
    for one in inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


class Forking(Protocol):
    """What has to be let go of before a fork, and is taken up again after it; that of the lowest order first."""

    fork_order: int

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self) -> None: ...


class _Fork:
    """One fork at a time."""

    def __init__(self) -> None:
        self._turn = threading.RLock()  # a signal handler may fork while its own thread prepares to
        self._prepared: list[list[Forking]] = []
        self.every: weakref.WeakSet[Forking] = weakref.WeakSet()

    def before(self) -> None:
        """Prepare everything. Python ignores what is raised here, an interrupt too, and forks all the same."""
        self._turn.acquire()
        prepared: list[Forking] = []
        self._prepared.append(prepared)
        for forking in sorted(self.every, key=lambda each: each.fork_order):
            forking.before_fork()
            prepared.append(forking)

    def in_parent(self) -> None:
        try:
            for forking in self._prepared.pop():
                forking.after_fork_in_parent()
        finally:
            self._turn.release()

    def in_child(self) -> None:
        for forking in list(self.every):
            forking.after_fork_in_child()
        self._turn, self._prepared = threading.RLock(), []


_fork = _Fork()


def at_forks(forking: Forking) -> None:
    """Call *forking* at every fork for as long as it lives."""
    _fork.every.add(forking)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_fork.before, after_in_parent=_fork.in_parent, after_in_child=_fork.in_child)
