"""Fold every run of the ledger, one at a time: what replay, verify and views as of a moment stand on.

Runs come in the order in which they were first heard of, so that events that were recorded together are
read together, and memory holds the events of one run; of a run with very many, not even those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ledger.events.fact import Fact, loaded
from ledger.events.upcast import understood
from ledger.projections.fold import canonical, evolve
from ledger.projections.life import Life, Row
from ledger.store.bounds import EVERYTHING, Bounds
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.statements import Connection, StoredRow

__all__ = ["Birth", "FoldedRun", "Witness", "births", "fold_of", "fold_run", "folded_runs"]

KEPT_MAX = 20_000  # events of one run that are held at a time

# Looks at a run's stored events, in order of acceptance and in one or several parts.
Witness = Callable[[Sequence[StoredRow]], None]


class Birth(NamedTuple):
    """A run, and how many events it has."""

    run_id: str
    events: int


class FoldedRun(NamedTuple):
    """What one run's events fold to, and what of its head follows from them."""

    run_id: str
    life: Life | None
    head: Row
    last_recorded_at: str

    def row(self) -> Row:
        """Return the whole row but for `wandb_run_id`, which is settled among runs."""
        life = self.life
        if life is None:
            return {}
        row = {
            **life.row,
            "created_at_db": self.head["first_recorded_at"],
            "updated_at_db": self.last_recorded_at,
        }
        return row if life.void_reason is None else {**row, "reason": life.void_reason}


_LISTED = ", ".join(EVENT_COLUMNS)
_OF_RUN = f"SELECT {_LISTED} FROM training_events WHERE run_id = :the_run AND "

_EVENT_ID, _RUN_ID, _TYPE, _SCHEMA, _OCCURRED_AT, _RECORDED_AT, _SOURCE, _PAYLOAD, _CHAIN = (
    EVENT_COLUMNS.index(name)
    for name in (
        "event_id",
        "run_id",
        "type",
        "schema_version",
        "occurred_at",
        "recorded_at",
        "source",
        "payload",
        "chain",
    )
)


def births(connection: Connection, bounds: Bounds = EVERYTHING) -> Iterator[Birth]:
    """Yield every run that has an event within the bounds, the oldest first."""
    counted = "SELECT run_id, count(*) FROM training_events WHERE "
    grouped = f"{counted}{bounds.condition()} GROUP BY run_id ORDER BY min(position)"
    return map(Birth._make, connection.execute(grouped, bounds.values()))


def folded_runs(
    connection: Connection, bounds: Bounds = EVERYTHING, witness: Witness | None = None
) -> Iterator[FoldedRun]:
    """Fold every run; the connection has to be in a transaction, so that all of it is of one moment."""
    for birth in births(connection, bounds):
        yield fold_run(connection, birth, bounds, witness)


def fold_run(
    connection: Connection, birth: Birth, bounds: Bounds = EVERYTHING, witness: Witness | None = None
) -> FoldedRun:
    """Fold the events of one run within the bounds, of which there is one at least."""
    head = _Head()
    in_order: Iterable[Fact] = ()
    asked, values = _OF_RUN + bounds.condition(), bounds.values(the_run=birth.run_id)
    cursor = connection.execute(f"{asked} ORDER BY version", values)
    while rows := cursor.fetchmany(KEPT_MAX):
        if witness is not None:
            witness(rows)
        in_order = sorted(map(_fact, rows), key=canonical)
        head.take(rows, in_order)
    if birth.events > KEPT_MAX:
        in_order = map(_fact, connection.execute(f"{asked} ORDER BY occurred_at, event_id", values))
    life = _folded(in_order)
    return FoldedRun(birth.run_id, life, head.values(birth.run_id, life), head.last_recorded_at)


def fold_of(connection: Connection, run_id: str, bounds: Bounds) -> FoldedRun | None:
    """Fold one run, None where it has no event within the bounds."""
    counted = f"SELECT count(*) FROM training_events WHERE run_id = :the_run AND {bounds.condition()}"
    (count,) = connection.execute(counted, bounds.values(the_run=run_id)).fetchone()
    return fold_run(connection, Birth(run_id, count), bounds) if count else None


class _Head:
    """What the events of a run say of its head, taken part by part."""

    def __init__(self) -> None:
        self.first_recorded_at = self.last_recorded_at = self.chain = ""
        self.version = self.unreadable = 0
        self.newest = ("", "")

    def take(self, rows: Sequence[StoredRow], in_order: Sequence[Fact]) -> None:
        self.first_recorded_at = self.first_recorded_at or rows[0][_RECORDED_AT]
        last = rows[-1]
        self.last_recorded_at, self.chain = last[_RECORDED_AT], last[_CHAIN]
        self.version += len(rows)
        self.unreadable += sum(fact.understood is None for fact in in_order)
        self.newest = max(self.newest, canonical(in_order[-1]))

    def values(self, run_id: str, life: Life | None) -> Row:
        return {
            "run_id": run_id,
            "version": self.version,
            "chain": self.chain,
            "newest_occurred_at": self.newest[0],
            "newest_event_id": self.newest[1],
            "first_recorded_at": self.first_recorded_at,
            "unreadable": self.unreadable,
            "beside": life.beside() if life else "",
        }


def _fact(row: StoredRow) -> Fact:
    type, schema_version, payload = row[_TYPE], row[_SCHEMA], row[_PAYLOAD]
    return Fact(
        row[_EVENT_ID],
        row[_RUN_ID],
        type,
        schema_version,
        row[_OCCURRED_AT],
        row[_SOURCE],
        payload,
        understood(type, schema_version, loaded(payload)),
    )


def _folded(in_order: Iterable[Fact]) -> Life | None:
    life: Life | None = None
    for fact in in_order:
        if fact.understood is not None:
            life = evolve(life, fact)
    return None if life is None else life.sealed()
