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
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from numbers import Integral
from typing import Any, Protocol

from pydantic import JsonValue

from ledger.errors import InvalidFact

__all__ = ["NESTING_MAX", "NON_FINITE", "json_text", "plain", "plain_mapping", "strict_object"]

NESTING_MAX = 100
NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_INT_BITS_MAX = 10_000  # Python refuses to print or read integers of over 4,300 digits (about 14,000 bits)
_ARRAY_SIZE_MAX = 1_000_000  # an array larger than this is a data set, not a setting
_CONVERSIONS_MAX = 8  # a stranger that says it is another stranger more often than this (a mock) never ends
# What Python's own texts of objects say of this process only: two equal launches would differ in it.
_ADDRESS = re.compile(r" (?:at 0x[0-9a-fA-F]+|id='\d+')")

json_text: Callable[[JsonValue], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

Path = tuple[int, ...]  # ids of the containers that we are inside of


def strict_object(text: str) -> dict[str, JsonValue]:
    """Return the object that a strict JSON text holds. Raises ValueError, TypeError or RecursionError."""
    made = _STRICT.decode(text)
    if not isinstance(made, dict):
        raise TypeError("source and payload are the JSON texts of objects")
    return made


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is no JSON")


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)  # made once: json.loads would make one a call


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
    if value is None or type(value) is bool:
        return value
    if value.__class__ is not type(value):  # a mock or a proxy, which is no text or number though it says so
        return _stranger(value, inside)
    if isinstance(value, Enum):
        return plain(value.value, inside)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return _float(float(value))
    if type(value) is dict or isinstance(value, list | tuple):
        return _contents(value, value, inside)
    return _stranger(value, inside)


def _contents(held: dict[object, object] | Sequence[object], value: object, inside: Path) -> JsonValue:
    """What *value* holds: itself, or what a stranger was converted to, which is no deeper than the stranger."""
    if len(inside) >= NESTING_MAX:
        raise InvalidFact(f"data nested deeper than {NESTING_MAX} levels cannot be kept; flatten it.")
    if id(value) in inside:
        return "[circular]"
    within = (*inside, id(value))
    if isinstance(held, dict):
        return {_key(key): plain(item, within) for key, item in held.items()}
    return [plain(item, within) for item in held]


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


def _stranger(value: object, inside: Path) -> JsonValue:
    try:
        return _known_shape(value, inside)
    except InvalidFact:
        raise
    except Exception:  # noqa: BLE001 -- a stranger's own methods may raise anything, and no launch fails for that
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _known_shape(value: object, inside: Path) -> JsonValue:
    made = value
    for _ in range(_CONVERSIONS_MAX):
        data = next((data for shape, data in _SHAPES if shape(made)), None)
        if data is None:
            break
        made = data(made)
        if type(made) is dict or isinstance(made, list | tuple):
            return _contents(made, value, inside)
        if made is None or isinstance(made, _SCALARS):
            return plain(made, inside)
    return _text(value)


def _text(value: object) -> str:
    return _ADDRESS.sub("", str(value))


class _Array(Protocol):
    def tolist(self) -> object: ...


def _values(array: _Array) -> object:
    """What an array or tensor holds; of a data set, and of a tensor that gives no list (a sparse one), its text."""
    try:
        return array.tolist() if _count(array) <= _ARRAY_SIZE_MAX else _text(array)
    except (RuntimeError, TypeError, ValueError):
        return _text(array)


def _count(array: object) -> int:
    """How many values it holds; `size` is a number for numpy and a method for torch."""
    said = getattr(array, "numel", getattr(array, "size", None))
    count = said() if callable(said) else said
    if isinstance(count, Integral):
        return int(count)
    return math.prod(getattr(array, "shape", ()) if count is None else count)


def _has(*names: str) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, type) and all(hasattr(value, name) for name in names)


def _sorted(values: Collection[object]) -> list[object]:
    """A set in one order, the same on every machine."""
    return sorted(values, key=lambda item: json_text(plain(item)))


_SCALARS = (bool, int, float, str, Enum)

# What is recognised, in this order, and the plainer thing that it then is.
_SHAPES: tuple[tuple[Callable[[object], bool], Callable[[Any], object]], ...] = (
    (lambda v: isinstance(v, Mapping), lambda v: {key: v[key] for key in v}),
    (lambda v: isinstance(v, datetime | date | time), lambda v: v.isoformat()),
    (lambda v: isinstance(v, set | frozenset), _sorted),
    (
        lambda v: isinstance(v, bytes | bytearray | memoryview),
        lambda v: bytes(v).decode("utf-8", "backslashreplace"),
    ),
    (lambda v: isinstance(v, list | tuple | deque | range), list),
    # A W&B summary: `_as_dict` on a live run, `_json_dict` on the public API's object.
    (_has("_as_dict"), lambda v: v._as_dict()),  # noqa: SLF001 -- W&B offers no other
    (_has("_json_dict"), lambda v: v._json_dict),  # noqa: SLF001 -- the same
    # A W&B histogram, as W&B itself writes it.
    (_has("histogram", "bins"), lambda v: {"_type": "histogram", "values": v.histogram, "bins": v.bins}),
    # Arrays, tensors and scalars of numpy, torch and their kin.
    (_has("tolist", "dtype"), _values),
    (_has("tolist"), lambda v: v.tolist()),
    (
        lambda v: dataclasses.is_dataclass(v) and not isinstance(v, type),
        lambda v: {f.name: getattr(v, f.name) for f in dataclasses.fields(v)},
    ),
    (_has("model_dump"), lambda v: v.model_dump()),
    (_has("keys", "__getitem__"), lambda v: {key: v[key] for key in v.keys()}),  # noqa: SIM118 -- it may not iterate
    (lambda v: type(v).__name__ in {"Namespace", "SimpleNamespace"}, vars),
)
