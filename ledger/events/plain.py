"""Anything a stranger hands us, as plain JSON data; and the one way JSON is written here.

Strict JSON has no NaN: a float that is not finite becomes the text "NaN", "Infinity" or "-Infinity",
as W&B writes it. What is no JSON at all -- dates, numpy scalars, W&B histograms and summaries, the
objects of other libraries -- becomes plain data where its shape is known, else its text: a launch is
never refused for it. What is refused is data nested deeper than `NESTING_MAX`, which readers could
not take apart again.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any

from pydantic import JsonValue

from ledger.errors import InvalidFact

__all__ = ["NESTING_MAX", "NON_FINITE", "json_text", "plain", "plain_mapping"]

NESTING_MAX = 100
NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_INT_BITS_MAX = 10_000  # Python refuses to print or read integers of over 4,300 digits (about 14,000 bits)
_ARRAY_SIZE_MAX = 1_000_000  # an array larger than this is a data set, not a setting

json_text: Callable[[JsonValue], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

Path = tuple[int, ...]  # ids of the containers that we are inside of


def plain_mapping(value: object) -> dict[str, JsonValue]:
    """Return a mapping (a dict, a W&B summary, a namespace; None is an empty one) as a plain dict.

    Raises InvalidFact for what is no mapping.
    """
    if value is None:
        return {}
    made = plain(value)
    if isinstance(made, dict):
        return made
    if isinstance(value, Mapping):  # one that breaks when it is read: keep what can be had of it
        return {"unreadable": made}
    raise InvalidFact(f"a mapping of names to values is wanted here, not {type(value).__name__}.")


def plain(value: object, inside: Path = ()) -> JsonValue:
    """Return *value* as plain JSON data that shares nothing with it.

    *inside* is for the recursion. Raises InvalidFact where the nesting is too deep.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value, inside)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return _float(float(value))
    if len(inside) >= NESTING_MAX:
        raise InvalidFact(f"data nested deeper than {NESTING_MAX} levels cannot be kept; flatten it.")
    if id(value) in inside:
        return "[circular]"
    within = (*inside, id(value))
    if type(value) is dict:
        return {_key(key): plain(item, within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, within) for item in value]
    return _stranger(value, within)


def _integer(value: int) -> JsonValue:
    return value if value.bit_length() <= _INT_BITS_MAX else hex(value)


def _float(value: float) -> JsonValue:
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 -- NaN


def _key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    made = plain(key)
    return made if isinstance(made, str) else json_text(made)


def _stranger(value: object, within: Path) -> JsonValue:
    try:
        return _known_shape(value, within)
    except InvalidFact:
        raise
    except Exception:  # noqa: BLE001 -- a stranger's own methods may raise anything, and no launch fails for that
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _known_shape(value: object, within: Path) -> JsonValue:
    for shape, data in _SHAPES:
        if shape(value):
            return plain(data(value), within)
    return str(value)


def _has(*names: str) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, type) and all(hasattr(value, name) for name in names)


def _sorted(values: Collection[object]) -> list[object]:
    """A set in one order, the same on every machine."""
    return sorted(values, key=lambda item: json_text(plain(item)))


# What is recognised, in this order, and the plainer thing that it then is.
_SHAPES: tuple[tuple[Callable[[object], bool], Callable[[Any], object]], ...] = (
    (lambda v: isinstance(v, Mapping), lambda v: {key: v[key] for key in v}),
    (lambda v: isinstance(v, datetime | date | time), lambda v: v.isoformat()),
    (lambda v: isinstance(v, set | frozenset), _sorted),
    (
        lambda v: isinstance(v, bytes | bytearray | memoryview),
        lambda v: bytes(v).decode("utf-8", "backslashreplace"),
    ),
    (lambda v: isinstance(v, deque | range), list),
    # A W&B summary: `_as_dict` on a live run, `_json_dict` on the public API's object.
    (_has("_as_dict"), lambda v: v._as_dict()),  # noqa: SLF001 -- W&B offers no other
    (_has("_json_dict"), lambda v: v._json_dict),  # noqa: SLF001 -- the same
    # A W&B histogram, as W&B itself writes it.
    (_has("histogram", "bins"), lambda v: {"_type": "histogram", "values": v.histogram, "bins": v.bins}),
    # Arrays, tensors and scalars of numpy, torch and their kin.
    (_has("tolist", "dtype"), lambda v: v.tolist() if getattr(v, "size", 0) <= _ARRAY_SIZE_MAX else str(v)),
    (_has("tolist"), lambda v: v.tolist()),
    (lambda v: dataclasses.is_dataclass(v) and not isinstance(v, type), lambda v: dict(vars(v))),
    (_has("model_dump"), lambda v: v.model_dump()),
    (_has("keys", "__getitem__"), lambda v: {key: v[key] for key in v.keys()}),  # noqa: SIM118 -- it may not iterate
    (lambda v: type(v).__name__ in {"Namespace", "SimpleNamespace"}, vars),
)
