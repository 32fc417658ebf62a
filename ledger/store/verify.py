"""The night watch: whether the ledger still says what it said, and the tables show it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache

import sqlalchemy as sa

from ledger.events.fact import chained, digested
from ledger.projections.claims import Claim, settle
from ledger.store.folding import FoldedRun, folded_runs
from ledger.store.guards import GUARDS
from ledger.store.migrations import creating
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.statements import Connection, Row, Statement, StoredRow, compiled
from ledger.store.tables import metadata, training_claims, training_events, training_heads, training_runs, voided_runs
from ledger.store.undecodable import is_undecodable, reading_anything

__all__ = ["Difference", "Verification", "verify"]


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
    with reading_anything(connection):
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
        histories: dict[str, _History] = {}

        def witness(rows: Sequence[StoredRow]) -> None:
            histories.setdefault(rows[0][_RUN_ID], _History()).read(rows)

        for folded in folded_runs(lambda: nullcontext(self._connection), witness=witness):
            self.runs += 1
            self.events += folded.events
            yield from histories.pop(folded.run_id).found
            stored = self._stored(folded.run_id)
            yield from _compared("head", folded.run_id, stored.get(training_heads), folded.head)
            yield from self._row(folded, stored)
            yield from self._claim(folded, stored.get(training_claims))
        yield from self._positions()
        yield from self._strays()
        yield from self._wandb_ids()

    def _schema(self) -> Iterator[Difference]:
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
        """Positions are given out from 1 without holes; the newest is remembered apart from the events."""
        asked = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'training_events'), 0)"
        (newest,) = self._connection.execute(asked).fetchone()
        if newest != self.events:
            yield Difference("position", None, "position", f"{self.events} events", f"{newest} positions given out")
        bounds = "SELECT coalesce(min(position), 1), coalesce(max(position), 0) FROM training_events"
        stored = self._connection.execute(bounds).fetchone()
        if stored != (1, newest):
            yield Difference("position", None, "position", f"{stored[0]} to {stored[1]}", f"1 to {newest}")

    def _stored(self, run_id: str) -> dict[sa.Table, Row]:
        """The rows that the tables have of a run."""
        found = _of_run().run(self._connection, {"the_run": run_id}).fetchone()
        made: dict[sa.Table, Row] = {}
        start = 0
        for table, names in _NAMES.items():
            values = found[start : start + len(names)]
            start += len(names)
            if values[0] is not None:
                made[table] = dict(zip(names, values, strict=True))
        return made

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
        for table in (training_heads, training_runs, voided_runs, training_claims):
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
            for run_id, stored in compiled(held).ask(self._connection):
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


# `run_id` first: where it is NULL there is no row.
_NAMES = {table: table.columns.keys() for table in (training_heads, training_runs, voided_runs, training_claims)}


@cache
def _of_run() -> Statement:
    """All that the tables hold of one run, which itself is always answered."""
    asked = sa.select(sa.bindparam("the_run", type_=sa.Text()).label("run_id")).subquery("asked")
    joined: sa.FromClause = asked
    for table in _NAMES:
        joined = joined.outerjoin(table, table.c.run_id == asked.c.run_id)
    every = [column for table in _NAMES for column in table.columns]
    return compiled(sa.select(*every).select_from(joined))


def _home_row(folded: FoldedRun, home: str, stored: Row | None) -> Iterator[Difference]:
    if stored is None:
        yield Difference("missing row", folded.run_id, home, None, "a row")
        return
    computed = {**folded.row(), "wandb_run_id": stored["wandb_run_id"]}
    if stored != computed:
        yield from _compared("row", folded.run_id, stored, {**stored, **computed})


_POSITION, _EVENT_ID, _RUN_ID, _VERSION, _TYPE, _SCHEMA, _AT, _RECORDED_AT, _SOURCE, _PAYLOAD, _DIGEST, _CHAIN = range(
    len(EVENT_COLUMNS)
)
_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z", re.ASCII)


class _History:
    """A run's digests, chain, versions and positions, one event after the other."""

    def __init__(self) -> None:
        self._number, self._position, self._chain = 0, 0, ""
        self.found: list[Difference] = []

    def read(self, rows: Sequence[StoredRow]) -> None:
        """Take the next events of the run. Most are in order, and that has to be seen fast."""
        number, before, chain, moment = self._number, self._position, self._chain, ""
        for row in rows:
            number += 1
            position, event_id, run_id, version, type, schema, at, recorded_at, source, payload, stored, linked = row
            digest = digested(event_id, at, payload, run_id, schema, source, type)
            chain = chained(chain, stored)
            if (
                stored != digest
                or linked != chain
                or version != number
                or position <= before
                or (recorded_at != moment and not _is_written(recorded_at))
            ):
                self.found += _faults(row, number, before, digest, chain)
            chain, before, moment = linked, position, recorded_at
        self._number, self._position, self._chain = number, before, chain


def _faults(row: StoredRow, number: int, position: int, digest: str, chain: str) -> Iterator[Difference]:
    for kind, stored, computed in (
        ("version", row[_VERSION], number),
        ("digest", row[_DIGEST], digest),
        ("chain", row[_CHAIN], chain),
        ("recorded_at", row[_RECORDED_AT], row[_RECORDED_AT] if _is_written(row[_RECORDED_AT]) else None),
        ("position", row[_POSITION], row[_POSITION] if row[_POSITION] > position else f"over {position}"),
    ):
        if stored != computed:
            yield Difference(kind, row[_RUN_ID], f"{kind} of event {row[_EVENT_ID]}", stored, computed)


def _is_written(moment: str) -> bool:
    """Whether this is a moment as the ledger writes it."""
    return _WRITTEN.fullmatch(moment) is not None and _is_date(moment[:10])


@lru_cache(maxsize=1024)
def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _compared(kind: str, run_id: str, stored: Row | None, computed: Row) -> Iterator[Difference]:
    if stored is None:
        yield Difference(f"missing {kind}", run_id, kind, None, "a row")
        return
    for name, value in computed.items():
        if stored[name] != value:
            yield Difference(kind, run_id, name, stored[name], value)
            return
