"""Keeps the projected tables equal to the fold, in the transaction that accepts the events.

An event that comes in order is folded onto the stored row; one that is older than what is there
makes this refold its run from all its events. Both give the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import sqlalchemy as sa

from ledger.projections.claims import Claim, settle
from ledger.projections.fold import canonical, fold_facts
from ledger.projections.life import FOLDED, Life, Row
from ledger.store.accepting import NOWHERE, Numbers, lock_rows, lock_runs, lock_wandb_ids, locking, release_runs
from ledger.store.details import save_details
from ledger.store.reading import facts_of_run
from ledger.store.statements import Connection, Cursor, Statement, StoredRow, compiled, inserting, updating
from ledger.store.tables import PROJECTION, Projection
from ledger.store.tracked import HEAD, Tracked

__all__ = ["Projector", "claims_to", "settle_ids"]


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

    def save(self, numbers: Numbers = NOWHERE) -> list[Tracked]:
        """Fold what was accepted and write the rows and the W&B ids that follow; return the runs that have grown."""
        # In the order of the ids: two batches that write the same rows do not wait for each other.
        grown = [tracked for _, tracked in sorted(self._tracked.items()) if tracked.new]
        contested: set[str] = set()
        for tracked in grown:
            self._fold(tracked)
            contested |= tracked.contested()
        # Before any row is written: who has the lock may wait for a row.
        lock_wandb_ids(self._connection, contested)
        if contested:
            lock_rows(self._connection, [tracked.run_id for tracked in grown], contested)
        for tracked in grown:
            self._save(tracked)
            tracked.written_by = numbers.written_by
        settle_ids(self._connection, self._tables, contested)
        release_runs(self._connection, self._locked - {tracked.run_id for tracked in grown})
        return grown

    def _fold(self, tracked: Tracked) -> None:
        """Bring what the fold gives up to date with what was accepted."""
        new = sorted(tracked.new, key=canonical)
        # What could not be read when it came may be readable by now: such a run is always folded afresh.
        if not tracked.unreadable and not tracked.lacks_rows and tracked.fold_onto(new):
            tracked.unreadable = sum(fact.understood is None for fact in new)
            return
        facts = facts_of_run(self._connection, tracked.run_id, tracked.version)
        tracked.life, tracked.is_folded_afresh = fold_facts(facts), True
        tracked.unreadable = sum(fact.understood is None for fact in facts)
        tracked.newest = max(tracked.newest, canonical(new[-1]))

    def _save(self, tracked: Tracked) -> None:
        self._save_head(tracked)
        if tracked.life is None:
            tracked.saved(None, None)
            return
        table = self._tables.runs if tracked.life.void_reason is None else self._tables.voided
        row = tracked.row()
        self._save_row(tracked, table, row)
        self._save_claim(tracked, tracked.claims())
        save_details(self._connection, self._tables, tracked)
        tracked.saved(row, table)

    def _save_head(self, tracked: Tracked) -> None:
        values = {
            **tracked.head(),
            "the_run": tracked.run_id,
            "run_id": tracked.run_id,
            "first_recorded_at": tracked.first_recorded_at,
            "placed": tracked.placed,
        }
        heads = self._tables.heads
        if tracked.has_head:
            statement = updating(heads, _GROWN)
        elif tracked.is_begun:
            statement = updating(heads, (*_GROWN, "first_recorded_at"))
        else:
            statement = inserting(heads)
        statement.run(self._connection, values)

    def _save_row(self, tracked: Tracked, table: sa.Table, row: Row) -> None:
        stored = tracked.stored
        if stored is not None and table is tracked.stored_in:
            changed = tracked.changes(row)
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


_GROWN = (*HEAD, "placed")
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
    "detailed",
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
    version, chain, newest_at, newest_id, first_recorded_at, placed_at, unreadable, beside, detailed = found[:9]
    if version == 0:
        return Tracked(run_id, is_begun=True)
    tracked = Tracked(run_id, version, chain, (newest_at, newest_id), first_recorded_at, True, placed_at, unreadable)
    tracked.lacks_rows = detailed != version
    if found[9] is not None:
        tracked.claim = Claim(*found[9:14])
    stored = dict(zip(_ROW_LOADED, found[14:], strict=True))
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
    tracked.objectives_before = list(tracked.life.objectives)
    return tracked
