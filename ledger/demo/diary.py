"""What a training process tells the ledger of its run, from its start to its completion."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from ledger import Ledger
from ledger.demo.learner import Metrics
from ledger.events import CheckpointSaved, Heartbeat, MetricsLogged
from ledger.origin import utc_now


@dataclass
class Diary:
    """Tells *book* of one run. What single steps measure gathers in columns, to go out in batches."""

    book: Ledger
    run_id: str
    began: float = field(default_factory=time.monotonic)
    columns: dict[str, list[JsonValue]] = field(default_factory=dict)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def start(self) -> None:
        wandb_run_id = f"demo{hashlib.sha256(self.run_id.encode()).hexdigest()[:8]}"
        self.book.update_run_status(
            self.run_id,
            "running",
            wandb_run_id=wandb_run_id,
            wandb_url=f"https://wandb.ai/demo/digits/runs/{wandb_run_id}",
            started_at=utc_now(),
        )

    def add(self, step: int, metrics: Metrics) -> None:
        for name, value in {"step": step, **metrics}.items():
            self.columns.setdefault(name, []).append(value)

    def flush(self) -> None:
        if self.columns:
            self.book.append(MetricsLogged(run_id=self.run_id, columns=self.columns))
            self.columns = {}

    def beat(self, step: int, metrics: Metrics) -> None:
        so_far = self.seconds()
        self.book.append(Heartbeat(run_id=self.run_id, step=step, duration_seconds=so_far, metrics=dict(metrics)))

    def checkpoint(self, step: int, path: Path, metrics: Metrics) -> None:
        uri = path.as_uri()
        self.book.append(CheckpointSaved(run_id=self.run_id, step=step, uri=uri, metrics=dict(metrics)))

    def complete(self, metrics: Metrics) -> None:
        self.book.update_run_status(
            self.run_id,
            "completed",
            ended_at=utc_now(),
            duration_seconds=self.seconds(),
            final_metrics_json=metrics,
        )
