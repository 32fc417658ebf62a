"""What the second process does: fold the spans of a ledger's file that it is asked for, until nobody asks any more."""

from __future__ import annotations

import gc
import signal
import sqlite3
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection as End
from pickle import HIGHEST_PROTOCOL, dumps
from threading import Condition, Thread
from types import TracebackType
from typing import NamedTuple, Self

from ledger.projections.stamp import fold_stamp
from ledger.store.folding import Reading
from ledger.store.forking import Identity, connect, identity
from ledger.store.parts import Plan, parts_of
from ledger.version import __version__

__all__ = ["File", "Outbox", "fold_beside", "greeting"]

HELD_BYTES_MAX = 8_000_000  # folded, and not taken yet; beyond that the fold waits


class File(NamedTuple):
    """A ledger's file, by its name and by what it is."""

    path: str
    identity: Identity


def greeting() -> tuple[str, str]:
    """Return by which rules this code folds: a long process may be of another version than what is installed now."""
    return __version__, fold_stamp()


def fold_beside(asks: int, answers: int) -> None:
    """Answer what comes by one pipe into the other: parts of the spans, and None behind each span."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted, and ends this
    gc.disable()  # a fold makes no circles, and to look for some takes a twentieth of its time
    with (
        suppress(EOFError, BrokenPipeError),
        End(asks, writable=False) as asked,
        End(answers, readable=False) as told,
        Outbox(told) as outbox,
    ):
        file, plan = asked.recv()
        outbox.put(greeting())
        # One connection, which never opens the file again: another may lie there by then.
        with closing(connect(file.path)) as connection:
            # Who verifies sees one state of the file. Else each page is read by itself, so that the WAL stays short.
            with _one_state(connection) as read:
                if identity(file.path) != file.identity:
                    sys.exit("another file lies there now")
                if plan.witnessed:
                    _answer(asked, outbox, lambda: nullcontext(read), plan)
            _answer(asked, outbox, lambda: _one_state(connection), plan)


class Outbox:
    """What is to be sent, while the fold goes on: who takes it writes for long, and a pipe holds little.

    At the end of the block it waits until all is sent, unless nobody listens.
    """

    def __init__(self, told: End) -> None:
        self._told = told
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._is_over = False
        self._changed = Condition()
        Thread(target=self._send_all, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(exc, EOFError):  # who asks has gone, and takes nothing any more
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or not self._waiting)

    def put(self, said: object) -> None:
        """Send it when those before it are sent. Raises BrokenPipeError where nobody listens any more."""
        message = dumps(said, HIGHEST_PROTOCOL)
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._bytes < HELD_BYTES_MAX)
            if self._is_over:
                raise BrokenPipeError
            self._waiting.append(message)
            self._bytes += len(message)
            self._changed.notify_all()

    def _send_all(self) -> None:
        try:
            with suppress(OSError):  # nobody listens; whatever else it is, the thread says so on stderr
                self._send_on()
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _send_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                message = self._waiting[0]
            self._told.send_bytes(message)
            with self._changed:
                self._waiting.popleft()
                self._bytes -= len(message)
                self._changed.notify_all()


def _answer(asked: End, outbox: Outbox, read: Reading, plan: Plan) -> None:
    while True:
        span = asked.recv()
        for part in parts_of(read, plan, span):
            outbox.put(part)
        outbox.put(None)


@contextmanager
def _one_state(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # from here on
        yield connection
    finally:
        connection.execute("ROLLBACK")
