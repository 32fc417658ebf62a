"""One run between its stored rows and the fold: as a transaction finds it, and what is accepted on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ledger.events.fact import Fact
from ledger.projections.claims import Claim
from ledger.projections.fold import canonical, evolve, evolve_late, slips_in
from ledger.projections.life import Life, Row
from ledger.store.placing import placed

__all__ = ["HEAD", "Tracked"]

# What changes in a head by each event, beside where it was accepted.
HEAD = ("version", "chain", "newest_occurred_at", "newest_event_id", "unreadable", "beside")


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
        for fact in new:
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

    def saved(self, row: Row | None, table: sa.Table | None) -> None:
        """Take note that all of it is stored by now."""
        self.stored, self.stored_in, self.claim = row, table, self.claims()
        self.has_head, self.is_begun, self.new = True, False, []
