"""The night watch: whether the ledger still says what it said, and the tables show it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from typing import cast

import sqlalchemy as sa

from ledger.events.fact import chained, digested
from ledger.projections.claims import Claim, settle
from ledger.projections.details import Rows
from ledger.store import state
from ledger.store.details import details_of
from ledger.store.folding import FoldedRun, folded_runs, in_parts
from ledger.store.following import newest_position
from ledger.store.guards import GUARDS
from ledger.store.migrations import creating
from ledger.store.spelling import each_named
from ledger.store.statements import Connection, Row, Statement, StoredRow, compiled, is_sqlite
from ledger.store.tables import (
    PROJECTION,
    metadata,
    training_claims,
    training_events,
    training_heads,
    training_runs,
    voided_runs,
)
from ledger.store.undecodable import is_undecodable, reading_anything

__all__ = ["Difference", "Verification", "stored_rows", "verify"]

_RUNS_AT_ONCE = 50  # whose rows are looked up together


@dataclass(frozen=True)
class Difference:
    """The first fault of its *kind*: where, what is stored and what was computed."""

    kind: str
    run_id: str | None
    column: str
    stored: object
    computed: object

    def __str__(self) -> str:
        where = f"run {self.run_id!r}, " if self.run_id is not None else ""
        return f"{self.kind}: {where}{self.column}: stored {self.stored!r}, computed {self.computed!r}"


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


class _Watch:
    """One walk over the ledger, with what of the tables has not been met yet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events = 0
        self.runs = 0
        self._claims: list[Claim] = []

    def differences(self) -> Iterator[Difference]:
        yield from self._schema()
        seen = _Seen()
        every = folded_runs(lambda: nullcontext(self._connection), witness=seen)
        for some in in_parts(every, _RUNS_AT_ONCE):
            yield from seen.faults()
            there = self._stored([folded.run_id for folded in some])
            beside = details_of(self._connection, PROJECTION, [folded.run_id for folded in some])
            for folded in some:
                self.runs += 1
                self.events += folded.events
                stored = there[folded.run_id]
                yield from _compared("head", folded.run_id, stored.get(training_heads), folded.head)
                yield from self._row(folded, stored)
                yield from self._claim(folded, stored.get(training_claims))
                yield from _beside(folded, beside[folded.run_id])
        yield from seen.faults()
        yield from self._positions()
        yield from self._strays()
        yield from self._wandb_ids()

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

    def _stored(self, run_ids: Sequence[str]) -> dict[str, dict[sa.Table, Row]]:
        """The rows that the tables have of these runs."""
        return stored_rows(self._connection, run_ids)

    def _row(self, folded: FoldedRun, stored: dict[sa.Table, Row]) -> Iterator[Difference]:
        home, other = training_runs, voided_runs
        if folded.life is None:
            if home in stored:
                yield Difference("extra row", folded.run_id, home.name, "a row", None)
        else:
            if folded.life.void_reason is not None:
                home, other = other, home
            yield from _home_row(folded, home.name, stored.get(home))
        if other in stored:
            yield Difference("extra row", folded.run_id, other.name, "a row", None)

    def _claim(self, folded: FoldedRun, stored: Row | None) -> Iterator[Difference]:
        claim = folded.life.claimed() if folded.life else None
        if claim is not None:
            self._claims.append(claim)
            yield from _compared("claim", folded.run_id, stored, claim._asdict())
        elif stored is not None:
            yield Difference("claim", folded.run_id, "wandb_run_id", "a claim", None)

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
_PARTS = [(table, table.columns.keys(), slice(*part)) for table, part in zip(_TABLES, pairwise(_STARTS), strict=True)]


@cache
def _of_runs() -> Statement:
    """All that the tables hold of some runs, each of which is answered."""
    named = each_named("the_runs")
    joined: sa.FromClause = named
    for table in _TABLES:
        joined = joined.outerjoin(table, table.c.run_id == named.c.value)
    every = [column for table in _TABLES for column in table.columns]
    return compiled(sa.select(named.c.value, *every).select_from(joined))


def stored_rows(connection: Connection, run_ids: Sequence[str]) -> dict[str, dict[sa.Table, Row]]:
    """Return the rows that the tables have of these runs, of each run by the table."""
    every: dict[str, dict[sa.Table, Row]] = {}
    for run_id, *found in _of_runs().run(connection, {"the_runs": list(run_ids)}):
        made = every[run_id] = {}
        for table, names, part in _PARTS:
            values = found[part]
            if values[0] is not None:
                made[table] = dict(zip(names, values, strict=True))
    return every


def _home_row(folded: FoldedRun, home: str, stored: Row | None) -> Iterator[Difference]:
    if stored is None:
        yield Difference("missing row", folded.run_id, home, None, "a row")
        return
    computed = {**folded.row(), "wandb_run_id": stored["wandb_run_id"]}
    if stored != computed:
        yield from _compared("row", folded.run_id, stored, {**stored, **computed})


def _beside(folded: FoldedRun, stored: Mapping[sa.Table, Rows]) -> Iterator[Difference]:
    """The rows of the tables in which a run has several."""
    life = folded.life
    for detail, table in PROJECTION.details():
        computed = {} if life is None or life.void_reason is not None else detail.rows(life)
        if stored[table] == computed:
            continue
        for key in sorted(stored[table].keys() | computed.keys()):
            ours, right = stored[table].get(key), computed.get(key)
            where = f"{table.name} {key!r}"
            if ours is None or right is None:
                rows = ("a row" if row is not None else None for row in (ours, right))
                yield Difference(f"row of {table.name}", folded.run_id, where, *rows)
            else:
                column = next((name for name in right if ours[name] != right[name]), None)
                if column is not None:
                    yield Difference(
                        f"row of {table.name}", folded.run_id, f"{where}, {column}", ours[column], right[column]
                    )


_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z", re.ASCII)


class _Seen:
    """The witness of one walk: digests as they come, and each run's chain, versions and positions in its order."""

    def __init__(self) -> None:
        self._found: dict[str, Difference] = {}  # the first of each kind
        # Run, version, position and chain: from there the next part of the run goes on.
        self._end: tuple[str, int, int, str] = ("", 0, 0, "")

    def faults(self) -> list[Difference]:
        """Return what was found since the last call: the first of each kind."""
        found, self._found = self._found, {}
        return list(found.values())

    def _find(self, difference: Difference) -> None:
        self._found.setdefault(difference.kind, difference)

    def see(self, rows: Sequence[StoredRow]) -> None:
        for _, event_id, run_id, _, type, schema, at, _, payload, _, source, stored in rows:
            digest = digested(event_id, at, payload, run_id, schema, source, type)
            if stored != digest:
                self._find(Difference("digest", run_id, f"digest of event {event_id}", stored, digest))

    def follow(self, run_id: str, rows: Sequence[StoredRow]) -> None:
        """Compare with what has to be there: most events are in order, and that has to be seen fast."""
        run, number, before, chain = self._end
        if run != run_id:
            number, before, chain = 0, 0, ""
        moment = ""
        for row in rows:
            number += 1
            position, _, _, version, _, _, _, recorded_at, _, linked, _, digest = row
            chain = chained(chain, digest)
            if (
                linked != chain
                or version != number
                or position <= before
                or (recorded_at != moment and not _is_written(recorded_at))
            ):
                for fault in _faults(row, number, before, chain):
                    self._find(fault)
            chain, before, moment = linked, position, recorded_at
        self._end = run_id, number, before, chain


def _faults(row: StoredRow, number: int, before: int, chain: str) -> Iterator[Difference]:
    position, event_id, run_id, version, _, _, _, recorded_at, _, linked, _, _ = row
    for kind, stored, computed in (
        ("version", version, number),
        ("chain", linked, chain),
        ("recorded_at", recorded_at, recorded_at if _is_written(recorded_at) else None),
        ("position", position, position if position > before else f"over {before}"),
    ):
        if stored != computed:
            yield Difference(kind, run_id, f"{kind} of event {event_id}", stored, computed)


@lru_cache(maxsize=4096)  # what was accepted together bears one moment
def _is_written(moment: str) -> bool:
    """Whether this is a moment as the ledger writes it."""
    try:
        date.fromisoformat(moment[:10])
    except ValueError:
        return False
    return _WRITTEN.fullmatch(moment) is not None


def _compared(kind: str, run_id: str, stored: Row | None, computed: Row) -> Iterator[Difference]:
    if stored is None:
        yield Difference(f"missing {kind}", run_id, kind, None, "a row")
        return
    if stored == computed:
        return
    for name, value in computed.items():
        if stored[name] != value:
            yield Difference(kind, run_id, name, stored[name], value)
            return
