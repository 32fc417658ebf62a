"""Fold every run of the ledger: what replay, verify and views as of a moment stand on.

The events are read once, in order of position, and a run is folded when its last one was read: to
read them run by run would be a search for each. What waits for its run to be whole is bounded; a run
that would wait too long, or that has very many events, is read by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import NamedTuple

from pydantic import JsonValue

from ledger.events.fact import loaded
from ledger.events.upcast import understood
from ledger.projections.fold import act_on
from ledger.projections.life import Life, Row
from ledger.store.bounds import EVERYTHING, Bounds
from ledger.store.placing import placed
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.statements import Connection, StoredRow

__all__ = ["FoldedRun", "Witness", "fold_of", "fold_run", "folded_runs"]

PAGE = 1_000
WAITING_MAX = 30_000  # events that wait for their runs to be whole
KEPT_MAX = 20_000  # events of one run that are held at a time

# (occurred_at, event_id, type, what it says if that is understood): to fold a million, no objects are made. Such
# tuples sort canonically by themselves: the first two are never those of another event of the ledger.
Step = tuple[str, str, str, dict[str, JsonValue] | None]
# Looks at a run's stored events, in order of acceptance and in one or several parts.
Witness = Callable[[Sequence[StoredRow]], None]


class FoldedRun(NamedTuple):
    """What one run's events fold to, and what of its head follows from them."""

    run_id: str
    life: Life | None
    head: Row
    events: int
    last_recorded_at: str

    def row(self) -> Row:
        """Return the whole row but for `wandb_run_id`, which is settled among runs."""
        life = self.life
        if life is None:
            return {}
        row = {
            **life.row,
            "created_at_db": self.head["first_recorded_at"],
            "updated_at_db": self.last_recorded_at,
        }
        return row if life.void_reason is None else {**row, "reason": life.void_reason}


_LISTED = ", ".join(EVENT_COLUMNS)
# Who only folds reads neither the source nor the digest, which make up a good part of most rows.
_LISTED_TO_FOLD = ", ".join("''" if name in ("source", "digest") else name for name in EVENT_COLUMNS)
_OF_RUN = f"SELECT {_LISTED} FROM training_events WHERE run_id = :the_run AND "

_POSITION, _RUN_ID, _RECORDED_AT, _CHAIN = (
    EVENT_COLUMNS.index(name) for name in ("position", "run_id", "recorded_at", "chain")
)


def folded_runs(
    read: Callable[[], AbstractContextManager[Connection]], bounds: Bounds = EVERYTHING, witness: Witness | None = None
) -> Iterator[FoldedRun]:
    """Fold every run that has an event within the bounds, in no particular order.

    Each page is read in a `with read()` of its own. Unless the bounds hold off what is appended
    meanwhile, that has to be one transaction, so that all of it is of one moment.
    """
    waiting = _Waiting(bounds, witness)
    listed = _LISTED_TO_FOLD if witness is None else _LISTED
    page = f"SELECT {listed} FROM training_events WHERE position > :after AND {bounds.condition()}"
    after, more = -(2**63), True
    while more:
        with read() as connection:
            values = bounds.values(after=after, size=PAGE)
            rows = connection.execute(f"{page} ORDER BY position LIMIT :size", values).fetchall()
            whole = waiting.take(connection, rows)
        yield from whole
        more = len(rows) == PAGE
        after = rows[-1][_POSITION] if rows else after


class _Waiting:
    """Events whose runs are not whole yet."""

    def __init__(self, bounds: Bounds, witness: Witness | None) -> None:
        self._bounds = bounds
        self._witness = witness
        self._rows: dict[str, list[StoredRow]] = {}  # the run that began first stands first
        self._counts: dict[str, int] = {}
        self._read_alone: set[str] = set()

    def take(self, connection: Connection, rows: Sequence[StoredRow]) -> list[FoldedRun]:
        """Take the next events, and return the runs that are whole with them."""
        touched = dict.fromkeys([row[_RUN_ID] for row in rows])
        whole = self._begin(connection, [run_id for run_id in touched if run_id not in self._rows])
        for row in rows:
            there = self._rows.get(row[_RUN_ID])
            if there is not None:
                there.append(row)
        for run_id in touched:
            if len(self._rows.get(run_id, ())) == self._counts.get(run_id):
                there = self._rows[run_id]
                self._drop(run_id)
                whole.append(_fold_rows(run_id, there, self._witness))
        while sum(map(len, self._rows.values())) > WAITING_MAX:
            whole.append(self._read_by_itself(connection, next(iter(self._rows))))
        return whole

    def _begin(self, connection: Connection, run_ids: Iterable[str]) -> list[FoldedRun]:
        """Let the events of these runs wait from now on; return those runs that are better read by themselves."""
        alone: list[FoldedRun] = []
        for run_id, count in _counts(connection, [r for r in run_ids if r not in self._read_alone], self._bounds):
            self._counts[run_id] = count
            if count > KEPT_MAX:
                alone.append(self._read_by_itself(connection, run_id))
            else:
                self._rows[run_id] = []
        return alone

    def _read_by_itself(self, connection: Connection, run_id: str) -> FoldedRun:
        self._read_alone.add(run_id)
        count = self._drop(run_id)
        return fold_run(connection, run_id, count, self._bounds, self._witness)

    def _drop(self, run_id: str) -> int:
        self._rows.pop(run_id, None)
        return self._counts.pop(run_id)


def _fold_rows(run_id: str, rows: list[StoredRow], witness: Witness | None) -> FoldedRun:
    """Fold all events of a run."""
    rows.sort(key=_BY_VERSION)
    if witness is not None:
        witness(rows)
    head = _Head()
    in_order = sorted(map(_step, rows))
    head.take(rows, in_order)
    life = _folded(run_id, in_order)
    return FoldedRun(run_id, life, head.values(run_id, life), len(rows), head.last_recorded_at)


def fold_run(
    connection: Connection, run_id: str, count: int, bounds: Bounds = EVERYTHING, witness: Witness | None = None
) -> FoldedRun:
    """Fold the *count* events of one run within the bounds; of very many only a part is held at a time."""
    head = _Head()
    in_order: Iterable[Step] = ()
    asked, values = _OF_RUN + bounds.condition(), bounds.values(the_run=run_id)
    cursor = connection.execute(f"{asked} ORDER BY version", values)
    while rows := cursor.fetchmany(KEPT_MAX):
        if witness is not None:
            witness(rows)
        in_order = sorted(map(_step, rows))
        head.take(rows, in_order)
    if count > KEPT_MAX:
        in_order = map(_step, connection.execute(f"{asked} ORDER BY occurred_at, event_id", values))
    life = _folded(run_id, in_order)
    return FoldedRun(run_id, life, head.values(run_id, life), head.version, head.last_recorded_at)


def fold_of(connection: Connection, run_id: str, bounds: Bounds) -> FoldedRun | None:
    """Fold one run, None where it has no event within the bounds."""
    for _, count in _counts(connection, [run_id], bounds):
        return fold_run(connection, run_id, count, bounds)
    return None


def _counts(connection: Connection, run_ids: Sequence[str], bounds: Bounds) -> list[tuple[str, int]]:
    """How many events within the bounds each of these runs has, in the order in which they are named."""
    counted = f"SELECT count(*) FROM training_events WHERE run_id = named.value AND {bounds.condition()}"
    asked = f"SELECT named.value, ({counted}) FROM json_each(:named) AS named"
    found = connection.execute(asked, bounds.values(named=json.dumps(run_ids))) if run_ids else ()
    return [(run_id, count) for run_id, count in found if count]


_BY_VERSION = itemgetter(EVENT_COLUMNS.index("version"))
_SAID = 3


class _Head:
    """What the events of a run say of its head, taken part by part in order of acceptance."""

    def __init__(self) -> None:
        self.first_recorded_at = self.last_recorded_at = self.chain = ""
        self.version = self.unreadable = self.placed = 0
        self.newest = ("", "")

    def take(self, rows: Sequence[StoredRow], in_order: Sequence[Step]) -> None:
        self.first_recorded_at = self.first_recorded_at or rows[0][_RECORDED_AT]
        last = rows[-1]
        self.last_recorded_at, self.chain = last[_RECORDED_AT], last[_CHAIN]
        self.version += len(rows)
        self.placed = placed([(row[_POSITION], row[_RECORDED_AT]) for row in rows], self.placed)
        self.unreadable += sum(step[_SAID] is None for step in in_order)
        self.newest = max(self.newest, in_order[-1][:2])

    def values(self, run_id: str, life: Life | None) -> Row:
        return {
            "run_id": run_id,
            "version": self.version,
            "chain": self.chain,
            "newest_occurred_at": self.newest[0],
            "newest_event_id": self.newest[1],
            "first_recorded_at": self.first_recorded_at,
            "placed": self.placed,
            "unreadable": self.unreadable,
            "beside": life.beside() if life else "",
        }


def _step(row: StoredRow) -> Step:
    """What the fold needs of an event, and first of all by what it is put in order."""
    _, event_id, _, _, type, schema_version, occurred_at, _, _, payload, _, _ = row
    return occurred_at, event_id, type, understood(type, schema_version, loaded(payload))


def _folded(run_id: str, in_order: Iterable[Step]) -> Life | None:
    life: Life | None = None
    for occurred_at, event_id, type, said in in_order:
        if said is not None:
            life = act_on(life, run_id, type, (occurred_at, event_id), said)
    return None if life is None else life.sealed()
