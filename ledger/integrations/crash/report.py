"""The crash report: what the handler hands back, and the page that people read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ledger.integrations.crash.evidence import CrashEvidence
from ledger.projections.run import HYPERPARAMETERS

__all__ = ["CrashReport", "report_text"]

METRICS_MAX = 40
ENTRIES_MAX = 20
LOG_LINES_MAX, LOG_LENGTH_MAX = 60, 16_384

_FACTS = {
    "chain of custody": "chain_of_custody_id",
    "name": "run_name",
    "status": "status",
    "end reason": "end_reason",
    "exit code": "exit_code",
    "host": "host",
    "instance": "instance_id",
    "instance type": "instance_type",
    "launched": "created_at",
    "started": "started_at",
    "ended": "ended_at",
    "duration": "duration_seconds",
    "W&B": "wandb_url",
    "config": "config_file_path",
    "resumes": "resumes_run_id",
}


@dataclass(frozen=True)
class CrashReport:
    """What the handler did: which keys are attached, the texts themselves, and what went wrong on the way.

    *status_recorded* is False where the ledger could not be told of the crash at all.
    """

    run_id: str
    status_recorded: bool
    report: str = ""
    analysis: str | None = None
    error_log_s3_key: str | None = None
    crash_report_s3_key: str | None = None
    crash_analysis_s3_key: str | None = None
    problems: tuple[str, ...] = ()


def report_text(evidence: CrashEvidence, problems: tuple[str, ...] = ()) -> str:
    """Return the page `report.md`."""
    return "\n".join(_lines(evidence, problems)) + "\n"


def _lines(evidence: CrashEvidence, problems: tuple[str, ...]) -> Iterator[str]:
    row = evidence.run
    yield f"# Crash of {_line(evidence.run_id)}"
    yield ""
    if not row:
        yield "- The ledger could not be asked, so that only what the handler was told stands here."
    yield from _facts(evidence)
    yield from _section("Hyperparameters", _pairs({name: row.get(name) for name in HYPERPARAMETERS}))
    yield from _section("Last metrics", _metrics(row.get("final_metrics_json")))
    entries = evidence.timeline[-ENTRIES_MAX:]
    yield from _section("Timeline", [f"- {e.occurred_at} {e.type}: {_line(e.summary)}" for e in entries])
    yield from _section("Last lines of the log", _fenced(_last(evidence.error_log)))
    yield from _section("Problems of the crash handler", [f"- {_line(problem)}" for problem in problems])


def _facts(evidence: CrashEvidence) -> Iterator[str]:
    told = {"exit_code": evidence.exit_code, "end_reason": evidence.end_reason}
    for word, column in _FACTS.items():
        value = evidence.run.get(column)
        value = told.get(column) if value is None else value
        if value is not None:
            yield f"- {word}: {_duration(value) if word == 'duration' else _line(value)}"


def _section(heading: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"## {heading}", "", *lines)


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [f"- {_line(name)}: {_line(value)}" for name, value in values.items() if value is not None]


def _metrics(text: object) -> list[str]:
    metrics = json.loads(text) if isinstance(text, str) else {}
    lines = _pairs(metrics)
    more = len(lines) - METRICS_MAX
    return [*lines[:METRICS_MAX], f"- and {more} more"] if more > 0 else lines


def _last(log: str) -> str:
    return "\n".join(log[-LOG_LENGTH_MAX:].splitlines()[-LOG_LINES_MAX:])


def _fenced(text: str) -> list[str]:
    """The text between fences that are longer than any run of backticks in it."""
    if not text.strip():
        return []
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [fence, text, fence]


def _duration(seconds: object) -> str:
    whole = seconds if isinstance(seconds, int) else 0
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _line(value: object) -> str:
    return " ".join(str(value).split())[:500]
