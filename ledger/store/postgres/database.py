"""A ledger on a server: connections as they are needed, transactions that are tried again, one process or many.

Writers lock runs and not the ledger, so each takes a connection of its own. What fails by the way -- a lost line,
a server that starts anew, a standby that takes over -- is done again within a bound: an append is idempotent.
"""

from __future__ import annotations

import logging
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeVar, cast

import psycopg
from psycopg import Pipeline
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
from ledger.store.postgres.patience import Patience
from ledger.store.postgres.remembered import Remembered
from ledger.store.postgres.translation import translating, undone
from ledger.store.statements import StoredRow

__all__ = ["ServerDatabase"]

CONNECTIONS_KEPT, CONNECTIONS_MAX = 4, 32  # of one process
FIRST_SECONDS_MAX = 5.0  # who has never reached the server does not wait long for it
SILENCE_SECONDS = 10.0  # beyond the time for which a statement may wait for a lock, a server that says nothing is away

T = TypeVar("T")

_log = logging.getLogger("ledger")
_TELLING = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, '')"  # it is no loss if that is lost


class ServerDatabase:
    """One database on a PostgreSQL server, with its connections. Opened on first use."""

    fork_order = 1

    def __init__(
        self,
        url: str,
        *,
        synchronous: str = "FULL",
        busy_seconds_max: float = 30.0,
        away_seconds_max: float | None = None,
    ) -> None:
        """*busy_seconds_max* is how long others are waited for, *away_seconds_max* a server, if not as long."""
        self.url = url
        self.place = shown(url)
        self._conninfo = conninfo(url)
        self._synchronous = synchronous
        self._busy_seconds_max = busy_seconds_max
        self._away_seconds_max = busy_seconds_max if away_seconds_max is None else away_seconds_max
        self._within_seconds = away_seconds_max
        self._closed = False
        self._open: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._begin_anew()
        at_forks(self)

    def _begin_anew(self) -> None:
        self._pool = self._empty_pool()
        self._writable = self._readable = False
        self._told_at = 0.0
        self.remembered = Remembered()
        self._mine = threading.local()

    def _empty_pool(self) -> QueuePool:
        return QueuePool(
            cast("Callable[[], DBAPIConnection]", self._connect),
            pool_size=CONNECTIONS_KEPT,
            max_overflow=CONNECTIONS_MAX - CONNECTIONS_KEPT,
            timeout=self._busy_seconds_max,
            use_lifo=True,
            reset_on_return=None,
        )

    def transact(
        self,
        work: Callable[[ServerConnection], T],
        *,
        seconds_max: float | None = None,
        briefly: bool = False,
        first: Callable[[ServerConnection], T | None] | None = None,
    ) -> T:
        """Do *work* in a transaction, and again from its start where it failed for what passes."""
        patience, mine = self._patience(seconds_max), self._mine
        while True:
            try:
                if first is not None:
                    trying, first = first, None
                    with self._to_write(seconds_max) as connection:
                        answer = trying(connection)
                    if answer is not None:
                        return answer
                with self._written(seconds_max, briefly=briefly) as connection:
                    return work(connection)
            except LedgerUnreachable as exc:
                if mine is not self._mine or not patience.may_try_again(exc):
                    raise  # to a child that was forked in here, too: the work is its parent's
                _log.debug("tried again: %s", exc)

    def _patience(self, seconds_max: float | None) -> Patience:
        """How long what passes is waited for: by who has written or read here before, longer."""
        if seconds_max is None:
            seconds_max = self._away_seconds_max
            if not self._readable:
                seconds_max = min(seconds_max, FIRST_SECONDS_MAX)
        return Patience(seconds_max)

    @contextmanager
    def write(self, *, seconds_max: float | None = None) -> Iterator[ServerConnection]:
        """Do what is inside in a transaction, once. Creates the ledger where there is none."""
        with self._written(seconds_max, briefly=False) as connection:
            yield connection

    @contextmanager
    def _written(self, seconds_max: float | None, *, briefly: bool) -> Iterator[ServerConnection]:
        with self._to_write(seconds_max) as connection:
            with _sent_together(connection) if briefly and Pipeline.is_supported() else nullcontext():
                connection.begin()
                yield connection
                ended = connection.execute("COMMIT")
            _check_committed(ended, self.place)

    @contextmanager
    def _to_write(self, seconds_max: float | None) -> Iterator[ServerConnection]:
        """A connection on which this thread alone writes; what it leaves open is rolled back where that fails."""
        if getattr(self._mine, "is_writing", False):
            raise LedgerBusy(self.place, by="this very thread, which is in the middle of recording")
        with self.translating(), self._borrowed(seconds_max) as connection:
            self._mine.is_writing = True
            connection.silence_seconds_max = self._busy_seconds_max + SILENCE_SECONDS
            try:
                self._open_for_writing(connection)
                yield connection
            except BaseException as exc:
                _roll_back(connection)
                if isinstance(exc, psycopg.errors.ReadOnlySqlTransaction):
                    connection.close()  # another host may be the primary by now
                raise
            finally:
                self._mine.is_writing = False
                connection.silence_seconds_max = None

    @contextmanager
    def read(self, *, seconds_max: float | None = None) -> Iterator[ServerConnection]:
        """Read; each statement sees what is committed when it starts. Raises NoLedger where there is none."""
        with self.translating(), self._borrowed(seconds_max, self._patience(seconds_max)) as connection:
            self._open_for_reading(connection)
            yield connection

    def ask(self, work: Callable[[ServerConnection], T]) -> T:
        """Read with *work*, and again from its start where it failed for what passes."""
        patience, mine = self._patience(None), self._mine
        while True:
            try:
                with self.read() as connection:
                    return work(connection)
            except LedgerUnreachable as exc:
                if mine is not self._mine or not patience.may_try_again(exc):
                    raise
                _log.debug("asked again: %s", exc)

    @contextmanager
    def snapshot(self) -> Iterator[ServerConnection]:
        """Read one state of the ledger, whatever is committed meanwhile."""
        with self.read() as connection:
            connection.begin(read_only=True)
            try:
                yield connection
            finally:
                _roll_back(connection)

    def translating(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into what the ledger raises."""
        return translating(self.place, self._busy_seconds_max)

    def exists(self, *, seconds_max: float | None = None) -> bool:
        """Whether there is a ledger to read. Raises LedgerUnreachable where that cannot be told."""
        if not self._readable:
            with suppress(NoLedger), self.read(seconds_max=seconds_max):
                pass
        return self._readable

    def require(self, *, seconds_max: float | None = None) -> None:
        """Raise NoLedger where there is nothing to read."""
        if not self.exists(seconds_max=seconds_max):
            raise NoLedger(self.place)

    def checkpoint_after(self, committed: Sequence[int], *, tells: bool = True) -> None:
        """Wake those who follow. Whoever was woken just now looks again by himself."""
        now = time.monotonic()
        if not tells or not committed or now - self._told_at < TELL_SECONDS:
            return
        self._told_at = now
        try:
            with self.translating(), self._borrowed() as connection:
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
        before, self._pool = self._pool, self._empty_pool()
        before.dispose()

    def close(self) -> None:
        """Close the connections. Closing again does nothing."""
        self._closed = True
        self.let_go()

    def connect(self) -> ServerConnection:
        """Return a further connection, for who keeps it; it is not up to date with a schema."""
        with self.translating():
            return self._connect()

    def _connect(self) -> ServerConnection:
        if self._closed:
            raise LedgerClosed
        made = connect(
            self._conninfo,
            synchronous=self._synchronous,
            lock_seconds_max=self._busy_seconds_max,
            within_seconds=getattr(self._mine, "within_seconds", self._within_seconds),
        )
        self._open.add(made)
        return made

    @contextmanager
    def _borrowed(
        self, seconds_max: float | None = None, patience: Patience | None = None
    ) -> Iterator[ServerConnection]:
        """A connection that was alive just now, for one use; with *patience*, as soon as the server gives one."""
        pool = self._pool
        pooled = self._taken(pool, seconds_max, patience)
        driver = cast("ServerConnection", pooled.driver_connection)
        try:
            yield driver
        finally:
            if pool is not self._pool or driver.closed or not driver.is_idle or self._closed:
                pooled.invalidate()
            pooled.close()
            if driver.is_lost and pool is self._pool:
                self.let_go()  # the others go the same way, or lead to the same end

    def _taken(self, pool: QueuePool, seconds_max: float | None, patience: Patience | None) -> PoolProxiedConnection:
        if self._closed:
            raise LedgerClosed
        self._mine.within_seconds = self._within_seconds if seconds_max is None else seconds_max
        while True:
            try:
                pooled = pool.connect()
            except (psycopg.Error, OSError) as exc:
                if patience is None or not patience.may_try_again(exc):
                    raise
                continue
            driver = cast("ServerConnection", pooled.driver_connection)
            if not _has_word(driver) or _answers(driver):
                return pooled
            pooled.invalidate()
            pooled.close()

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
        if connection.is_prepared:
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
            except BaseException:  # an interrupt too: a schema is changed as a whole or not at all
                _roll_back(connection)
                raise
        connection.is_prepared = self._readable = True

    def before_fork(self) -> None:
        """Nothing is shared through the process's memory: the child connects anew."""

    def after_fork_in_parent(self) -> None:
        """The parent goes on with what it has."""

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone: what is said over one, even a close, reaches the parent's session."""
        keep(self._pool)
        for inherited in list(self._open):
            inherited.sever()
        self._open = weakref.WeakSet()
        self._begin_anew()


@contextmanager
def _sent_together(connection: ServerConnection) -> Iterator[None]:
    """Send what nobody waits for with what comes behind it. What has failed is raised once, and not warned of, too."""
    together = connection.pipeline()
    together.__enter__()
    try:
        yield
    except BaseException:  # an interrupt too: the pipeline is left, and the first error is what is told
        with suppress(psycopg.Error):
            together.__exit__(None, None, None)
        raise
    together.__exit__(None, None, None)


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


def _check_committed(ended: psycopg.Cursor[StoredRow], place: str) -> None:
    """A transaction that somebody has broken inside answers a COMMIT with a ROLLBACK."""
    if ended.statusmessage != "COMMIT":
        raise undone(place)


def _roll_back(connection: ServerConnection) -> None:
    """End a transaction that failed. Where the line is lost, the server does so."""
    with suppress(psycopg.Error):
        if not connection.closed and not connection.is_idle:
            connection.execute("ROLLBACK")
