"""By which rules tables were folded, as one short text: when it changes, a replay is due."""

from __future__ import annotations

from hashlib import sha256

from ledger.events import EVENT_TYPES
from ledger.projections.details import DETAILS
from ledger.projections.run import COLUMNS

__all__ = ["RULES", "fold_stamp"]

RULES = 3  # raised with every change of what the fold does with the events there are


def fold_stamp() -> str:
    """Return the number of the rules, and a digest of what columns and events declare.

    A better extraction shows in it, and so does an event that could not be understood before.
    """
    columns = [
        (name, c.kind, c.nullable, c.choices, tuple(c.column.config), c.column.counted)
        for table in (COLUMNS, *(detail.columns for detail in DETAILS))
        for name, c in table.items()
    ]
    types = [
        (name, kind.model_fields["schema_version"].default, kind.payload_fields) for name, kind in EVENT_TYPES.items()
    ]
    return f"{RULES}-{sha256(repr([columns, types]).encode()).hexdigest()[:12]}"
