"""Read on: the events behind a position, those that are there and then those that come.

A writer holds the write lock from the giving of a position to its commit, so positions become visible in
their order, and who remembers how far he has looked skips none.

Whether something came is asked of the newest position, through the pool: some 20 microseconds. PRAGMA
data_version costs the same, but has to be asked of one connection for ever, which forks and replaced files take away.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.operators import custom_op

from ledger.errors import PositionUnknown
from ledger.events.fact import Recorded
from ledger.store.reading import recorded
from ledger.store.sqlite import Database
from ledger.store.statements import Connection, Statement, compiled
from ledger.store.tables import training_events

__all__ = ["POLL_SECONDS", "Look", "Wanted", "behind", "event_at", "follow", "look", "newest_position"]

POLL_SECONDS = 0.01
WAY = "follow(after=...)"
EVENTS_MAX = 500  # at one look
POSITIONS_MAX = 5_000  # at one look: where few are wanted, a fork does not wait for a long one


class Wanted(NamedTuple):
    """Which events are wanted: of these types, of this run; None for all."""

    types: tuple[str, ...] | None
    run_id: str | None


class Look(NamedTuple):
    """The wanted events of a stretch of the ledger, and the position up to which it goes."""

    events: Sequence[Recorded]
    until: int


def follow(database: Database, after: int, wanted: Wanted) -> Generator[Recorded, None, None]:
    """Yield wanted events behind *after* for ever; raise PositionUnknown where another ledger was put in place."""
    event_id: str | None = None
    while True:
        with database.read() as connection:
            if event_id not in (None, event_at(connection, after)):
                raise PositionUnknown(after, newest_position(connection), WAY)
            found = look(connection, after, wanted)
            event_id = event_at(connection, found.until)
        yield from found.events
        if found.until == after:
            time.sleep(POLL_SECONDS)
        after = found.until


def look(connection: Connection, after: int, wanted: Wanted, way: str = WAY) -> Look:
    """Return the next wanted events behind *after*.

    Raises PositionUnknown, which names the *way* to go on, where the ledger has not come as far as *after*.
    """
    newest = newest_position(connection)
    if newest < after:
        raise PositionUnknown(after, newest, way)
    if newest == after:
        return Look((), after)
    # What is not after `newest` is committed, so the page below, which sees a later state, lacks none of it.
    until = min(newest, after + POSITIONS_MAX)
    values = {"after": after, "until": until, "the_run": wanted.run_id}
    statement = _page(wanted.types, of_run=wanted.run_id is not None)
    events = [recorded(row) for row in statement.ask(connection, values)]
    return Look(events, events[-1].position if len(events) == EVENTS_MAX else until)


def newest_position(connection: Connection) -> int:
    """Return the newest position that was given out, whatever was deleted behind the ledger's back; 0 for none."""
    asked = "SELECT seq FROM sqlite_sequence WHERE name = 'training_events'"
    (position,) = connection.execute(asked).fetchone() or (0,)
    return int(position)


def event_at(connection: Connection, position: int) -> str | None:
    """Return the id of the event at a position."""
    asked = "SELECT event_id FROM training_events WHERE position = ?"
    (event_id,) = connection.execute(asked, (position,)).fetchone() or (None,)
    return event_id


def behind(connection: Connection, position: int, wanted: Wanted) -> int:
    """Count the wanted events behind a position."""
    chosen = _of(
        sa.select(sa.func.count()).select_from(training_events), wanted.types, of_run=wanted.run_id is not None
    )
    values = {"after": position, "the_run": wanted.run_id}
    number: int = compiled(chosen).ask(connection, values).fetchone()[0]
    return number


@lru_cache(maxsize=64)
def _page(types: tuple[str, ...] | None, *, of_run: bool) -> Statement:
    events = training_events.c
    chosen = _of(sa.select(*events), types, of_run=of_run).where(events.position <= sa.bindparam("until", 0))
    return compiled(chosen.order_by(events.position).limit(EVENTS_MAX))


def _of(
    chosen: sa.Select[*tuple[object, ...]], types: tuple[str, ...] | None, *, of_run: bool
) -> sa.Select[*tuple[object, ...]]:
    events = training_events.c
    chosen = chosen.where(events.position > sa.bindparam("after", 0))
    if types is not None:
        chosen = chosen.where(events.type.in_(types))
    # The plus keeps SQLite from the index of runs, which would lead it through the run's whole past each time.
    the_run: sa.ColumnElement[str] = sa.UnaryExpression(events.run_id, operator=custom_op("+"))
    return chosen.where(the_run == sa.bindparam("the_run", "")) if of_run else chosen
