"""Fold every run of the ledger: what replay, verify and views as of a moment stand on.

The events are read once, in order of position, and a run is folded when its last one was read: to
read them run by run would be a search for each. What waits for its run to be whole is bounded; a run
that would wait too long, or that has very many events, is read by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from ledger.events.fact import loaded_all
from ledger.events.upcast import understood
from ledger.projections.fold import Step, fold_steps
from ledger.projections.life import Life, Row
from ledger.store.bounds import EVERYTHING, Bounds, Shape, conditions
from ledger.store.placing import placed
from ledger.store.run_rows import RunRows, rows_of
from ledger.store.spelling import each_named
from ledger.store.statements import Connection, Statement, StoredRow, compiled
from ledger.store.tables import training_events

__all__ = [
    "ALL",
    "WITNESSED",
    "FoldedRun",
    "Reading",
    "Span",
    "Witness",
    "fold_of",
    "fold_run",
    "folded_runs",
]

PAGE = 250  # what is read stays in the processor's cache until it is looked at
PAGE_LENGTH_MAX = 10_000_000  # characters of payloads; where a page has more, the next one is smaller
WAITING_MAX = 30_000  # events that wait for their runs to be whole
WAITING_LENGTH_MAX = 50_000_000  # characters of their payloads
KEPT_MAX = 20_000  # events of one run that are held at a time
KEPT_LENGTH_MAX = 10_000_000  # characters of their payloads, which take several times that once they are parsed


Reading = Callable[[], AbstractContextManager[Connection]]


class Witness(Protocol):
    """Who looks at what is folded."""

    def see(self, rows: Sequence[StoredRow]) -> None:
        """Look at stored events, of any runs; each comes here once, with the columns that are WITNESSED."""

    def follow(self, run_id: str, rows: Sequence[StoredRow]) -> None:
        """Look at events of a run in order of acceptance; they come in one part or in several on end."""


class Span(NamedTuple):
    """Positions behind *after* and up to *last*. The runs of a span are those whose first event lies in it."""

    number: int
    after: int
    last: int


ALL = Span(0, -(2**63), 2**63 - 1)


class FoldedRun(NamedTuple):
    """What one run's events fold to, and its head."""

    run_id: str
    life: Life | None
    head: Row
    events: int
    payloads_length: int
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

    def rows(self) -> RunRows:
        counted = {"events": self.events, "payloads_length": self.payloads_length}
        return rows_of(self.run_id, self.life, self.head, self.row(), **counted)


# Who only folds reads neither the source nor the digest, which make up a good part of most rows.
_TO_FOLD = (
    "position", "event_id", "run_id", "version", "type", "schema_version", "occurred_at", "recorded_at",
    "payload", "chain",
)  # fmt: skip
WITNESSED = (*_TO_FOLD, "source", "digest")
_EVENT = training_events.c

_POSITION, _EVENT_ID, _RUN_ID, _VERSION, _TYPE, _SCHEMA, _AT, _RECORDED_AT, _PAYLOAD, _CHAIN = range(len(_TO_FOLD))


def folded_runs(
    read: Reading, bounds: Bounds = EVERYTHING, witness: Witness | None = None, span: Span = ALL
) -> Iterator[RunRows]:
    """Fold every run of the span that has an event within the bounds, in no particular order.

    Each page is read in a `with read()` of its own. Unless the bounds hold off what is appended
    meanwhile, that has to be one transaction, so that all of it is of one moment. The witness sees the events that
    lie in the span, and follows its runs.
    """
    waiting = _Waiting(bounds, witness, span)
    page = _page(bounds.shape(), witnessed=witness is not None)
    in_span = replace(bounds, position_max=min(bounds.position_max, span.last))
    after, more, size = span.after, True, max(1, PAGE // 16)
    while more:
        with read() as connection:
            rows = page.run(connection, in_span.values(after=after, size=size)).fetchall()
            if witness is not None:
                witness.see(rows)
            more = len(rows) == size
            whole = waiting.take(connection, rows)
        for folded in whole:
            yield folded.rows()
        after = rows[-1][_POSITION] if rows else after
        length = sum([len(row[_PAYLOAD]) for row in rows])
        size = max(1, size * PAGE_LENGTH_MAX // length) if length > PAGE_LENGTH_MAX else min(PAGE, 2 * size)
    while waiting.runs:  # which go on behind the span: one at a time, for all of them may be many
        with read() as connection:
            folded = waiting.read_longest_waiting(connection)
        yield folded.rows()


def _select(*, witnessed: bool) -> sa.Select[*tuple[object, ...]]:
    return sa.select(*(_EVENT[name] for name in (WITNESSED if witnessed else _TO_FOLD)))


@cache
def _page(shape: Shape, *, witnessed: bool) -> Statement:
    """Some events behind a position, in order of positions."""
    behind = _EVENT.position > sa.bindparam("after", None, type_=sa.BigInteger())
    chosen = _select(witnessed=witnessed).where(behind, *conditions(shape))
    return compiled(chosen.order_by(_EVENT.position).limit(sa.bindparam("size", None, type_=sa.BigInteger())))


@cache
def _of_run(shape: Shape, *, witnessed: bool, canonical: bool) -> Statement:
    """All events of a run, in order of acceptance or in canonical order."""
    chosen = _select(witnessed=witnessed).where(_EVENT.run_id == sa.bindparam("the_run", None), *conditions(shape))
    return compiled(chosen.order_by(*((_EVENT.occurred_at, _EVENT.event_id) if canonical else (_EVENT.version,))))


@cache
def _counting(shape: Shape) -> Statement:
    named = each_named("the_runs")
    counted = sa.select(sa.func.count()).select_from(training_events)
    counted = counted.where(_EVENT.run_id == named.c.value, *conditions(shape))
    return compiled(sa.select(named.c.value, counted.scalar_subquery()).select_from(named))


@cache
def _beginning(shape: Shape) -> Statement:
    named = each_named("the_runs")
    behind = _EVENT.position <= sa.bindparam("after", None, type_=sa.BigInteger())
    begun = sa.exists().where(_EVENT.run_id == named.c.value, behind, *conditions(shape))
    return compiled(sa.select(named.c.value).select_from(named).where(begun))


class _Waiting:
    """Events of a span's runs that are not whole yet."""

    def __init__(self, bounds: Bounds, witness: Witness | None, span: Span) -> None:
        self._bounds = bounds
        self._witness = witness
        self._span = span
        self._rows: dict[str, list[StoredRow]] = {}  # the run that began first stands first
        self._counts: dict[str, int] = {}
        self._lengths: dict[str, int] = {}
        self._events = self._length = 0  # of all that wait
        self._left_out: set[str] = set()  # those that were read by themselves, and those of other spans

    @property
    def runs(self) -> int:
        """How many runs wait."""
        return len(self._rows)

    def read_longest_waiting(self, connection: Connection) -> FoldedRun:
        return self._read_by_itself(connection, next(iter(self._rows)))

    def take(self, connection: Connection, rows: Sequence[StoredRow]) -> list[FoldedRun]:
        """Take the next events, and return the runs that are whole with them."""
        of_runs: dict[str, list[StoredRow]] = {}
        for row in rows:
            of_runs.setdefault(row[_RUN_ID], []).append(row)
        whole = self._begin(connection, [run_id for run_id in of_runs if run_id not in self._rows])
        for run_id, more in of_runs.items():
            there = self._rows.get(run_id)
            if there is None:
                continue
            there += more
            length = sum([len(row[_PAYLOAD]) for row in more])
            self._lengths[run_id] += length
            self._length += length
            self._events += len(more)
            if len(there) == self._counts[run_id]:
                length = self._drop(run_id)
                whole.append(_fold_rows(run_id, there, length, self._witness))
        while self._length > WAITING_LENGTH_MAX:
            whole.append(self._read_by_itself(connection, max(self._lengths, key=self._lengths.__getitem__)))
        while self._events > WAITING_MAX:
            whole.append(self.read_longest_waiting(connection))
        return whole

    def _begin(self, connection: Connection, run_ids: Iterable[str]) -> list[FoldedRun]:
        """Let the events of these runs wait from now on; return those runs that are better read by themselves."""
        alone: list[FoldedRun] = []
        new = [run_id for run_id in run_ids if run_id not in self._left_out and "\0" not in run_id]
        if new and self._span.after != ALL.after:
            self._left_out |= _begun(connection, new, self._span.after, self._bounds)
            new = [run_id for run_id in new if run_id not in self._left_out]
        for run_id, count in _counts(connection, new, self._bounds):
            self._rows[run_id], self._counts[run_id], self._lengths[run_id] = [], count, 0
            if count > KEPT_MAX:
                alone.append(self._read_by_itself(connection, run_id))
        return alone

    def _read_by_itself(self, connection: Connection, run_id: str) -> FoldedRun:
        self._left_out.add(run_id)
        count = self._counts[run_id]
        self._drop(run_id)
        return fold_run(connection, run_id, count, self._bounds, self._witness)

    def _drop(self, run_id: str) -> int:
        """Let a run wait no more, and return the length of the payloads that are here of it."""
        self._events -= len(self._rows.pop(run_id))
        length = self._lengths.pop(run_id)
        self._length -= length
        del self._counts[run_id]
        return length


def _fold_rows(run_id: str, rows: list[StoredRow], length: int, witness: Witness | None) -> FoldedRun:
    """Fold all events of a run, whose payloads have so many characters."""
    rows.sort(key=_BY_VERSION)
    if witness is not None:
        witness.follow(run_id, rows)
    head, steps = _Head(), _steps(rows)
    head.take(rows, steps)
    return head.folded(run_id, length, fold_steps(run_id, sorted(steps)))


def fold_run(
    connection: Connection, run_id: str, count: int, bounds: Bounds = EVERYTHING, witness: Witness | None = None
) -> FoldedRun:
    """Fold the *count* events of one run within the bounds; of very many only a part is held at a time."""
    head, length, at_once = _Head(), 0, True
    steps: list[Step] = []
    witnessed, shape, values = witness is not None, bounds.shape(), bounds.values(the_run=run_id)
    for rows in _of_run(shape, witnessed=witnessed, canonical=False).pages(connection, values, PAGE):
        if witness is not None:
            witness.follow(run_id, rows)
        part = _steps(rows)
        head.take(rows, part)
        length += sum([len(row[_PAYLOAD]) for row in rows])
        at_once = count <= KEPT_MAX and length <= KEPT_LENGTH_MAX
        if at_once:
            steps += part
        else:
            steps.clear()
    if at_once:
        return head.folded(run_id, length, fold_steps(run_id, sorted(steps)))
    pages = _of_run(shape, witnessed=witnessed, canonical=True).pages(connection, values, PAGE)
    return head.folded(run_id, length, fold_steps(run_id, chain.from_iterable(map(_steps, pages))))


def fold_of(connection: Connection, run_id: str, bounds: Bounds) -> FoldedRun | None:
    """Fold one run, None where it has no event within the bounds."""
    for _, count in _counts(connection, [run_id], bounds):
        return fold_run(connection, run_id, count, bounds)
    return None


def _begun(connection: Connection, run_ids: Sequence[str], after: int, bounds: Bounds) -> set[str]:
    """Those of these runs that have an event within the bounds at or before a position: most often their first."""
    asked = _beginning(bounds.shape()).run(connection, bounds.values(the_runs=run_ids, after=after))
    return {run_id for (run_id,) in asked}


def _counts(connection: Connection, run_ids: Sequence[str], bounds: Bounds) -> list[tuple[str, int]]:
    """How many events within the bounds each of these runs has, in the order in which they are named.

    An id with a NUL, which only somebody behind the ledger's back can have put there, has none: SQLite's
    functions end a text at it, and would count those of another run.
    """
    named = [run_id for run_id in run_ids if "\0" not in run_id]
    found = _counting(bounds.shape()).run(connection, bounds.values(the_runs=named)) if named else ()
    return [(run_id, count) for run_id, count in found if count]


_BY_VERSION = itemgetter(_VERSION)
_PLACE = itemgetter(_POSITION, _RECORDED_AT)


class _Head:
    """What the events of a run say of its head, taken part by part in order of acceptance."""

    def __init__(self) -> None:
        self.first_recorded_at = self.last_recorded_at = self.chain = ""
        self.version = self.unreadable = self.placed = 0
        self.newest = ("", "")

    def take(self, rows: Sequence[StoredRow], steps: Sequence[Step]) -> None:
        self.first_recorded_at = self.first_recorded_at or rows[0][_RECORDED_AT]
        last = rows[-1]
        self.last_recorded_at, self.chain = last[_RECORDED_AT], last[_CHAIN]
        self.version += len(rows)
        self.placed = placed(map(_PLACE, rows), self.placed)
        self.unreadable += [said for _, _, _, said in steps].count(None)
        self.newest = max(self.newest, max(steps)[:2])

    def folded(self, run_id: str, length: int, life: Life | None) -> FoldedRun:
        return FoldedRun(run_id, life, self._values(run_id, life), self.version, length, self.last_recorded_at)

    def _values(self, run_id: str, life: Life | None) -> Row:
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
            "detailed": self.version,
        }


def _steps(rows: Sequence[StoredRow]) -> list[Step]:
    """What the fold needs of each event, and first of all by what it is put in order."""
    payloads = loaded_all([row[_PAYLOAD] for row in rows])
    return [
        (row[_AT], row[_EVENT_ID], row[_TYPE], understood(row[_TYPE], row[_SCHEMA], payload))
        for row, payload in zip(rows, payloads, strict=True)
    ]
