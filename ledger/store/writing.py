"""Folded runs into the tables of a projection, many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from ledger.projections.claims import Claim
from ledger.store.folding import FoldedRun
from ledger.store.projector import settle_ids
from ledger.store.statements import Connection, inserting
from ledger.store.tables import Projection

__all__ = ["insert_many", "write_runs"]


def write_runs(connection: Connection, tables: Projection, folded: Sequence[FoldedRun]) -> None:
    """Insert the rows and claims of runs that are not there yet, and settle the W&B ids that they claim."""
    lives = [(run, run.life) for run in folded if run.life is not None]
    claims = [claim for _, life in lives if (claim := life.claimed()) is not None]
    insert_many(connection, tables.claims, [claim._asdict() for claim in claims])
    contested = _contested(connection, tables.claims, claims)
    held = {claim.run_id: claim.wandb_run_id for claim in claims if claim.wandb_run_id not in contested}
    for table in (tables.runs, tables.voided):
        rows = [run.row() for run, life in lives if (life.void_reason is None) == (table is tables.runs)]
        insert_many(connection, table, [{**row, "wandb_run_id": held.get(str(row["run_id"]))} for row in rows])
    settle_ids(connection, tables, contested)


def _contested(connection: Connection, claims: sa.Table, new: Sequence[Claim]) -> set[str]:
    """The W&B ids of *new* claims that several runs claim."""
    asked = (
        f"SELECT wandb_run_id FROM {claims.name} WHERE wandb_run_id IN (SELECT value FROM json_each(?))"
        " GROUP BY wandb_run_id HAVING count(*) > 1"
    )
    return {found for (found,) in connection.execute(asked, (json.dumps([claim.wandb_run_id for claim in new]),))}


def insert_many(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert whole rows, given by column name."""
    statement = inserting(table)
    connection.executemany(statement.sql, [[row[name] for name in statement.names] for row in rows])
