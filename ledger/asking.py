"""Asking: one run, the runs that meet filters, counts, events and timelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ledger import origin
from ledger.errors import AskedWrongly, InvalidValue, RunNotFound, UnknownFilter
from ledger.events import EVENT_TYPES, Recorded
from ledger.events.envelope import storable_text
from ledger.handle import Handle
from ledger.projections.filters import parse_filters, parse_order, parse_whole_number
from ledger.projections.stats import stats
from ledger.projections.timeline import Entry, entries
from ledger.store import reading, runs
from ledger.store.statements import Connection

__all__ = ["Asking"]

Filters = Mapping[str, object]

_PAGE = 500
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ID_LENGTH = 6


class Asking(Handle):
    """The half of a ledger that reads. Raises NoLedger where there is none."""

    def get_run(self, run_id: str) -> dict[str, Any] | None:
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
    ) -> list[dict[str, Any]]:
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
        wanted = None if types is None else [types] if isinstance(types, str) else list(types)
        position = parse_whole_number("after", after)
        with self._database.read() as connection:
            _check_asked(connection, run_id, chain_of_custody_id, wanted)
        return self._pages(position, run_id, chain_of_custody_id, wanted)

    def _pages(
        self, after: int, run_id: str | None, chain_of_custody_id: str | None, types: list[str] | None
    ) -> Iterator[Recorded]:
        while True:
            with self._database.read() as connection:
                page = reading.event_page(
                    connection,
                    after=after,
                    run_id=run_id,
                    chain_of_custody_id=chain_of_custody_id,
                    types=types,
                    size=_PAGE,
                )
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].position

    def new_chain_of_custody_id(self) -> str:
        """Return six characters A-Z0-9 that no run of this ledger has for its chain of custody."""
        while True:
            made = origin.random_text(_ID_ALPHABET, _ID_LENGTH)
            if self._off or not self._database.exists():
                return made
            with self._database.read() as connection:
                if not runs.chain_is_known(connection, made):
                    return made


def _is_id(run_id: object) -> bool:
    """Whether a run could have this id at all."""
    if not isinstance(run_id, str):
        raise InvalidValue("run_id", run_id, "text is wanted")
    return storable_text(run_id)


def _check_asked(
    connection: Connection, run_id: str | None, chain_of_custody_id: str | None, types: list[str] | None
) -> None:
    if run_id is not None and not (_is_id(run_id) and reading.run_is_known(connection, run_id)):
        raise RunNotFound(run_id)
    chain = chain_of_custody_id
    if chain is not None and not (_is_id(chain) and runs.chain_is_known(connection, chain)):
        raise RunNotFound(chain, chain=True)
    for type in types or ():
        if type not in EVENT_TYPES and not (_is_id(type) and reading.type_is_known(connection, type)):
            raise UnknownFilter(type, EVENT_TYPES, " That is what types= takes.")
