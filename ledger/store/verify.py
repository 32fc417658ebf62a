"""The night watch: whether the ledger still says what it said, and the tables show it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import cast

import sqlalchemy as sa

from ledger.events.fact import digested
from ledger.projections.claims import Claim, settle
from ledger.store import state
from ledger.store.details import details_of
from ledger.store.following import newest_position
from ledger.store.guards import GUARDS
from ledger.store.migrations import creating
from ledger.store.run_rows import RunRows, StoredRows, unsettled
from ledger.store.seen import Difference
from ledger.store.sharing import folded_in_parts
from ledger.store.spelling import each_named
from ledger.store.statements import Connection, Statement, StoredRow, compiled, is_sqlite
from ledger.store.tables import (
    PROJECTION,
    TIMELINE,
    conflicts,
    metadata,
    training_claims,
    training_events,
    training_heads,
    training_runs,
    voided_runs,
)
from ledger.store.undecodable import is_undecodable, reading_anything

__all__ = ["Difference", "StoredRun", "Verification", "stored_rows", "verify"]

_DIGESTED = [
    conflicts.c[name] for name in ("event_id", "occurred_at", "payload", "run_id", "schema_version", "source", "type")
]
_RUNS_AT_ONCE = 50  # whose rows are looked up together


@dataclass(frozen=True)
class Verification:
    """How much was checked, and the first difference of each kind. True when there is none."""

    events: int
    runs: int
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return not self.differences

    def __bool__(self) -> bool:
        return self.ok


def verify(connection: Connection) -> Verification:
    """Check digests, chains, versions, positions, heads, guards, and every projected row against its fold.

    The connection has to be in a transaction, so that all of it is of one moment.
    """
    try:
        return _verified(connection)
    except sqlite3.OperationalError as exc:
        if not is_undecodable(exc):
            raise
    with reading_anything(cast("sqlite3.Connection", connection)):
        return _verified(connection)


def _verified(connection: Connection) -> Verification:
    watch = _Watch(connection)
    first: dict[str, Difference] = {}
    for difference in watch.differences():
        first.setdefault(difference.kind, difference)
    return Verification(watch.events, watch.runs, tuple(first.values()))


class _First:
    """The first difference of each kind: that of the earliest span, whichever was folded first."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, Difference]] = {}

    def take(self, number: int, differences: Iterable[Difference]) -> None:
        for difference in differences:
            known = self._found.get(difference.kind)
            if known is None or number < known[0]:
                self._found[difference.kind] = number, difference

    def differences(self) -> list[Difference]:
        return [difference for _, difference in sorted(self._found.values(), key=itemgetter(0))]


class _Watch:
    """One walk over the ledger, with what of the tables has not been met yet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events = 0
        self.runs = 0
        self._claims: list[Claim] = []

    def differences(self) -> Iterator[Difference]:
        yield from self._schema()
        first = _First()
        every = folded_in_parts(lambda: nullcontext(self._connection), witnessed=True, runs_max=_RUNS_AT_ONCE)
        with closing(every) as parts:
            for part in parts:
                first.take(part.number, part.faults)
                first.take(part.number, self._runs(part.runs))
        yield from first.differences()
        yield from self._positions()
        yield from self._strays()
        yield from self._wandb_ids()
        yield from self._conflicts()

    def _runs(self, runs: Sequence[RunRows]) -> Iterator[Difference]:
        """Compare the rows of these runs with what they have to be."""
        named = [run.run_id for run in runs]
        there, beside = stored_rows(self._connection, named), details_of(self._connection, PROJECTION, named)
        for run in runs:
            self.runs += 1
            self.events += run.events
            stored = there[run.run_id]
            for difference in _compared("head", training_heads, run.run_id, stored.get(training_heads), run.head):
                yield replace(difference, kind="placed") if difference.column == "placed" else difference
            yield from self._row(run, stored)
            yield from self._claim(run, stored.get(training_claims))
            yield from _beside(run, beside[run.run_id])

    def _schema(self) -> Iterator[Difference]:
        if not is_sqlite(self._connection):
            from ledger.store.postgres.checking import schema_differences

            yield from schema_differences(self._connection)
            return
        asked = "SELECT type, name, tbl_name, sql FROM sqlite_master"
        stored = {(kind, name): (of, sql) for kind, name, of, sql in self._connection.execute(asked)}
        for name, sql in GUARDS.items():
            _, found = stored.get(("trigger", name), (None, None))
            if found != sql:
                yield Difference("trigger", None, name, found, sql)
        for (kind, name), (of, sql) in stored.items():
            if kind == "trigger" and of == training_events.name and name not in GUARDS:
                yield Difference("trigger", None, name, sql, None)
        _, found = stored.get(("view", "training_timeline"), (None, None))
        if found != TIMELINE:
            yield Difference("view", None, "training_timeline", found, TIMELINE)
        for name, sql in sorted(_indexes().items()):
            _, found = stored.get(("index", name), (None, None))
            if found is None or _spelled_alike(found) != _spelled_alike(sql):
                yield Difference("index", None, name, found, sql)

    def _positions(self) -> Iterator[Difference]:
        """In a file, positions are given out from 1 without holes; the newest is remembered apart from the events."""
        if not is_sqlite(self._connection):
            return
        newest = newest_position(self._connection)
        holes = int(state.named(self._connection, state.HOLES).get(state.HOLES, "0"))
        if newest - holes != self.events:
            given = f"{newest - holes} positions given out"
            yield Difference("position", None, "position", f"{self.events} events", given)
        bounds = "SELECT coalesce(min(position), 1), coalesce(max(position), 0) FROM training_events"
        stored = self._connection.execute(bounds).fetchone()
        if stored[1] != newest or (stored[0] != 1 and not holes):
            yield Difference("position", None, "position", f"{stored[0]} to {stored[1]}", f"1 to {newest}")

    def _row(self, folded: RunRows, stored: StoredRun) -> Iterator[Difference]:
        home, row = folded.home(), folded.row
        if home is not None and row is not None:
            there = stored.get(home)  # of W&B ids `_wandb_ids` judges
            yield from _compared("row", home, folded.run_id, there and unsettled(there), row)
        for table in (training_runs, voided_runs):
            if table is not home and table in stored:
                yield Difference("extra row", folded.run_id, table.name, "a row", None)

    def _claim(self, folded: RunRows, stored: StoredRow | None) -> Iterator[Difference]:
        row = folded.claim_row()
        if row is not None and folded.claim is not None:
            self._claims.append(folded.claim)
            yield from _compared("claim", training_claims, folded.run_id, stored, row)
        elif stored is not None:
            yield Difference("claim", folded.run_id, "wandb_run_id", "a claim", None)

    def _conflicts(self) -> Iterator[Difference]:
        """What is kept of conflicts is what its digest says, as the events are."""
        kept = sa.select(conflicts.c.run_id, conflicts.c.event_id, conflicts.c.digest, *_DIGESTED)
        for run_id, event_id, stored, *said in compiled(kept.order_by(conflicts.c.event_id)).rows(self._connection):
            computed = digested(*said)
            if stored != computed:
                yield Difference("conflict", run_id, f"digest of event {event_id}", stored, computed)

    def _strays(self) -> Iterator[Difference]:
        """Rows of runs that have no event at all."""
        kinds = {training_heads: "deleted run"}
        for table in (*_TABLES, *(table for _, table in PROJECTION.details())):
            known = sa.exists().where(training_events.c.run_id == table.c.run_id)
            stray = sa.select(table.c.run_id).where(~known).order_by(table.c.run_id).limit(1)
            for (run_id,) in compiled(stray).ask(self._connection).fetchall():
                yield Difference(kinds.get(table, "extra row"), run_id, table.name, "a row", "no event of this run")

    def _wandb_ids(self) -> Iterator[Difference]:
        by_id: dict[str, list[Claim]] = {}
        for claim in self._claims:
            by_id.setdefault(claim.wandb_run_id, []).append(claim)
        computed = {settle(claims): wandb_run_id for wandb_run_id, claims in by_id.items()}
        for table in (training_runs, voided_runs):
            held = sa.select(table.c.run_id, table.c.wandb_run_id).order_by(table.c.run_id)
            for run_id, stored in compiled(held).rows(self._connection):
                expected = computed.get(run_id) if table is training_runs else None
                if stored != expected:
                    yield Difference("wandb id", run_id, "wandb_run_id", stored, expected)


@cache
def _indexes() -> dict[str, str]:
    """The statement of every index that the ledger has, by its name."""
    made: dict[str, str] = {}
    for table in metadata.tables.values():
        names = sorted(str(index.name) for index in table.indexes)
        made |= zip(names, creating(table)[1:], strict=True)
    return made


def _spelled_alike(sql: str) -> str:
    """Another version of what writes our statements may quote and space them otherwise."""
    return "".join(sql.replace('"', "").split())


_TABLES = (training_heads, training_runs, voided_runs, training_claims)
_STARTS = (0, *accumulate(len(table.columns) for table in _TABLES))
# Which part of what is found of a run is whose. `run_id` is first: where it is NULL there is no row.
_PARTS = [(table, slice(*part)) for table, part in zip(_TABLES, pairwise(_STARTS), strict=True)]

StoredRun = dict[sa.Table, StoredRow]


@cache
def _of_runs() -> Statement:
    """All that the tables hold of some runs, each of which is answered."""
    named = each_named("the_runs")
    joined: sa.FromClause = named
    for table in _TABLES:
        joined = joined.outerjoin(table, table.c.run_id == named.c.value)
    every = [column for table in _TABLES for column in table.columns]
    return compiled(sa.select(named.c.value, *every).select_from(joined))


def stored_rows(connection: Connection, run_ids: Sequence[str]) -> dict[str, StoredRun]:
    """Return the rows that the tables have of these runs, of each run by the table."""
    every: dict[str, StoredRun] = {}
    for run_id, *found in _of_runs().run(connection, {"the_runs": list(run_ids)}):
        parts = ((table, tuple(found[part])) for table, part in _PARTS)
        every[run_id] = {table: values for table, values in parts if values[0] is not None}
    return every


def _beside(folded: RunRows, stored: Sequence[StoredRows]) -> Iterator[Difference]:
    """The rows of the tables in which a run has several."""
    for (detail, table), here, computed in zip(PROJECTION.details(), stored, folded.details, strict=True):
        if here == computed:
            continue
        for key in sorted(here.keys() | computed.keys()):
            ours, right = here.get(key), computed.get(key)
            where = f"{table.name} {key!r}"
            if ours is None or right is None:
                rows = ("a row" if row is not None else None for row in (ours, right))
                yield Difference(f"row of {table.name}", folded.run_id, where, *rows)
            else:
                for name, stored_value, value in zip(detail.columns, ours, right, strict=True):
                    if stored_value != value:
                        yield Difference(f"row of {table.name}", folded.run_id, f"{where}, {name}", stored_value, value)
                        break


def _compared(
    kind: str, table: sa.Table, run_id: str, stored: StoredRow | None, computed: StoredRow
) -> Iterator[Difference]:
    if stored is None:
        yield Difference(f"missing {kind}", run_id, table.name, None, "a row")
        return
    if stored == computed:
        return
    for name, found, value in zip(table.columns.keys(), stored, computed, strict=True):
        if found != value:
            yield Difference(kind, run_id, name, found, value)
            return
