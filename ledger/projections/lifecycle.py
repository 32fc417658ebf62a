"""What each event does to the status, as tables; the docs draw their diagram from them."""

from __future__ import annotations

from ledger.projections.run import Status

__all__ = ["ENDED", "LEADS_TO", "RESULTS", "SIGNS_OF_LIFE", "revives"]

# From any status. A crash that is only presumed moves no run whose end was witnessed: the end may lie
# in a spool while the sweep draws its conclusion.
LEADS_TO: dict[str, Status] = {
    "started": "running",
    "completed": "completed",
    "failed": "failed",
    "crashed": "crashed",
}

ENDED: frozenset[str] = frozenset({"completed", "failed", "crashed"})

# These lead to `running` from `launched` and from a presumed crash, and from nothing else: a queue
# that drains late cannot revive the dead.
SIGNS_OF_LIFE: frozenset[str] = frozenset({"heartbeat", "metrics_logged", "checkpoint_saved"})


# What came of a run: it acts on nothing else, so that its order among signs of life decides nothing.
RESULTS: frozenset[str] = frozenset({"objective_stated", "scaffolds_recorded"})


def revives(status: object, *, presumed: bool) -> bool:
    """Whether a sign of life leads to `running`."""
    return status == "launched" or (status == "crashed" and presumed)
