"""Keeps the projected tables equal to the fold, in the transaction that accepts the events.

An event that comes in order is folded onto the stored row; one that is older than what is there
makes this refold its run from all its events. Both give the same row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import sqlalchemy as sa

from ledger.events.fact import Fact
from ledger.projections.claims import Claim, settle
from ledger.projections.fold import canonical, evolve, evolve_late, fold_facts, slips_in
from ledger.projections.life import FOLDED, Life, Row
from ledger.store.reading import facts_of_run
from ledger.store.statements import Connection, Statement, compiled, inserting, updating
from ledger.store.tables import training_claims, training_heads, training_runs, voided_runs

__all__ = ["Projector", "Tracked", "holder", "settle_ids"]


@dataclass(slots=True)
class Tracked:
    """One run as the transaction finds it, and what the transaction adds to it."""

    run_id: str
    version: int = 0
    chain: str = ""
    newest: tuple[str, str] = ("", "")
    first_recorded_at: str | None = None
    unreadable: int = 0
    life: Life | None = None
    stored: Row | None = None
    stored_in: sa.Table = training_runs
    claim: Claim | None = None
    new: list[Fact] = field(default_factory=list)

    def accept(self, fact: Fact, chain: str) -> None:
        self.version += 1
        self.chain = chain
        self.new.append(fact)


class Projector:
    """The runs that one transaction touches."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tracked: dict[str, Tracked] = {}

    def run(self, run_id: str) -> Tracked:
        """Return the run as the ledger knows it; an empty one where it does not."""
        found = self._tracked.get(run_id)
        if found is None:
            found = self._tracked[run_id] = _load(self._connection, run_id)
        return found

    def save(self, recorded_at: str) -> None:
        """Fold what was accepted and write the rows and the W&B ids that follow."""
        contested: set[str] = set()
        for tracked in self._tracked.values():
            if tracked.new:
                contested |= self._save(tracked, recorded_at)
        settle_ids(self._connection, contested)

    def _save(self, tracked: Tracked, recorded_at: str) -> set[str]:
        new = sorted(tracked.new, key=canonical)
        # What could not be read when it came may be readable by now: such a run is always folded afresh.
        if tracked.unreadable or not _fold_onto(tracked, new):
            facts = facts_of_run(self._connection, tracked.run_id)
            tracked.life = fold_facts(facts)
            tracked.unreadable = sum(fact.understood is None for fact in facts)
        else:
            tracked.unreadable = sum(fact.understood is None for fact in new)
        tracked.newest = max(tracked.newest, canonical(new[-1]))
        self._save_head(tracked, recorded_at)
        if tracked.life is None:
            return set()
        self._save_row(tracked, tracked.life, recorded_at)
        return self._save_claim(tracked, tracked.life.claimed())

    def _save_head(self, tracked: Tracked, recorded_at: str) -> None:
        first = tracked.first_recorded_at
        values = {
            "the_run": tracked.run_id,
            "run_id": tracked.run_id,
            "version": tracked.version,
            "chain": tracked.chain,
            "newest_occurred_at": tracked.newest[0],
            "newest_event_id": tracked.newest[1],
            "first_recorded_at": first or recorded_at,
            "unreadable": tracked.unreadable,
            "beside": tracked.life.beside() if tracked.life else "",
        }
        tracked.first_recorded_at = first or recorded_at
        statement = inserting(training_heads) if first is None else updating(training_heads, _HEAD)
        statement.run(self._connection, values)

    def _save_row(self, tracked: Tracked, life: Life, recorded_at: str) -> None:
        table = training_runs if life.void_reason is None else voided_runs
        row = {**life.row, "created_at_db": tracked.first_recorded_at, "updated_at_db": recorded_at}
        if table is voided_runs:
            row["reason"] = life.void_reason
        stored = tracked.stored
        if stored is not None and table is tracked.stored_in:
            changed = {name: value for name, value in row.items() if stored[name] != value}
            if changed:
                updating(table, tuple(changed)).run(self._connection, {**changed, "the_run": tracked.run_id})
            return
        if stored is not None:
            deleting(tracked.stored_in).run(self._connection, {"the_run": tracked.run_id})
        inserting(table).run(self._connection, {**row, "wandb_run_id": None})

    def _save_claim(self, tracked: Tracked, claim: Claim | None) -> set[str]:
        """Store the run's claim, if it changed, and return the ids that have to be settled again."""
        before = tracked.claim
        if claim == before:
            return set()
        if before is not None:
            deleting(training_claims).run(self._connection, {"the_run": tracked.run_id})
            vacating().run(self._connection, {"the_run": tracked.run_id})
        if claim is not None:
            inserting(training_claims).run(self._connection, claim._asdict())
        return {claimed.wandb_run_id for claimed in (before, claim) if claimed is not None}


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


def settle_ids(connection: Connection, ids: Iterable[str]) -> None:
    """Give each W&B id to the run that holds it, and take it from all others."""
    for wandb_run_id in sorted(ids):
        winner = holder(connection, wandb_run_id)
        values = {"the_id": wandb_run_id, "the_run": winner or ""}
        yielding().run(connection, values)
        if winner is not None:
            updating(training_runs, ("wandb_run_id",)).run(connection, {**values, "wandb_run_id": wandb_run_id})


def holder(connection: Connection, wandb_run_id: str) -> str | None:
    """Return the run that holds the W&B id."""
    return settle(claims_to(connection, wandb_run_id))


def claims_to(connection: Connection, wandb_run_id: str) -> list[Claim]:
    return [Claim(*row) for row in _claimants().run(connection, {"the_id": wandb_run_id})]


_HEAD = ("version", "chain", "newest_occurred_at", "newest_event_id", "unreadable", "beside")
_THE_RUN = sa.bindparam("the_run", type_=sa.Text())
_THE_ID = sa.bindparam("the_id", type_=sa.Text())


@cache
def deleting(table: sa.Table) -> Statement:
    return compiled(sa.delete(table).where(table.c.run_id == _THE_RUN))


@cache
def vacating() -> Statement:
    return compiled(sa.update(training_runs).where(training_runs.c.run_id == _THE_RUN).values(wandb_run_id=sa.null()))


@cache
def yielding() -> Statement:
    lost = (training_runs.c.wandb_run_id == _THE_ID) & (training_runs.c.run_id != _THE_RUN)
    return compiled(sa.update(training_runs).where(lost).values(wandb_run_id=sa.null()))


@cache
def _claimants() -> Statement:
    named = [training_claims.c[name] for name in Claim._fields]
    return compiled(sa.select(*named).where(training_claims.c.wandb_run_id == _THE_ID))


_HEAD_LOADED = (
    "version",
    "chain",
    "newest_occurred_at",
    "newest_event_id",
    "first_recorded_at",
    "unreadable",
    "beside",
)
_FOLDED = frozenset(FOLDED)
_ROW_LOADED = (*FOLDED, "created_at_db", "updated_at_db")


@cache
def _loading() -> Statement:
    """The head, what the run claims, and its row, if it has one in `training_runs`."""
    head, claim = training_heads, training_claims
    columns = [head.c[name] for name in _HEAD_LOADED]
    columns += [claim.c[name] for name in Claim._fields]
    columns += [training_runs.c[name] for name in _ROW_LOADED]
    joined = head.outerjoin(claim, claim.c.run_id == head.c.run_id)
    joined = joined.outerjoin(training_runs, training_runs.c.run_id == head.c.run_id)
    return compiled(sa.select(*columns).select_from(joined).where(head.c.run_id == _THE_RUN))


@cache
def _loading_voided() -> Statement:
    columns = [voided_runs.c[name] for name in (*_ROW_LOADED, "reason")]
    return compiled(sa.select(*columns).where(voided_runs.c.run_id == _THE_RUN))


def _load(connection: Connection, run_id: str) -> Tracked:
    key = {"the_run": run_id}
    found = _loading().run(connection, key).fetchone()
    if found is None:
        return Tracked(run_id)
    version, chain, newest_at, newest_id, first_recorded_at, unreadable, beside = found[:7]
    tracked = Tracked(run_id, version, chain, (newest_at, newest_id), first_recorded_at, unreadable)
    if found[7] is not None:
        tracked.claim = Claim(*found[7:12])
    stored = dict(zip(_ROW_LOADED, found[12:], strict=True))
    if stored["run_id"] is None:
        voided = _loading_voided().run(connection, key).fetchone()
        if voided is None:
            return tracked
        stored = dict(zip((*_ROW_LOADED, "reason"), voided, strict=True))
        tracked.stored_in = voided_runs
    row = stored.copy()
    for name in stored.keys() - _FOLDED:
        del row[name]
    tracked.stored = stored
    tracked.life = Life.restored(row, beside)
    return tracked
