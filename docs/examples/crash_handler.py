"""Run a command, and when it ends badly, have the crash recorded, kept, analyzed and told to the team.

python crash_handler.py --bucket team-runs --bedrock-model MODEL_ID mgda_i-abc123 -- python train.py
python crash_handler.py --folder kept mgda_i-abc123 -- python train.py --diverge
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ledger.integrations.bedrock import bedrock
from ledger.integrations.crash import CrashEvidence, CrashReport, notify_and_analyze_crash


def by_rule(evidence: CrashEvidence) -> str:
    """Analyze without a model: show the last line of the log, which for Python is what was raised."""
    lines = [line for line in evidence.error_log.splitlines() if line.strip()]
    return f"# Analysis of {evidence.run_id}\n\nThe last word was: {lines[-1] if lines else 'none'}\n"


def tell(report: CrashReport) -> None:
    """Stand in for a message to the team's channel."""
    sys.stdout.write(f"{report.run_id} crashed; report: {report.crash_report_s3_key}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--bucket")
    place.add_argument("--folder", type=Path)
    parser.add_argument("--bedrock-model")
    parser.add_argument("run_id")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()

    environment = {**os.environ, "RUN_ID": asked.run_id}
    done = subprocess.run(asked.command, env=environment, stderr=subprocess.PIPE, check=False)  # noqa: S603 -- the caller's own command
    sys.stderr.buffer.write(done.stderr)
    if done.returncode == 0:
        return 0
    notify_and_analyze_crash(
        asked.run_id,
        error_log=done.stderr,
        exit_code=done.returncode,
        end_reason="signal" if done.returncode < 0 else "exception",
        bucket=asked.bucket,
        folder=asked.folder,
        analyze=bedrock(asked.bedrock_model) if asked.bedrock_model else by_rule,
        notify=tell,
    )
    return abs(done.returncode)


if __name__ == "__main__":
    sys.exit(main())
