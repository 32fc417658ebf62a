"""Ask the tables of several rows a run: objectives, scaffolds and metrics; and runs by what stands there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import sqlalchemy as sa

from ledger.errors import RunNotFound
from ledger.projections.details import Detail, Row
from ledger.projections.filters import Condition, Order
from ledger.projections.objectives import base_of, direction_in
from ledger.store.folding import FoldedRun
from ledger.store.spelling import Expression, Spelled, descending, each_named, not_by_index
from ledger.store.statements import Connection, Statement, StoredRow, compiled
from ledger.store.tables import PROJECTION, training_metrics, training_objectives, training_runs

__all__ = [
    "FREQUENT",
    "KEYED",
    "by_method",
    "column_of",
    "counting",
    "having",
    "known_objectives",
    "leading",
    "named_runs",
    "reached",
    "rows_of_fold",
    "rows_of_run",
    "statistics",
    "valued_order",
]

Clause = sa.ColumnElement[bool]
Runs = sa.FromClause

KEYED = frozenset({"training_objectives", "training_metrics"})
_TABLES = {detail.name: table for detail, table in PROJECTION.details()}
_ORDERS: Mapping[str, Sequence[str]] = {
    "training_objectives": ("objective_name",),
    "training_scaffolds": ("pareto_rank", "scaffold_id"),
    "training_metrics": ("name",),
}


def rows_of_run(connection: Connection, detail: Detail, run_id: str, names: Sequence[str]) -> list[Row]:
    """Return the rows of a run with these columns: scaffolds by their rank, all else by name."""
    found = _of_run(detail.name, tuple(names)).run(connection, {"the_run": run_id})
    return [dict(zip(names, row, strict=True)) for row in found]


def rows_of_fold(
    folded: FoldedRun | None, detail: Detail, run_id: str, names: Sequence[str], *, by_then: bool = False
) -> list[Row]:
    """Return the same of what a run's events fold to. Raises RunNotFound where there are none."""
    if folded is None:
        raise RunNotFound(run_id, by_then=by_then)
    rows = [] if folded.life is None else list(detail.rows(folded.life).values())
    for column in reversed(_ORDERS[detail.name]):
        rows.sort(key=partial(_standing, column))
    return [{name: row[name] for name in names} for row in rows]


def _standing(column: str, row: Row) -> tuple[bool, float, str]:
    """Where a row stands by a column: NULL last."""
    value = row[column]
    return value is None, value if isinstance(value, int) else 0, value if isinstance(value, str) else ""


@lru_cache(maxsize=16)
def _of_run(name: str, columns: tuple[str, ...]) -> Statement:
    table = _TABLES[name]
    of = table.c.run_id == sa.bindparam("the_run", type_=sa.Text())
    return compiled(
        sa.select(*(table.c[column] for column in columns))
        .where(of)
        .order_by(*(table.c[column].asc().nulls_last() for column in _ORDERS[name]))
    )


def having(runs: Runs, condition: Condition, *compare: Clause, walks: bool = False) -> Clause:
    """The runs with a row by these keys for which all of *compare* holds; without any, with a value there.

    Who *walks* looks at each run's own rows; else those of all runs are looked up first.
    """
    table, named, column = _keyed(condition.column, condition.keys)
    compare = compare or (column.is_not(None),)
    if walks:
        of_run = _of_each_run(condition.column, condition.keys[0])
        return sa.exists(sa.select(_ONE).where(table.c.run_id == runs.c.run_id, of_run, *compare))
    return runs.c.run_id.in_(sa.select(table.c.run_id).where(named, *compare))


def counting(condition: Condition, *compare: Clause) -> Statement:
    """Return how to count the rows that `having` asks for, up to FREQUENT of them."""
    table, named, column = _keyed(condition.column, condition.keys)
    found = sa.select(table.c.run_id).where(named, *(compare or (column.is_not(None),))).limit(FREQUENT)
    return compiled(sa.select(sa.func.count()).select_from(found.subquery()))


FREQUENT = 2000  # so many rows take longer to look up than a hundred runs do to be walked to
_ONE: sa.ColumnElement[int] = sa.literal_column("1")


def leading(runs: Runs, order: Order) -> tuple[Runs, list[Clause], sa.ColumnElement[object]]:
    """Return what a walk by an objective's values goes through, on which conditions and in which order.

    Of several rows of a run it meets the first by the order; runs without a value are not met.
    """
    rows, other = training_objectives.alias("first"), training_objectives.alias("other")
    value, others = rows.c[order.keys[1]], other.c[order.keys[1]]
    before = others > value if order.descending else others < value
    before |= (others == value) & (other.c.objective_name < rows.c.objective_name)
    base = not_by_index(other.c.objective_base) == _text(base_of(order.keys[0]))
    first = sa.not_(
        sa.exists(sa.select(_ONE).where(other.c.run_id == rows.c.run_id, base, _directed(order.keys[0], other), before))
    )
    where = [_named(order.keys[0], rows), value.is_not(None), first]
    return rows.join(runs, runs.c.run_id == rows.c.run_id), where, value.desc() if order.descending else value.asc()


def valued_order(runs: Runs, order: Order) -> sa.ColumnElement[object]:
    table, _, column = _keyed(order.column, order.keys)
    named = _of_each_run(order.column, order.keys[0])
    best = sa.func.max(column) if order.descending else sa.func.min(column)
    value = sa.select(best).where(table.c.run_id == runs.c.run_id, named).scalar_subquery()
    return descending(value) if order.descending else value.asc().nulls_last()


def column_of(condition: Condition) -> sa.ColumnElement[object]:
    return _TABLES[condition.column].c[condition.keys[1]]


def _keyed(name: str, keys: Sequence[str]) -> tuple[sa.Table, Clause, sa.ColumnElement[object]]:
    """The table, which of its rows the keys name, and the column."""
    table, (of, which) = _TABLES[name], keys
    if table is training_metrics:
        return table, table.c.name == _text(of), table.c[which]
    return table, _named(of), table.c[which]


def _of_each_run(name: str, of: str) -> Clause:
    """The same rows, where a run is given: its own are few, and an index by names would give those of all runs."""
    if _TABLES[name] is training_metrics:
        return training_metrics.c.name == _text(of)
    base = not_by_index(training_objectives.c.objective_base) == _text(base_of(of))
    return base & _directed(of, training_objectives)


def _named(objective: str, rows: Runs = training_objectives) -> Clause:
    """An objective by its name, with or without what its end says of its direction."""
    return (rows.c.objective_base == _text(base_of(objective))) & _directed(objective, rows)


def _directed(objective: str, rows: Runs) -> Clause:
    direction = direction_in(objective)
    if direction is None:
        return sa.true()
    stated = rows.c.direction
    return stated.is_(None) | (stated == _text(direction)) | (rows.c.objective_name == _text(objective))


def _text(value: str) -> sa.BindParameter[str]:
    return sa.bindparam(None, value, type_=sa.Text(), unique=True)


def statistics(
    connection: Connection, objective: str, gradient_method: str | None, status: str | None
) -> dict[str, float | None]:
    """Return count, mean, min, max and avg_std of what runs reached on an objective."""
    o = training_objectives.c
    where: list[Clause] = [_named(objective), o.raw_mean.is_not(None)]
    of_runs = _of_status(status)
    if gradient_method is not None:
        of_runs.append(training_runs.c.gradient_method == _text(gradient_method))
    if of_runs:
        where.append(o.run_id.in_(sa.select(training_runs.c.run_id).where(*of_runs)))
    row = compiled(sa.select(*_summed(o.raw_mean), *_summed(o.raw_std)).where(*where)).ask(connection).fetchone()
    return {
        "count": row[0],
        "mean": _mean(connection, o.raw_mean, where, row[:4]),
        "min": row[2],
        "max": row[3],
        "avg_std": _mean(connection, o.raw_std, where, row[4:]),
    }


def by_method(connection: Connection, objective: str, status: str | None) -> list[StoredRow]:
    """Return method, count, mean, smallest, largest, how many have a direction and how many of those minimize."""
    o, method = training_objectives.c, training_runs.c.gradient_method
    less = sa.func.count(sa.case((o.direction == _text("minimize"), o.direction)))
    where: list[Clause] = [_named(objective), o.raw_mean.is_not(None), _of_runs(), *_of_status(status)]
    asked = sa.select(method, *_summed(o.raw_mean), sa.func.count(o.direction), less).where(*where, method.is_not(None))
    found = compiled(asked.group_by(method).order_by(method)).ask(connection).fetchall()
    return [
        (row[0], row[1], _mean(connection, o.raw_mean, [*where, method == _text(row[0])], row[1:5]), *row[3:])
        for row in found
    ]


class _Sum(Spelled):
    """A sum that no server refuses: it leaves out what might be too large for one, and SQLite's may be infinite."""

    type = sa.Double()
    inherit_cache = True
    on_sqlite = "sum({0})"
    on_postgresql = "sum(CASE WHEN {0} BETWEEN -1e290 AND 1e290 THEN {0} END)"


def _summed(column: Expression) -> list[Expression]:
    """How many values there are, their sum, the smallest and the largest."""
    return [sa.func.count(column), _Sum(column), sa.func.min(column), sa.func.max(column)]


def _mean(connection: Connection, column: Expression, where: Sequence[Clause], summed: StoredRow) -> float | None:
    """The mean, of whatever was reached: a server's own raises where the square of a value is beyond a float."""
    count, total, least, most = summed
    if not count:
        return None
    if max(-least, most) <= _ADDED_MAX:
        mean: float = total / count
        return mean
    every = compiled(sa.select(column).where(*where, column.is_not(None))).ask(connection)
    return math.fsum(value / count for (value,) in every)


_ADDED_MAX = 1e290


def _of_runs() -> Clause:
    return training_runs.c.run_id == training_objectives.c.run_id


def _of_status(status: str | None) -> list[Clause]:
    return [] if status is None else [training_runs.c.status == _text(status)]


def reached(
    connection: Connection,
    objectives: Sequence[str],
    which: str,
    conditions: Sequence[Clause],
    values: Mapping[str, object],
) -> tuple[list[StoredRow], list[Counter[str | None]]]:
    """Return run_id and the value of each objective, of runs that have all; and the directions of each objective.

    They are joined here: the values of one objective lie together, those of a run do not.
    """
    o = training_objectives.c
    found: list[StoredRow] = []
    directions: list[Counter[str | None]] = []
    for name in objectives:
        asked = sa.select(o.run_id, o[which], o.direction).where(_named(name), o[which].is_not(None))
        if not directions and conditions:
            asked = asked.where(o.run_id.in_(sa.select(training_runs.c.run_id).where(*conditions)))
        rows = compiled(asked).ask(connection, values).fetchall()
        found = [row[:2] for row in rows] if not directions else _with_values(found, rows)
        stated = {direction for _, _, direction in rows}
        directions.append(Counter(stated) if len(stated) < 2 else Counter(direction for _, _, direction in rows))
    return found, directions


def _with_values(runs: list[StoredRow], values: list[StoredRow]) -> list[StoredRow]:
    """Return each run with its value; with each, of two names of one objective."""
    by_run = {run_id: value for run_id, value, _ in values}
    if len(by_run) == len(values):
        return [(*run, by_run[run[0]]) for run in runs if run[0] in by_run]
    each: dict[str, list[float]] = {run_id: [] for run_id in by_run}
    for run_id, value, _ in values:
        each[run_id].append(value)
    return [(*run, value) for run in runs for value in each.get(run[0], ())]


def named_runs(connection: Connection, run_ids: Sequence[str]) -> dict[str, StoredRow]:
    """Return created_at and run_name of these runs, by run_id."""
    return {row[0]: row[1:] for row in _NAMED_RUNS.run(connection, {"the_runs": run_ids})}


_THE_RUNS = each_named("the_runs")
_NAMED_RUNS = compiled(
    sa.select(training_runs.c.run_id, training_runs.c.created_at, training_runs.c.run_name).select_from(
        _THE_RUNS.join(training_runs, training_runs.c.run_id == _THE_RUNS.c.value)
    )
)


def known_objectives(connection: Connection) -> list[str]:
    """Return the names of all objectives, without their directions."""
    return [name for (name,) in _KNOWN.ask(connection)]


_KNOWN = compiled(
    sa.select(training_objectives.c.objective_base).distinct().order_by(training_objectives.c.objective_base)
)
