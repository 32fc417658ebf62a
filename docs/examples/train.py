"""A training script with the two lines of a wrapper; whoever launches it hands down RUN_ID.

RUN_ID=mgda_i-abc123 TRAINING_DB_PATH=~/training_runs.db python train.py --steps 100
RUN_ID=... python train.py --wandb         # reports to W&B, too
RUN_ID=... python train.py --diverge       # ends as a run does whose loss is no number any more
"""

from __future__ import annotations

import argparse
import math
import sys

from ledger.integrations import wrapper


def descend(steps: int, learning_rate: float) -> float:
    """Go down the slope of x^2 from 1, and return what is left of the loss."""
    x = 1.0
    for step in range(1, steps + 1):
        x -= learning_rate * 2 * x
        if not math.isfinite(x * x):
            raise FloatingPointError(f"the loss became {x * x} at step {step}")
    return x * x


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="what the launcher names; this little training reads none")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--wandb", action="store_true")
    parser.add_argument("--diverge", action="store_true")
    asked = parser.parse_args()
    run = None
    if asked.wandb:
        import wandb

        run = wandb.init(project="examples")

    wrapper.started(run)
    loss = descend(asked.steps, learning_rate=1e9 if asked.diverge else 0.1)
    if run is None:
        wrapper.ended(metrics={"loss": loss})
    else:
        run.summary["loss"] = loss
        wrapper.ended("completed", run)
        run.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
