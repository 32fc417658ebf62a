"""Append to the ledger: the only INSERT into `training_events`. Nothing changes or removes an event.

A run's state is a function of the set of its events, so an append never asks whether it comes in
time, and never refuses because of a run's state. What is known already is answered as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ledger import origin
from ledger.errors import AskedWrongly, EventConflict, WrongExpectedVersion
from ledger.events.fact import Fact, chained
from ledger.events.times import text_of
from ledger.store.accepting import insert_events, reserving
from ledger.store.projector import Projector
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.spelling import among
from ledger.store.statements import Connection, Cursor, StoredRow, compiled, on_server, said
from ledger.store.tables import training_events
from ledger.store.tracked import Tracked

__all__ = ["Accepted", "accept", "append", "known"]

_KNOWN = said(f"SELECT {', '.join(EVENT_COLUMNS)} FROM training_events WHERE event_id = :event_id")
_KNOWN_MANY = compiled(sa.select(training_events).where(among(training_events.c.event_id, "ids")))
_RUN_ID, _DIGEST = EVENT_COLUMNS.index("run_id"), EVENT_COLUMNS.index("digest")


class Accepted:
    """The stored rows that answer a batch, in its order, the positions that are new, and the runs that have grown."""

    __slots__ = ("grown", "new", "rows")

    def __init__(self, rows: list[StoredRow], new: Sequence[int], grown: Sequence[Tracked] = ()) -> None:
        self.rows = rows
        self.new = new
        self.grown = grown


def append(
    connection: Connection,
    facts: Sequence[Fact],
    *,
    expected_version: int | None = None,
    projector: Projector | None = None,
    conflicting: list[Fact] | None = None,
) -> Accepted:
    """Accept *facts* in the open transaction, with the rows that follow from them.

    Raises EventConflict for an id that is known with other content, or puts the fact into *conflicting*
    where that is given; and WrongExpectedVersion where there is something new to append and its run is
    at another version.
    """
    projector = projector or Projector(connection)
    answers, reserved = _looked_up(connection, projector, facts, reserves=expected_version is None)
    recorded_at = text_of(origin.now())
    if expected_version is not None:
        _check_version(projector, [fact for fact in facts if fact.event_id not in answers], expected_version)
    new: dict[str, StoredRow] = {}
    for fact in facts:
        digest = fact.digest()
        there = answers.get(fact.event_id)
        if there is None:
            row = accept(projector.run(fact.run_id), fact, digest, recorded_at)
            answers[fact.event_id] = new[fact.event_id] = (None, *row)
        elif there[_DIGEST] != digest:
            if conflicting is None:
                raise EventConflict(fact.event_id, there[_RUN_ID])
            conflicting.append(fact)
    numbers = insert_events(connection, [row[1:] for row in new.values()], reserved)
    for position, (event_id, row) in zip(numbers.positions, new.items(), strict=True):
        answers[event_id] = (position, *row[1:])
        projector.run(row[_RUN_ID]).place(position, recorded_at)
    grown = projector.save(numbers)
    return Accepted([answers[fact.event_id] for fact in facts], numbers.positions, grown)


def _looked_up(
    connection: Connection, projector: Projector, facts: Sequence[Fact], *, reserves: bool
) -> tuple[dict[str, StoredRow], Sequence[StoredRow]]:
    """Lock the runs, and return the stored rows of known facts, and positions where some were reserved.

    A server is asked for everything at once where that can be.
    """
    run_ids = {fact.run_id for fact in facts}
    if not on_server(connection) or not connection.is_pipelined or len(run_ids) != 1:
        projector.lock(run_ids)
        return known(connection, facts), ()
    (run_id,) = run_ids
    opened, knowing = projector.opening(run_id), _asking(connection, facts)
    event_ids = {fact.event_id for fact in facts}
    numbers = reserving(connection, run_id, [*event_ids]) if reserves else None
    if not opened():
        projector.lock(run_ids)  # a new run: what was read was read without a lock
        return known(connection, facts), ()
    return {row[1]: row for row in knowing}, () if numbers is None else numbers.fetchall()


def known(connection: Connection, facts: Sequence[Fact]) -> dict[str, StoredRow]:
    """Return the stored row of each of these facts whose id is known, by its id."""
    return {row[1]: row for row in _asking(connection, facts)}


def _asking(connection: Connection, facts: Sequence[Fact]) -> Cursor:
    if len(facts) == 1:
        return _KNOWN.run(connection, {"event_id": facts[0].event_id})
    return _KNOWN_MANY.run(connection, {"ids": [fact.event_id for fact in facts]})


def _check_version(projector: Projector, new: Sequence[Fact], expected_version: int) -> None:
    run_ids = {fact.run_id for fact in new}
    if len(run_ids) > 1:
        raise AskedWrongly(
            "expected_version is the version of one run, and these events are of several; append them run by run."
        )
    for run_id in run_ids:
        version = projector.run(run_id).version
        if version != expected_version:
            raise WrongExpectedVersion(run_id, expected_version, version)


def accept(tracked: Tracked, fact: Fact, digest: str, recorded_at: str) -> StoredRow:
    """Take a run's next event, and return its row, without a position."""
    chain = chained(tracked.chain, digest)
    tracked.accept(fact, tracked.version + 1, chain, recorded_at)
    return (
        fact.event_id,
        fact.run_id,
        tracked.version,
        fact.type,
        fact.schema_version,
        fact.occurred_at,
        recorded_at,
        fact.source,
        fact.payload,
        digest,
        chain,
    )
