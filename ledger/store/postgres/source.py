"""A ledger on a server that events are merged from: the events of one snapshot, and what is kept of conflicts.

It is never changed, and a right to read is enough. It is read by the columns that its first schema had, so
that one of another version is read as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from ledger.errors import NotALedger
from ledger.store.merging import Arrival, Source
from ledger.store.postgres.connection import ServerConnection
from ledger.store.postgres.database import ServerDatabase
from ledger.store.sources import SAID, arriving_row

__all__ = ["opened_server"]

_TYPES = ("text", "text", "text", "bigint", "timestamptz", "text", "text", "text")
_IS_THERE = "SELECT to_regclass('training_events') IS NOT NULL, to_regclass('training_conflicts') IS NOT NULL"
_EVENTS = f"SELECT position, {', '.join(SAID)} FROM training_events ORDER BY position"
# A number within this snapshot: on a server such a row has none of its own.
_CONFLICTS = (
    f"SELECT row_number() OVER (ORDER BY event_id, digest), {', '.join(SAID)} FROM training_conflicts"
    " ORDER BY event_id, digest"
)
_CONFLICT_TYPES = ("bigint", *("text" if name == "timestamptz" else name for name in _TYPES))


@contextmanager
def opened_server(url: str) -> Iterator[Source]:
    """Open a source. Raises NotALedger where its database has no ledger."""
    with closing(ServerDatabase(url)) as database, closing(database.connect()) as connection:
        with database.translating():
            connection.begin(read_only=True)
            source = _LedgerOnServer(connection, database)
        yield source


class _LedgerOnServer:
    """One state of another ledger, for as long as it is open."""

    def __init__(self, connection: ServerConnection, database: ServerDatabase) -> None:
        self.place = database.place
        self._connection = connection
        self._database = database
        has_events, self._has_conflicts = _row(connection, _IS_THERE)
        if not has_events:
            raise NotALedger(f"{self.place} has no ledger; it was left as it is. Merge from a ledger's database.")
        self.steps = self._count("training_events") + (self._count("training_conflicts") if self._has_conflicts else 0)

    def _count(self, table: str) -> int:
        (number,) = _row(self._connection, f"SELECT count(*) FROM {table}")
        return int(number)

    def arrivals(self) -> Iterator[Arrival]:
        yield from self._rows("position", _EVENTS, ("bigint", *_TYPES))
        if self._has_conflicts:
            yield from self._rows("conflict", _CONFLICTS, _CONFLICT_TYPES)

    def _rows(self, kind: str, statement: str, types: tuple[str, ...]) -> Iterator[Arrival]:
        with self._database.translating():
            for row in self._connection.stream(statement, types):
                yield arriving_row(f"{kind} {row[0]}", row)


def _row(connection: ServerConnection, statement: str) -> tuple[int, ...]:
    found = connection.execute(statement).fetchone()
    assert found is not None  # noqa: S101 -- such a question has one answer
    return found
