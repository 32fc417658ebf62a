"""Whether the ledger holds what somebody is about to remove."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from ledger.errors import InvalidFact
from ledger.events.lines import parse_line
from ledger.store.database import Database
from ledger.store.merging import HERE, digests

__all__ = ["holds"]

_BATCH = 500


def holds(database: Database, lines: Iterable[str]) -> bool:
    """Whether every one of these lines is an event that is here with the same digest, or kept as a conflict."""
    left = iter(lines)
    while batch := list(islice(left, _BATCH)):
        try:
            facts = [parse_line(line) for line in batch]
        except InvalidFact:
            return False
        if not digests(database, facts, HERE).issuperset((fact.event_id, fact.digest()) for fact in facts):
            return False
    return True
