"""Move what spools hold into a ledger. Nothing is remembered of it: what is known is known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ledger.errors import LedgerError
from ledger.spool.places import Spool, Spooled
from ledger.store.holding import holds
from ledger.store.merging import Merged, Refusal, merge_lines
from ledger.store.sqlite import Database

__all__ = ["Synced", "sync", "sync_files"]


_log = logging.getLogger("ledger")


@dataclass(frozen=True)
class Synced:
    """How many events the spools' files held and what became of them, and how many files were removed.

    Of the refused the first few are listed.
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
            merged += _merge(database, [file], spool.place)
            files += 1
            cleared += clear and file.clear(partial(holds, database))
    return Synced(files, cleared, merged.events, merged.new, merged.known, merged.refused, merged.refusals)


def sync_files(database: Database, files: Sequence[Spooled], place: str) -> int:
    """Merge these files of a spool, clear what may be cleared, and return how many events were new."""
    merged = _merge(database, files, place)
    for file in files:
        try:
            file.clear(partial(holds, database))
        except LedgerError as exc:  # its events are where they belong; the file may lie there a little longer
            _log.info("%s of %s stays: %s", file.name, place, exc)
    return merged.new


def _merge(database: Database, files: Sequence[Spooled], place: str) -> Merged:
    return merge_lines(database, _lines(files, place), came_from=place)


def _lines(files: Iterable[Spooled], place: str) -> Iterator[tuple[str, str]]:
    for file in files:
        for number, line in file.lines():
            yield f"{place}/{file.name}:{number}", line
