"""The training process: learn from one config, and record in the ledger what happens.

The launcher hands down RUN_ID and CHAIN_OF_CUSTODY_ID, and TRAINING_DB_PATH says where the
ledger is. An exception ends the process as it would end any training script: nothing here
catches it, and what the ledger then hears of it comes from the launcher that saw the exit code.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from pathlib import Path

from ledger import Ledger
from ledger.demo import configs, digits
from ledger.demo.diary import Diary
from ledger.demo.learner import Learner, Measured, Metrics
from ledger.demo.place import Place

REPORT_STEPS = 500

log = logging.getLogger("train")


def require_finite(step: int, measured: Measured) -> None:
    if not math.isfinite(measured.loss):
        parts = ", ".join(f"{alias} {part.loss:.3g}" for alias, part in measured.slopes.items())
        raise FloatingPointError(f"the loss became {measured.loss} at step {step}: {parts}")


def learn(learner: Learner, diary: Diary, place: Place) -> Metrics:
    """Take every step of the config, and tell of each even when it is the one that fails."""
    steps = learner.config.training.max_steps
    try:
        for step in range(1, steps + 1):
            measured = learner.measure()
            diary.add(step, measured.metrics())
            require_finite(step, measured)
            learner.move(measured)
            if step in {steps // 2, steps}:
                save(step, learner, diary, place)
            if step % REPORT_STEPS == 0:
                diary.flush()
                diary.beat(step, measured.metrics())
    finally:
        diary.flush()
    return learner.measure().metrics()


def save(step: int, learner: Learner, diary: Diary, place: Place) -> None:
    path = place.checkpoint(diary.run_id, step)
    learner.save(path)
    diary.checkpoint(step, path, learner.judge())


def train(diary: Diary, config_path: Path, place: Place) -> None:
    diary.start()
    config = configs.read(config_path)
    log.info("run %s of %s steps by %s", diary.run_id, config.training.max_steps, config.reward.gradient_method)
    learner = Learner(config, *digits.load(place.pictures, config.training.seed))
    last = learn(learner, diary, place)
    speed = {"train/steps_per_second": config.training.max_steps / diary.seconds()}
    diary.complete({**last, **speed, **learner.judge()})
    log.info("done after %.1f s", diary.seconds())


def main() -> None:
    config_path, folder = map(Path, sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    log.info("chain of custody %s", os.environ["CHAIN_OF_CUSTODY_ID"])
    with Ledger(os.environ["TRAINING_DB_PATH"]) as book:
        train(Diary(book, os.environ["RUN_ID"]), config_path, Place(folder))


if __name__ == "__main__":
    main()
