"""What an event and its run's chain have to be: a look at every event of the ledger, as it was accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from ledger.events.fact import chained, digested
from ledger.store.statements import StoredRow

__all__ = ["Difference", "Seen"]

_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z", re.ASCII)


@dataclass(frozen=True)
class Difference:
    """The first fault of its *kind*: where, what is stored and what was computed."""

    kind: str
    run_id: str | None
    column: str
    stored: object
    computed: object

    def __str__(self) -> str:
        where = f"run {self.run_id!r}, " if self.run_id is not None else ""
        return f"{self.kind}: {where}{self.column}: stored {self.stored!r}, computed {self.computed!r}"


class Seen:
    """The witness of one walk: digests as they come, and each run's chain, versions and positions in its order."""

    def __init__(self) -> None:
        self._found: dict[str, Difference] = {}  # the first of each kind
        # Run, version, position and chain: from there the next part of the run goes on.
        self._end: tuple[str, int, int, str] = ("", 0, 0, "")

    def faults(self) -> list[Difference]:
        """Return what was found since the last call: the first of each kind."""
        found, self._found = self._found, {}
        return list(found.values())

    def _find(self, difference: Difference) -> None:
        self._found.setdefault(difference.kind, difference)

    def see(self, rows: Sequence[StoredRow]) -> None:
        for _, event_id, run_id, _, type, schema, at, _, payload, _, source, stored in rows:
            digest = digested(event_id, at, payload, run_id, schema, source, type)
            if stored != digest:
                self._find(Difference("digest", run_id, f"digest of event {event_id}", stored, digest))

    def follow(self, run_id: str, rows: Sequence[StoredRow]) -> None:
        """Compare with what has to be there: most events are in order, and that has to be seen fast."""
        run, number, before, chain = self._end
        if run != run_id:
            number, before, chain = 0, 0, ""
        moment = ""
        for row in rows:
            number += 1
            position, _, _, version, _, _, _, recorded_at, _, linked, _, digest = row
            chain = chained(chain, digest)
            if (
                linked != chain
                or version != number
                or position <= before
                or (recorded_at != moment and not _is_written(recorded_at))
            ):
                for fault in _faults(row, number, before, chain):
                    self._find(fault)
            chain, before, moment = linked, position, recorded_at
        self._end = run_id, number, before, chain


def _faults(row: StoredRow, number: int, before: int, chain: str) -> Iterator[Difference]:
    position, event_id, run_id, version, _, _, _, recorded_at, _, linked, _, _ = row
    for kind, stored, computed in (
        ("version", version, number),
        ("chain", linked, chain),
        ("recorded_at", recorded_at, recorded_at if _is_written(recorded_at) else None),
        ("position", position, position if position > before else f"over {before}"),
    ):
        if stored != computed:
            yield Difference(kind, run_id, f"{kind} of event {event_id}", stored, computed)


@lru_cache(maxsize=4096)  # what was accepted together bears one moment
def _is_written(moment: str) -> bool:
    """Whether this is a moment as the ledger writes it."""
    try:
        date.fromisoformat(moment[:10])
    except ValueError:
        return False
    return _WRITTEN.fullmatch(moment) is not None
