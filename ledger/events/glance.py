"""A glance at an event that was recorded elsewhere: is it well formed beyond doubt?

They come by the million, and nearly all of them are. What the glance doubts is judged by the classes
themselves, which alone refuse; so it may doubt as it likes, but never pass what they would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, reduce
from operator import or_
from types import NoneType
from typing import get_args, get_type_hints

from pydantic import JsonValue

from ledger.events.catalogue import EVENT_TYPES
from ledger.events.envelope import Id, PlainMapping, Text, storable_text
from ledger.events.lifecycle import EndReason, Int64, Seconds
from ledger.events.plain import NESTING_MAX, strict_object
from ledger.events.progress import Columns
from ledger.events.times import UtcDateTime, parse_moment

__all__ = ["envelope_beyond_doubt", "payload_beyond_doubt", "source_beyond_doubt"]

Payload = Mapping[str, JsonValue]

_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONG = 2000  # what is longer is seldom met again, and not worth its memory


def envelope_beyond_doubt(event_id: str, run_id: str, type: str, schema_version: int) -> bool:
    return (
        _UUID.fullmatch(event_id) is not None
        and bool(run_id.strip() and type.strip())
        and storable_text(run_id)
        and storable_text(type)
        and 1 <= schema_version < 2**63
    )


def source_beyond_doubt(text: str) -> bool:
    """Whether the text is that of a source; a process says the same one again and again."""
    return _known_source(text) if len(text) < _LONG else _is_source(text)


def _is_source(text: str) -> bool:
    try:
        said = strict_object(text)
    except (ValueError, TypeError, RecursionError):
        return False
    texts = all(isinstance(said.get(name), str | None) for name in ("host", "user", "program", "version"))
    return texts and type(said.get("pid")) in (int, NoneType)


_known_source = lru_cache(maxsize=256)(_is_source)


def payload_beyond_doubt(type: str, text: str, payload: Payload, said: Payload | None) -> bool:
    """Whether a payload is not too deep and, where this code understands what it *said*, such as its class takes."""
    if text.count("{") + text.count("[") > NESTING_MAX and _is_too_deep(payload):
        return False
    return said is None or _is_of_class(type, said)


def _is_too_deep(payload: Payload) -> bool:
    level: list[JsonValue] = [dict(payload)]
    for _ in range(NESTING_MAX):
        inside = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _is_of_class(type: str, said: Payload) -> bool:
    takes, required = _fields(type)
    return required <= said.keys() and all(takes[name](value) for name, value in said.items())


def _storable(value: JsonValue) -> bool:
    return isinstance(value, str) and storable_text(value)


def _moment(value: JsonValue) -> bool:
    return isinstance(value, str) and bool(parse_moment(value))


def _columns(value: JsonValue) -> bool:
    """Lists of one length, which is also what the class asks of the whole."""
    columns = value.values() if isinstance(value, dict) else ()
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns}
    return isinstance(value, dict) and len(lengths) < 2 and -1 not in lengths


Takes = Callable[[JsonValue], bool]

# What a field of each declared type takes without doubt. None, which nobody writes down, is for the class to judge.
_TAKEN: tuple[tuple[object, Takes], ...] = (
    (Text, _storable),
    (Id, lambda value: isinstance(value, str) and bool(value.strip()) and storable_text(value)),
    (PlainMapping, lambda value: isinstance(value, dict)),
    (Columns, _columns),
    (Int64, lambda value: type(value) is int and value.bit_length() < 64),
    (Seconds, lambda value: type(value) is int and value >= 0 and value.bit_length() < 64),
    (UtcDateTime, _moment),
    (EndReason, lambda value: value in get_args(EndReason)),
    (bool, lambda value: isinstance(value, bool)),
    (int, lambda value: type(value) is int and value.bit_length() < 64),
)


@cache
def _fields(type: str) -> tuple[dict[str, Takes], frozenset[str]]:
    """What each field of the class takes beyond doubt, and the fields that have to be said."""
    kind = EVENT_TYPES[type]
    hints = get_type_hints(kind, include_extras=True)
    takes = {name: _of_type(hints[name]) for name in kind.payload_fields}
    return takes, frozenset(name for name in kind.payload_fields if kind.model_fields[name].is_required())


def _of_type(hint: object) -> Takes:
    said = get_args(hint) if NoneType in get_args(hint) else (hint,)
    wanted = reduce(or_, (kind for kind in said if kind is not NoneType))  # which may be a choice of several itself
    return next((takes for declared, takes in _TAKEN if declared == wanted), lambda _: False)
