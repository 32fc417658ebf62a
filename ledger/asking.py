"""Asking: one run, the runs that meet filters, counts, events and timelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ledger import origin
from ledger.errors import AskedWrongly, InvalidValue
from ledger.events import Recorded
from ledger.history import History
from ledger.objectives import Objectives
from ledger.projections.filters import parse_filters, parse_order, parse_whole_number
from ledger.projections.liveness import Present
from ledger.projections.timeline import Entry
from ledger.reporting import Filters, Reporting
from ledger.tuning import Tuning

if TYPE_CHECKING:
    from datetime import datetime

    from ledger.settings import Settings
    from ledger.store.answers import Answers
    from ledger.store.statements import Row

__all__ = ["Asking", "Filters", "present_of"]


class Asking(History, Objectives, Reporting, Tuning):
    """What can be asked of a ledger. Raises NoLedger where there is none."""

    if TYPE_CHECKING:
        _settings: Settings

        @property
        def _answers(self) -> Answers: ...

    def _present(self) -> Present:
        """The moment that liveness is of, and that "7d" in a filter is counted back from."""
        return present_of(self._settings, origin.utc_now())

    def get_run(self, run_id: str) -> Row | None:
        """Return the row of a run with its `liveness`, or None. A voided run says so with `voided` and `reason`."""
        return self._answers.get_run(_text("run_id", run_id), self._present())

    def query_runs(
        self,
        filters: Filters | None = None,
        order_by: str = "created_at DESC",
        limit: int | None = 100,
        offset: int = 0,
        *,
        include_voided: bool = False,
    ) -> list[Row]:
        """Return the rows, each with its `liveness`, that meet all filters (docs/reference.md); `limit=None` is all.

        NULLs come last, ties go by run_id. With *include_voided* each row also has `voided` and `reason`.
        """
        present = self._present()
        conditions = parse_filters(filters, present.moment)
        orders = parse_order(order_by)
        at_most = None if limit is None else parse_whole_number("limit", limit)
        skipped = parse_whole_number("offset", offset)
        return self._answers.query_runs(
            conditions, orders, present, limit=at_most, offset=skipped, include_voided=include_voided
        )

    def count_runs(self, filters: Filters | None = None, *, include_voided: bool = False) -> int:
        """Return how many runs meet all filters."""
        present = self._present()
        conditions = parse_filters(filters, present.moment)
        return self._answers.count_runs(conditions, present, include_voided=include_voided)

    def get_stats(self) -> dict[str, int]:
        """Return total_runs, the number of runs in each status, with_blog_posts and with_crash_analysis."""
        return self._answers.stats()

    def timeline(self, *, run_id: str | None = None, chain_of_custody_id: str | None = None) -> list[Entry]:
        """Return the lines of a run, or of all runs of a chain of custody, in the order in which things happened.

        Each has occurred_at, run_id, type, a summary for people, and source: who says so.
        """
        if run_id is None and chain_of_custody_id is None:
            raise AskedWrongly("timeline(...) needs run_id=... or chain_of_custody_id=...")
        return self._answers.timeline(*_run_or_chain(run_id, chain_of_custody_id))

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
        position = parse_whole_number("after", after)
        return self._answers.events(*_run_or_chain(run_id, chain_of_custody_id), position, listed_types(types))


def present_of(settings: Settings, moment: datetime) -> Present:
    return Present(moment, settings.launch_late_seconds, settings.launch_lost_seconds)


def listed_types(types: str | Iterable[str] | None) -> list[str] | None:
    """Return the types of events that are asked for, None for all."""
    if not isinstance(types, Iterable | None):
        raise InvalidValue("types", types, "a type of event or several are wanted")
    return None if types is None else [types] if isinstance(types, str) else list(types)


def _run_or_chain(run_id: str | None, chain_of_custody_id: str | None) -> tuple[str | None, str | None]:
    if run_id is not None:
        _text("run_id", run_id)
    if chain_of_custody_id is not None:
        _text("chain_of_custody_id", chain_of_custody_id)
    return run_id, chain_of_custody_id


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue(name, value, "text is wanted")
    return value
