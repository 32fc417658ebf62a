"""What the store asks of a database, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from ledger.store.postgres.remembered import Remembered
from ledger.store.statements import Connection
from ledger.store.waiting import Waiting

__all__ = ["Database"]

T = TypeVar("T")


class Database(Protocol):
    """One database with its connections, opened on first use; threads may share it."""

    place: str  # as it may be shown

    @property
    def remembered(self) -> Remembered | None:
        """What is remembered, where asking for a run takes long."""

    def transact(
        self,
        work: Callable[[Connection], T],
        *,
        seconds_max: float | None = None,
        briefly: bool = False,
        first: Callable[[Connection], T | None] | None = None,
    ) -> T:
        """Do *work* in a transaction and return its answer; all of it is committed, or nothing.

        Creates the ledger where there is none. It may be done again from the start, so that *work* has to be
        idempotent: what failed may have been committed all the same. *seconds_max* is for who waits less than usual,
        *briefly* for work of a few small statements: a server is told those whose answers nobody waits for together.
        *first* is tried once before it: one statement that is a transaction by itself; None where it did nothing.
        """

    def write(self, *, seconds_max: float | None = None) -> AbstractContextManager[Connection]:
        """Do the same once, inside the block."""

    def read(self) -> AbstractContextManager[Connection]:
        """Read; each statement sees what is committed when it starts. Raises NoLedger where there is none."""

    def ask(self, work: Callable[[Connection], T]) -> T:
        """Read with *work*, and again from its start where the line was lost: for who goes on for ever."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Read one state of the ledger, whatever is committed meanwhile."""

    def translating(self) -> AbstractContextManager[None]:
        """Turn what this database's driver raises into what the ledger raises, with its place."""

    def exists(self, *, seconds_max: float | None = None) -> bool:
        """Whether there is something to read; *seconds_max* is for who waits less than usual."""

    def require(self, *, seconds_max: float | None = None) -> None:
        """Raise NoLedger where there is nothing to read."""

    def checkpoint_after(self, committed: Sequence[int], *, tells: bool = True) -> None:
        """Do the upkeep that is due after these positions were committed; *tells* where there are followers to wake."""

    def checkpoint(self) -> None:
        """Do that upkeep now."""

    def waiting(self) -> Waiting:
        """Return how to wait for events."""

    def let_go(self) -> None:
        """Close the connections; the next use opens them again."""

    def close(self) -> None:
        """Close the connections. Closing again does nothing; using it afterwards is an error."""
