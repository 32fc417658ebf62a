"""A second process that folds spans of a ledger's file: how it is started and asked, and what it does."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from fcntl import fcntl
from multiprocessing import Pipe
from multiprocessing.connection import Connection as End
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, cast

from ledger.projections.stamp import fold_stamp
from ledger.store.folding import Span
from ledger.store.forking import Identity, identity
from ledger.store.parts import Part, Plan, parts_of
from ledger.store.sqlite import SQLiteDatabase
from ledger.store.statements import Connection, is_sqlite
from ledger.version import __version__

__all__ = ["File", "Second", "file_of", "fold_beside"]

_AHEAD = 2  # spans that it knows of, so that it need not wait for us
_PIPE_BYTES = 1 << 20  # what it may have folded before we take it
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which Python 3.10 and newer name on Linux alone
_CODE = (
    "import sys; sys.path[:] = sys.argv[3:]; from ledger.store.second import fold_beside; "
    "fold_beside(int(sys.argv[1]), int(sys.argv[2]))"
)

_log = logging.getLogger("ledger")


class File(NamedTuple):
    """A ledger's file, by its name and by what it is."""

    path: str
    identity: Identity


def file_of(connection: Connection) -> File | None:
    """Return the file that a second process can read beside this connection; None where there is none to be had."""
    if not is_sqlite(connection) or cast("sqlite3.Connection", connection).text_factory is not str:
        return None
    if not _may_start():
        return None
    names = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    found = identity(names[0]) if names and names[0] else None
    return None if found is None else File(names[0], found)


def _may_start() -> bool:
    """Whether there is a processor for it, and an interpreter that is known to be one."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors > 1 and Path(sys.executable or "").name.startswith("python")


class Second:
    """The process beside this one. Where it ends too early, what it has not folded is given back."""

    def __init__(self, file: File, plan: Plan) -> None:
        self.asked: deque[Span] = deque()
        self._sent: set[str] = set()  # runs of the first span asked for that have come
        self._given_back: list[tuple[Span, set[str]]] = []
        self._is_known = False
        self._process: subprocess.Popen[bytes] | None = None
        theirs, self._asks = Pipe(duplex=False)
        self._answers, their_answers = Pipe(duplex=False)
        with theirs, their_answers:
            with suppress(OSError):
                fcntl(their_answers.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)
            ends = (theirs.fileno(), their_answers.fileno())
            words = [sys.executable, "-c", _CODE, *map(str, ends), *(place for place in sys.path if place)]
            with suppress(OSError):
                self._process = subprocess.Popen(  # noqa: S603 -- this interpreter and our own code, no shell
                    words,
                    pass_fds=ends,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        self._tell((file, plan))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        self._asks.close()
        self._answers.close()

    def ask(self, spans: deque[Span]) -> None:
        """Let it take the next of the *spans*, but not the last one: that is for who asks."""
        while self._process is not None and len(spans) > 1 and len(self.asked) < _AHEAD:
            self.asked.append(spans.popleft())
            self._tell(self.asked[-1])

    def ready(self) -> Iterator[Part]:
        """Yield what it has folded by now."""
        while self.asked and self._answers.poll():
            yield from self._take()

    def rest(self) -> Iterator[Part]:
        """Yield what is still to come of what it was asked for."""
        while self.asked:
            yield from self._take()

    def given_back(self) -> list[tuple[Span, set[str]]]:
        """Return the spans that it will fold no more, each with the runs of it that have come."""
        given, self._given_back = self._given_back, []
        return given

    def _tell(self, what: object) -> None:
        try:
            self._asks.send(what)
        except OSError:
            self._give_up()

    def _take(self) -> Iterator[Part]:
        try:
            said = self._answers.recv()
        except (EOFError, OSError):
            self._give_up()
            return
        if not self._is_known:
            self._is_known = said == _greeting()
            if not self._is_known:
                self._give_up()
        elif said is None:
            self.asked.popleft()
            self._sent = set()
        else:
            self._sent.update(run.run_id for run in said.runs)
            yield said

    def _give_up(self) -> None:
        code = self._stop()
        _log.warning("a second process that helped to fold the ledger ended (exit code %s); this one goes on", code)
        self._given_back += [(span, self._sent if place == 0 else set()) for place, span in enumerate(self.asked)]
        self.asked.clear()

    def _stop(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        code = process.poll()
        process.kill()
        process.wait()
        return code


def _greeting() -> tuple[str, str]:
    """By which rules this code folds: a long process may be of another version than what is installed now."""
    return __version__, fold_stamp()


def fold_beside(asks: int, answers: int) -> None:
    """Do what the second process does: fold the spans it is asked for, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted, and ends this
    gc.disable()  # a fold makes no circles, and to look for some takes a twentieth of its time
    with (
        suppress(EOFError, BrokenPipeError),
        End(asks, writable=False) as asked,
        End(answers, readable=False) as answering,
    ):
        file, plan = asked.recv()
        answering.send(_greeting())
        with closing(SQLiteDatabase(file.path)) as database:
            while identity(file.path) == file.identity:
                span = asked.recv()
                for part in parts_of(database.snapshot, plan, span):
                    answering.send(part)
                answering.send(None)
