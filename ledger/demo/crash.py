"""The crash handler: the documented one, with plain rules for an analyzer.

The rules go by the run's end, its traceback and its last losses, and say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from pydantic import JsonValue

from ledger import Ledger
from ledger.demo.place import Place
from ledger.events import MetricsLogged
from ledger.integrations.crash import CrashEvidence, notify_and_analyze_crash

GROWTH_MIN = 1000.0


@dataclass(frozen=True)
class Analysis:
    """What the rules make of the evidence; *learning_rate* is what they would try next."""

    finding: str
    advice: str
    learning_rate: float | None = None


@dataclass
class Rules:
    """An analyzer that knows the loss of every recorded step, and keeps what it made of each crash."""

    losses: list[float]
    made: list[Analysis] = field(default_factory=list)

    def __call__(self, evidence: CrashEvidence) -> str:
        analysis = analyze(evidence, self.losses)
        self.made.append(analysis)
        return (
            f"# Analysis of {evidence.run_id}\n\n{analysis.finding}\n\n{analysis.advice}\n\n"
            "Made by fixed rules from the traceback and the recorded losses; no model was asked.\n"
        )


def handle_crash(book: Ledger, place: Place, run_id: str) -> Analysis | None:
    """Keep and attach what shows why the run crashed; None where it could not be analysed, which is logged then."""
    run = book.get_run(run_id) or {}
    rules = Rules(recorded_losses(book, run_id))
    notify_and_analyze_crash(
        run_id,
        error_log=Path(run.get("error_log_s3_key") or place.log(run_id)),
        exit_code=run.get("exit_code"),
        end_reason=run.get("end_reason"),
        folder=place.root,
        analyze=rules,
        ledger=book,
    )
    return rules.made[-1] if rules.made else None


def recorded_losses(book: Ledger, run_id: str) -> list[float]:
    """Read the loss of every step back from the ledger, where what is not finite is kept as text."""
    events = [recorded.event for recorded in book.events(run_id=run_id, types=["metrics_logged"])]
    batches = [event.columns.get("train/loss", []) for event in events if isinstance(event, MetricsLogged)]
    return [as_float(value) for batch in batches for value in batch]


def as_float(value: JsonValue) -> float:
    return float(value) if isinstance(value, (int, float, str)) else math.nan


def analyze(evidence: CrashEvidence, losses: list[float]) -> Analysis:
    """Take the first rule that fits; none of them guesses."""
    if evidence.end_reason == "signal" and evidence.exit_code is not None:
        return Analysis(
            f"Signal {evidence.exit_code - 128} ended the process; its own code raised nothing.",
            "Look for who sent it: the kernel's out-of-memory killer, the scheduler, or a person.",
        )
    raised = exception(evidence.error_log)
    if raised.startswith("FloatingPointError") and growth(losses) >= GROWTH_MIN:
        learning_rate = float(str(evidence.run["learning_rate"]))
        return Analysis(
            f"The optimizer diverged. {course(losses)}",
            f"Launch again with a tenth of the learning rate, {learning_rate / 10:g} instead of "
            f"{learning_rate:g}, or with max_grad_norm set.",
            learning_rate / 10,
        )
    return Analysis(
        f"No rule knows this end: {raised or f'exit code {evidence.exit_code}, no traceback'}",
        "Read the traceback in error.log.",
    )


def exception(error_log: str) -> str:
    """Return the traceback's last line, or nothing."""
    lines = [line for line in error_log.splitlines() if line.strip()]
    return lines[-1] if "Traceback (most recent call last)" in error_log else ""


def growth(losses: list[float]) -> float:
    """Return the last loss as a multiple of the smallest; endless where it is no longer a number."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite or min(finite) <= 0:
        return 0.0
    return losses[-1] / min(finite) if math.isfinite(losses[-1]) else math.inf


def course(losses: list[float]) -> str:
    lowest = min((i for i, loss in enumerate(losses) if math.isfinite(loss)), key=losses.__getitem__)
    ratios = [later / earlier for earlier, later in pairwise(losses[lowest:]) if math.isfinite(later)]
    pace = f", by a factor of {median(ratios):.3g} a step in the median," if ratios else ""
    return (
        f"The loss was lowest at step {lowest + 1} ({losses[lowest]:.3g}) and then grew{pace} "
        f"until it was {losses[-1]:.3g} at step {len(losses)}."
    )
