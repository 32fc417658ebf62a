"""What a ledger answers: rows, counts and events, each read in a transaction of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import TypeVar

from pydantic import JsonValue

from ledger.errors import RunNotFound, UnknownFilter
from ledger.events import EVENT_TYPES, Recorded
from ledger.events.envelope import storable_text
from ledger.projections.curves import Columns, curves
from ledger.projections.details import Detail
from ledger.projections.filters import Condition, Order
from ledger.projections.liveness import Present
from ledger.projections.picks import Pick
from ledger.projections.sampling import sampled
from ledger.projections.stats import stats
from ledger.projections.timeline import Entry, entries
from ledger.store import picking, reading, results, runs
from ledger.store.bounds import EVERYTHING
from ledger.store.database import Database
from ledger.store.folding import fold_of
from ledger.store.history import batches
from ledger.store.statements import Connection, Row, StoredRow

__all__ = ["Answers", "check_types"]

_PAGE = 500

T = TypeVar("T")


class Answers:
    """The answers of the ledger that lies in one database. Each raises NoLedger where there is none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _tables(self) -> Iterator[Connection]:
        """The projected tables that are asked."""
        with self._database.read() as connection:
            yield connection

    def ask(self, work: Callable[[Connection], T]) -> T:
        """Ask the projected tables with *work*."""
        with self._tables() as connection:
            return work(connection)

    def rows_of_run(self, detail: Detail, run_id: str, names: Sequence[str]) -> list[Row]:
        """Return what a run has in a table of several rows a run, also where it is voided. Raises RunNotFound."""
        if not storable_text(run_id):
            raise RunNotFound(run_id)
        with self._database.read() as connection:
            rows = results.rows_of_run(connection, detail, run_id, names)
            if rows or runs.has_row(connection, run_id):
                return rows
            folded = fold_of(connection, run_id, EVERYTHING)  # voided, or unknown
        return results.rows_of_fold(folded, detail, run_id, names)

    def get_run(self, run_id: str, present: Present) -> Row | None:
        with self._tables() as connection:
            return runs.get_run(connection, run_id, present) if storable_text(run_id) else None

    def query_runs(
        self,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        present: Present,
        *,
        limit: int | None,
        offset: int,
        include_voided: bool,
    ) -> list[Row]:
        with self._tables() as connection:
            return runs.query_runs(
                connection, conditions, orders, present, limit=limit, offset=offset, include_voided=include_voided
            )

    def count_runs(self, conditions: Sequence[Condition], present: Present, *, include_voided: bool) -> int:
        with self._tables() as connection:
            return runs.count_runs(connection, conditions, present, include_voided=include_voided)

    def picked(self, conditions: Sequence[Condition], present: Present, picks: Sequence[Pick]) -> list[StoredRow]:
        with self._tables() as connection:
            return picking.picked(connection, conditions, present, tuple(picks))

    def picked_of(self, run_ids: Sequence[str], picks: Sequence[Pick]) -> list[StoredRow]:
        with self._tables() as connection:
            return picking.picked_of(connection, run_ids, tuple(picks))

    def tallied(self, conditions: Sequence[Condition], present: Present, picks: Sequence[Pick]) -> list[StoredRow]:
        with self._tables() as connection:
            return picking.tallied(connection, conditions, present, tuple(picks))

    def best(
        self,
        conditions: Sequence[Condition],
        present: Present,
        metric: Pick,
        picks: Sequence[Pick],
        *,
        minimize: bool,
        limit: int,
    ) -> list[StoredRow]:
        with self._tables() as connection:
            return picking.best(connection, conditions, present, metric, tuple(picks), minimize=minimize, limit=limit)

    def stats(self) -> dict[str, int]:
        with self._tables() as connection:
            return stats(runs.status_counts(connection))

    def timeline(self, run_id: str | None, chain_of_custody_id: str | None) -> list[Entry]:
        return entries(event.fact() for event in self.events(run_id, chain_of_custody_id, 0, None))

    def history(self, run_id: str, names: list[str] | None, rows_max: int | None) -> Columns:
        made = curves(self._logged(run_id), names)
        return made if rows_max is None else sampled(made, rows_max)

    def _logged(self, run_id: str) -> Iterator[JsonValue]:
        """What a run logged, event by event. An unknown run is an error at the call, not later."""
        with self._database.read() as connection:
            _runs_asked(connection, run_id, None)
        return batches(self._database.read, run_id, EVERYTHING)

    def events(
        self, run_id: str | None, chain_of_custody_id: str | None, after: int, types: list[str] | None
    ) -> Iterator[Recorded]:
        """Yield events in order of acceptance. An unknown run, chain or type is an error at the call, not later."""
        with self._database.read() as connection:
            of = _runs_asked(connection, run_id, chain_of_custody_id)
            check_types(connection, types or ())
        if of is None:
            return self._all_events(after, types)
        return heapq.merge(*(self._run_events(run, after, types) for run in of), key=attrgetter("position"))

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

    def chain_is_known(self, chain_of_custody_id: str) -> bool:
        with self._tables() as connection:
            return bool(reading.runs_of_chain(connection, chain_of_custody_id))


def _runs_asked(connection: Connection, run_id: str | None, chain: str | None) -> list[str] | None:
    """The runs whose events are asked for, None for all; an unknown run or chain is an error."""
    if run_id is not None and not (storable_text(run_id) and reading.run_is_known(connection, run_id)):
        raise RunNotFound(run_id)
    if chain is None:
        return None if run_id is None else [run_id]
    found = reading.runs_of_chain(connection, chain) if storable_text(chain) else []
    if not found:
        raise RunNotFound(chain, chain=True)
    return [run for run in found if run_id in (None, run)]


def check_types(connection: Connection, types: Iterable[str]) -> None:
    """Refuse a type that neither this code nor this ledger knows."""
    for type in types:
        if type not in EVENT_TYPES and not (_is_text(type) and reading.type_is_known(connection, type)):
            raise UnknownFilter(type, EVENT_TYPES, " That is what types= takes.")


def _is_text(type: object) -> bool:
    return isinstance(type, str) and storable_text(type)
