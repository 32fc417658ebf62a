"""One run between its stored rows and the fold: as a transaction finds it, and what is accepted on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ledger.events.fact import Fact
from ledger.projections.claims import Claim
from ledger.projections.details import Rows, objectives_of
from ledger.projections.fold import canonical, evolve, evolve_late, slips_in
from ledger.projections.life import Life, Row
from ledger.projections.objectives import Stated, may_differ, objective_rows
from ledger.store.placing import placed

__all__ = ["DERIVED", "HEAD", "Tracked"]

# What follows from the fold of a head; and what changes in it by each event, beside where it was accepted.
DERIVED = ("unreadable", "beside", "detailed")
HEAD = ("version", "chain", "newest_occurred_at", "newest_event_id", *DERIVED)


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
    lacks_rows: bool = False  # somebody wrote it who knows of no rows beside
    is_folded_afresh: bool = False  # so that its life knows all events, and not only what is new
    objectives_before: Stated = field(default_factory=list)  # what is stated by hand, where its rows were saved
    written_by: str = ""  # on a server, the id of the transaction that wrote its head last

    def accept(self, fact: Fact, version: int, chain: str, recorded_at: str) -> None:
        """Take the run's next event in order of acceptance."""
        self.version, self.chain, self.recorded_at = version, chain, recorded_at
        self.first_recorded_at = self.first_recorded_at or recorded_at
        self.new.append(fact)

    def place(self, position: int, recorded_at: str) -> None:
        """Say where and when the event that was accepted last was accepted."""
        self.placed = placed([(position, recorded_at)], self.placed)

    def fold_onto(self, new: Sequence[Fact]) -> bool:
        """Fold facts, in canonical order, onto what is there; False where one is older and changes more than itself.

        After a False nothing that was folded is of use.
        """
        voided = self.life is not None and self.life.void_reason is not None
        for fact in new:
            if voided and fact.type == "unvoided":
                return False  # while it is void, nothing is stored beside its row
            if canonical(fact) > self.newest:
                if fact.understood is not None:
                    self.life = evolve(self.life, fact)
            elif self.life is not None and slips_in(self.life, fact):
                evolve_late(self.life, fact)
            elif fact.understood is not None:
                return False
        if self.life is not None:
            self.life.sealed()
        self.newest = max(self.newest, canonical(new[-1]))
        return True

    def claims(self) -> Claim | None:
        """Return what the run claims by what is folded."""
        return self.life.claimed() if self.life else None

    def contested(self) -> set[str]:
        """Return the W&B ids that have to be settled again for what was said of the run."""
        now = self.claims()
        if now == self.claim:
            return set()
        return {claim.wandb_run_id for claim in (self.claim, now) if claim is not None}

    def head(self) -> dict[str, object]:
        """Return what its head has to say of it, as in HEAD."""
        return {
            "version": self.version,
            "chain": self.chain,
            "newest_occurred_at": self.newest[0],
            "newest_event_id": self.newest[1],
            "unreadable": self.unreadable,
            "beside": self.life.beside() if self.life else "",
            "detailed": self.version,
        }

    def row(self) -> Row:
        """Return the row that it has to have, if any event was understood, without the W&B id that it may hold."""
        if self.life is None:
            return {}
        row: Row = {**self.life.row, "created_at_db": self.first_recorded_at, "updated_at_db": self.recorded_at}
        if self.life.void_reason is not None:
            row["reason"] = self.life.void_reason
        return row

    def changes(self, row: Row) -> Row:
        """Return what of *row* differs from the stored one."""
        stored = self.stored or {}
        return {name: value for name, value in row.items() if stored[name] != value}

    def objectives_changed(self) -> tuple[Rows, Rows] | None:
        """Return its objectives as they are stored and as they have to be, None where they are the same at a glance."""
        life, stored = self.life, self.stored
        if life is None:
            return None
        if stored is None:
            return {}, objectives_of(life)
        stated = life.objectives != self.objectives_before
        if not stated and not may_differ(stored, life.row):
            return None
        made_of = (stored["config_json"], stored["final_metrics_json"])
        return objective_rows(self.run_id, *made_of, self.objectives_before), objectives_of(life)

    def has_details(self) -> bool:
        """Whether what is new has to be written beside its row, too."""
        life = self.life
        return life is not None and bool(life.metrics or life.scaffolds or self.objectives_changed() is not None)

    def saved(self, row: Row | None, table: sa.Table | None) -> None:
        """Take note that all of it is stored by now."""
        self.stored, self.stored_in, self.claim = row, table, self.claims()
        self.has_head, self.is_begun, self.new, self.is_folded_afresh = True, False, [], False
        self.lacks_rows = False
        if self.life is not None:
            self.life.metrics, self.life.scaffolds = {}, {}
            self.objectives_before = list(self.life.objectives)
