"""To which run a W&B id belongs. One event can change two rows, so this is decided apart from the fold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Claim", "settle"]


class Claim(NamedTuple):
    """A run's claim to a W&B id, dated by its earliest statement of that id since an amendment."""

    wandb_run_id: str
    run_id: str
    occurred_at: str
    event_id: str
    resumes_run_id: str | None


def settle(claims: Iterable[Claim]) -> str | None:
    """Return the run_id that holds the one id which all *claims* are to.

    A run that another claimant resumes -- itself, or step by step through claimants -- yields to it.
    Of the rest the earliest claim in canonical order holds the id, run_id breaking ties. Runs that
    resume each other in a circle do not yield to each other.
    """
    by_run = {claim.run_id: claim for claim in claims}
    resumed = {run_id: _resumed_by(run_id, by_run) for run_id in by_run}
    rest = [
        claim
        for claim in by_run.values()
        if not any(claim.run_id in resumed[other] and other not in resumed[claim.run_id] for other in by_run)
    ]
    winner = min(rest, key=lambda claim: (claim.occurred_at, claim.event_id, claim.run_id), default=None)
    return winner.run_id if winner else None


def _resumed_by(run_id: str, by_run: dict[str, Claim]) -> set[str]:
    """The claimants that *run_id* goes on from."""
    found: set[str] = set()
    following = by_run[run_id].resumes_run_id
    while following in by_run and following not in found:
        found.add(following)
        following = by_run[following].resumes_run_id
    return found
