"""The row that a life shows: the one place where those who look back read it."""

from __future__ import annotations

from ledger.projections.life import Life, Row

__all__ = ["shown"]


def shown(life: Life) -> Row:
    """Return the folded columns, what the run claims as `wandb_run_id`, and the `reason` of a voided run."""
    claim = life.claimed()
    return {
        **life.sealed().row,
        "wandb_run_id": None if claim is None else claim.wandb_run_id,
        "reason": life.void_reason,
    }
