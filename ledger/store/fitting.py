"""A question about a number, in numbers of the kind that its column has: a database might round any other."""

from __future__ import annotations

import math
from dataclasses import replace

from ledger.projections.columns import Declared
from ledger.projections.details import DETAILS
from ledger.projections.filters import Condition, Value
from ledger.projections.run import COLUMNS

__all__ = ["fitted", "numeric"]

_ENDS = (-(2**63), 2**63 - 1)
_NEVER = math.nan  # stands for a number that no column can hold


def fitted(condition: Condition) -> Condition:
    """Return the condition that means the same and compares integers with integers, floats with floats."""
    column = _column_of(condition)
    if column is None or column.kind not in {"integer", "real"} or condition.operator == "has":
        return condition
    fitting = _whole if column.kind == "integer" else _floating
    values = [fitting(numeric(value), condition.operator) for value in condition.values]
    held: tuple[Value, ...] = tuple(value for value in values if not math.isnan(value))
    if len(held) == len(values):
        return replace(condition, values=held)
    if condition.operator in {"min", "max"}:  # no number is so large, or so small
        return Condition(condition.column, "is", (), several=True, keys=condition.keys)
    return replace(condition, values=held, several=True)


def _column_of(condition: Condition) -> Declared | None:
    """The column that is asked for; what lies in JSON is in none."""
    if condition.column in _BESIDE:
        return _BESIDE[condition.column][condition.keys[1]]
    return None if condition.keys else COLUMNS.get(condition.column)


_BESIDE = {detail.name: detail.columns for detail in DETAILS}


def numeric(value: object) -> float:
    """Return what a condition compares numbers with."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _whole(value: float, operator: str) -> float:
    if isinstance(value, int):
        return value
    least, most = _ENDS
    if operator not in {"min", "max"}:
        return int(value) if value.is_integer() and least <= value <= most else _NEVER
    if not least <= value < 2.0**63:
        beyond = (value > 0) == (operator == "min")
        return _NEVER if beyond else (most if value > 0 else least)
    return math.ceil(value) if operator == "min" else math.floor(value)


def _floating(value: float, operator: str) -> float:
    near = float(value)
    if near == value:
        return near
    if operator not in {"min", "max"}:
        return _NEVER
    if operator == "min":
        return near if near > value else math.nextafter(near, math.inf)
    return near if near < value else math.nextafter(near, -math.inf)
