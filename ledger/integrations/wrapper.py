"""The training wrapper's two lines: `started(wandb.run)` at the beginning, `ended("completed", wandb.run)` at the end.

Both take the run from RUN_ID, which the launcher hands down.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Protocol

from ledger import origin
from ledger.api import Ledger
from ledger.default import default_ledger
from ledger.errors import AskedWrongly

__all__ = ["WandbRun", "ended", "started"]

_began: dict[str, datetime] = {}  # when this process said that a run has started


class WandbRun(Protocol):
    """What is used of a W&B run, a live one or the public API's."""

    @property
    def id(self) -> str: ...
    @property
    def url(self) -> str | None: ...
    @property
    def summary(self) -> object: ...


def started(wandb_run: WandbRun | None = None, *, run_id: str | None = None, ledger: Ledger | None = None) -> None:
    """Record that training has started now, and the W&B run that it reports to (offline it has no address)."""
    name, now = _run_id(run_id), origin.now()
    wandb_run_id, wandb_url = (None, None) if wandb_run is None else (wandb_run.id, wandb_run.url)
    _of(ledger).update_run_status(name, "running", started_at=now, wandb_run_id=wandb_run_id, wandb_url=wandb_url)
    _began[name] = now


def ended(
    status: str = "completed",
    wandb_run: WandbRun | None = None,
    *,
    metrics: object = None,
    end_reason: str | None = None,
    exit_code: int | None = None,
    run_id: str | None = None,
    ledger: Ledger | None = None,
) -> None:
    """Record that training has ended now, its duration since `started`, and its final metrics.

    Those are *metrics*, else the W&B run's summary, whole, as it is on a live run or on the public API's object.
    """
    name, now = _run_id(run_id), origin.now()
    if metrics is None and wandb_run is not None:
        metrics = wandb_run.summary
    began = _began.get(name)
    _of(ledger).update_run_status(
        name,
        status,
        ended_at=now,
        duration_seconds=None if began is None else (now - began).total_seconds(),
        final_metrics_json=metrics,
        end_reason=end_reason,
        exit_code=exit_code,
    )


def _run_id(run_id: str | None) -> str:
    found = os.environ.get("RUN_ID") if run_id is None else run_id
    if not found:
        raise AskedWrongly(
            "RUN_ID is not set: nobody said which run this is. Have the launcher hand it down, or give run_id=..."
        )
    return found


def _of(ledger: Ledger | None) -> Ledger:
    return default_ledger() if ledger is None else ledger
