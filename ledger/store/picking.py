"""Named values of the runs that meet conditions, and how many runs share them.

A document is parsed once for all that is picked of it: what lies at some paths comes as the JSON text of one list, in
which each place that a path may mean has an element, null where nothing is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from functools import cache, lru_cache
from itertools import accumulate, pairwise

import sqlalchemy as sa

from ledger.projections.filters import Condition
from ledger.projections.liveness import Present
from ledger.projections.picks import Pick
from ledger.store.documents import Found, each_found
from ledger.store.liveness import liveness_of, values_of
from ledger.store.runs import Shapes, clauses_of, spelled_paths, taken_apart
from ledger.store.spelling import Expression, among, segment_in
from ledger.store.statements import Connection, Statement, StoredRow, compiled
from ledger.store.tables import training_heads, training_runs

__all__ = ["best", "picked", "picked_of", "tallied"]

Picks = tuple[Pick, ...]
Values = Sequence[object]
_LONG = re.compile(r"(?<![.\d])\d{15}|[eE]\+?1\d")
_INTEGER_MAX = 2**63
_FLOAT_MAX = sys.float_info.max
_PLACES_MAX = 90  # of a list: a function takes 100 arguments


def picked(connection: Connection, conditions: Sequence[Condition], present: Present, picks: Picks) -> list[StoredRow]:
    """Return the values that are picked, a row for each run; None where nothing is."""
    shapes, values = taken_apart(conditions)
    return _plain(_picking(shapes, picks).ask(connection, {**values, **values_of(present)}).fetchall(), picks)


def picked_of(connection: Connection, run_ids: Sequence[str], picks: Picks) -> list[StoredRow]:
    """Return the same of these runs, in any order."""
    return _plain(_of_these(picks).run(connection, {"run_ids": list(run_ids)}).fetchall(), picks)


def tallied(connection: Connection, conditions: Sequence[Condition], present: Present, picks: Picks) -> list[StoredRow]:
    """Return the values that are picked, and behind them how many runs have these; a combination may come again."""
    shapes, values = taken_apart(conditions)
    return _plain(_tallying(shapes, picks).ask(connection, {**values, **values_of(present)}).fetchall(), picks)


def best(
    connection: Connection,
    conditions: Sequence[Condition],
    present: Present,
    metric: Pick,
    picks: Picks,
    *,
    minimize: bool,
    limit: int,
) -> list[StoredRow]:
    """Return the values that are picked of the runs with the best numbers, the best first, ties by run_id."""
    shapes, values = taken_apart(conditions)
    asked = _best(shapes, metric, picks, minimize=minimize)
    return _plain(asked.ask(connection, {**values, **values_of(present), "at_most": limit}).fetchall(), picks)


@lru_cache(maxsize=256)
def _picking(shapes: Shapes, picks: Picks) -> Statement:
    return compiled(_chosen(shapes, picks))


@lru_cache(maxsize=256)
def _tallying(shapes: Shapes, picks: Picks) -> Statement:
    chosen: sa.FromClause = _chosen(shapes, picks).cte("chosen")
    if any(pick.keys for pick in picks):  # SQLite would look into each document once more to group it
        chosen = _chosen(shapes, picks).cte("chosen").prefix_with("MATERIALIZED")
    return compiled(sa.select(*chosen.c, sa.func.count()).group_by(*chosen.c))


@lru_cache(maxsize=64)
def _of_these(picks: Picks) -> Statement:
    return compiled(_chosen((), picks).where(among(training_runs.c.run_id, "run_ids")))


@lru_cache(maxsize=64)
def _best(shapes: Shapes, metric: Pick, picks: Picks, *, minimize: bool) -> Statement:
    found = Found(training_runs.c[metric.column], spelled_paths(metric.keys))
    within = found.number >= found.compared(-_FLOAT_MAX), found.number <= found.compared(_FLOAT_MAX)
    chosen = _chosen(shapes, picks).where(found.is_number, *within)
    ordered = chosen.order_by(found.number.asc() if minimize else found.number.desc(), training_runs.c.run_id)
    return compiled(ordered.limit(sa.bindparam("at_most", None, type_=sa.BigInteger())))


def _chosen(shapes: Shapes, picks: Picks) -> sa.Select[tuple[object, ...]]:
    wanted = [_expression(bundle).label(f"picked_{place}") for place, bundle in enumerate(_bundles(picks))]
    where = clauses_of(training_runs, (condition for condition, _ in shapes))
    return sa.select(*wanted).select_from(training_runs).where(*where)


def _expression(bundle: Picks) -> Expression:
    if bundle[0].column == "liveness":  # which no row holds
        return liveness_of(training_runs).element
    if bundle[0].column == "runs_since":
        return _runs_since()
    column = training_runs.c[bundle[0].column]
    if not bundle[0].keys:
        return column
    return each_found(column, [path for pick in bundle for path in spelled_paths(pick.keys)])


def _runs_since() -> Expression:
    """Since when a run that was resumed runs on: what is carried along beside its row."""
    runs, heads = training_runs.c, training_heads.alias("head")
    since = sa.select(segment_in(heads.c.beside)).where(heads.c.run_id == runs.run_id).scalar_subquery()
    return sa.case(((runs.status == _RUNNING) & runs.active_seconds.is_not(None), since))


_RUNNING = sa.literal_column("'running'", sa.Text())


@cache
def _bundles(picks: Picks) -> tuple[Picks, ...]:
    """Each column by itself, and together what lies in one document, as far as it goes into one list."""
    made: list[list[Pick]] = []
    places = 0
    for pick in picks:
        more = len(spelled_paths(pick.keys)) if pick.keys else 0
        joins = made and more and made[-1][0].keys and made[-1][0].column == pick.column
        if joins and places + more <= _PLACES_MAX:
            made[-1].append(pick)
            places += more
        else:
            made.append([pick])
            places = more
    return tuple(map(tuple, made))


def _plain(rows: list[StoredRow], picks: Picks) -> list[StoredRow]:
    """The rows with a value for each pick, read out of the lists; what is behind the picks stays."""
    if not rows or not any(pick.keys for pick in picks):
        return rows
    columns: list[Values] = []
    bundles = _bundles(picks)
    stored = list(zip(*rows, strict=True))
    for bundle, column in zip(bundles, stored, strict=False):
        columns += _read(column, bundle) if bundle[0].keys else [column]
    return list(zip(*columns, *stored[len(bundles) :], strict=True))


def _read(column: Values, bundle: Picks) -> list[Values]:
    """Of each pick the first of its places at which there is something; all lists are parsed at once."""
    ends = list(accumulate(len(spelled_paths(pick.keys)) for pick in bundle))
    if None in column:  # there is no document
        nothing = f"[{','.join(['null'] * max(ends[-1], 2))}]"
        column = [nothing if text is None else text for text in column]
    found = _parsed(f"[{','.join(map(str, column))}]")
    places = list(zip(*found, strict=True))
    return [_first_there(places[start:end]) for start, end in pairwise([0, *ends])]


def _parsed(text: str) -> list[Values]:
    """The lists; as jsonb writes 1e17 and 1e22 with all their digits, a number is told by its value alone."""
    long = _LONG.search(text)
    made: list[Values] = json.loads(text, parse_int=_number, parse_float=_number) if long else json.loads(text)
    return made


def _number(digits: str) -> object:
    """A whole number that 64 bits hold, or that no float does; else a float."""
    made = float(digits)
    if "." in digits and "e" not in digits.lower():
        return made
    if abs(made) <= _INTEGER_MAX:
        exact = Decimal(digits)
        whole = int(exact)
        return whole if exact == whole and -_INTEGER_MAX <= whole < _INTEGER_MAX else made
    return made if abs(made) <= _FLOAT_MAX else int(digits) if "e" not in digits.lower() else digits


def _first_there(places: Sequence[Values]) -> Values:
    made, *others = places
    for other in others:
        missing = made.count(None)
        if missing == len(made):
            made = other
        elif missing and other.count(None) < len(other):
            made = [two if one is None else one for one, two in zip(made, other, strict=True)]
    return made
