"""The demo's folder: what lies where in it, and under which keys the ledger speaks of it.

The folder stands in for the S3 bucket of a team: a key is a path inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "runs.db"

    @property
    def state(self) -> Path:
        """Where the demo's processes keep what they would else keep in the home folder."""
        return self.root / "state"

    @property
    def spool(self) -> Path:
        return self.state / "spool"

    @property
    def pictures(self) -> Path:
        return self.root / "data" / "digits.npz"

    def config(self, name: str) -> Path:
        return self.root / "configs" / f"{name}.yaml"

    def log(self, run_id: str) -> Path:
        return self.root / "logs" / f"{run_id}.log"

    def checkpoint(self, run_id: str, step: int) -> Path:
        return self.root / "checkpoints" / run_id / f"step-{step}.npz"

    def post(self, name: str) -> Path:
        return self.root / "posts" / f"{name}.md"
