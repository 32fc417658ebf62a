"""Fewer rows of a history that still show its extremes and its shape.

Kept are the first and the last row, and of each column the smallest and the largest number and the first NaN, Infinity
and -Infinity. What is left of the rows asked for goes to the smallest and largest numbers of equal parts, and then to
rows at equal distances. The same history gives the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeGuard, cast

from ledger.errors import InvalidValue
from ledger.projections.curves import Columns, Values, is_number

__all__ = ["sampled"]

Numbers = list[float | None]


def sampled(columns: Columns, rows_max: int) -> Columns:
    """Return at most so many of the rows, in their order.

    Raises InvalidValue where that is too few for the extremes of all columns.
    """
    length = len(next(iter(columns.values())))
    if length <= rows_max:
        return columns
    numbers = [_finite(values) for values in columns.values()]
    kept = {0, length - 1}.union(*(_extremes(column, 0, length) for column in numbers))
    for values, column in zip(columns.values(), numbers, strict=True):
        kept |= _firsts_not_finite(values) if column is not values else set()
    if len(kept) > rows_max:
        wanted = f"at least {len(kept)} are needed for the extremes of these columns; give more, or name fewer"
        raise InvalidValue("max_points", rows_max, wanted)
    kept |= _of_parts(numbers, length, rows_max - len(kept))
    kept |= _spread([row for row in range(length) if row not in kept], rows_max - len(kept))
    rows = sorted(kept)
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _finite(values: Values) -> Numbers:
    """The values that are finite numbers, and None in place of the others."""
    if _all_finite(values):
        return values
    return [value if is_number(value) and -math.inf < value < math.inf else None for value in values]


def _all_finite(values: Values) -> TypeGuard[Numbers]:
    """Whether nothing else is among them, as in most columns: that takes a tenth of looking at each."""
    kinds = set(map(type, values))
    return kinds == {int} or (kinds == {float} and all(map(math.isfinite, cast("list[float]", values))))


def _firsts_not_finite(values: Values) -> set[int]:
    """The rows of the first NaN, Infinity and -Infinity."""
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        if type(value) is float and value - value != 0.0:
            first.setdefault(str(value), row)
    return set(first.values())


def _extremes(column: Numbers, begin: int, end: int) -> set[int]:
    """The rows of the smallest and of the largest number of a part; of equal ones the first."""
    part = column[begin:end]
    numbers = [value for value in part if value is not None] if None in part else cast("list[float]", part)
    return {begin + part.index(extreme(numbers)) for extreme in (min, max)} if numbers else set()


def _of_parts(columns: Sequence[Numbers], length: int, rows_max: int) -> set[int]:
    """The rows of the extremes of equal parts, of which there are as many as may have two rows a column."""
    parts = rows_max // (2 * len(columns))
    edges = [part * length // parts for part in range(parts + 1)] if parts else []
    return {row for begin, end in pairwise(edges) for column in columns for row in _extremes(column, begin, end)}


def _spread(rows: Sequence[int], count: int) -> set[int]:
    """So many of the rows, at equal distances."""
    return {rows[place * len(rows) // count] for place in range(count)}
