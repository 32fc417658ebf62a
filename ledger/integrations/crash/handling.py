"""What is done when a run has crashed: say so first, then keep what shows why, then say where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from ledger.api import Ledger
from ledger.default import default_ledger
from ledger.error_log import last_lines
from ledger.errors import MissingExtra, Unreachable
from ledger.integrations.crash.evidence import Analyzer, CrashEvidence, ErrorLog, gathered, log_text
from ledger.integrations.crash.report import CrashReport, report_text
from ledger.integrations.keeping import Keeper, keeper_of, key_of
from ledger.integrations.problems import Problems
from ledger.porch import When

__all__ = ["Notifier", "notify_and_analyze_crash"]

Notifier = Callable[[CrashReport], object]

_DETECTED_BY = "crash handler"
_MARKDOWN, _PLAIN = "text/markdown; charset=utf-8", "text/plain; charset=utf-8"


def notify_and_analyze_crash(
    run_id: str,
    *,
    error_log: ErrorLog | None = None,
    exit_code: int | None = None,
    end_reason: str | None = None,
    config: object = None,
    bucket: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    analyze: Analyzer | None = None,
    notify: Notifier | None = None,
    ledger: Ledger | None = None,
    at: When | None = None,
) -> CrashReport:
    """Record the crash, unless the run has ended; then keep log, report and analysis, attach them, and notify.

    *error_log* is a text, or the path of a file. Raises RunNotFound, with nothing done, for an unknown run. What
    fails from then on, and a ledger that is away, stops nothing: the report's `problems` and the log say it.
    """
    problems = Problems(run_id)
    crash = _Crash(run_id, exit_code, end_reason, _end_of_text(error_log), at)
    recorded = False
    try:
        crash.record(ledger)
        recorded = True
    except (Unreachable, MissingExtra) as exc:  # what shows why the run crashed is kept all the same
        problems.note(f"recording the crash: {exc}")
    evidence = _evidence(crash, ledger, error_log, config, problems)
    made = CrashReport(run_id, recorded)
    with problems.step("writing the report"):
        made = replace(made, report=report_text(evidence, problems.all()))
    made = _keep(made, evidence, _place(bucket, folder, problems), analyze, problems)
    with problems.step("attaching what was kept"):
        crash.attach(ledger, made)
        made = replace(made, status_recorded=True)
    made = replace(made, problems=problems.all())
    with problems.step("notifying"):
        if notify is not None:
            notify(made)
    return replace(made, problems=problems.all())


@dataclass(frozen=True)
class _Crash:
    """What the ledger is told."""

    run_id: str
    exit_code: int | None
    end_reason: str | None
    last_lines: str | None
    at: When | None

    def record(self, ledger: Ledger | None) -> None:
        _of(ledger).record_crash(
            self.run_id,
            exit_code=self.exit_code,
            end_reason=self.end_reason,
            error_log=self.last_lines,
            detected_by=_DETECTED_BY,
            at=self.at,
        )

    def attach(self, ledger: Ledger | None, made: CrashReport) -> None:
        if not made.status_recorded:  # the ledger may be back
            self.record(ledger)
        keys = (made.error_log_s3_key, made.crash_report_s3_key, made.crash_analysis_s3_key)
        if any(keys):
            _of(ledger).attach_crash_data(self.run_id, *keys, at=self.at)


def _of(ledger: Ledger | None) -> Ledger:
    return default_ledger() if ledger is None else ledger


def _end_of_text(error_log: object) -> str | None:
    """The end of a log that is here. A file is read when the crash is recorded: that can fail, or hang."""
    return last_lines(log_text(error_log)) if isinstance(error_log, str | bytes) else None


def _evidence(
    crash: _Crash, ledger: Ledger | None, error_log: ErrorLog | None, config: object, problems: Problems
) -> CrashEvidence:
    known = CrashEvidence(crash.run_id, exit_code=crash.exit_code, end_reason=crash.end_reason)
    with problems.step("reading the error log"):
        known = replace(known, error_log="" if error_log is None else log_text(error_log))
    with problems.step("asking the ledger for the run"):
        known = gathered(_of(ledger), known)
    with problems.step("reading the config"):
        return known if config is None else known.with_config(config)
    return known


def _place(bucket: str | None, folder: str | os.PathLike[str] | None, problems: Problems) -> Keeper | None:
    with problems.step("finding the place to keep it"):
        return keeper_of(bucket=bucket, folder=folder)
    return None


def _keep(
    made: CrashReport, evidence: CrashEvidence, place: Keeper | None, analyze: Analyzer | None, problems: Problems
) -> CrashReport:
    """Keep one text after the other; the analysis comes last, since nobody knows how long it takes."""

    def keep(name: str, text: str | None, content_type: str = _MARKDOWN) -> str | None:
        if place is not None and text:
            with problems.step(f"keeping {name}"):
                return place.keep(key_of("crash-reports", made.run_id, name), text, content_type)
        return None

    error_log, report = keep("error.log", evidence.error_log, _PLAIN), keep("report.md", made.report)
    analysis = None if analyze is None else _analysis(analyze, evidence, problems)
    return replace(
        made,
        analysis=analysis,
        error_log_s3_key=error_log,
        crash_report_s3_key=report,
        crash_analysis_s3_key=keep("analysis.md", analysis),
    )


def _analysis(analyze: Analyzer, evidence: CrashEvidence, problems: Problems) -> str | None:
    with problems.step("analyzing the crash"):
        said = analyze(evidence)
        if isinstance(said, str) and said.strip():
            return said
        problems.note("analyzing the crash: the analyzer gave no text")
    return None
