"""How far each subscription has come, and the events that it gave up on. Whoever writes here holds the write lock."""

from __future__ import annotations

import traceback
from datetime import datetime
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from ledger import origin
from ledger.events.fact import Recorded
from ledger.events.times import parse_moment, text_of
from ledger.store.following import Wanted, behind, place_of
from ledger.store.reading import EVENT_COLUMNS, recorded
from ledger.store.statements import Connection, Statement, compiled, is_sqlite, said
from ledger.store.tables import parked as parked_events
from ledger.store.tables import subscriptions, training_events

__all__ = [
    "Checkpoint",
    "Parked",
    "Progress",
    "advance",
    "checkpoint",
    "fail",
    "held",
    "listed",
    "park",
    "parked",
    "rewind",
    "unpark",
]

_ERROR_LENGTH_MAX = 2_000
_NAME = sa.bindparam("name", type_=sa.Text())
_LOCKING = said("SELECT pg_advisory_xact_lock(2022114, hashtext(:name))")  # the first number is our name for names


class Checkpoint(NamedTuple):
    """Everything up to *position* was handled; the next event has failed so often."""

    position: int
    failures: int


class Parked(NamedTuple):
    """An event that failed too often: with what words, and when, at the latest."""

    position: int
    event: Recorded
    error: str
    parked_at: datetime


class Progress(NamedTuple):
    """How far a subscription has come: how many events lie behind its checkpoint, how many are parked."""

    name: str
    position: int
    behind: int
    failures: int
    parked: int
    updated_at: str


def checkpoint(connection: Connection, name: str) -> Checkpoint:
    """Return how far the subscription has come; at the beginning where nobody has begun."""
    return Checkpoint(*(_checkpoint().run(connection, {"name": name}).fetchone() or (0, 0)))


def held(connection: Connection, name: str) -> Checkpoint:
    """The same, for who will move it: until the transaction ends, nobody else does. On a file nobody can."""
    if not is_sqlite(connection):
        _LOCKING.run(connection, {"name": name}).fetchone()
    return checkpoint(connection, name)


def advance(connection: Connection, name: str, since: int, to: int) -> int:
    """Move the checkpoint on for who handled all between *since* and *to*, and return where it is.

    Who was overtaken moves nothing, and neither does one behind whose back somebody has rewound.
    """
    there = held(connection, name).position
    if there == since or place_of(connection, since) <= place_of(connection, there) < place_of(connection, to):
        _save(connection, name, to, 0)
        return to
    return there


def fail(connection: Connection, name: str, since: int) -> int:
    """Count one more failure of the event behind *since*; 0 where somebody has moved the checkpoint meanwhile."""
    there = held(connection, name)
    if there.position != since:
        return 0
    _save(connection, name, since, there.failures + 1)
    return there.failures + 1


def rewind(connection: Connection, name: str, to: int) -> None:
    """Set the checkpoint. What is parked behind it comes again by itself, so it is parked no more."""
    held(connection, name)
    _save(connection, name, to, 0)
    place = place_of(connection, to)
    for kept in parked(connection, name):
        if place_of(connection, kept.position) > place:
            unpark(connection, name, kept.position)


def park(connection: Connection, name: str, position: int, failure: Exception) -> str:
    """Keep an event, or its latest failure, for who looks into it; return the failure's text."""
    error = _text(failure)
    values = {"name": name, "position": position, "error": error, "parked_at": text_of(origin.now())}
    _PARKING.run(connection, values)
    return error


def unpark(connection: Connection, name: str, position: int) -> bool:
    """Take an event from the parked ones; False where it is not among them."""
    return _UNPARKING.run(connection, {"name": name, "position": position}).rowcount > 0


def parked(connection: Connection, name: str) -> list[Parked]:
    """Return the parked events in order of position."""
    found = _parked().run(connection, {"name": name}).fetchall()
    return [Parked(row[0], recorded(row[:-2]), row[-2], parse_moment(row[-1])) for row in found]


def listed(connection: Connection) -> list[Progress]:
    """Return all subscriptions by name.

    What waits to be handled is counted, whichever of it is wanted: only the consumer knows that.
    """
    return [
        Progress(name, position, behind(connection, position, Wanted(None, None)), *more)
        for name, position, *more in _listed().ask(connection).fetchall()
    ]


def _text(failure: Exception) -> str:
    """What people read of a failure: whatever its own __str__ does, and in characters that a column takes."""
    said = "".join(traceback.format_exception_only(failure)).strip().replace("\x00", "\\x00")
    return said[:_ERROR_LENGTH_MAX].encode("utf-8", "backslashreplace").decode("utf-8")


def _save(connection: Connection, name: str, position: int, failures: int) -> None:
    values = {"name": name, "position": position, "failures": failures, "updated_at": text_of(origin.now())}
    _SAVING.run(connection, values)


@cache
def _checkpoint() -> Statement:
    return compiled(sa.select(subscriptions.c.position, subscriptions.c.failures).where(subscriptions.c.name == _NAME))


def _upserting(table: sa.Table, changing: tuple[str, ...]) -> Statement:
    names, key = table.columns.keys(), table.primary_key.columns.keys()
    return said(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in changing)}"
    )


_SAVING = _upserting(subscriptions, ("position", "failures", "updated_at"))
_UNPARKING = said("DELETE FROM ledger_parked WHERE name = :name AND position = :position")
_PARKING = _upserting(parked_events, ("error", "parked_at"))


@cache
def _parked() -> Statement:
    kept = parked_events.c
    chosen = sa.select(*(training_events.c[name] for name in EVENT_COLUMNS), kept.error, kept.parked_at)
    joined = chosen.join_from(parked_events, training_events, training_events.c.position == kept.position)
    return compiled(joined.where(kept.name == _NAME).order_by(kept.position))


@cache
def _listed() -> Statement:
    known = subscriptions.c
    gave_up = sa.select(sa.func.count()).select_from(parked_events).where(parked_events.c.name == known.name)
    chosen = sa.select(
        known.name,
        known.position,
        known.failures,
        gave_up.scalar_subquery(),
        known.updated_at,
    )
    return compiled(chosen.order_by(known.name))
