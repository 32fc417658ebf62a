"""Ask the projected tables: one run, the runs that meet conditions, counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import product

import sqlalchemy as sa

from ledger.projections.filters import Condition, Order, in_64_bits
from ledger.projections.fits import spelled_number
from ledger.projections.liveness import Present
from ledger.projections.run import COLUMNS
from ledger.store.documents import Found, each_tag
from ledger.store.fitting import fitted, numeric
from ledger.store.liveness import is_among, liveness_of, needs_a_look, values_of
from ledger.store.results import FREQUENT, KEYED, column_of, counting, having, leading, valued_order
from ledger.store.spelling import descending, place_in
from ledger.store.statements import Connection, Row, Statement, compiled, is_sqlite
from ledger.store.tables import training_runs, voided_runs

__all__ = [
    "Shapes",
    "clauses",
    "clauses_of",
    "count_runs",
    "get_run",
    "has_row",
    "query_runs",
    "spelled_paths",
    "status_counts",
    "taken_apart",
]

Clause = sa.ColumnElement[bool]
Runs = sa.FromClause
# Each with the types of the values that are in it: True equals 1, and is another question.
Shapes = tuple[tuple[Condition, tuple[type, ...]], ...]

_NAMES = (*COLUMNS, "liveness")
_THE_RUN = sa.bindparam("the_run", type_=sa.Text())
_PLACE = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_WALK_MAX = 500
_PLACES_MAX = 3  # each doubles the paths that are tried


@cache
def _one(table: sa.Table) -> Statement:
    columns = [table.c[name] for name in COLUMNS]
    reason = [table.c.reason] if "reason" in table.c else []
    return compiled(sa.select(*columns, liveness_of(table), *reason).where(table.c.run_id == _THE_RUN))


def get_run(connection: Connection, run_id: str, present: Present) -> Row | None:
    """Return a run's row, with its liveness at present; that of a voided run says so with `voided` and `reason`."""
    key = {"the_run": run_id, **values_of(present)}
    found = _one(training_runs).run(connection, key).fetchone()
    if found is not None:
        return dict(zip(_NAMES, found, strict=True))
    found = _one(voided_runs).run(connection, key).fetchone()
    return None if found is None else {**dict(zip((*_NAMES, "reason"), found, strict=True)), "voided": True}


def has_row(connection: Connection, run_id: str) -> bool:
    """Whether a run is there, and not voided."""
    return _THERE.run(connection, {"the_run": run_id}).fetchone() is not None


_THERE = compiled(sa.select(training_runs.c.run_id).where(training_runs.c.run_id == _THE_RUN))


def query_runs(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    present: Present,
    *,
    limit: int | None,
    offset: int = 0,
    include_voided: bool = False,
) -> list[Row]:
    """Return the rows that meet all *conditions*, with their liveness; NULLs come last, ties go by run_id."""
    shapes, values = taken_apart(conditions)
    few = limit is not None and limit + offset <= _WALK_MAX and not include_voided
    walks = few and is_sqlite(connection) and _walks(connection, shapes, orders[0], values)
    statement = _query(shapes, tuple(orders), include_voided=include_voided, walks=walks)
    window = {**values_of(present), "at_most": 2**63 - 1 if limit is None else limit, "skipped": offset}
    rows = statement.ask(connection, {**values, **window}).fetchall()
    names = (*_NAMES, "reason", "voided") if include_voided else _NAMES
    made = [dict(zip(names, row, strict=True)) for row in rows]
    for row in made if include_voided else ():
        row["voided"] = bool(row["voided"])
    return made


def count_runs(
    connection: Connection, conditions: Sequence[Condition], present: Present, *, include_voided: bool = False
) -> int:
    shapes, values = taken_apart(conditions)
    statement = _count(shapes, include_voided=include_voided)
    number: int = statement.ask(connection, {**values, **values_of(present)}).fetchone()[0]
    return number


@lru_cache(maxsize=256)
def _query(shapes: Shapes, orders: tuple[Order, ...], *, include_voided: bool, walks: bool) -> Statement:
    """The query for all conditions of these shapes: compiling it takes longer than running it."""
    runs = _runs(include_voided=include_voided)
    columns = [runs.c[name] for name in COLUMNS]
    extra = [runs.c.reason, runs.c.voided] if include_voided else []
    chosen = sa.select(*columns, liveness_of(runs), *extra).where(
        *clauses_of(runs, (condition for condition, _ in shapes), walks=walks)
    )
    ordering = [_ordering(runs, order) for order in orders]
    if walks and orders[0].column in KEYED:
        through, where, ordering[0] = leading(runs, orders[0])
        chosen = chosen.select_from(through).where(*where)
    chosen = chosen.order_by(*ordering)
    if "run_id" not in [order.column for order in orders]:
        chosen = chosen.order_by(runs.c.run_id)
    at_most, skipped = (sa.bindparam(name, None, type_=sa.BigInteger()) for name in ("at_most", "skipped"))
    return compiled(chosen.limit(at_most).offset(skipped))


@lru_cache(maxsize=256)
def _count(shapes: Shapes, *, include_voided: bool) -> Statement:
    runs = _runs(include_voided=include_voided)
    return compiled(
        sa.select(sa.func.count()).select_from(runs).where(*clauses_of(runs, (condition for condition, _ in shapes)))
    )


def taken_apart(conditions: Sequence[Condition]) -> tuple[Shapes, dict[str, object]]:
    """Return conditions without the values that their SQL does not depend on, and those values by parameter name."""
    shapes: list[tuple[Condition, tuple[type, ...]]] = []
    values: dict[str, object] = {}
    for number, condition in enumerate(map(fitted, conditions)):
        of_json = condition.keys and condition.column not in KEYED
        if of_json or condition.column in ("tags", "liveness") or condition.operator == "has":
            shapes.append((condition, tuple(map(type, condition.values))))
            continue
        names = tuple(f"value_{number}_{place}" for place in range(len(condition.values)))
        values |= dict(zip(names, condition.values, strict=True))
        shapes.append((replace(condition, values=names), ()))
    return tuple(shapes), values


def clauses(conditions: Sequence[Condition], present: Present) -> tuple[list[Clause], dict[str, object]]:
    """Return the conditions on `training_runs` as SQL, and the values of its parameters."""
    shapes, values = taken_apart(conditions)
    return clauses_of(training_runs, (condition for condition, _ in shapes)), {**values, **values_of(present)}


def status_counts(connection: Connection) -> list[tuple[str, int, int, int]]:
    """Return (status, runs, with a blog post, with a crash analysis) of each status."""
    runs = training_runs.c
    counted = sa.select(
        runs.status,
        sa.func.count(),
        sa.func.count(runs.blog_post_url),
        sa.func.count(runs.crash_analysis_s3_key),
    ).group_by(runs.status)
    return [tuple(row) for row in compiled(counted).ask(connection)]


def _runs(*, include_voided: bool) -> Runs:
    if not include_voided:
        return training_runs
    present = sa.select(*training_runs.c, sa.null().label("reason"), sa.literal(0).label("voided"))
    voided = sa.select(*voided_runs.c, sa.literal(1).label("voided"))
    made: Runs = sa.union_all(present, voided).subquery("all_runs")
    return made


def _ordering(runs: Runs, order: Order) -> sa.ColumnElement[object]:
    if order.column == "liveness":
        column: sa.ColumnElement[object] = sa.type_coerce(needs_a_look(runs), sa.Integer())
        return column.desc() if order.descending else column.asc()
    if order.column in KEYED:
        return valued_order(runs, order)
    column = runs.c[order.column]
    if order.keys:
        found = Found(column, spelled_paths(order.keys))
        number = sa.case((found.is_number, found.number), else_=sa.null())
        return descending(number) if order.descending else number.asc().nulls_last()
    if order.descending:
        return descending(column) if COLUMNS[order.column].nullable else column.desc()
    return column.asc().nulls_last() if COLUMNS[order.column].nullable else column.asc()


def _clause(runs: Runs, condition: Condition) -> Clause:
    """Return the condition as SQL; every value in it is bound, none is written into the text."""
    if condition.column == "tags":
        return _tags(runs, condition)
    if condition.column == "liveness":
        return is_among(runs, condition)
    if condition.column in KEYED:
        return _with_rows(runs, condition)
    column: sa.ColumnElement[object] = runs.c[condition.column]
    if condition.keys:
        return _in_json(column, condition)
    if condition.operator == "has":
        return column.is_not(None) if condition.values[0] else column.is_(None)
    return _on_column(column, condition)


def clauses_of(runs: Runs, conditions: Iterable[Condition], *, walks: bool = False) -> list[Clause]:
    """Return all conditions as SQL; the bounds of a value with rows of its own are for one row to keep."""
    rest, bounds = _bounds(conditions)
    made = [_clause(runs, condition) for condition in rest]
    return [*made, *(having(runs, each[0], *_compared_with(each), walks=walks) for each in bounds.values())]


def _bounds(conditions: Iterable[Condition]) -> tuple[list[Condition], dict[tuple[str, ...], list[Condition]]]:
    """What bounds a value with rows of its own, or says that it is there, by its keys; and before it the rest."""
    rest: list[Condition] = []
    bounds: dict[tuple[str, ...], list[Condition]] = {}
    for condition in conditions:
        is_there = condition.operator == "has" and condition.values[0]
        if condition.column in KEYED and (condition.operator in {"min", "max"} or is_there):
            bounds.setdefault((condition.column, *condition.keys), []).append(condition)
        else:
            rest.append(condition)
    return rest, bounds


def _compared_with(bounds: Iterable[Condition]) -> list[Clause]:
    return [_on_column(column_of(bound), bound) for bound in bounds if bound.operator != "has"]


def _walks(connection: Connection, shapes: Shapes, first: Order, values: Mapping[str, object]) -> bool:
    """Whether so many rows keep the bounds that the first runs by the order are soon found by going through them."""
    _, bounds = _bounds(condition for condition, _ in shapes)
    by_value = (
        (first.column, *first.keys) in bounds and first.column == "training_objectives" and first.keys[1] == "raw_mean"
    )
    if not bounds or not (by_value or first.column == "created_at"):
        return False
    return all(_counting(tuple(each)).ask(connection, values).fetchone()[0] == FREQUENT for each in bounds.values())


@lru_cache(maxsize=256)
def _counting(bounds: tuple[Condition, ...]) -> Statement:
    return counting(bounds[0], *_compared_with(bounds))


def _with_rows(runs: Runs, condition: Condition) -> Clause:
    """A condition on what has rows of its own. What is not there is not what anything is."""
    if condition.operator == "has":
        there = having(runs, condition)
        return there if condition.values[0] else sa.not_(there)
    if condition.operator == "is_not":
        return sa.not_(having(runs, condition, _on_column(column_of(condition), replace(condition, operator="is"))))
    return having(runs, condition, _on_column(column_of(condition), condition))


def _on_column(column: sa.ColumnElement[object], shape: Condition) -> Clause:
    bound = [sa.bindparam(str(name), None, type_=column.type) for name in shape.values]
    match shape.operator:
        case "is":
            return column.in_(bound) if shape.several else column == bound[0]
        case "is_not" if shape.several:
            return column.is_(None) | column.not_in(bound)
        case "is_not":
            return column.is_distinct_from(bound[0])
        case operator:
            return _compared(column, operator, bound[0])


def _compared(column: sa.ColumnElement[object], operator: str, value: object) -> Clause:
    comparisons = {
        "min": lambda: column >= value,
        "max": lambda: column <= value,
        "after": lambda: column > value,
        "before": lambda: column < value,
        "contains": lambda: place_in(column, value) > sa.literal_column("0"),
    }
    made: Clause = comparisons[operator]()
    return made


def _tags(runs: Runs, condition: Condition) -> Clause:
    each = each_tag(runs.c.tags_json)
    chosen = sa.select(sa.literal_column("1", sa.Integer())).select_from(each)
    if condition.operator == "has":
        return sa.exists(chosen) if condition.values[0] else ~sa.exists(chosen)
    some: Clause = sa.exists(chosen.where(each.c.value.in_(condition.values)))
    return some if condition.operator == "is" else ~some


def _in_json(column: sa.ColumnElement[object], condition: Condition) -> Clause:
    """A condition on what lies below a JSON column: at the path, or under the whole name as one key."""
    found = Found(column, spelled_paths(condition.keys))
    (value, *_) = condition.values or (None,)
    match condition.operator:
        case "is":
            return _json_equals(found, condition)
        case "is_not":
            return sa.not_(sa.func.coalesce(_json_equals(found, condition), sa.false()))
        case "has":
            there = sa.func.coalesce(found.kind, _NULL) != _NULL
            return there if value else sa.not_(there)
        case "contains":
            return found.is_text & (place_in(found.text, value) > sa.literal_column("0"))
        case operator:
            return found.is_number & _compared(found.number, operator, found.compared(numeric(value)))


_NULL = sa.literal_column("'null'", sa.Text())


def spelled_paths(keys: tuple[str, ...]) -> list[str]:
    """Return the paths that *keys* may mean, as SQLite writes them: digits are a key, or a place in a list."""
    steps = [(f'."{key}"', f"[{key}]") if _PLACE.fullmatch(key) else (f'."{key}"',) for key in keys]
    if sum(len(step) > 1 for step in steps) > _PLACES_MAX:  # then all digits are the one, or all the other
        made = {"".join(step[0] for step in steps), "".join(step[-1] for step in steps)}
    else:
        made = {"".join(path) for path in product(*steps)}
    return [f"${path}" for path in sorted({*made, f'."{".".join(keys)}"'}, key=lambda path: (len(path), path))]


def _json_equals(found: Found, condition: Condition) -> Clause:
    """Text also stands for the number or the truth value that it spells, as it comes in a query string."""
    texts = [value for value in condition.values if isinstance(value, str)]
    truths = {word for value in condition.values if (word := str(value).lower()) in ("true", "false")}
    numbers = [value for value in condition.values if not isinstance(value, str | bool)]
    numbers += [in_64_bits(number) for text in texts if (number := spelled_number(text)) is not None]
    equal = [found.number == found.compared(number) for number in numbers]
    return sa.or_(
        found.is_text & found.text.in_(texts),
        *(found.is_truth(truth) for truth in sorted(truths)),
        *([found.is_number & sa.or_(*equal)] if equal else []),
    )
