"""Whether the ledger holds what somebody is about to remove."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice

from ledger.errors import InvalidFact
from ledger.events.lines import parse_line
from ledger.store.sqlite import Database

__all__ = ["holds"]

_BATCH = 500
_HELD = (
    "SELECT event_id, digest FROM training_events WHERE event_id IN (SELECT value FROM json_each(?1)) UNION ALL"
    " SELECT event_id, digest FROM training_conflicts WHERE event_id IN (SELECT value FROM json_each(?1))"
)


def holds(database: Database, lines: Iterable[str]) -> bool:
    """Whether every one of these lines is an event that is here with the same digest, or kept as a conflict."""
    left = iter(lines)
    while batch := list(islice(left, _BATCH)):
        try:
            facts = [parse_line(line) for line in batch]
        except InvalidFact:
            return False
        with database.read() as connection:
            asked = json.dumps([fact.event_id for fact in facts])
            held = set(connection.execute(_HELD, (asked,)).fetchall())
        if not held.issuperset((fact.event_id, fact.digest()) for fact in facts):
            return False
    return True
