"""Read on: the events behind a position, those that are there and then those that come.

On a file a writer holds the write lock from the giving of a position to its commit, so positions become visible
in their order, and who remembers how far he has looked skips none. On PostgreSQL they do not: there events are seen
in the order of their transactions, and only those of transactions that are older than any that goes on
(docs/decisions/0005).

Whether something came is asked of the newest position, through the pool: some 20 microseconds. PRAGMA
data_version costs the same, but has to be asked of one connection for ever, which forks and replaced files take away.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from ledger.errors import PositionUnknown
from ledger.events.fact import Recorded
from ledger.store import bounds
from ledger.store.database import Database
from ledger.store.reading import recorded
from ledger.store.spelling import not_by_index
from ledger.store.statements import Connection, Statement, compiled, is_sqlite, said
from ledger.store.tables import training_events

__all__ = ["Look", "Wanted", "behind", "event_at", "follow", "look", "newest_position", "place_of", "standing_at"]

WAY = "follow(after=...)"
EVENTS_MAX = 500  # at one look
LOOKS_MAX = 3  # at what other databases' transactions keep out of sight
POSITIONS_MAX = 5_000  # at one look: where few are wanted, a fork does not wait for a long one


class Wanted(NamedTuple):
    """Which events are wanted: of these types, of this run; None for all."""

    types: tuple[str, ...] | None
    run_id: str | None

    def __str__(self) -> str:
        """What people read: "crashed, completed of run r1", "all"."""
        chosen = "all" if self.types is None else ", ".join(sorted(self.types))
        return chosen if self.run_id is None else f"{chosen} of run {self.run_id}"

    def is_within(self, other: Wanted) -> bool:
        """Whether the other has all that this one has."""
        of_types = other.types is None or (self.types is not None and set(self.types) <= set(other.types))
        return of_types and other.run_id in (None, self.run_id)


class Look(NamedTuple):
    """The wanted events of a stretch of the ledger, and the position up to which it goes."""

    events: Sequence[Recorded]
    until: int


def follow(database: Database, after: int, wanted: Wanted) -> Generator[Recorded, None, None]:
    """Yield wanted events behind *after* for ever; raise PositionUnknown where another ledger was put in place."""
    event_id: str | None = None

    def see(connection: Connection) -> tuple[Look, str | None]:
        if event_id not in (None, event_at(connection, after)):
            raise PositionUnknown(after, newest_position(connection), WAY)
        found = look(connection, after, wanted)
        return found, event_at(connection, found.until)

    after = database.ask(partial(standing_at, position=after))
    with closing(database.waiting()) as waiting:
        while True:
            found, event_id = database.ask(see)
            if found.until == after:
                waiting.wait()
            else:
                waiting.came()
                after = found.until
                yield from found.events


def look(connection: Connection, after: int, wanted: Wanted, way: str = WAY) -> Look:
    """Return the next wanted events behind *after*.

    Raises PositionUnknown, which names the *way* to go on, where the ledger has not come as far as *after*.
    """
    newest = newest_position(connection)
    if newest < after:
        raise PositionUnknown(after, newest, way)
    if not is_sqlite(connection):
        return _look_below_horizon(connection, after, wanted, tries=1 if newest == after else LOOKS_MAX)
    if newest == after:
        return Look((), after)
    # What is not after `newest` is committed, so the page below, which sees a later state, lacks none of it.
    return _page(connection, wanted, min(newest, after + POSITIONS_MAX), after=after)


def _look_below_horizon(connection: Connection, after: int, wanted: Wanted, *, tries: int) -> Look:
    seen = place_of(connection, after)
    asked = {"transaction": seen.transaction, "after": seen.position, "most": POSITIONS_MAX, "elsewhere": list[str]()}
    found = _STRETCH.run(connection, asked).fetchone()
    while found is None and tries:  # a transaction of another database may begin behind the list of those
        elsewhere = [xid for (xid,) in _ELSEWHERE.run(connection, asked)]
        found = _STRETCH.run(connection, {**asked, "elsewhere": elsewhere}).fetchone()
        tries -= 1
    if found is None:
        return Look((), after)
    until = Place(*found)
    values = {"transaction": seen.transaction, "last_transaction": until.transaction}
    return _page(connection, wanted, until.position, after=seen.position, **values)


def _page(connection: Connection, wanted: Wanted, until: int, **values: object) -> Look:
    statement = _paging(wanted.types, of_run=wanted.run_id is not None, on_file=is_sqlite(connection))
    rows = statement.ask(connection, {**values, "until": until, "the_run": wanted.run_id})
    events = [recorded(row) for row in rows]
    return Look(events, events[-1].position if len(events) == EVENTS_MAX else until)


class Place(NamedTuple):
    """Where an event stands in the order in which followers see them: on a file, by its position alone."""

    transaction: int
    position: int


def place_of(connection: Connection, position: int) -> Place:
    """Return the place of the event at a position, or of the nearest before it."""
    if is_sqlite(connection):
        return Place(0, position)
    return Place(*(_PLACE.run(connection, {"position": position}).fetchone() or (-1, 0)))


def standing_at(connection: Connection, position: int, way: str = WAY) -> int:
    """Return where somebody stands who wants what is behind a position, though there may be no event at it.

    On a server a transaction that was rolled back, or goes on, leaves holes among the positions. Who names one
    stands before the first event of a later position: some of an earlier one may come, but none is left out.
    Raises PositionUnknown, which names the *way* to go on, where the ledger has not come as far.
    """
    newest = newest_position(connection)
    if newest < position:
        raise PositionUnknown(position, newest, way)
    if is_sqlite(connection) or position == 0 or event_at(connection, position) is not None:
        return position
    (standing,) = _STANDING.run(connection, {"position": position}).fetchone() or (0,)
    return int(standing)


_STANDING = said(
    "SELECT position FROM training_events WHERE (transaction_id, position) < ("
    " SELECT least(transaction_id, horizon), CASE WHEN transaction_id < horizon THEN position ELSE 0 END"
    " FROM (SELECT transaction_id, position, ledger_horizon() AS horizon FROM training_events"
    "  WHERE position > :position ORDER BY transaction_id, position LIMIT 1) AS later"
    ") ORDER BY transaction_id DESC, position DESC LIMIT 1"
)
_PLACE = said(
    "SELECT transaction_id, position FROM training_events WHERE position <= :position ORDER BY position DESC LIMIT 1"
)
_STRETCH = said(
    "SELECT transaction_id, position FROM ("
    " SELECT transaction_id, position FROM training_events"
    " WHERE (transaction_id, position) > (:transaction, :after)"
    "  AND transaction_id < ledger_horizon(CAST(:elsewhere AS xid[]))"
    " ORDER BY transaction_id, position LIMIT :most"
    ") AS stretch ORDER BY transaction_id DESC, position DESC LIMIT 1"
)
# Where events are behind a place, and not to be seen yet: the transactions that will bring none here, for they are of
# other databases, or a vacuum's. This is read before the snapshot that lists who goes on, so that none is missed.
_ELSEWHERE = said(
    "SELECT l.transactionid::text FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted"
    "  AND (a.datname <> current_database() OR a.backend_type = 'autovacuum worker')"
    "  AND EXISTS (SELECT 1 FROM training_events WHERE (transaction_id, position) > (:transaction, :after))"
)
_NEWEST_ON_FILE = said("SELECT seq FROM sqlite_sequence WHERE name = 'training_events'")
_EVENT_AT = said("SELECT event_id FROM training_events WHERE position = :position")


def newest_position(connection: Connection) -> int:
    """Return the newest position, on a file whatever was deleted behind the ledger's back; 0 for none."""
    if not is_sqlite(connection):
        return bounds.newest_position(connection)
    (position,) = _NEWEST_ON_FILE.ask(connection).fetchone() or (0,)
    return int(position)


def event_at(connection: Connection, position: int) -> str | None:
    """Return the id of the event at a position."""
    (event_id,) = _EVENT_AT.run(connection, {"position": position}).fetchone() or (None,)
    return event_id


def behind(connection: Connection, position: int, wanted: Wanted) -> int:
    """Count the wanted events behind a position."""
    place = place_of(connection, position)
    counting = sa.select(sa.func.count()).select_from(training_events)
    chosen = _of(counting, wanted.types, of_run=wanted.run_id is not None, on_file=is_sqlite(connection))
    values = {"transaction": place.transaction, "after": place.position, "the_run": wanted.run_id}
    number: int = compiled(chosen).ask(connection, values).fetchone()[0]
    return number


@lru_cache(maxsize=64)
def _paging(types: tuple[str, ...] | None, *, of_run: bool, on_file: bool) -> Statement:
    chosen = _of(sa.select(*_EVENT), types, of_run=of_run, on_file=on_file)
    place, until = _places("last_transaction", "until", on_file=on_file)
    order = (_EVENT.position,) if on_file else (_TRANSACTION, _EVENT.position)
    return compiled(chosen.where(place <= until).order_by(*order).limit(sa.literal_column(f"{EVENTS_MAX}")))


def _of(
    chosen: sa.Select[*tuple[object, ...]], types: tuple[str, ...] | None, *, of_run: bool, on_file: bool
) -> sa.Select[*tuple[object, ...]]:
    place, after = _places("transaction", "after", on_file=on_file)
    chosen = chosen.where(place > after)
    if types is not None:
        chosen = chosen.where(_EVENT.type.in_(types))
    # The index of runs would lead SQLite through the run's whole past each time.
    the_run = sa.bindparam("the_run", None, type_=sa.Text())
    return chosen.where(not_by_index(_EVENT.run_id) == the_run) if of_run else chosen


_EVENT = training_events.c
_TRANSACTION = sa.column("transaction_id", sa.BigInteger())


def _places(transaction: str, position: str, *, on_file: bool) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """The place of an event, and the parameters for one to compare it with."""
    given = sa.bindparam(position, None, type_=sa.BigInteger())
    if on_file:
        return _EVENT.position, given
    return sa.tuple_(_TRANSACTION, _EVENT.position), sa.tuple_(
        sa.bindparam(transaction, None, type_=sa.BigInteger()), given
    )
