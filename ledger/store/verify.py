"""The night watch: whether the ledger still says what it said, and the tables show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from ledger.events.fact import chained
from ledger.events.times import parse_moment, text_of
from ledger.projections.claims import Claim, settle
from ledger.projections.fold import canonical
from ledger.store.guards import GUARDS
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.replay import FoldedRun, folded_runs
from ledger.store.statements import Connection, Row, Statement, compiled
from ledger.store.tables import metadata, training_claims, training_events, training_heads, training_runs, voided_runs

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
        for folded in folded_runs(self._connection):
            self.runs += 1
            self.events += len(folded.events)
            yield from _history(folded)
            yield from self._head(folded)
            yield from self._row(folded)
            yield from self._claim(folded)
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
        indexes = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
        for name in sorted(indexes - {name for kind, name in stored if kind == "index"}):
            yield Difference("index", None, name, None, "an index")

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

    def _one(self, table: sa.Table, run_id: str) -> Row | None:
        found = _of_run(table).run(self._connection, {"the_run": run_id}).fetchone()
        return None if found is None else dict(zip(table.columns.keys(), found, strict=True))

    def _head(self, folded: FoldedRun) -> Iterator[Difference]:
        newest = max(map(canonical, folded.facts))
        computed = {
            "run_id": folded.run_id,
            "version": len(folded.events),
            "chain": folded.events[-1][_CHAIN],
            "newest_occurred_at": newest[0],
            "newest_event_id": newest[1],
            "first_recorded_at": folded.events[0][_RECORDED_AT],
            **folded.derived_head(),
        }
        yield from _compared("head", folded.run_id, self._one(training_heads, folded.run_id), computed)

    def _row(self, folded: FoldedRun) -> Iterator[Difference]:
        home, other = training_runs, voided_runs
        if folded.life is None:
            if self._one(home, folded.run_id) is not None:
                yield Difference("extra row", folded.run_id, home.name, "a row", None)
        else:
            if folded.life.void_reason is not None:
                home, other = other, home
            yield from self._home_row(folded, home)
        if self._one(other, folded.run_id) is not None:
            yield Difference("extra row", folded.run_id, other.name, "a row", None)

    def _home_row(self, folded: FoldedRun, home: sa.Table) -> Iterator[Difference]:
        stored = self._one(home, folded.run_id)
        if stored is None:
            yield Difference("missing row", folded.run_id, home.name, None, "a row")
        elif stored != {**folded.row(), "wandb_run_id": stored["wandb_run_id"]}:
            yield from _compared("row", folded.run_id, stored, {**stored, **folded.row()})

    def _claim(self, folded: FoldedRun) -> Iterator[Difference]:
        claim = folded.life.claimed() if folded.life else None
        if claim is not None:
            self._claims.append(claim)
            yield from _compared("claim", folded.run_id, self._one(training_claims, folded.run_id), claim._asdict())
        elif self._one(training_claims, folded.run_id) is not None:
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
def _of_run(table: sa.Table) -> Statement:
    return compiled(sa.select(table).where(table.c.run_id == sa.bindparam("the_run", type_=sa.Text())))


_RECORDED_AT, _DIGEST, _CHAIN, _VERSION = (
    EVENT_COLUMNS.index(name) for name in ("recorded_at", "digest", "chain", "version")
)


def _history(folded: FoldedRun) -> Iterator[Difference]:
    """A run's digests, chain and versions, one event after the other."""
    chain, position = "", 0
    for number, (event, fact) in enumerate(zip(folded.events, folded.facts, strict=True), start=1):
        digest = fact.digest()
        chain = chained(chain, event[_DIGEST])
        for kind, stored, computed in (
            ("version", event[_VERSION], number),
            ("digest", event[_DIGEST], digest),
            ("chain", event[_CHAIN], chain),
            ("recorded_at", event[_RECORDED_AT], _as_written(event[_RECORDED_AT])),
        ):
            if stored != computed:
                yield Difference(kind, folded.run_id, f"{kind} of event {fact.event_id}", stored, computed)
        if event[0] <= position:
            yield Difference(
                "position", folded.run_id, f"position of event {fact.event_id}", event[0], f"over {position}"
            )
        chain, position = event[_CHAIN], event[0]


def _as_written(moment: str) -> str | None:
    """The moment as the ledger writes it; None where it is none."""
    try:
        return text_of(parse_moment(moment))
    except ValueError:
        return None


def _compared(kind: str, run_id: str, stored: Row | None, computed: Row) -> Iterator[Difference]:
    if stored is None:
        yield Difference(f"missing {kind}", run_id, kind, None, "a row")
        return
    for name, value in computed.items():
        if stored[name] != value:
            yield Difference(kind, run_id, name, stored[name], value)
            return
