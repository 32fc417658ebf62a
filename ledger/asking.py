"""Asking: one run, the runs that meet filters, counts, events and timelines."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from ledger import origin
from ledger.errors import AskedWrongly, InvalidValue, RunNotFound, UnknownFilter
from ledger.events import EVENT_TYPES, Recorded
from ledger.events.envelope import storable_text
from ledger.handle import Handle
from ledger.projections.filters import parse_filters, parse_order, parse_whole_number
from ledger.projections.stats import stats
from ledger.projections.timeline import Entry, entries
from ledger.store import reading, runs
from ledger.store.statements import Connection, Row

__all__ = ["Asking"]

Filters = Mapping[str, object]

_PAGE = 500
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ID_LENGTH = 6


class Asking(Handle):
    """The half of a ledger that reads. Raises NoLedger where there is none."""

    def get_run(self, run_id: str) -> Row | None:
        """Return the row of a run, or None. A voided run is found, and says so with `voided` and `reason`."""
        with self._database.read() as connection:
            return runs.get_run(connection, run_id) if _is_id(run_id) else None

    def query_runs(
        self,
        filters: Filters | None = None,
        order_by: str = "created_at DESC",
        limit: int | None = 100,
        offset: int = 0,
        *,
        include_voided: bool = False,
    ) -> list[Row]:
        """Return the rows that meet all filters (docs/reference.md lists them); `limit=None` is all.

        NULLs come last, ties go by run_id. With *include_voided* each row also has `voided` and `reason`.
        """
        conditions = parse_filters(filters, origin.utc_now())
        orders = parse_order(order_by)
        at_most = None if limit is None else parse_whole_number("limit", limit)
        skipped = parse_whole_number("offset", offset)
        with self._database.read() as connection:
            return runs.query_runs(
                connection, conditions, orders, limit=at_most, offset=skipped, include_voided=include_voided
            )

    def count_runs(self, filters: Filters | None = None, *, include_voided: bool = False) -> int:
        """Return how many runs meet all filters."""
        conditions = parse_filters(filters, origin.utc_now())
        with self._database.read() as connection:
            return runs.count_runs(connection, conditions, include_voided=include_voided)

    def get_stats(self) -> dict[str, int]:
        """Return total_runs, the number of runs in each status, with_blog_posts and with_crash_analysis."""
        with self._database.read() as connection:
            return stats(runs.status_counts(connection))

    def timeline(self, *, run_id: str | None = None, chain_of_custody_id: str | None = None) -> list[Entry]:
        """Return the lines of a run, or of all runs of a chain of custody, in the order in which things happened.

        Each has occurred_at, run_id, type, a summary for people, and source: who says so.
        """
        if run_id is None and chain_of_custody_id is None:
            raise AskedWrongly("timeline(...) needs run_id=... or chain_of_custody_id=...")
        events = self.events(run_id, chain_of_custody_id)
        return entries(event.fact() for event in events)

    def events(
        self,
        run_id: str | None = None,
        chain_of_custody_id: str | None = None,
        after: int = 0,
        types: str | Iterable[str] | None = None,
    ) -> Iterator[Recorded]:
        """Yield events in order of acceptance, from behind the position *after*; a page at a time.

        Raises RunNotFound for a run or chain that the ledger does not know, UnknownFilter for a type.
        """
        if not isinstance(types, Iterable | None):
            raise InvalidValue("types", types, "a type of event or several are wanted")
        wanted = None if types is None else [types] if isinstance(types, str) else list(types)
        position = parse_whole_number("after", after)
        with self._database.read() as connection:
            of = _runs_asked(connection, run_id, chain_of_custody_id)
            _check_types(connection, wanted or ())
        if of is None:
            return self._all_events(position, wanted)
        return heapq.merge(*(self._run_events(run, position, wanted) for run in of), key=attrgetter("position"))

    def _all_events(self, after: int, types: list[str] | None) -> Iterator[Recorded]:
        page: list[Recorded] = []
        while not page or len(page) == _PAGE:
            with self._database.read() as connection:
                page = reading.event_page(connection, after, types, _PAGE)
            if not page:
                return
            yield from page
            after = page[-1].position

    def _run_events(self, run_id: str, after: int, types: list[str] | None) -> Iterator[Recorded]:
        page: list[Recorded] = []
        version = 0
        while not page or len(page) == _PAGE:
            with self._database.read() as connection:
                page = reading.run_page(connection, run_id, after, version, types, _PAGE)
            if not page:
                return
            yield from page
            version = page[-1].version

    def new_chain_of_custody_id(self) -> str:
        """Return six characters A-Z0-9 that no run of this ledger has for its chain of custody."""
        while True:
            made = origin.random_text(_ID_ALPHABET, _ID_LENGTH)
            if self._off or not self._database.exists():
                return made
            with self._database.read() as connection:
                if not reading.runs_of_chain(connection, made):
                    return made


def _is_id(run_id: object) -> bool:
    """Whether a run could have this id at all."""
    if not isinstance(run_id, str):
        raise InvalidValue("run_id", run_id, "text is wanted")
    return storable_text(run_id)


def _runs_asked(connection: Connection, run_id: str | None, chain: str | None) -> list[str] | None:
    """The runs whose events are asked for, None for all; an unknown run or chain is an error."""
    if run_id is not None and not (_is_id(run_id) and reading.run_is_known(connection, run_id)):
        raise RunNotFound(run_id)
    if chain is None:
        return None if run_id is None else [run_id]
    found = reading.runs_of_chain(connection, chain) if _is_id(chain) else []
    if not found:
        raise RunNotFound(chain, chain=True)
    return [run for run in found if run_id in (None, run)]


def _check_types(connection: Connection, types: Iterable[str]) -> None:
    for type in types:
        if type not in EVENT_TYPES and not (_is_id(type) and reading.type_is_known(connection, type)):
            raise UnknownFilter(type, EVENT_TYPES, " That is what types= takes.")
