"""The crash handler: `notify_and_analyze_crash(run_id, ...)`, and what an analyzer and a notifier are given."""

from ledger.integrations.crash.evidence import Analyzer, CrashEvidence
from ledger.integrations.crash.handling import Notifier, notify_and_analyze_crash
from ledger.integrations.crash.report import CrashReport

__all__ = ["Analyzer", "CrashEvidence", "CrashReport", "Notifier", "notify_and_analyze_crash"]
