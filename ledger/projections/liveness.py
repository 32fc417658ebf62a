"""Whether a run lives, as it is derived when somebody reads: no event says it, and no row holds it.

A run holds a lease by its heartbeats: each promises a next sign of life within so many seconds. While
the lease holds the run is alive; then it is late, and after `LEASES_MAX` of them lost. A run that never
beat since it was last started is unknown: its process may live and not know of heartbeats. One that was
launched and gave no sign of life is late after an hour and lost after a day, or after what `Present` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from ledger.projections.life import Life, microseconds_between
from ledger.projections.lifecycle import ENDED

__all__ = ["LEASES_MAX", "LIVENESS", "NEEDS_A_LOOK", "Liveness", "Present", "liveness"]

Liveness = Literal["alive", "late", "lost", "ended", "unknown"]
LIVENESS: tuple[str, ...] = get_args(Liveness)
NEEDS_A_LOOK: tuple[Liveness, ...] = ("lost", "late")  # what comes first in the order of liveness
LEASES_MAX = 3  # so many leases after its last sign of life a run is lost


@dataclass(frozen=True)
class Present:
    """The moment that a question is asked of, and how long a launch may go without a sign of life."""

    moment: datetime
    launch_late_seconds: float = 3600.0
    launch_lost_seconds: float = 86400.0


def liveness(life: Life, moment: str, present: Present) -> Liveness:
    """Return what a fold says of its run at *moment*, which is `present.moment` as text."""
    row = life.row
    if row["status"] in ENDED:
        return "ended"
    if row["status"] == "launched":
        silent, late, lost = (
            _silent(row["created_at"], moment),
            present.launch_late_seconds,
            present.launch_lost_seconds,
        )
        return "lost" if silent > lost else "late" if silent > late else "unknown"
    if life.lease is None or row["last_seen_at"] is None:
        return "unknown"
    silent = _silent(row["last_seen_at"], moment)
    return "alive" if silent <= life.lease else "late" if silent <= LEASES_MAX * life.lease else "lost"


def _silent(since: object, moment: str) -> float:
    """Seconds, to the millisecond."""
    return round(microseconds_between(str(since), moment) / 1_000_000, 3)
