"""Whether a stranger's value fits a column, and as what. It must not depend on the database.

An integer fits in 64 bits, a float when it is finite, text without NUL and lone surrogates; a boolean
is no number; text that spells a number is that number (PyYAML reads `1e-4` as text).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from typing import cast

from pydantic import JsonValue

from ledger.events.envelope import storable_text
from ledger.events.plain import NESTING_MAX, NON_FINITE
from ledger.events.times import parse_moment, text_of
from ledger.projections.columns import Declared, Kind

__all__ = ["Plain", "fitting", "is_key", "path_into", "projected_json", "spelled_number", "without_non_finite"]

Plain = str | int | float | None

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER_LENGTH_MAX = 400
_KEY_BYTES_MAX = 2000
_SURROGATE = re.compile("[\ud800-\udfff]")


def fitting(column: Declared, value: JsonValue) -> Plain:
    """Return *value* as *column* holds it, or None where it does not fit."""
    if value is None:
        return None
    made = _FITTING[column.kind](value)
    if column.choices and made not in column.choices:
        return None
    return made


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and storable_text(value) else None


def _number(value: JsonValue) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    return spelled_number(value) if isinstance(value, str) else None


def spelled_number(text: str) -> int | float | None:
    """Return the number that *text* spells in ASCII digits, or None; Python's own `1_000` is none."""
    if len(text) > _NUMBER_LENGTH_MAX or not _NUMBER.fullmatch(stripped := text.strip()):
        return None
    return int(stripped) if _DIGITS.fullmatch(stripped) else float(stripped)


def _integer(value: JsonValue) -> int | None:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    number = _number(value)
    if isinstance(number, float):
        number = int(number) if math.isfinite(number) and number.is_integer() else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _real(value: JsonValue) -> float | None:
    if type(value) is float and math.isfinite(value):
        return value
    number = _number(value)
    try:
        made = None if number is None else float(number)
    except OverflowError:  # an integer beyond what a float holds
        return None
    return made if made is not None and math.isfinite(made) else None


def _moment(value: JsonValue) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return text_of(parse_moment(value))
    except ValueError:
        return None


def _json(value: JsonValue) -> str | None:
    return projected_json(value) if isinstance(value, dict | list) else None


_FITTING: dict[Kind, Callable[[JsonValue], Plain]] = {
    "text": _text,
    "integer": _integer,
    "real": _real,
    "moment": _moment,
    "json": _json,
}


def is_key(run_id: str, key: str) -> bool:
    """Whether a row of this run may be found by such a key: the indexes of a server hold no longer ones."""
    if len(run_id) + len(key) < _KEY_BYTES_MAX // 4:
        return True
    return len(run_id.encode()) + len(key.encode()) <= _KEY_BYTES_MAX


def projected_json(value: JsonValue) -> str:
    """Return *value* as the JSON text of a row.

    Other than in events, characters are written as they are, so that SQL finds them (SQLite before
    3.45 compares the keys of a path with the text as it is written). Lone surrogates stay escaped.
    """
    try:
        text = _encode(value)
    except (ValueError, RecursionError):  # valid JSON all the same: 1e400 is, and what is nested deeper than we read
        text = _encode(_within_reach(value, frozenset()))
    return text if text.isascii() else _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def without_non_finite(value: JsonValue) -> JsonValue:
    """Return *value* with null for each "NaN", "Infinity" and "-Infinity", so that numbers can be sorted."""
    if isinstance(value, dict) and set(map(type, value.values())) == {float}:
        numbers = cast("dict[str, float]", value).values()
        if math.isfinite(sum(numbers)):  # no need to look at each, nor to copy them
            return value
    return _within_reach(value, NON_FINITE)


def _within_reach(value: JsonValue, nulls: Collection[str], depth_max: int = NESTING_MAX) -> JsonValue:
    """Null for the texts *nulls*, a number beyond what a float holds, and what is nested deeper than any event is."""
    if isinstance(value, str):
        return None if value in nulls else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if depth_max == 0:
        return None
    if isinstance(value, dict):
        return {key: _within_reach(item, nulls, depth_max - 1) for key, item in value.items()}
    return [_within_reach(item, nulls, depth_max - 1) for item in value]


def path_into(value: JsonValue, path: str) -> JsonValue:
    """Return what lies at the dotted *path*, or None."""
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value
