"""Merge events from elsewhere: what is new is accepted, what is known is counted, what cannot be is refused.

A ledger is a set, so nothing is remembered of how far a merge came: the same one again, in any order and
over any overlap, finds what is there already. Each batch is one transaction, with the rows that follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from ledger import origin
from ledger.errors import InvalidFact, NotTheSame
from ledger.events.fact import Fact
from ledger.events.lines import parse_line
from ledger.events.times import text_of
from ledger.progress import Pace, Watcher
from ledger.store import log
from ledger.store.database import Database
from ledger.store.reading import FACT_COLUMNS
from ledger.store.spelling import among
from ledger.store.statements import Connection, Statement, compiled, said
from ledger.store.tables import conflicts, training_events

__all__ = ["HERE", "Arrival", "Merged", "Refusal", "Source", "arriving", "digests", "merge_arrivals", "merge_source"]

BATCH_EVENTS_MAX = 1000
BATCH_BYTES_MAX = 4_000_000
REFUSALS_LISTED_MAX = 20


@dataclass(frozen=True)
class Refusal:
    """An event that was not accepted: its line or position in the source, its id where it can be read, and why."""

    where: str
    event_id: str | None
    reason: str


@dataclass(frozen=True)
class Merged:
    """How many events came, and what became of them; the first few *refusals* are listed.

    `proved` says that a second reading found every well-formed event of the source here, with the
    same digest, or kept verbatim in `training_conflicts`.
    """

    events: int = 0
    new: int = 0
    known: int = 0
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()
    proved: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing was refused."""
        return not self.refused

    def __add__(self, other: Merged) -> Merged:
        return Merged(
            self.events + other.events,
            self.new + other.new,
            self.known + other.known,
            self.refused + other.refused,
            (*self.refusals, *other.refusals)[:REFUSALS_LISTED_MAX],
            self.proved and other.proved,
        )


class Arrival(NamedTuple):
    """An event of a source, or why it is none; *steps* is how much of the source it makes up."""

    where: str
    size: int
    steps: int
    event: Fact | Refusal


class Source(Protocol):
    """Where events are merged from. It can be read again, and then gives what it gave before."""

    place: str
    steps: int

    def arrivals(self) -> Iterator[Arrival]: ...


def merge_arrivals(database: Database, arrivals: Iterable[Arrival], came_from: str) -> Merged:
    """Merge what arrives, as it comes; nothing is read a second time."""
    return _merge(database, arrivals, came_from, Pace(0, None))


def arriving(where: str, line: str, steps: int) -> Arrival:
    """Return what a line says, or why it is refused."""
    try:
        return Arrival(where, len(line), steps, parse_line(line))
    except InvalidFact as exc:
        return Arrival(where, len(line), steps, Refusal(where, _named_in(line), str(exc)))


def _named_in(line: str) -> str | None:
    """The event that a malformed line is about, if it says so."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    event_id = said.get("event_id") if isinstance(said, dict) else None
    return event_id if isinstance(event_id, str) else None


def merge_source(database: Database, source: Source, watcher: Watcher | None) -> Merged:
    """Merge all events of a source, then read it again and prove that each of them is here.

    Raises NotTheSame where one is not.
    """
    pace = Pace(2 * source.steps, watcher)
    merged = _merge(database, source.arrivals(), source.place, pace)
    _prove(database, source, pace)
    pace.finish()
    return replace(merged, proved=True)


def _merge(database: Database, arrivals: Iterable[Arrival], came_from: str, pace: Pace) -> Merged:
    merged = Merged()
    for batch in _batches(arrivals):
        merged += _merge_batch(database, batch, came_from)
        pace.step(sum(arrival.steps for arrival in batch))
    return merged


def _batches(arrivals: Iterable[Arrival]) -> Iterator[list[Arrival]]:
    """So few, and so small, that memory and the others' wait for the write lock stay bounded."""
    batch: list[Arrival] = []
    size = 0
    for arrival in arrivals:
        if batch and (len(batch) >= BATCH_EVENTS_MAX or size + arrival.size > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(arrival)
        size += arrival.size
    if batch:
        yield batch


def _merge_batch(database: Database, batch: Sequence[Arrival], came_from: str) -> Merged:
    facts = [arrival.event for arrival in batch if isinstance(arrival.event, Fact)]
    # Most of what is merged again and again is known, and to know that nobody has to wait for the write lock.
    known = digests(database, facts, _EVENTS) if database.exists() else set()
    others = [fact for fact in facts if (fact.event_id, fact.digest()) not in known]
    conflicting: list[Fact] = []
    new: Sequence[int] = ()

    def accept(connection: Connection) -> Sequence[int]:
        conflicting.clear()
        accepted = log.append(connection, others, conflicting=conflicting)
        _keep(connection, conflicting, came_from)
        return accepted.new

    if others:
        new = database.transact(accept)
        database.checkpoint_after(new)
    aside = {id(fact) for fact in conflicting}
    refusals = [refusal for arrival in batch if (refusal := _refusal(arrival, aside)) is not None]
    count = len(batch) - len(new) - len(refusals)
    return Merged(len(batch), len(new), count, len(refusals), tuple(refusals[:REFUSALS_LISTED_MAX]))


def _refusal(arrival: Arrival, aside: set[int]) -> Refusal | None:
    if isinstance(arrival.event, Refusal):
        return arrival.event
    if id(arrival.event) not in aside:
        return None
    reason = "known with other content, and the first stays; this one is kept in training_conflicts"
    return Refusal(arrival.where, arrival.event.event_id, reason)


_KEPT = conflicts.columns.keys()
_KEEPING = said(
    f"INSERT INTO training_conflicts ({', '.join(_KEPT)}) VALUES ({', '.join(f':{name}' for name in _KEPT)})"
    " ON CONFLICT DO NOTHING"
)


def _keep(connection: Connection, facts: Iterable[Fact], came_from: str) -> None:
    """Keep what is refused for its id alone, verbatim and once, in the transaction that refuses it."""
    refused_at = text_of(origin.now())
    for fact in facts:
        said = {name: getattr(fact, name) for name in FACT_COLUMNS}
        beside = {"digest": fact.digest(), "refused_at": refused_at, "came_from": came_from}
        _KEEPING.run(connection, {**said, **beside})


def _with_digest(table: sa.Table) -> sa.Select[str, str]:
    return sa.select(table.c.event_id, table.c.digest).where(among(table.c.event_id, "ids"))


_EVENTS = compiled(_with_digest(training_events))
HERE = compiled(sa.union_all(_with_digest(training_events), _with_digest(conflicts)))


def digests(database: Database, facts: Iterable[Fact], asked: Statement) -> set[tuple[str, str]]:
    """Return the ids of these facts that are there, each with every digest that it has there."""
    ids = [fact.event_id for fact in facts]
    with database.read() as connection:
        return set(asked.run(connection, {"ids": ids}))


def _prove(database: Database, source: Source, pace: Pace) -> None:
    for batch in _batches(source.arrivals()):
        facts = [(arrival.where, arrival.event) for arrival in batch if isinstance(arrival.event, Fact)]
        here = digests(database, (fact for _, fact in facts), HERE) if facts else set()
        for where, fact in facts:
            if (fact.event_id, fact.digest()) not in here:
                raise NotTheSame(f"event {fact.event_id} ({where} of {source.place})", database.place)
        pace.step(sum(arrival.steps for arrival in batch))
