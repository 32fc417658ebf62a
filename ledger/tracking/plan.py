"""What a tracked run is to be, said before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

from ledger.errors import InvalidValue
from ledger.settings import OFF, Settings, is_spool, shown
from ledger.tracking import surroundings
from ledger.tracking.endings import StoppedMeans
from ledger.tracking.entry import Keeps, Said

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Which run, in which ledger, and how it is tracked. Raises InvalidValue for what cannot be meant."""

    said: Said
    settings: Settings
    open_book: Callable[[], Keeps]
    stopped_means: str = "failed"
    heartbeat_seconds: float = 60.0
    all_ranks: bool = False
    joins: bool = False  # a process that we descend from tracks this run: its end is the run's, and not ours
    rank: int = field(default_factory=surroundings.rank)

    def __post_init__(self) -> None:
        if self.stopped_means not in get_args(StoppedMeans):
            raise InvalidValue(
                "stopped_means", self.stopped_means, f"one of {', '.join(get_args(StoppedMeans))} is wanted"
            )
        seconds = self.heartbeat_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 86400:
            raise InvalidValue("heartbeat_seconds", seconds, "a number of seconds up to a day is wanted")

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for the run: the first of those that train together."""
        return self.rank == 0 and not self.joins

    def may_end(self, status: str) -> bool:
        """Whether this process's end is the run's: of another rank only a crash is."""
        return self.is_first or (status == "crashed" and not self.joins)

    @property
    def is_silent(self) -> bool:
        return self.rank != 0 and not self.all_ranks

    @property
    def chain_of_custody_id(self) -> str | None:
        said = self.said.fields.get("chain_of_custody_id")
        return None if said is None else str(said)

    @property
    def ledger_of_spool(self) -> str:
        """What to write for the ledger that a spool belongs to."""
        return "LEDGER" if is_spool(self.settings.url) else shown(self.settings.url)

    @property
    def is_off(self) -> bool:
        return self.settings.url == OFF
