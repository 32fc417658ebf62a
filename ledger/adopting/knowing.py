"""What the ledger knows of runs before their rows are told: what earlier adoptions said, and whether others speak."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ledger.adopting.telling import is_ours, row_of
from ledger.adopting.wanted import moment_of
from ledger.events import EVENT_TYPES, Fact
from ledger.projections.lifecycle import SIGNS_OF_LIFE

if TYPE_CHECKING:
    from ledger.adopting.front import Adopting
    from ledger.adopting.rows import OldRow
    from ledger.store.statements import Row

__all__ = ["Known", "known_of", "rows_shown"]

# Of a run that lives there may be a million, and its row says that there are some.
_TYPES = sorted(EVENT_TYPES.keys() - SIGNS_OF_LIFE)


@dataclass(frozen=True)
class Known:
    """What adoptions told of a run, and whether the ledger has also heard of it from elsewhere."""

    told: tuple[Fact, ...] = ()
    has_others: bool = False

    def is_later_than(self, row: OldRow) -> bool:
        """Whether a later state of the row was adopted before, as its own `updated_at_db` says."""
        read = moment_of(row.values.get("updated_at_db"))
        return read is not None and any(moment > read for moment in self._told("updated_at_db"))

    def is_of_another(self, row: OldRow) -> bool:
        """Whether another row was adopted as this run, as `created_at_db` says, which no row ever changes."""
        read = moment_of(row.values.get("created_at_db"))
        told = self._told("created_at_db")
        return read is not None and bool(told) and read not in told

    def _told(self, name: str) -> list[datetime]:
        said = [row_of(fact).get(name) for fact in self.told if fact.type == "imported"]
        moments = [moment_of(value) for value in said if isinstance(value, str)]
        return [moment for moment in moments if moment is not None]


def known_of(ledger: Adopting, page: Iterable[OldRow]) -> dict[str, Known]:
    """Return what is known of the runs of a page; those that are not known are left out."""
    return {run_id: _known(ledger, shown) for run_id, shown in rows_shown(ledger, page).items()}


def rows_shown(ledger: Adopting, page: Iterable[OldRow]) -> dict[str, Row]:
    """Return the ledger's rows of the runs of a page."""
    asked = [row.run_id for row in page]
    found = ledger.query_runs({"run_id": asked}, order_by="run_id", limit=None, include_voided=True) if asked else []
    return {str(row["run_id"]): row for row in found}


def _known(ledger: Adopting, shown: Row) -> Known:
    facts = [event.fact() for event in ledger.events(str(shown["run_id"]), types=_TYPES)]
    ours = tuple(fact for fact in facts if is_ours(fact))
    return Known(ours, has_others=len(ours) < len(facts) or shown["last_seen_at"] is not None)
