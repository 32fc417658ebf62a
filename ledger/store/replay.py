"""Throw the projected tables away and fold the ledger again, run by run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa

from ledger.projections.claims import Claim, settle
from ledger.store.folding import FoldedRun, folded_runs
from ledger.store.statements import Connection, compiled, inserting, updating
from ledger.store.tables import (
    projected,
    training_claims,
    training_heads,
    training_runs,
    voided_runs,
)

__all__ = ["holders", "rebuild"]

_CHUNK = 500


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
        statement.run(connection, {"the_run": folded.run_id, **folded.head})
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
