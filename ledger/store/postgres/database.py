"""A ledger on a server: connections as they are needed, transactions that are tried again, one process or many.

Writers lock runs and not the ledger, so each takes a connection of its own. What fails by the way -- a lost line,
a server that starts anew, a standby that takes over -- is done again within a bound: an append is idempotent.
"""

from __future__ import annotations

import logging
import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar, cast

import psycopg
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from ledger.errors import LedgerBusy, LedgerClosed, LedgerError, LedgerUnreachable, NoLedger
from ledger.settings import shown
from ledger.store.forking import at_forks, keep
from ledger.store.migrations import STEPS
from ledger.store.postgres import schema
from ledger.store.postgres.address import conninfo
from ledger.store.postgres.connection import ServerConnection, connect
from ledger.store.postgres.listening import CHANNEL, TELL_SECONDS, Listening
from ledger.store.postgres.translation import is_passing, translating

__all__ = ["ServerDatabase"]

CONNECTIONS_KEPT, CONNECTIONS_MAX = 4, 32  # of one process
FIRST_SECONDS_MAX = 5.0  # who has never reached the server does not wait long for it

T = TypeVar("T")

_log = logging.getLogger("ledger")
_TELLING = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, '')"  # it is no loss if that is lost


class ServerDatabase:
    """One database on a PostgreSQL server, with its connections. Opened on first use."""

    fork_order = 1

    def __init__(self, url: str, *, synchronous: str = "FULL", busy_seconds_max: float = 30.0) -> None:
        self.url = url
        self.place = shown(url)
        self._conninfo = conninfo(url)
        self._synchronous = synchronous
        self._busy_seconds_max = busy_seconds_max
        self._closed = False
        self._begin_anew()
        at_forks(self)

    def _begin_anew(self) -> None:
        self._pool = QueuePool(
            cast("Callable[[], DBAPIConnection]", self._connect),
            pool_size=CONNECTIONS_KEPT,
            max_overflow=CONNECTIONS_MAX - CONNECTIONS_KEPT,
            timeout=self._busy_seconds_max,
            use_lifo=True,
            reset_on_return=None,
        )
        self._reached = self._writable = self._readable = False
        self._told_at = 0.0
        self._mine = threading.local()

    def transact(self, work: Callable[[ServerConnection], T], *, seconds_max: float | None = None) -> T:
        """Do *work* in a transaction, and again from its start where it failed for what passes."""
        patience_seconds = self._busy_seconds_max if seconds_max is None else seconds_max
        deadline = time.monotonic() + patience_seconds
        pause_seconds = 0.01
        while True:
            try:
                with self.write(seconds_max=seconds_max) as connection:
                    return work(connection)
            except LedgerUnreachable as exc:
                if not self._may_pass(exc, deadline, patience_seconds):
                    raise
                _log.debug("tried again: %s", exc)
            time.sleep(pause_seconds * random.uniform(0.5, 1.5))  # noqa: S311 -- only so that not all come at once
            pause_seconds = min(0.5, pause_seconds * 1.6)

    def _may_pass(self, exc: LedgerUnreachable, deadline: float, patience_seconds: float) -> bool:
        if not self._reached:
            deadline -= max(0.0, patience_seconds - FIRST_SECONDS_MAX)
        return is_passing(exc) and not _waited_for_lock(exc) and time.monotonic() < deadline

    @contextmanager
    def write(self, *, seconds_max: float | None = None) -> Iterator[ServerConnection]:  # noqa: ARG002 -- a Database
        """Do what is inside in a transaction, once. Creates the ledger where there is none."""
        if getattr(self._mine, "is_writing", False):
            raise LedgerBusy(self.place, by="this very thread, which is in the middle of recording")
        with translating(self.place, self._busy_seconds_max), self._borrowed() as connection:
            self._mine.is_writing = True
            try:
                self._open_for_writing(connection)
                connection.begin()
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._mine.is_writing = False

    @contextmanager
    def read(self) -> Iterator[ServerConnection]:
        """Read; each statement sees what is committed when it starts. Raises NoLedger where there is none."""
        with translating(self.place, self._busy_seconds_max), self._borrowed() as connection:
            self._open_for_reading(connection)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[ServerConnection]:
        """Read one state of the ledger, whatever is committed meanwhile."""
        with self.read() as connection:
            connection.begin(read_only=True)
            try:
                yield connection
            finally:
                _roll_back(connection)

    def exists(self) -> bool:
        """Whether there is a ledger to read. Raises LedgerUnreachable where that cannot be told."""
        if not self._readable:
            with suppress(NoLedger), self.read():
                pass
        return self._readable

    def require(self) -> None:
        """Raise NoLedger where there is nothing to read."""
        if not self.exists():
            raise NoLedger(self.place)

    def checkpoint_after(self, committed: Sequence[int]) -> None:
        """Wake those who follow. Whoever was woken just now looks again by himself."""
        now = time.monotonic()
        if not committed or now - self._told_at < TELL_SECONDS:
            return
        self._told_at = now
        try:
            with translating(self.place, self._busy_seconds_max), self._borrowed() as connection:
                connection.execute(_TELLING, (CHANNEL,))
        except LedgerError as exc:  # they look from time to time, too
            _log.debug("nobody was woken: %s", exc)

    def checkpoint(self) -> None:
        """The server does its own."""

    def waiting(self) -> Listening:
        """Return how to wait for events."""
        return Listening(self)

    def let_go(self) -> None:
        """Close the connections; the next use opens them again."""
        self._pool.dispose()

    def close(self) -> None:
        """Close the connections. Closing again does nothing."""
        self._closed = True
        self.let_go()

    def connect(self) -> ServerConnection:
        """Return a further connection, for who keeps it; it is not up to date with a schema."""
        with translating(self.place, self._busy_seconds_max):
            return self._connect()

    def _connect(self) -> ServerConnection:
        if self._closed:
            raise LedgerClosed
        made = connect(self._conninfo, synchronous=self._synchronous, lock_seconds_max=self._busy_seconds_max)
        self._reached = True
        return made

    @contextmanager
    def _borrowed(self) -> Iterator[ServerConnection]:
        """A connection that was alive just now, for one use."""
        if self._closed:
            raise LedgerClosed
        pooled = self._pool.connect()
        while _has_word(driver := cast("ServerConnection", pooled.driver_connection)) and not _answers(driver):
            pooled.invalidate()
            pooled.close()
            pooled = self._pool.connect()
        try:
            yield driver
        finally:
            _give_back(pooled, driver)
            if self._closed:  # meanwhile, by another thread: nobody else would close this one
                self._pool.dispose()

    def _open_for_reading(self, connection: ServerConnection) -> None:
        if self._readable:
            return
        behind = schema.pending(connection, self.place)
        if len(behind) == len(STEPS):
            raise NoLedger(self.place)
        if behind:
            self._open_for_writing(connection)
        self._readable = True

    def _open_for_writing(self, connection: ServerConnection) -> None:
        if self._writable:
            return
        behind = schema.pending(connection, self.place)
        if behind or schema.is_restored(connection):
            if len(behind) == len(STEPS):
                _log.info("creating a new ledger at %s", self.place)
            connection.begin()
            try:
                schema.migrate(connection, self.place)
                schema.take_over_restored(connection)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
        self._writable = self._readable = True

    def before_fork(self) -> None:
        """Nothing is shared through the process's memory: the child connects anew."""

    def after_fork_in_parent(self) -> None:
        """The parent goes on with what it has."""

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone: to close one would end the parent's session."""
        keep(self._pool)
        self._begin_anew()


def _has_word(connection: ServerConnection) -> bool:
    """Whether the server has said something since the last answer, such as that it goes away."""
    if connection.closed:
        return True
    looking = select.poll()
    looking.register(connection.fileno(), select.POLLIN)
    return bool(looking.poll(0))


def _answers(connection: ServerConnection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _give_back(pooled: PoolProxiedConnection, connection: ServerConnection) -> None:
    if connection.closed or not connection.is_idle:
        pooled.invalidate()
    pooled.close()


def _roll_back(connection: ServerConnection) -> None:
    """End a transaction that failed. Where the line is lost, the server does so."""
    with suppress(psycopg.Error):
        if not connection.closed and not connection.is_idle:
            connection.execute("ROLLBACK")


def _waited_for_lock(exc: LedgerUnreachable) -> bool:
    """Whether the time that one may wait is over already."""
    return isinstance(exc.__cause__, psycopg.errors.LockNotAvailable)
