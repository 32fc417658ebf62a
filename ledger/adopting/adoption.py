"""A whole file of the earlier API into a ledger: every row told, then read again and compared with the ledger's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.adopting.comparing import Difference, compared
from ledger.adopting.correcting import correction
from ledger.adopting.knowing import Known, known_of
from ledger.adopting.opening import opened_old
from ledger.adopting.rows import OldFile, OldRow
from ledger.adopting.telling import Teller
from ledger.adopting.wanted import wanted_of
from ledger.events import Fact
from ledger.progress import Pace, Watcher
from ledger.store.merging import Arrival, Merged, merge_arrivals

if TYPE_CHECKING:
    from ledger.adopting.front import Adopting
    from ledger.store.database import Database

__all__ = ["Adopted", "adopt"]


@dataclass(frozen=True)
class Adopted:
    """How many runs were adopted, what became of their events, and every column that is not as it was, with the reason.

    `known` events were told by an adoption before; `refused` counts rows that can be of no run, and refused events.
    """

    runs: int
    new: int
    known: int
    refused: int
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was refused and every difference has its reason."""
        return not self.refused and all(difference.why is not None for difference in self.differences)


def adopt(ledger: Adopting, database: Database, path: Path, watcher: Watcher | None, *, redacting: bool) -> Adopted:
    """Tell every row of the file at *path* to the ledger, and then compare the two."""
    with opened_old(path) as connection:
        old = OldFile(connection, path)
        unusable = old.unusable()
        ledger.init_db()
        pace = Pace(2 * old.count, watcher)
        runs = known = 0
        merged = Merged()
        for page in old.pages():
            before = known_of(ledger, page)
            merged += merge_arrivals(database, _arrivals(page, before, redacting=redacting), str(path))
            runs, known = runs + len(page), known + sum(len(each.told) for each in before.values())
            pace.step(len(page))
        refused = merged.refused + sum(each.count for each in unusable)
        found = [Difference(each.run_id, "run_id", each.run_id, None, f"{each.table}: {each.why}") for each in unusable]
        for page in old.pages():
            others, differences = compared(ledger, page, redacting=redacting)
            found += [*others, *differences]
            refused += len(others)
            pace.step(len(page))
        pace.finish()
    return Adopted(runs, merged.new, known + merged.known, refused, tuple(found))


def _arrivals(page: Iterable[OldRow], before: Mapping[str, Known], *, redacting: bool) -> Iterator[Arrival]:
    for row in page:
        for fact in untold(row, before.get(row.run_id, Known()), redacting=redacting):
            yield Arrival(fact.type, len(fact.payload), 1, fact)


def untold(row: OldRow, known: Known, *, redacting: bool) -> list[Fact]:
    """Return what a row tells that the ledger was not told, and the correction behind it.

    Nothing, where a later state of the row, or another row, was told before. Where others speak of the run nothing is
    corrected.
    """
    if known.is_later_than(row) or known.is_of_another(row):
        return []
    wanted = wanted_of(row, redacting=redacting)
    teller = Teller(row, wanted, redacting=redacting)
    said = {(fact.type, fact.payload) for fact in known.told}
    launched = any(fact.type == "launched" for fact in known.told)
    new = [
        fact
        for fact in teller.life()
        if (fact.type, fact.payload) not in said and not (launched and fact.type == "launched")
    ]
    new += teller.beside(known.told)
    if not known.has_others and (corrected := correction([*known.told, *new], wanted, teller)) is not None:
        new.append(corrected)
    return new
