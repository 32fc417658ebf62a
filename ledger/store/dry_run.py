"""What a replay would change: the tables as today's rules fold them, beside those that are stored."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa

from ledger.projections.details import Detail
from ledger.projections.explain import EXPLAINED
from ledger.store.bounds import EVERYTHING
from ledger.store.prepared import prepared
from ledger.store.statements import Connection, Row, compiled
from ledger.store.tables import PROJECTION, training_claims, training_heads, training_runs, voided_runs
from ledger.store.tracked import DERIVED

__all__ = ["A_ROW", "Change", "changes"]

A_ROW = "a row"
_STORED, _COMPUTED = 0, 1
_TABLES = (training_runs, voided_runs)
_KEPT = {training_claims: training_claims.columns.keys(), training_heads: DERIVED}

# Whose row it is, whether stored or computed, in which table, and the row.
Found = tuple[str, int, str, Row]


@dataclass(frozen=True)
class Change:
    """A column that would change; a row that would appear or vanish bears its table's name as column."""

    run_id: str
    column: str
    stored: object
    computed: object


def changes(connection: Connection) -> Iterator[Change]:
    """Yield what a replay would change in `training_runs` and `voided_runs`, in order of run_id, then in the others.

    The connection has to be in a transaction, so that all of it is of one moment.
    """
    with closing(prepared(connection, EVERYTHING)) as tables, ExitStack() as reading:
        sides = ((connection, _STORED), (tables, _COMPUTED))
        # Closed before what they read from: whoever stops early leaves them in their midst.
        every = [reading.enter_context(closing(_rows(of, table, side))) for of, side in sides for table in _TABLES]
        for run_id, of_run in groupby(heapq.merge(*every, key=itemgetter(0)), key=itemgetter(0)):
            yield from _of_run(run_id, list(of_run))
        for detail, table in PROJECTION.details():
            sides_of = [reading.enter_context(closing(_rows(of, table, side))) for of, side in sides]
            yield from _beside(heapq.merge(*sides_of, key=lambda found: _key(detail, found)), detail)
        for table, names in _KEPT.items():
            sides_of = [reading.enter_context(closing(_rows(of, table, side))) for of, side in sides]
            yield from _kept(heapq.merge(*sides_of, key=itemgetter(0)), table, names)


def _kept(every: Iterable[Found], table: sa.Table, names: Sequence[str]) -> Iterator[Change]:
    """What differs in a table that the ledger keeps for itself, of one row a run."""
    for run_id, found in groupby(every, key=itemgetter(0)):
        rows = {side: row for _, side, _, row in found}
        if len(rows) == 2:
            stored, computed = rows[_STORED], rows[_COMPUTED]
            for name in names:
                if stored[name] != computed[name]:
                    yield Change(run_id, f"{table.name}, {name}", stored[name], computed[name])
        elif table is training_claims:  # a head that is there or not is evidence, which a replay leaves as it is
            yield Change(run_id, table.name, *(A_ROW if side in rows else None for side in (_STORED, _COMPUTED)))


def _key(detail: Detail, found: Found) -> tuple[str, str]:
    return found[0], str(found[3][detail.key])


def _beside(every: Iterable[Found], detail: Detail) -> Iterator[Change]:
    """What differs in a table of several rows a run."""
    for (run_id, key), found in groupby(every, key=lambda found: _key(detail, found)):
        rows = {side: row for _, side, _, row in found}
        where = f"{detail.name} {key!r}"
        if len(rows) < 2:
            yield Change(run_id, where, *(A_ROW if side in rows else None for side in (_STORED, _COMPUTED)))
            continue
        stored, computed = rows[_STORED], rows[_COMPUTED]
        for name in detail.columns:
            if stored[name] != computed[name]:
                yield Change(run_id, f"{where}, {name}", stored[name], computed[name])


def _rows(connection: Connection, table: sa.Table, side: int) -> Generator[Found]:
    names = table.columns.keys()
    for row in compiled(sa.select(*table.columns).order_by(*table.primary_key.columns)).rows(connection):
        made = dict(zip(names, row, strict=True))
        yield made["run_id"], side, table.name, made


def _of_run(run_id: str, found: list[Found]) -> Iterator[Change]:
    stored = {table: row for _, side, table, row in found if side == _STORED}
    computed = {table: row for _, side, table, row in found if side == _COMPUTED}
    for table in (table.name for table in _TABLES):
        if (table in stored) != (table in computed):
            yield Change(run_id, table, *(A_ROW if table in rows else None for rows in (stored, computed)))
    for table, right in computed.items():
        # A run that is voided, or no longer so, is compared with its row in the other table.
        present = stored.get(table) or next(iter(stored.values()), {})
        for name in EXPLAINED if present else ():
            if present.get(name) != right.get(name):
                yield Change(run_id, name, present.get(name), right.get(name))
