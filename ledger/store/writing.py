"""Rows of folded runs into the tables of a projection, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import sqlalchemy as sa

from ledger.projections.claims import Claim
from ledger.store.projector import settle_ids
from ledger.store.run_rows import HELD, RunRows
from ledger.store.spelling import among
from ledger.store.statements import Connection, Statement, StoredRow, compiled
from ledger.store.tables import PROJECTION, Projection
from ledger.store.whole import write_whole

__all__ = ["detail_rows", "write_claims", "write_details", "write_heads", "write_rows", "write_runs"]


def write_runs(connection: Connection, tables: Projection, runs: Sequence[RunRows]) -> None:
    """Insert the rows and claims of runs that are not there yet, and settle the W&B ids that they claim.

    The rows beside are written by themselves.
    """
    write_claims(connection, tables, runs)
    claims = [run.claim for run in runs if run.claim is not None]
    contested = _contested(connection, tables.claims, claims)
    held = {claim.run_id: claim.wandb_run_id for claim in claims if claim.wandb_run_id not in contested}
    write_rows(connection, tables, runs, held)
    settle_ids(connection, tables, contested)


def write_claims(connection: Connection, tables: Projection, runs: Sequence[RunRows]) -> None:
    write_whole(connection, tables.claims, [row for run in runs if (row := run.claim_row()) is not None])


def write_rows(connection: Connection, tables: Projection, runs: Sequence[RunRows], held: Mapping[str, str]) -> None:
    """Insert the rows, each with the W&B id that the run holds."""
    for table, home in ((tables.runs, PROJECTION.runs), (tables.voided, PROJECTION.voided)):
        here = [(run.run_id, run.row) for run in runs if run.row is not None and run.home() is home]
        write_whole(connection, table, [(*row[:HELD], held.get(run_id), *row[HELD + 1 :]) for run_id, row in here])


def write_details(connection: Connection, tables: Projection, runs: Sequence[RunRows]) -> None:
    """Insert the rows beside, of runs that have none yet."""
    for table, rows in detail_rows(tables, runs):
        write_whole(connection, table, rows)


def detail_rows(tables: Projection, runs: Sequence[RunRows]) -> Iterator[tuple[sa.Table, list[StoredRow]]]:
    """Yield the rows beside, of every table that has several rows a run, where there are any."""
    for place, (_, table) in enumerate(tables.details()):
        if rows := [row for run in runs for row in run.details[place].values()]:
            yield table, rows


def write_heads(connection: Connection, tables: Projection, runs: Sequence[RunRows]) -> None:
    write_whole(connection, tables.heads, [run.head for run in runs])


def _contested(connection: Connection, claims: sa.Table, new: Sequence[Claim]) -> set[str]:
    """The W&B ids of *new* claims that several runs claim."""
    asked = _several(claims).run(connection, {"ids": [claim.wandb_run_id for claim in new]})
    return {found for (found,) in asked}


@lru_cache(maxsize=32)
def _several(claims: sa.Table) -> Statement:
    of = claims.c.wandb_run_id
    return compiled(sa.select(of).where(among(of, "ids")).group_by(of).having(sa.func.count() > sa.literal_column("1")))
