"""What a place given to `merge` is: another ledger's file or database, an export, or a spool."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ledger.errors import FileUnreadable, InvalidValue, LedgerUnreachable, MissingExtra
from ledger.settings import is_spool, location, shown
from ledger.spool.kinds import CUT_OFF, Spool, Spooled
from ledger.spool.naming import FileName
from ledger.spool.places import open_spool
from ledger.spool.reading import OneFile
from ledger.store.merging import Arrival, Refusal, Source, arriving
from ledger.store.sources import opened_file

__all__ = ["opened_source", "require_sources"]

_log = logging.getLogger("ledger")
_WANTED = "a ledger's file or postgresql:// URL, an export or a spool that is there is wanted"


def require_sources(*places: str | os.PathLike[str]) -> None:
    """Open each of several, before anything is taken from another; raise what `opened_source` raises."""
    for place in places if len(places) > 1 else ():
        with opened_source(place):
            pass


def opened_source(place: str | os.PathLike[str]) -> AbstractContextManager[Source]:
    """Open a source. Raises InvalidValue where there is none, NotALedger for another SQLite database."""
    url = location(place)
    path = Path(shown(url))
    if is_spool(url) or (url.startswith("sqlite:///") and path.is_dir()):
        return nullcontext(_Spooled(open_spool(url if is_spool(url) else path)))
    if url.startswith("postgres"):
        return _opened_server(url)
    if not url.startswith("sqlite:"):
        raise LedgerUnreachable(f"{shown(url)}: nothing is merged from there; {_WANTED}.")
    if not path.is_file():
        raise InvalidValue("SOURCE", shown(url), _WANTED)
    if FileName.parsed(path.name) is not None:  # whose last line may be torn
        return nullcontext(_Spooled(OneFile(path)))
    return opened_file(path)


def _opened_server(url: str) -> AbstractContextManager[Source]:
    try:
        from ledger.store.postgres.source import opened_server
    except ImportError as exc:
        raise MissingExtra("postgres") from exc
    return opened_server(url)


class _Spooled:
    """The files that lie in a spool now; whoever writes to one may go on, or seal it."""

    steps = 0  # nobody knows how many events lie there before all are read

    def __init__(self, spool: Spool) -> None:
        self.place = spool.place
        self._files = list(spool.files())
        self._read: dict[str, int] = {}

    def arrivals(self) -> Iterator[Arrival]:
        """Yield the events; at another reading no more of a file than at the first."""
        for file in self._files:
            try:
                yield from self._of_file(file)
            except FileUnreadable as exc:  # which is no reason to leave the others
                yield Arrival(file.name, 0, 0, Refusal(file.name, None, str(exc)))

    def _of_file(self, file: Spooled) -> Iterator[Arrival]:
        last = self._read.get(file.name)
        number = 0
        for number, line in file.lines():
            if last is not None and number > last:
                break
            yield arriving(f"{file.name}:{number}", line, 1)
        if last is None and file.is_cut_off():
            _log.warning(CUT_OFF, file.name)
        self._read.setdefault(file.name, number)
