"""Rows by the values that they begin with: what counts as the same value, and in which order values come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

__all__ = ["Key", "Row", "by_names", "grouped", "rank", "same", "whole"]

Row = dict[str, object]
Key = tuple[object, ...]


def same(value: object) -> object:
    """Return what is equal for values that are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool):
        return "truth", value
    if isinstance(value, list | dict):
        return "document", _spelled(value)
    return value


def _spelled(document: object) -> str:
    """The text that equal documents share: 1.0 in one is 1, and -0.0 is 0."""
    return json.dumps(whole(document), sort_keys=True)


def whole(value: object) -> object:
    """Return how a value is shown, of all those that are the same: 1.0 as 1, and -0.0 as 0, also within documents."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def rank(value: object) -> tuple[int, float, str]:
    """Return by what values are ordered: numbers, text, truth, documents, and last what is not there."""
    match value:
        case None:
            return 9, 0, ""
        case bool():
            return 3, value, ""
        case int() | float():
            return 1, value, ""
        case str():
            return 2, 0, value
        case _:
            return 4, 0, _spelled(value)


def grouped(rows: Iterable[Sequence[object]], width: int) -> list[tuple[Key, list[Sequence[object]]]]:
    """Return (the values, what is behind them in each row) for each combination of the first *width* values.

    Of no values there is one group, also of no rows.
    """
    if width == 0:
        return [((), list(rows))]
    known = list(rows)
    kinds = {type(row[place]) for place in range(width) for row in known}
    alike = _alike if kinds & {bool, list, dict} else tuple
    groups: dict[Key, tuple[Key, list[Sequence[object]]]] = {}
    for row in known:
        values = row[:width]
        key = alike(values)
        if key not in groups:
            groups[key] = tuple(map(whole, values)), []
        groups[key][1].append(row[width:])
    return list(groups.values())


def _alike(values: Sequence[object]) -> Key:
    return tuple(map(same, values))


def by_names(names: Sequence[str], key: Key) -> Row:
    return dict(zip(names, key, strict=True))
