"""The rows of runs in tables of their own, kept equal to the fold: objectives, scaffolds, metrics.

A run that is folded onto what is stored knows only what is new; of that the rows it concerns are read and written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa

from ledger.projections.details import Detail, Row, Rows
from ledger.projections.metrics import Metric
from ledger.projections.scaffolds import with_earlier
from ledger.store.run_rows import StoredRows
from ledger.store.spelling import among, each_named
from ledger.store.statements import Connection, Statement, compiled, said
from ledger.store.tables import Projection
from ledger.store.tracked import Tracked

__all__ = ["details_of", "save_details"]

_THE_RUN = sa.bindparam("the_run", type_=sa.Text())
_kept = lru_cache(maxsize=64)  # by table; those of a replay come and go


def save_details(connection: Connection, tables: Projection, tracked: Tracked) -> None:
    """Write what follows from what was accepted of a run, before its row is taken for saved."""
    life, run_id = tracked.life, tracked.run_id
    if life is None:
        return
    objectives, scaffolds, metrics = every = [_Kept(connection, *part, run_id) for part in tables.details()]
    if life.void_reason is not None or tracked.is_folded_afresh:
        for kept in every:
            stored = kept.stored() if tracked.stored_in is tables.runs else {}
            kept.exchange(stored, {} if life.void_reason is not None else kept.detail.rows(life))
        return
    if (changed := tracked.objectives_changed()) is not None:
        objectives.exchange(*changed)
    if life.scaffolds:
        stored = scaffolds.stored(list(life.scaffolds))
        for key, row in stored.items():
            life.scaffolds[key] = with_earlier(life.scaffolds[key], row)
        scaffolds.exchange(stored, scaffolds.detail.rows(life))
    if life.metrics:
        stored = metrics.stored(list(life.metrics))
        for key, row in stored.items():
            life.metrics[key].add(Metric.restored(row))
        metrics.exchange(stored, metrics.detail.rows(life))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What one table keeps of one run."""

    connection: Connection
    detail: Detail
    table: sa.Table
    run_id: str

    def stored(self, keys: Sequence[str] | None = None) -> Rows:
        """Return the rows, by key: all, or those of some keys."""
        if keys is None:
            found = _of_runs(self.table).run(self.connection, {"the_runs": [self.run_id]})
        else:
            asked = {"the_run": self.run_id, "the_keys": keys}
            found = _of_keys(self.table, self.detail.key).run(self.connection, asked)
        names = self.table.columns.keys()
        every: list[Row] = [dict(zip(names, values, strict=True)) for values in found]
        return {str(row[self.detail.key]): row for row in every}

    def exchange(self, before: Rows, after: Rows) -> None:
        """Let there be the rows *after* where there are those *before*."""
        if gone := [{"the_run": self.run_id, "the_key": key} for key in before.keys() - after.keys()]:
            _removing(self.table, self.detail.key).many(self.connection, gone)
        if written := [row for key, row in after.items() if before.get(key) != row]:
            _putting(self.table, self.detail.key).many(self.connection, written)


def details_of(connection: Connection, tables: Projection, run_ids: Sequence[str]) -> dict[str, tuple[StoredRows, ...]]:
    """Return what is stored of these runs: of each, the rows of every one of the DETAILS."""
    made: dict[str, tuple[StoredRows, ...]] = {run_id: tuple({} for _ in tables.details()) for run_id in run_ids}
    for place, (detail, table) in enumerate(tables.details()):
        own, key = (table.columns.keys().index(name) for name in ("run_id", detail.key))
        for row in _of_runs(table).run(connection, {"the_runs": list(run_ids)}):
            made[row[own]][place][row[key]] = row
    return made


@_kept
def _of_runs(table: sa.Table) -> Statement:
    named = each_named("the_runs")
    return compiled(sa.select(*table.columns).select_from(named.join(table, table.c.run_id == named.c.value)))


@_kept
def _of_keys(table: sa.Table, key: str) -> Statement:
    return compiled(sa.select(*table.columns).where(table.c.run_id == _THE_RUN, among(table.c[key], "the_keys")))


@_kept
def _removing(table: sa.Table, key: str) -> Statement:
    same = table.c[key] == sa.bindparam("the_key", type_=sa.Text())
    return compiled(sa.delete(table).where(table.c.run_id == _THE_RUN, same))


@_kept
def _putting(table: sa.Table, key: str) -> Statement:
    """Insert a row, or put it in the place of the one that is there; both databases spell it alike."""
    names = table.columns.keys()
    values, changed = (f":{name}" for name in names), (f"{name} = excluded.{name}" for name in names)
    return said(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(values)})"
        f" ON CONFLICT (run_id, {key}) DO UPDATE SET {', '.join(changed)}"
    )
