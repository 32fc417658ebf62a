"""How far each subscription has come, and the events that it gave up on. Whoever writes here holds the write lock."""

from __future__ import annotations

import json
import traceback
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from ledger import origin
from ledger.events.fact import Recorded
from ledger.events.times import LATEST, parse_moment, text_of
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
    "begin",
    "checkpoint",
    "choose",
    "come_through",
    "fail",
    "failure_text",
    "held",
    "listed",
    "park",
    "parked",
    "rewind",
    "take_back",
    "unpark",
]

_ERROR_LENGTH_MAX = 2_000
_SILENT_FOR = timedelta(minutes=10)
_NAME = sa.bindparam("name", type_=sa.Text())
_LOCKING = said("SELECT pg_advisory_xact_lock(2022114, hashtext(:name))")  # the first number is our name for names


class Checkpoint(NamedTuple):
    """Everything up to *position* was handled; the next event has failed so often.

    What is *wanted* behind it is None where nobody has said so since it was set. *begun_by* is the process
    that began with the next event and has not said what became of it; it did so when this was *updated_at*.
    """

    position: int
    failures: int
    updated_at: datetime
    wanted: Wanted | None
    begun_by: dict[str, str | int] | None


class Parked(NamedTuple):
    """An event that failed too often: with what words, and when, at the latest."""

    position: int
    event: Recorded
    error: str
    parked_at: datetime


class Progress(NamedTuple):
    """How far a subscription has come: how many wanted events lie behind its checkpoint, how many are parked.

    It wants events of these *types* and this *run_id*, None for all.
    """

    name: str
    position: int
    behind: int
    failures: int
    parked: int
    updated_at: str
    types: tuple[str, ...] | None
    run_id: str | None

    @property
    def wanted(self) -> str:
        """Its choice of events, as people read it."""
        return str(Wanted(self.types, self.run_id))


def checkpoint(connection: Connection, name: str) -> Checkpoint:
    """Return how far the subscription has come; at the beginning where nobody has begun."""
    found = _checkpoint().run(connection, {"name": name}).fetchone()
    if found is None:
        return Checkpoint(0, 0, LATEST, None, None)
    position, failures, updated_at, wanted, begun_by = found
    who = None if begun_by is None else json.loads(begun_by)
    return Checkpoint(position, failures, parse_moment(updated_at), _wanted_of(wanted), who)


def held(connection: Connection, name: str) -> Checkpoint:
    """The same, for who will move it: until the transaction ends, nobody else does. On a file nobody can."""
    if not is_sqlite(connection):
        _LOCKING.run(connection, {"name": name}).fetchone()
    return checkpoint(connection, name)


def choose(connection: Connection, name: str, wanted: Wanted) -> Checkpoint:
    """Keep what is wanted from now on, and return what was true before.

    With another choice the next event is another one, of which nobody knows anything yet.
    """
    before = held(connection, name)
    failures = before.failures if before.wanted is None else 0
    _CHOOSING.run(connection, {**_values(name, before.position, failures), "wanted": _text_of(wanted)})
    return before


def begin(connection: Connection, name: str, since: int) -> Checkpoint:
    """Note that this process begins with the event behind *since*, and return what is true then.

    Who had begun with it and is gone has failed once more: *begun_by* of the answer names that process, if there
    was one. Where somebody has moved the checkpoint meanwhile, or is at the event, nothing is noted. Who cannot be
    looked for is gone when he has said nothing for long.
    """
    there = held(connection, name)
    if there.position != since or (there.begun_by is not None and not _is_gone(there)):
        return there._replace(begun_by=None)
    if there.begun_by is not None:
        there = there._replace(failures=there.failures + 1)
    _save(connection, name, since, there.failures, begun_by=json.dumps(origin.process()))
    return there


def _is_gone(there: Checkpoint) -> bool:
    ended = origin.has_ended(there.begun_by or {})
    return origin.now() - there.updated_at > _SILENT_FOR if ended is None else ended


def take_back(connection: Connection, name: str, since: int) -> None:
    """Take back that this process has begun with the event behind *since*: it was interrupted."""
    there = held(connection, name)
    if there.position == since and there.begun_by == origin.process():
        _save(connection, name, since, there.failures)


def advance(connection: Connection, name: str, since: int, to: int) -> int:
    """Move the checkpoint on for who handled all between *since* and *to*, and return where it is.

    Who was overtaken moves nothing, and neither does one behind whose back somebody has rewound.
    """
    return _advance(connection, name, held(connection, name).position, since, to)


def come_through(connection: Connection, name: str, since: int, position: int) -> int:
    """Do the same for one event that was handled: who took this consumer for dead meanwhile may have parked it."""
    there = held(connection, name).position
    if there != since:
        unpark(connection, name, position)
    return _advance(connection, name, there, since, position)


def _advance(connection: Connection, name: str, there: int, since: int, to: int) -> int:
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


def park(connection: Connection, name: str, position: int, error: str) -> None:
    """Keep an event, or its latest failure, for who looks into it."""
    values = {"name": name, "position": position, "error": error, "parked_at": text_of(origin.now())}
    _PARKING.run(connection, values)


def unpark(connection: Connection, name: str, position: int) -> bool:
    """Take an event from the parked ones; False where it is not among them."""
    return _UNPARKING.run(connection, {"name": name, "position": position}).rowcount > 0


def parked(connection: Connection, name: str) -> list[Parked]:
    """Return the parked events in order of position."""
    found = _parked().run(connection, {"name": name}).fetchall()
    return [Parked(row[0], recorded(row[:-2]), row[-2], parse_moment(row[-1])) for row in found]


def listed(connection: Connection) -> list[Progress]:
    """Return all subscriptions by name. Where nobody has said what is wanted, all that waits is counted."""
    listed = []
    for name, position, failures, parked_there, updated_at, chosen in _listed().ask(connection).fetchall():
        wanted = _wanted_of(chosen) or Wanted(None, None)
        waiting = behind(connection, position, wanted)
        listed.append(Progress(name, position, waiting, failures, parked_there, updated_at, *wanted))
    return listed


def _text_of(wanted: Wanted) -> str:
    types = None if wanted.types is None else sorted(set(wanted.types))
    return json.dumps({"types": types, "run_id": wanted.run_id})


def _wanted_of(text: str | None) -> Wanted | None:
    if text is None:
        return None
    said = json.loads(text)
    return Wanted(None if said["types"] is None else tuple(said["types"]), said["run_id"])


def failure_text(failure: Exception) -> str:
    """What people read of a failure: whatever its own __str__ does, and in characters that a column takes."""
    said = "".join(traceback.format_exception_only(failure)).strip().replace("\x00", "\\x00")
    return said[:_ERROR_LENGTH_MAX].encode("utf-8", "backslashreplace").decode("utf-8")


def _save(connection: Connection, name: str, position: int, failures: int, *, begun_by: str | None = None) -> None:
    _SAVING.run(connection, {**_values(name, position, failures), "begun_by": begun_by})


def _values(name: str, position: int, failures: int) -> dict[str, object]:
    said = {"name": name, "position": position, "failures": failures, "updated_at": text_of(origin.now())}
    return {**said, "wanted": None, "begun_by": None}


@cache
def _checkpoint() -> Statement:
    known = subscriptions.c
    chosen = sa.select(known.position, known.failures, known.updated_at, known.wanted, known.begun_by)
    return compiled(chosen.where(known.name == _NAME))


def _upserting(table: sa.Table, changing: tuple[str, ...]) -> Statement:
    names, key = table.columns.keys(), table.primary_key.columns.keys()
    return said(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in changing)}"
    )


_SAVING = _upserting(subscriptions, ("position", "failures", "updated_at", "begun_by"))
_CHOOSING = _upserting(subscriptions, ("failures", "updated_at", "wanted", "begun_by"))
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
        known.wanted,
    )
    return compiled(chosen.order_by(known.name))
