"""Throw the projected tables away and fold the ledger again, run by run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import sqlalchemy as sa

from ledger.events.fact import Fact
from ledger.projections.claims import Claim, settle
from ledger.projections.fold import fold_facts
from ledger.projections.life import Life, Row
from ledger.store.reading import fact_of
from ledger.store.statements import Connection, Statement, StoredRow, compiled, inserting, updating
from ledger.store.tables import (
    projected,
    training_claims,
    training_events,
    training_heads,
    training_runs,
    voided_runs,
)

__all__ = ["FoldedRun", "folded_runs", "holders", "rebuild"]

_CHUNK = 500


class FoldedRun(NamedTuple):
    """One run's stored events in order of acceptance, and what they fold to."""

    run_id: str
    events: list[StoredRow]
    facts: list[Fact]
    life: Life | None

    def derived_head(self) -> Row:
        """Return what of the run's head follows from the fold and not from the order of acceptance."""
        unreadable = sum(fact.understood is None for fact in self.facts)
        return {"unreadable": unreadable, "beside": self.life.beside() if self.life else ""}

    def row(self) -> Row:
        """Return the whole row but for `wandb_run_id`, which is settled among runs."""
        life = self.life
        if life is None:
            return {}
        row = {
            **life.row,
            "created_at_db": self.events[0][_RECORDED_AT],
            "updated_at_db": self.events[-1][_RECORDED_AT],
        }
        return row if life.void_reason is None else {**row, "reason": life.void_reason}


_STORED = tuple(column.name for column in training_events.columns)
_FACT = [
    _STORED.index(name) for name in ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload")
]
_RECORDED_AT = _STORED.index("recorded_at")
_RUN_ID = _STORED.index("run_id")


@cache
def _by_run() -> Statement:
    events = training_events.c
    return compiled(sa.select(*training_events.columns).order_by(events.run_id, events.version))


def folded_runs(connection: Connection) -> Iterator[FoldedRun]:
    """Fold every run of the ledger, one at a time: memory holds the events of one run."""
    pick = itemgetter(*_FACT)
    for run_id, rows in groupby(_by_run().ask(connection), key=itemgetter(_RUN_ID)):
        events = list(rows)
        facts = [fact_of(*pick(event)) for event in events]
        yield FoldedRun(run_id, events, facts, fold_facts(facts))


def rebuild(connection: Connection) -> int:
    """Rebuild all projected tables in the open transaction, and return the number of runs they hold."""
    for table in projected:
        connection.execute(compiled(sa.delete(table)).sql)
    count = 0
    chunk: list[FoldedRun] = []
    for folded in folded_runs(connection):
        chunk.append(folded)
        if len(chunk) >= _CHUNK:
            count += _write(connection, chunk)
            chunk = []
    count += _write(connection, chunk)
    for wandb_run_id, holder in holders(connection):
        updating(training_runs, ("wandb_run_id",)).run(connection, {"the_run": holder, "wandb_run_id": wandb_run_id})
    return count


def _write(connection: Connection, chunk: Sequence[FoldedRun]) -> int:
    lives = [(folded, folded.life) for folded in chunk if folded.life is not None]
    for table in (training_runs, voided_runs):
        rows = [f.row() for f, life in lives if (life.void_reason is None) == (table is training_runs)]
        _insert_many(connection, table, [{**row, "wandb_run_id": None} for row in rows])
    claims = [claim for _, life in lives if (claim := life.claimed()) is not None]
    _insert_many(connection, training_claims, [claim._asdict() for claim in claims])
    statement = updating(training_heads, ("unreadable", "beside"))
    for folded in chunk:
        statement.run(connection, {"the_run": folded.run_id, **folded.derived_head()})
    return len(lives)


def _insert_many(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    statement = inserting(table)
    connection.executemany(statement.sql, [[row[name] for name in statement.names] for row in rows])


def holders(connection: Connection) -> Iterator[tuple[str, str]]:
    """Return each claimed W&B id with the run that holds it."""
    claims = training_claims.c
    named = [claims[name] for name in Claim._fields]
    every = compiled(sa.select(*named).order_by(claims.wandb_run_id)).ask(connection).fetchall()
    for wandb_run_id, rows in groupby((Claim(*row) for row in every), key=itemgetter(0)):
        holder = settle(rows)
        if holder is not None:
            yield wandb_run_id, holder
