"""Move what spools hold into a ledger. Nothing is remembered of it: what is known is known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from ledger.errors import FileUnreadable, LedgerError
from ledger.spool.kinds import CUT_OFF, Spool, Spooled
from ledger.store.database import Database
from ledger.store.holding import holds
from ledger.store.merging import Arrival, Merged, Refusal, arriving, merge_arrivals

__all__ = ["Synced", "sync", "sync_files"]


_log = logging.getLogger("ledger")


@dataclass(frozen=True)
class Synced:
    """How many events the spools' files held and what became of them, and how many files were removed.

    Of the refused the first few are listed; a file that cannot be read counts as one.
    """

    files: int
    cleared: int
    events: int
    new: int
    known: int
    refused: int
    refusals: tuple[Refusal, ...]


def sync(database: Database, spools: Iterable[Spool], *, clear: bool) -> Synced:
    """Merge all that lies in the spools, in bounded batches; *clear* what the ledger then holds."""
    merged, files, cleared = Merged(), 0, 0
    for spool in spools:
        for file in spool.files():
            merged += merge_arrivals(database, _arrivals_or_refusal(file, spool.place), spool.place)
            files += 1
            cleared += clear and file.clear(partial(holds, database))
    return Synced(files, cleared, merged.events, merged.new, merged.known, merged.refused, merged.refusals)


def sync_files(database: Database, files: Sequence[Spooled], place: str, *, told_at: int = logging.WARNING) -> int:
    """Merge these files of a spool, clear what may be cleared, and return how many events were new.

    What is refused is told at this level of the log.
    """
    merged = merge_arrivals(database, chain.from_iterable(_arrivals(file, place) for file in files), place)
    staying = []
    for file in files:
        try:
            if not file.clear(partial(holds, database)):
                staying.append(file.name)
        except LedgerError as exc:  # its events are where they belong; the file may lie there a little longer
            _log.info("%s of %s stays: %s", file.name, place, exc)
    if merged.refused:
        _tell(told_at, merged, staying)
    return merged.new


def _tell(level: int, merged: Merged, staying: Sequence[str]) -> None:
    """Nobody sees the answer of what is brought in by itself; what is refused of it is in no table."""
    first = merged.refusals[0]
    stays = f"; what is refused stays there, in {', '.join(staying)}" if staying else ""
    said = "%d spooled event(s) refused, the first at %s: %s%s"
    _log.log(level, said, merged.refused, first.where, first.reason, stays)


def _arrivals_or_refusal(file: Spooled, place: str) -> Iterator[Arrival]:
    """What a file holds, or that it cannot be read, which is no reason to leave the others."""
    where = f"{place}/{file.name}"
    try:
        yield from _arrivals(file, place)
    except FileUnreadable as exc:
        yield Arrival(where, 0, 0, Refusal(where, None, str(exc)))
    if file.is_cut_off():
        _log.warning(CUT_OFF, where)


def _arrivals(file: Spooled, place: str) -> Iterator[Arrival]:
    for number, line in file.lines():
        yield arriving(f"{place}/{file.name}:{number}", line, len(line))
