"""Keeps the projected tables equal to the fold, in the transaction that accepts the events.

An event that comes in order is folded onto the stored row; one that is older than what is there
makes this refold its run from all its events. Both give the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import sqlalchemy as sa

from ledger.events.fact import Fact
from ledger.projections.claims import Claim, settle
from ledger.projections.fold import canonical, evolve, evolve_late, fold_facts, slips_in
from ledger.projections.life import FOLDED, Life, Row
from ledger.store.accepting import lock_rows, lock_runs, lock_wandb_ids, locking, release_runs
from ledger.store.placing import placed
from ledger.store.reading import facts_of_run
from ledger.store.statements import Connection, Cursor, Statement, StoredRow, compiled, inserting, updating
from ledger.store.tables import PROJECTION, Projection

__all__ = ["Projector", "Tracked", "claims_to", "settle_ids"]


@dataclass(slots=True)
class Tracked:
    """One run as the transaction finds it, and what the transaction adds to it."""

    run_id: str
    version: int = 0
    chain: str = ""
    newest: tuple[str, str] = ("", "")
    first_recorded_at: str = ""
    has_head: bool = False
    placed: int = 0
    unreadable: int = 0
    life: Life | None = None
    stored: Row | None = None
    stored_in: sa.Table | None = None
    claim: Claim | None = None
    recorded_at: str = ""
    is_begun: bool = False  # with a head of no events, for others to wait at
    new: list[Fact] = field(default_factory=list)

    def accept(self, fact: Fact, version: int, chain: str, recorded_at: str) -> None:
        """Take the run's next event in order of acceptance."""
        self.version, self.chain, self.recorded_at = version, chain, recorded_at
        self.first_recorded_at = self.first_recorded_at or recorded_at
        self.new.append(fact)

    def place(self, position: int, recorded_at: str) -> None:
        """Say where and when the event that was accepted last was accepted."""
        self.placed = placed([(position, recorded_at)], self.placed)


class Projector:
    """The runs that one transaction touches, and the tables in which it keeps them."""

    def __init__(self, connection: Connection, tables: Projection = PROJECTION) -> None:
        self._connection = connection
        self._tables = tables
        self._tracked: dict[str, Tracked] = {}
        self._locked: set[str] = set()

    def lock(self, run_ids: Iterable[str]) -> None:
        """Let nobody else append to these runs until the transaction ends; what is known of them is read afterwards."""
        waiting = set(run_ids) - self._locked
        if waiting:
            lock_runs(self._connection, waiting)
            self._locked |= waiting

    def opening(self, run_id: str) -> Callable[[], bool]:
        """Ask a server for a run's lock and for what is known of it; what is returned waits for the answers.

        It says whether the run is there and locked.
        """
        if run_id in self._locked:
            return lambda: True
        lock, found = locking(self._connection, run_id), _asking(self._connection, self._tables, run_id)

        def opened() -> bool:
            if lock.fetchone() is None:
                return False
            self._locked.add(run_id)
            self._tracked[run_id] = _tracked(self._connection, self._tables, run_id, found.fetchone())
            return True

        return opened

    def run(self, run_id: str) -> Tracked:
        """Return the run as the ledger knows it; an empty one where it does not."""
        found = self._tracked.get(run_id)
        if found is None:
            found = self._tracked[run_id] = _load(self._connection, self._tables, run_id)
        return found

    def save(self) -> None:
        """Fold what was accepted and write the rows and the W&B ids that follow."""
        # In the order of the ids: two batches that write the same rows do not wait for each other.
        grown = [tracked for _, tracked in sorted(self._tracked.items()) if tracked.new]
        contested: set[str] = set()
        for tracked in grown:
            self._fold(tracked)
            contested |= _contested_by(tracked)
        # Before any row is written: who has the lock may wait for a row.
        lock_wandb_ids(self._connection, contested)
        if contested:
            lock_rows(self._connection, [tracked.run_id for tracked in grown], contested)
        for tracked in grown:
            self._save(tracked)
        settle_ids(self._connection, self._tables, contested)
        release_runs(self._connection, self._locked - {tracked.run_id for tracked in grown})

    def _fold(self, tracked: Tracked) -> None:
        """Bring what the fold gives up to date with what was accepted."""
        new = sorted(tracked.new, key=canonical)
        # What could not be read when it came may be readable by now: such a run is always folded afresh.
        if tracked.unreadable or not _fold_onto(tracked, new):
            facts = facts_of_run(self._connection, tracked.run_id, tracked.version)
            tracked.life = fold_facts(facts)
            tracked.unreadable = sum(fact.understood is None for fact in facts)
        else:
            tracked.unreadable = sum(fact.understood is None for fact in new)
        tracked.newest = max(tracked.newest, canonical(new[-1]))

    def _save(self, tracked: Tracked) -> None:
        self._save_head(tracked)
        if tracked.life is not None:
            self._save_row(tracked, tracked.life)
            self._save_claim(tracked, tracked.life.claimed())

    def _save_head(self, tracked: Tracked) -> None:
        values = {
            "the_run": tracked.run_id,
            "run_id": tracked.run_id,
            "version": tracked.version,
            "chain": tracked.chain,
            "newest_occurred_at": tracked.newest[0],
            "newest_event_id": tracked.newest[1],
            "first_recorded_at": tracked.first_recorded_at,
            "placed": tracked.placed,
            "unreadable": tracked.unreadable,
            "beside": tracked.life.beside() if tracked.life else "",
        }
        heads = self._tables.heads
        if tracked.has_head:
            statement = updating(heads, _HEAD)
        elif tracked.is_begun:
            statement = updating(heads, (*_HEAD, "first_recorded_at"))
        else:
            statement = inserting(heads)
        tracked.has_head = True
        statement.run(self._connection, values)

    def _save_row(self, tracked: Tracked, life: Life) -> None:
        table = self._tables.runs if life.void_reason is None else self._tables.voided
        row = {**life.row, "created_at_db": tracked.first_recorded_at, "updated_at_db": tracked.recorded_at}
        if life.void_reason is not None:
            row["reason"] = life.void_reason
        stored = tracked.stored
        if stored is not None and table is tracked.stored_in:
            changed = {name: value for name, value in row.items() if stored[name] != value}
            if changed:
                updating(table, tuple(changed)).run(self._connection, {**changed, "the_run": tracked.run_id})
            return
        if stored is not None and tracked.stored_in is not None:
            deleting(tracked.stored_in).run(self._connection, {"the_run": tracked.run_id})
        inserting(table).run(self._connection, {**row, "wandb_run_id": None})

    def _save_claim(self, tracked: Tracked, claim: Claim | None) -> None:
        """Store the run's claim, if it changed."""
        before = tracked.claim
        if claim == before:
            return
        if before is not None:
            deleting(self._tables.claims).run(self._connection, {"the_run": tracked.run_id})
            vacating(self._tables.runs).run(self._connection, {"the_run": tracked.run_id})
        if claim is not None:
            inserting(self._tables.claims).run(self._connection, claim._asdict())


def _contested_by(tracked: Tracked) -> set[str]:
    """The W&B ids that have to be settled again for what was said of a run."""
    before, now = tracked.claim, tracked.life.claimed() if tracked.life else None
    return set() if now == before else {claim.wandb_run_id for claim in (before, now) if claim is not None}


def _fold_onto(tracked: Tracked, new: Sequence[Fact]) -> bool:
    """Fold new facts, in canonical order, onto what is there; False where one is older and changes more than itself."""
    for fact in new:
        if canonical(fact) > tracked.newest:
            if fact.understood is not None:
                tracked.life = evolve(tracked.life, fact)
        elif tracked.life is not None and slips_in(tracked.life, fact):
            evolve_late(tracked.life, fact)
        elif fact.understood is not None:
            return False
    if tracked.life is not None:
        tracked.life.sealed()
    return True


def settle_ids(connection: Connection, tables: Projection, ids: Iterable[str]) -> None:
    """Give each W&B id to the run that holds it, and take it from all others."""
    for wandb_run_id in sorted(ids):
        winner = settle(claims_to(connection, wandb_run_id, tables))
        values = {"the_id": wandb_run_id, "the_run": winner or ""}
        yielding(tables.runs).run(connection, values)
        if winner is not None:
            updating(tables.runs, ("wandb_run_id",)).run(connection, {**values, "wandb_run_id": wandb_run_id})


def claims_to(connection: Connection, wandb_run_id: str, tables: Projection = PROJECTION) -> list[Claim]:
    """Return all claims to one W&B id."""
    return [Claim(*row) for row in _claimants(tables.claims).run(connection, {"the_id": wandb_run_id})]


_HEAD = ("version", "chain", "newest_occurred_at", "newest_event_id", "placed", "unreadable", "beside")
_THE_RUN = sa.bindparam("the_run", type_=sa.Text())
_THE_ID = sa.bindparam("the_id", type_=sa.Text())


# Cached by table; those of a replay come and go.
_kept = lru_cache(maxsize=32)


@_kept
def deleting(table: sa.Table) -> Statement:
    return compiled(sa.delete(table).where(table.c.run_id == _THE_RUN))


@_kept
def vacating(runs: sa.Table) -> Statement:
    return compiled(sa.update(runs).where(runs.c.run_id == _THE_RUN).values(wandb_run_id=sa.null()))


@_kept
def yielding(runs: sa.Table) -> Statement:
    lost = (runs.c.wandb_run_id == _THE_ID) & (runs.c.run_id != _THE_RUN)
    return compiled(sa.update(runs).where(lost).values(wandb_run_id=sa.null()))


@_kept
def _claimants(claims: sa.Table) -> Statement:
    named = [claims.c[name] for name in Claim._fields]
    return compiled(sa.select(*named).where(claims.c.wandb_run_id == _THE_ID))


_HEAD_LOADED = (
    "version",
    "chain",
    "newest_occurred_at",
    "newest_event_id",
    "first_recorded_at",
    "placed",
    "unreadable",
    "beside",
)
_FOLDED = frozenset(FOLDED)
_ROW_LOADED = (*FOLDED, "created_at_db", "updated_at_db")


@_kept
def _loading(tables: Projection) -> Statement:
    """The head, what the run claims, and its row, if it has one among the runs that are not voided."""
    head, claim, runs = tables.heads, tables.claims, tables.runs
    columns = [head.c[name] for name in _HEAD_LOADED]
    columns += [claim.c[name] for name in Claim._fields]
    columns += [runs.c[name] for name in _ROW_LOADED]
    joined = head.outerjoin(claim, claim.c.run_id == head.c.run_id)
    joined = joined.outerjoin(runs, runs.c.run_id == head.c.run_id)
    return compiled(sa.select(*columns).select_from(joined).where(head.c.run_id == _THE_RUN))


@_kept
def _loading_voided(voided: sa.Table) -> Statement:
    columns = [voided.c[name] for name in (*_ROW_LOADED, "reason")]
    return compiled(sa.select(*columns).where(voided.c.run_id == _THE_RUN))


def _asking(connection: Connection, tables: Projection, run_id: str) -> Cursor:
    return _loading(tables).run(connection, {"the_run": run_id})


def _load(connection: Connection, tables: Projection, run_id: str) -> Tracked:
    return _tracked(connection, tables, run_id, _asking(connection, tables, run_id).fetchone())


def _tracked(connection: Connection, tables: Projection, run_id: str, found: StoredRow | None) -> Tracked:
    if found is None:
        return Tracked(run_id)
    version, chain, newest_at, newest_id, first_recorded_at, placed_at, unreadable, beside = found[:8]
    if version == 0:
        return Tracked(run_id, is_begun=True)
    tracked = Tracked(run_id, version, chain, (newest_at, newest_id), first_recorded_at, True, placed_at, unreadable)
    if found[8] is not None:
        tracked.claim = Claim(*found[8:13])
    stored = dict(zip(_ROW_LOADED, found[13:], strict=True))
    if stored["run_id"] is None:
        voided = _loading_voided(tables.voided).run(connection, {"the_run": run_id}).fetchone()
        if voided is None:
            return tracked
        stored = dict(zip((*_ROW_LOADED, "reason"), voided, strict=True))
        tracked.stored_in = tables.voided
    else:
        tracked.stored_in = tables.runs
    row = stored.copy()
    for name in stored.keys() - _FOLDED:
        del row[name]
    tracked.stored = stored
    tracked.life = Life.restored(row, beside)
    return tracked
