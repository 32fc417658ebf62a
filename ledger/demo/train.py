"""The training process: learn from one config, and record what happens, as a script of your own would.

`ledger exec` runs it and hands down RUN_ID, CHAIN_OF_CUSTODY_ID and where the ledger is. An exception ends the
process as it would end any training script: nothing here catches it, and `track` and exec say how it ended.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ledger
from ledger.demo import configs, digits
from ledger.demo.learner import Learner, Measured
from ledger.demo.place import Place
from ledger.tracking.run import TrackedRun

HEARTBEAT_SECONDS = 0.5  # a run of seconds is followed more closely than one of hours

log = logging.getLogger("train")


@dataclass(frozen=True)
class WandbRun:
    """Stands in for the `wandb.run` of a script that reports to W&B."""

    id: str
    url: str
    name: str

    @classmethod
    def of(cls, run_id: str) -> WandbRun:
        made = f"demo{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
        return cls(made, f"https://wandb.ai/demo/digits/runs/{made}", run_id)


def require_finite(step: int, measured: Measured) -> None:
    if not math.isfinite(measured.loss):
        parts = ", ".join(f"{alias} {part.loss:.3g}" for alias, part in measured.slopes.items())
        raise FloatingPointError(f"the loss became {measured.loss} at step {step}: {parts}")


def train(run: TrackedRun, learner: Learner, place: Place) -> None:
    """Take every step of the config, and tell of each, even of the one that fails."""
    began, steps = time.monotonic(), learner.config.training.max_steps
    for step in range(1, steps + 1):
        measured = learner.measure()
        run.log(measured.metrics(), step=step)
        require_finite(step, measured)
        learner.move(measured)
        if step in {steps // 2, steps}:
            path = place.checkpoint(run.run_id, step)
            learner.save(path)
            run.checkpoint(path.as_uri(), step=step, metrics=learner.judge())
    run.summary["train/steps_per_second"] = steps / (time.monotonic() - began)
    run.summary.update(learner.judge())


def main() -> None:
    config_path, folder = map(Path, sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    config, place = configs.read(config_path), Place(folder)
    with ledger.track(heartbeat_seconds=HEARTBEAT_SECONDS) as run:
        log.info("run %s of the chain of custody %s", run.run_id, run.chain_of_custody_id)
        run.attach_wandb(WandbRun.of(run.run_id))
        train(run, Learner(config, *digits.load(place.pictures, config.training.seed)), place)


if __name__ == "__main__":
    main()
