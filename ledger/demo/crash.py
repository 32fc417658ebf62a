"""The crash handler: say first that the run crashed, then keep what shows why, and say where it lies.

The analysis is made by plain rules from the traceback and the last metrics, and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pydantic import JsonValue

from ledger import Ledger
from ledger.demo.launch import Launch
from ledger.demo.place import Place
from ledger.events import MetricsLogged

LOG_LINES_MAX = 60
GROWTH_MIN = 1000.0


@dataclass(frozen=True)
class Evidence:
    """What is known of a death: exit code, the end of stderr, the loss of every recorded step."""

    exit_code: int
    stderr: str
    losses: list[float]
    learning_rate: float

    @property
    def exception(self) -> str:
        """The traceback's last line, or nothing."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if "Traceback (most recent call last)" in self.stderr else ""


@dataclass(frozen=True)
class Analysis:
    """What the rules make of the evidence; *learning_rate* is what they would try next."""

    finding: str
    advice: str
    learning_rate: float | None = None


def handle_crash(book: Ledger, place: Place, launch: Launch) -> Analysis:
    exit_code = launch.process.wait()
    reason = "signal" if exit_code < 0 else "exception"
    book.update_run_status(launch.run_id, "crashed", exit_code=exit_code, end_reason=reason)
    evidence = gather(book, place, launch, exit_code)
    analysis = analyze(evidence)
    folder = f"crash-reports/{launch.run_id}"
    book.attach_crash_data(
        launch.run_id,
        error_log_s3_key=place.keep(f"{folder}/error.log", evidence.stderr),
        crash_report_s3_key=place.keep(f"{folder}/report.md", report_text(launch, evidence)),
        crash_analysis_s3_key=place.keep(f"{folder}/analysis.md", analysis_text(launch, analysis)),
    )
    return analysis


def gather(book: Ledger, place: Place, launch: Launch, exit_code: int) -> Evidence:
    run = book.get_run(launch.run_id)
    lines = place.log(launch.run_id).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    learning_rate = float(run["learning_rate"]) if run else math.nan
    return Evidence(exit_code, "".join(lines[-LOG_LINES_MAX:]), recorded_losses(book, launch.run_id), learning_rate)


def recorded_losses(book: Ledger, run_id: str) -> list[float]:
    """Read the loss of every step back from the ledger, where what is not finite is kept as text."""
    events = [recorded.event for recorded in book.events(run_id=run_id, types=["metrics_logged"])]
    batches = [event.columns.get("train/loss", []) for event in events if isinstance(event, MetricsLogged)]
    return [as_float(value) for batch in batches for value in batch]


def as_float(value: JsonValue) -> float:
    return float(value) if isinstance(value, (int, float, str)) else math.nan


def analyze(evidence: Evidence) -> Analysis:
    """Take the first rule that fits; none of them guesses."""
    if evidence.exit_code < 0:
        return Analysis(
            f"Signal {-evidence.exit_code} ended the process; its own code raised nothing.",
            "Look for who sent it: the kernel's out-of-memory killer, the scheduler, or a person.",
        )
    if evidence.exception.startswith("FloatingPointError") and growth(evidence.losses) >= GROWTH_MIN:
        return Analysis(
            f"The optimizer diverged. {course(evidence.losses)}",
            f"Launch again with a tenth of the learning rate, {evidence.learning_rate / 10:g} instead of "
            f"{evidence.learning_rate:g}, or with max_grad_norm set.",
            evidence.learning_rate / 10,
        )
    return Analysis(
        f"No rule knows this end: {evidence.exception or f'exit code {evidence.exit_code}, no traceback'}",
        "Read the traceback in error.log.",
    )


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


def report_text(launch: Launch, evidence: Evidence) -> str:
    shown = ", ".join(f"{loss:.3g}" for loss in evidence.losses[-5:]) or "none recorded"
    return (
        f"# Crash of {launch.run_id}\n\n"
        f"- chain of custody: {launch.chain_of_custody_id}\n"
        f"- exit code: {evidence.exit_code}\n"
        f"- exception: {evidence.exception or 'none'}\n"
        f"- steps recorded: {len(evidence.losses)}\n"
        f"- last losses: {shown}\n"
        f"- learning rate: {evidence.learning_rate:g}\n\n"
        f"The end of its stderr is in error.log beside this file.\n"
    )


def analysis_text(launch: Launch, analysis: Analysis) -> str:
    return (
        f"# Analysis of {launch.run_id}\n\n{analysis.finding}\n\n{analysis.advice}\n\n"
        "Made by fixed rules from the traceback and the recorded losses; no model was asked.\n"
    )
