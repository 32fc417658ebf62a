"""What a ledger would have answered then: rows, counts and events of some of its events.

One run is folded when it is asked for. What takes all runs is asked of tables that are prepared once.
"""

from __future__ import annotations

import ctypes
import heapq
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

from pydantic import JsonValue

from ledger.errors import LedgerClosed, RunNotFound, UnknownFilter
from ledger.events import EVENT_TYPES, Recorded
from ledger.events.envelope import storable_text
from ledger.events.times import text_of
from ledger.projections.claims import settle
from ledger.projections.details import Detail
from ledger.projections.liveness import Present, liveness
from ledger.projections.run import COLUMNS
from ledger.store import bounds as within
from ledger.store import reading
from ledger.store.answers import Answers
from ledger.store.bounds import Bounds
from ledger.store.database import Database
from ledger.store.folding import fold_of
from ledger.store.forking import at_forks
from ledger.store.history import batches
from ledger.store.prepared import prepared
from ledger.store.results import rows_of_fold
from ledger.store.statements import Connection, Row
from ledger.store.translation import translating

__all__ = ["Past"]

_PAGE = 500
_FORK_WAIT_SECONDS_MAX = 30.0  # a fork goes on all the same; only the child may then find SQLite's own locks taken


class Past(Answers):
    """The answers of the ledger in one database, of its events within the bounds. Threads may share it."""

    def __init__(self, database: Database, bounds: Bounds) -> None:
        super().__init__(database)
        self._bounds = bounds
        self._closed = False
        self._forget()
        at_forks(self)

    fork_order = 0  # who asks a view may be about to ask its database

    def _forget(self) -> None:
        self._lock = threading.RLock()  # a signal handler may fork while its own thread asks
        self._held = False
        self._prepared: sqlite3.Connection | None = None
        self._drop: weakref.finalize[[], Past] | None = None

    def before_fork(self) -> None:
        """Wait for who asks: a thread that is not in the child would keep SQLite's own locks there for ever."""
        self._held = self._lock.acquire(timeout=_FORK_WAIT_SECONDS_MAX)

    def after_fork_in_parent(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, and leave what the parent prepared alone: a thread that is not here may have been using it."""
        if self._drop is not None:
            self._drop.detach()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._prepared))
        self._forget()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._drop is not None:
                self._drop()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if self._closed:
            raise LedgerClosed("view", "as_of(...)")
        with self._database.read() as connection:
            yield connection

    @contextmanager
    def _tables(self) -> Iterator[Connection]:
        """The projected tables as of then."""
        with self._lock, translating(self._database.place):
            if self._closed:
                raise LedgerClosed("view", "as_of(...)")
            if self._prepared is None:
                with self._database.snapshot() as ledger:
                    self._prepared = prepared(ledger, self._bounds)
                # A view that nobody closes is dropped with its last user.
                self._drop = weakref.finalize(self, self._prepared.close)
            yield self._prepared

    def get_run(self, run_id: str, present: Present) -> Row | None:
        with self._read() as connection:
            return row_then(connection, run_id, self._bounds, present) if storable_text(run_id) else None

    def rows_of_run(self, detail: Detail, run_id: str, names: Sequence[str]) -> list[Row]:
        with self._read() as connection:
            folded = fold_of(connection, run_id, self._bounds) if storable_text(run_id) else None
        return rows_of_fold(folded, detail, run_id, names, by_then=True)

    def _logged(self, run_id: str) -> Iterator[JsonValue]:
        self._runs_asked(run_id, None)
        return batches(self._read, run_id, self._bounds)

    def events(
        self, run_id: str | None, chain_of_custody_id: str | None, after: int, types: list[str] | None
    ) -> Iterator[Recorded]:
        """Yield events in order of acceptance. What was unknown then is an error at the call, not later."""
        of = self._runs_asked(run_id, chain_of_custody_id)
        for type in types or ():
            if type not in EVENT_TYPES and not self._knows_type(type):
                raise UnknownFilter(type, EVENT_TYPES, " That is what types= takes.")
        return heapq.merge(*(self._pages(run, after, types) for run in of), key=attrgetter("position"))

    def _pages(self, run_id: str | None, after: int, types: list[str] | None) -> Iterator[Recorded]:
        page: list[Recorded] = []
        while not page or len(page) == _PAGE:
            with self._read() as connection:
                page = within.event_page(connection, self._bounds, run_id, after, types, _PAGE)
            if not page:
                return
            yield from page
            after = page[-1].position

    def _knows_type(self, type: object) -> bool:
        with self._read() as connection:
            return (
                isinstance(type, str) and storable_text(type) and within.type_is_known(connection, type, self._bounds)
            )

    def _runs_asked(self, run_id: str | None, chain: str | None) -> list[str | None]:
        """The runs whose events are asked for; [None] for those of all runs."""
        with self._read() as connection:
            if run_id is not None and not (storable_text(run_id) and within.is_known(connection, run_id, self._bounds)):
                raise RunNotFound(run_id, by_then=True)
        if chain is None:
            return [run_id]
        with self._tables() as tables:
            found = reading.runs_of_chain(tables, chain) if storable_text(chain) else []
        if not found:
            raise RunNotFound(chain, chain=True, by_then=True)
        return [run for run in found if run_id in (None, run)]


def row_then(connection: Connection, run_id: str, bounds: Bounds, present: Present) -> Row | None:
    """Return a run's row as of then, by the fold of that run and of those that stated its W&B id."""
    folded = fold_of(connection, run_id, bounds)
    if folded is None or folded.life is None:
        return None
    row, claim = folded.row(), folded.life.claimed()
    holds = claim is not None and _holder(connection, claim.wandb_run_id, bounds) == run_id
    row["wandb_run_id"] = claim.wandb_run_id if claim is not None and holds else None
    made = {name: row[name] for name in COLUMNS}
    made["liveness"] = liveness(folded.life, text_of(present.moment), present)
    return {**made, "reason": row["reason"], "voided": True} if "reason" in row else made


def _holder(connection: Connection, wandb_run_id: str, bounds: Bounds) -> str | None:
    folds = [fold_of(connection, run, bounds) for run in within.stating(connection, wandb_run_id, bounds)]
    lives = [folded.life for folded in folds if folded is not None and folded.life is not None]
    claims = [claim for life in lives if (claim := life.claimed()) is not None]
    return settle(claim for claim in claims if claim.wandb_run_id == wandb_run_id)
