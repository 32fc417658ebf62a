"""The crash handler as a command: `python -m ledger.integrations.crash [RUN_ID] [ERROR_LOG] [--bucket B]`.

What is not said is read from RUN_ID, ERROR_LOG, EXIT_CODE and END_REASON, which whoever saw the end hands down. The
exit code is 0 where all was done, 4 where the crash is recorded and something else failed, 3 where it is not recorded.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import get_args

from ledger.api import Ledger
from ledger.errors import LedgerError, NotConfigured
from ledger.events.lifecycle import EndReason
from ledger.integrations.bedrock import bedrock
from ledger.integrations.crash.evidence import ErrorLog, log_text
from ledger.integrations.crash.handling import notify_and_analyze_crash

__all__ = ["main"]

NOT_RECORDED, NOT_ALL_DONE = 3, 4  # 1 and 2 are Python's and argparse's own

_log = logging.getLogger("ledger")


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    said = _parser().parse_args(argv)
    try:
        with _ledger() as ledger:
            made = notify_and_analyze_crash(
                said.run_id,
                error_log=_log_of(said.error_log),
                exit_code=_whole_number(said.exit_code),
                end_reason=_reason(said.end_reason),
                bucket=said.bucket,
                folder=said.folder,
                analyze=bedrock(said.bedrock_model, region=said.region) if said.bedrock_model else None,
                ledger=ledger,
            )
    except LedgerError as exc:
        _log.error("run %s: its crash was not recorded: %s", said.run_id, exc)
        return NOT_RECORDED
    keys = (made.error_log_s3_key, made.crash_report_s3_key, made.crash_analysis_s3_key)
    _log.info("run %s: crash recorded; kept: %s", made.run_id, ", ".join(filter(None, keys)) or "nothing")
    return NOT_RECORDED if not made.status_recorded else NOT_ALL_DONE if made.problems else 0


def _ledger() -> AbstractContextManager[Ledger | None]:
    """The ledger, with a spool: nobody is left to say it again, so that one which is away must not cost the word.

    Where none is named, none is told, which the handler says, and keeps the log all the same.
    """
    try:
        return Ledger(always_spools=True)
    except NotConfigured:
        return nullcontext()


def _parser() -> argparse.ArgumentParser:
    handed = os.environ
    made = argparse.ArgumentParser(prog="python -m ledger.integrations.crash", description=(__doc__ or "").strip())
    made.add_argument("run_id", nargs="?", default=handed.get("RUN_ID"), help="else the variable RUN_ID")
    made.add_argument("error_log", nargs="?", default=handed.get("ERROR_LOG"), help="a file; else ERROR_LOG")
    made.add_argument("--exit-code", default=handed.get("EXIT_CODE"), help="else EXIT_CODE")
    made.add_argument("--end-reason", default=handed.get("END_REASON"), help="else END_REASON")
    place = made.add_mutually_exclusive_group()
    place.add_argument("--bucket", help="keep log, report and analysis in this bucket of S3")
    place.add_argument("--folder", help="keep them in this folder")
    made.add_argument("--bedrock-model", metavar="MODEL_ID", help="have this model of Bedrock write the analysis")
    made.add_argument("--region", help="the region of Bedrock; else as boto3 finds it")
    return made


def _log_of(path: str | None) -> ErrorLog | None:
    """The text of the log, so that the ledger gets its end; the path where it cannot be read, which is then told."""
    if not path:
        return None
    with suppress(OSError):
        return log_text(Path(path))
    return Path(path)


def _whole_number(text: str | None) -> int | None:
    """An exit code that is none is no reason to lose the crash."""
    with suppress(ValueError):
        return int(text) if text else None
    return None


def _reason(text: str | None) -> str | None:
    return text if text in get_args(EndReason) else None if not text else "unknown"


if __name__ == "__main__":
    sys.exit(main())
