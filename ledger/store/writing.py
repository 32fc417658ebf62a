"""Folded runs into the tables of a projection, many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import sqlalchemy as sa

from ledger.projections.claims import Claim
from ledger.store.folding import FoldedRun
from ledger.store.projector import settle_ids
from ledger.store.spelling import VERBATIM, among
from ledger.store.statements import Connection, Server, Statement, compiled, inserting, on_server
from ledger.store.tables import Projection

__all__ = ["insert_many", "write_details", "write_runs"]


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
    write_details(connection, tables, folded)


def write_details(connection: Connection, tables: Projection, folded: Sequence[FoldedRun]) -> None:
    """Insert the rows beside, of runs that have none yet."""
    lives = [run.life for run in folded if run.life is not None and run.life.void_reason is None]
    for detail, table in tables.details():
        if rows := [row for life in lives for row in detail.rows(life).values()]:
            insert_many(connection, table, rows)


def _contested(connection: Connection, claims: sa.Table, new: Sequence[Claim]) -> set[str]:
    """The W&B ids of *new* claims that several runs claim."""
    asked = _several(claims).run(connection, {"ids": [claim.wandb_run_id for claim in new]})
    return {found for (found,) in asked}


@lru_cache(maxsize=32)
def _several(claims: sa.Table) -> Statement:
    of = claims.c.wandb_run_id
    return compiled(sa.select(of).where(among(of, "ids")).group_by(of).having(sa.func.count() > sa.literal_column("1")))


def insert_many(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert whole rows, given by column name."""
    if on_server(connection):
        names = [column.name for column in table.columns if column is not table.autoincrement_column]
        load_rows(connection, table, names, ([row[name] for name in names] for row in rows))
    else:
        inserting(table).many(connection, rows)


def load_rows(connection: Server, table: sa.Table, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Insert rows on a server, given in the order of these columns."""
    connection.load(table.name, [VERBATIM.get(name, name) for name in names], rows)
