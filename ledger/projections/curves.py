"""What a run logged, step by step, as columns of one length: the batches of `metrics_logged` put together.

A number is an int or a float; "NaN", "Infinity" and "-Infinity", as JSON has to write them, are the floats they stand
for. Where no names are asked for, a column is given if it holds a number at all, and what is no number in it is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from pydantic import JsonValue

from ledger.errors import UnknownColumn
from ledger.events.plain import NON_FINITE

__all__ = ["STEP", "Columns", "Values", "curves", "is_number"]

STEP = "step"

Values = list[JsonValue]
Columns = dict[str, Values]

_FLOATS = {word: float(word) for word in NON_FINITE}
_PLAIN = {int, float, type(None)}


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or a float; a boolean is none."""
    return type(value) is float or type(value) is int


def curves(batches: Iterable[JsonValue], names: Sequence[str] | None = None) -> Columns:
    """Return `step` and the named columns of all batches, without the rows in which none of those named has a value.

    Raises UnknownColumn for a name that a run which logged something never logged.
    """
    made: Columns = {STEP: [], **{name: [] for name in names or ()}}
    seen: set[str] = set()
    for batch in batches:
        columns = _of_one_length(batch)
        seen |= columns.keys()
        named = columns.keys() - {STEP} if names is None else columns.keys() & set(names)
        chosen = {name: _decoded(columns[name]) if names else _numbers(columns[name]) for name in named}
        chosen = {name: values for name, values in chosen.items() if values.count(None) < len(values)}
        kept = _rows_kept(list(chosen.values()))
        _append(made, {STEP: _decoded(columns.get(STEP, [])), **chosen}, kept)
    for name in names or ():
        if seen and name not in {STEP, *seen}:
            raise UnknownColumn(name, seen, " That is what the run has logged.")
    return made if names else {STEP: made.pop(STEP), **dict(sorted(made.items()))}


def _of_one_length(batch: JsonValue) -> Columns:
    """The columns of a batch; what is none is left out, and one that is short has no values at its end."""
    held = {} if not isinstance(batch, dict) else {n: values for n, values in batch.items() if isinstance(values, list)}
    length = max(map(len, held.values()), default=0)
    return {name: values + [None] * (length - len(values)) for name, values in held.items()}


def _decoded(values: Values) -> Values:
    """The values, with floats for the words that stand for what is not finite."""
    if set(map(type, values)) <= _PLAIN:
        return values
    return [_FLOATS.get(value, value) if isinstance(value, str) else value for value in values]


def _numbers(values: Values) -> Values:
    decoded = _decoded(values)
    return decoded if set(map(type, decoded)) <= _PLAIN else [value if is_number(value) else None for value in decoded]


def _rows_kept(columns: Sequence[Values]) -> Sequence[int]:
    """The rows in which any of these has a value."""
    if any(None not in values for values in columns):
        return range(len(columns[0]))
    return [row for row, cells in enumerate(zip(*columns, strict=True)) if cells.count(None) < len(cells)]


def _append(made: Columns, columns: Columns, kept: Sequence[int]) -> None:
    """Add the rows that are kept; a column that is new has no values before them."""
    before = len(made[STEP])
    for name, values in columns.items():
        if name not in made:
            made[name] = [None] * before
        whole = len(kept) == len(values)
        made[name].extend(values if whole else [values[row] for row in kept if values])
    for values in made.values():
        values.extend([None] * (before + len(kept) - len(values)))
