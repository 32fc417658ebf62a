"""Yesterday's payloads into today's: one function per step, from a schema_version to the next.

A field is never renamed or given another meaning in place: its class gets the next
`schema_version`, and the step from the one before is written here and never removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import JsonValue

from ledger.events.catalogue import EVENT_TYPES

__all__ = ["UPCASTS", "understood"]

Payload = dict[str, JsonValue]

# (type, schema_version) -> the payload as the next schema_version would have it. No event has changed yet.
UPCASTS: Mapping[tuple[str, int], Callable[[Payload], Payload]] = {}

_CURRENT = {name: kind.model_fields["schema_version"].default for name, kind in EVENT_TYPES.items()}
_FIELDS = {name: frozenset(kind.payload_fields) for name, kind in EVENT_TYPES.items()}


def understood(type: str, schema_version: int, payload: Payload) -> Payload | None:
    """Return the payload in today's shape, or None where this code cannot understand it.

    That is an unknown type, a schema_version newer than this code's, or a field it does not know.
    """
    current = _CURRENT.get(type)
    if current == schema_version:
        return payload if payload.keys() <= _FIELDS[type] else None
    if current is None or schema_version > current:
        return None
    while schema_version < current:
        step = UPCASTS.get((type, schema_version))
        if step is None:
            return None
        payload, schema_version = step(payload), schema_version + 1
    return payload if payload.keys() <= _FIELDS[type] else None
