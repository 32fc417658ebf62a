"""A ledger's SQLite file: who may write next, when the WAL is checkpointed, what survives a fork.

Writers take turns by asking again, and ask more often the longer they have waited: SQLite's own
busy handler asks ever less often, and with 16 writers one of them then waits for seconds.

Checkpoints run while the write lock is held, so that no process of ours commits during one. The
WAL-reset bug of SQLite before 3.51.3 needs just that (docs/decisions/0002).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from ledger.errors import LedgerBusy, LedgerClosed, LedgerError, NoLedger
from ledger.store.filesystem import make_room, on_network
from ledger.store.forking import (
    Identity,
    Lendable,
    Reader,
    at_forks,
    connect,
    disown,
    identity,
    in_transaction,
    keep,
    stop,
)
from ledger.store.migrations import migrate, pending
from ledger.store.resting import Resting, Unmixed, looked_at
from ledger.store.translation import is_busy, translating
from ledger.store.turns import Queue
from ledger.store.waiting import Looking

__all__ = ["MEMORY", "SQLITE_FIXED", "SQLiteDatabase"]

MEMORY = ":memory:"
SQLITE_FIXED = (3, 51, 3)  # the first release without the WAL-reset bug
QUEUE_SECONDS_MAX = 5.0  # who has not come to the head by then asks without: it may be a stranger's lock
CHECKPOINT_EVERY = 128  # positions; about a thousand pages of WAL, as SQLite's own default has it

T = TypeVar("T")

_log = logging.getLogger("ledger")


class SQLiteDatabase:
    """One SQLite file, or a database in memory, with its connections. Opened on first use."""

    def __init__(self, path: str, *, synchronous: str = "FULL", busy_seconds_max: float = 30.0) -> None:
        self.path = path
        self.place = "memory" if path == MEMORY else path
        self.remembered = None  # a look at a run takes microseconds here
        self._synchronous = synchronous
        self._busy_seconds_max = busy_seconds_max
        self._closed = False
        self._queue = Queue(Path(path).parent)
        self._new_locks()
        self._forget()
        at_forks(self)

    def _new_locks(self) -> None:
        self._turn = threading.RLock()
        self._quiet = threading.Condition()
        self._reading: set[Reader] = set()  # a fork waits until there are none
        self._forking = False  # and readers that come meanwhile wait for the fork
        self._let_go_of = False  # whether the fork that is under way finds nothing open; and where it does,
        self._going_on: list[sqlite3.Connection] = []  # what the thread that forks is in the middle of using

    def _forget(self) -> None:
        self._opened: Identity | None = None  # the file that is in use
        self._resting: Resting | None = None  # how it was, where it can only be read as it rests
        self._held: sqlite3.Connection | None = None  # the writer's; in memory, everybody's
        # Readers take a connection each, threads at the same time too.
        self._readers = sa.create_engine(
            "sqlite://",
            creator=self._connect_to_read,
            poolclass=QueuePool,
            pool_size=0,  # without a bound: SQLite keeps a descriptor of what is closed while others are open
            pool_reset_on_return=None,
        )

    @contextmanager
    def write(self, *, seconds_max: float | None = None) -> Iterator[sqlite3.Connection]:
        """Hold the write lock: what is done inside is committed together, or not at all.

        Creates the file, and its folders, where there is none. *seconds_max* is for who waits less than usual.
        """
        patience_seconds = self._busy_seconds_max if seconds_max is None else seconds_max
        deadline = time.monotonic() + patience_seconds
        turn = self._turn  # in a child that goes on in here there is another
        if not turn.acquire(timeout=patience_seconds):
            raise LedgerBusy(self.place, patience_seconds, by="another thread of this process")
        connection = None
        try:
            with translating(self.place):
                connection = self._begun(deadline)
                yield connection
                self._insist(connection, "COMMIT")
        except BaseException:  # an interrupt too: all that the block wrote, or nothing
            if connection is not None and connection.in_transaction:
                with translating(self.place):
                    connection.execute("ROLLBACK")
            raise
        finally:
            turn.release()

    def transact(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        seconds_max: float | None = None,
        briefly: bool = False,  # noqa: ARG002 -- a Database
        first: Callable[[sqlite3.Connection], T | None] | None = None,  # noqa: ARG002 -- a Database
    ) -> T:
        """Do *work* while the write lock is held, once: what SQLite has committed, it says."""
        with self.write(seconds_max=seconds_max) as connection:
            return work(connection)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read; each statement sees what is committed when it starts. Raises NoLedger where there is none."""
        if self.path == MEMORY:
            with self._turn, translating(self.place):
                yield self._writer()
            return
        with translating(self.place):
            self._open_existing()
            with self._counted() as reader, closing(self._readers.raw_connection()) as pooled:
                reader.connection = cast("Lendable", pooled.driver_connection)
                with Unmixed(reader.connection, self.place):
                    yield reader.connection

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read with *work*."""
        with self.read() as connection:
            return work(connection)

    @contextmanager
    def _counted(self) -> Iterator[Reader]:
        reader = Reader()
        with self._quiet:
            self._quiet.wait_for(lambda: not self._forking, timeout=self._busy_seconds_max)
            self._reading.add(reader)
        try:
            yield reader
        finally:
            with self._quiet:
                self._reading.discard(reader)
                self._quiet.notify_all()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read one state of the ledger, whatever is committed meanwhile."""
        with self.read() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def translating(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into what the ledger raises."""
        return translating(self.place)

    def exists(self, *, seconds_max: float | None = None) -> bool:  # noqa: ARG002 -- a Database
        """Whether there is something to read."""
        if self.path == MEMORY:
            return True
        try:
            return os.stat(self.path).st_size > 0  # noqa: PTH116 -- a third of the time of Path.stat, on every read
        except OSError:
            return False

    def require(self, *, seconds_max: float | None = None) -> None:  # noqa: ARG002 -- a Database
        """Raise NoLedger where there is nothing to read."""
        if not self.exists():
            raise NoLedger(self.place)

    def checkpoint_after(self, committed: Sequence[int], *, tells: bool = True) -> None:  # noqa: ARG002 -- a Database
        """Checkpoint the WAL if the positions just committed cross a multiple of CHECKPOINT_EVERY.

        What was committed stays so if this fails; the next crossing tries again.
        """
        if self.path == MEMORY or not committed:
            return
        if committed[0] // CHECKPOINT_EVERY == (committed[-1] + 1) // CHECKPOINT_EVERY:
            return
        try:
            self.checkpoint()
        except LedgerError as exc:
            _log.debug("checkpoint of %s put off: %s", self.place, exc)

    def checkpoint(self) -> None:
        """Copy the WAL into the file while nobody can commit."""
        with self.write(), self.read() as reader:
            reader.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the connections; the last process to do so leaves one file. Closing again does nothing."""
        self._closed = True  # first, so that no reader of another thread opens a connection afterwards
        self.let_go()

    def waiting(self) -> Looking:
        """Return how to wait for events."""
        return Looking()

    def let_go(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._turn:
            self._queue.close()
            if self._was_replaced():
                self.abandon()
            self._readers.dispose()
            if self._held is not None:
                self._held.close()
                self._held = None

    def _writer(self) -> sqlite3.Connection:
        if self._closed:
            raise LedgerClosed
        if self._was_replaced():
            self.abandon()
        if self._held is None:
            if self.path != MEMORY:
                make_room(Path(self.path))
            connection = self._connect()
            try:
                self._prepare(connection)
            except BaseException:  # an interrupt too: nobody else would close it
                connection.close()
                raise
            self._held, self._opened = connection, None if self.path == MEMORY else identity(self.path)
        return self._held

    def _was_replaced(self) -> bool:
        """Whether somebody moved or removed the file, or woke it, so that what we have open is no longer the ledger."""
        if self._resting is not None and self._resting.stirs():
            return True
        return self._opened is not None and identity(self.path) != self._opened

    def _open_existing(self) -> None:
        """Look, once, whether an existing file is a ledger that is up to date; if it is, reading changes nothing."""
        if self._opened is not None and not self._was_replaced():
            return
        self.require()
        with self._turn:
            if self._was_replaced():
                self.abandon()
            if self._opened is None:
                behind, self._resting = looked_at(self.path, self._connect)
                if behind:
                    self._writer()
                self._opened = identity(self.path)

    def _connect_to_read(self) -> Lendable:
        if self._closed:
            raise LedgerClosed
        resting = self._resting  # which another thread may see stir
        return self._connect() if resting is None else resting.connect()

    def _connect(self) -> Lendable:
        if self._closed:
            raise LedgerClosed
        connection = connect(self.path, timeout_seconds=self._busy_seconds_max)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # `checkpoint` does it, under the write lock
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        pending(connection, self.path)  # refuses what is no ledger of ours before anything is changed
        if self.path != MEMORY:
            wanted = "delete" if on_network(Path(self.path)) else "wal"
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
                self._insist(connection, f"PRAGMA journal_mode = {wanted}")
        migrate(connection, self.path, self._insist)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            # Only BEGIN can meet another writer, and `_insist` waits for that, and fairly.
            connection.execute("PRAGMA busy_timeout = 0")

    def _begun(self, deadline: float) -> sqlite3.Connection:
        """Return the writer's connection with the write lock on the file that is the ledger now."""
        while True:
            connection = self._writer()
            if connection.in_transaction:
                raise LedgerBusy(self.place, by="this very thread, which is in the middle of recording")
            try:
                self._begin(connection, deadline)
                if not self._was_replaced():
                    return connection
                connection.execute("ROLLBACK")  # a backup was put in its place while we waited
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _begin(self, connection: sqlite3.Connection, deadline: float) -> None:
        if self.path == MEMORY:
            connection.execute("BEGIN IMMEDIATE")
            return
        with self._queue.head(max(0.0, min(QUEUE_SECONDS_MAX, deadline - time.monotonic()))):
            self._insist(connection, "BEGIN IMMEDIATE", deadline)

    def _insist(self, connection: sqlite3.Connection, sql: str, deadline: float | None = None) -> None:
        """Run *sql* as soon as no other process is in the way."""
        deadline = deadline or time.monotonic() + self._busy_seconds_max
        pause_seconds = 0.0002
        while True:
            try:
                connection.execute(sql)
            except sqlite3.OperationalError as exc:
                if not is_busy(exc):
                    raise
                if time.monotonic() > deadline:
                    raise LedgerBusy(self.place, self._busy_seconds_max) from exc
            else:
                return
            time.sleep(pause_seconds)
            pause_seconds = min(0.005, pause_seconds * 1.2)

    def abandon(self) -> None:
        """Forget the connections to a file that is gone, or to the parent's transaction, without closing them.

        SQLite would clear away the -wal file of whatever lies at this path now, or take it for the parent's close.
        """
        if self._resting is None:
            keep(self._held, self._readers)
        else:  # to which SQLite clears away nothing
            self._readers.dispose()
            keep(self._held)
        self._forget()

    fork_order = 1

    def before_fork(self) -> None:
        """Close every connection while nobody uses one, and let nobody open another until the fork is done.

        The parent's close is then the last one, as far as SQLite can see, and removes the -wal file that the
        child writes to. Where something stays open, the child cannot use the ledger.
        """
        self._turn.acquire()
        try:
            self._quiet.acquire()
            try:
                self._let_go_for_fork()
            except BaseException:
                self._end_of_fork()
                raise
        except BaseException:
            self._turn.release()
            raise

    def _let_go_for_fork(self) -> None:
        if self.path == MEMORY:
            return
        own = {reader for reader in self._reading if reader.thread == threading.get_ident()}
        # A signal handler may fork while its own thread records: that transaction goes on in the parent.
        recording = self._held if self._held is not None and in_transaction(self._held) else None
        self._going_on = [used for used in (recording, *(reader.connection for reader in own)) if used is not None]
        if recording:
            return
        self._forking = True
        if not own:  # else this very thread would have to read on
            self._quiet.wait_for(lambda: not self._reading, timeout=self._busy_seconds_max)
        if self._reading:
            self._queue.close()
        else:
            self.let_go()
            self._let_go_of = True

    def _end_of_fork(self) -> None:
        self._forking = self._let_go_of = False
        self._going_on = []
        self._quiet.notify_all()
        self._quiet.release()

    def after_fork_in_parent(self) -> None:
        self._end_of_fork()
        self._turn.release()

    def after_fork_in_child(self) -> None:
        """Make new locks: threads that hold or await the old ones are not here. Memory is the child's own copy."""
        reading, let_go_of, going_on = self._reading, self._let_go_of, self._going_on
        self._new_locks()
        if self._opened is not None and not let_go_of:
            disown(self._opened)
            for connection in going_on:
                stop(connection)
            keep(reading)
            self.abandon()
