"""What a person says afterwards, with a reason. History keeps what was said before."""

from __future__ import annotations

from typing import ClassVar, Literal

from ledger.events.envelope import Event, Id, PlainMapping

__all__ = ["Amended", "Unvoided", "Voided"]


class Amended(Event):
    """New values for named columns; null clears one, which nothing else can."""

    may_hold_secrets: ClassVar[tuple[str, ...]] = ("columns",)

    type: Literal["amended"] = "amended"
    reason: Id
    columns: PlainMapping
    redacted: int | None = None


class Voided(Event):
    """This run is bogus: it leaves the tables and counts, and nothing of it is deleted."""

    type: Literal["voided"] = "voided"
    reason: Id


class Unvoided(Event):
    """It was no mistake after all."""

    type: Literal["unvoided"] = "unvoided"
    reason: Id
