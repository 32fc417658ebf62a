"""`python -m ledger.integrations.crash` is the handler for whoever saw the end: `--on-crash`, a trap, a scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from tests.store.crowd import ROOT


@pytest.fixture(autouse=True)
def launched(book: Ledger) -> Ledger:
    """Give a ledger with one run."""
    book.insert_run("r", None, {})
    return book


def handle(book: Ledger | None, *words: str, **handed: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **handed}
    if book is not None:
        env["TRAINING_DB_PATH"] = book.url
    return subprocess.run(
        [sys.executable, "-m", "ledger.integrations.crash", *words], env=env, capture_output=True, text=True
    )


def row(book: Ledger) -> dict[str, Any]:
    found = book.get_run("r")
    assert found is not None
    return found


def test_the_environment_says_what_happened(launched: Ledger, tmp_path: Path) -> None:
    """As `--on-crash` hands it down: RUN_ID, ERROR_LOG, EXIT_CODE, END_REASON."""
    (tmp_path / "error.log").write_text("Killed\n")
    done = handle(
        launched, "--folder", str(tmp_path / "kept"),
        RUN_ID="r", ERROR_LOG=str(tmp_path / "error.log"), EXIT_CODE="137", END_REASON="oom",
    )  # fmt: skip
    (crash,) = launched.events(types="crashed")

    assert (done.returncode, done.stdout) == (0, "")
    assert "run r: crash recorded; kept: crash-reports/r/error.log, crash-reports/r/report.md" in done.stderr
    assert (row(launched)["exit_code"], row(launched)["end_reason"], crash.error_log) == (137, "oom", "Killed\n")
    assert (tmp_path / "kept/crash-reports/r/error.log").read_text() == "Killed\n"


def test_words_go_before_the_environment(launched: Ledger, tmp_path: Path, bucket: Any) -> None:
    """As a shell's `$1` and `$2`; into a bucket."""
    (tmp_path / "a.log").write_text("ValueError\n")
    words = ["--exit-code", "1", "--end-reason", "exception", "--bucket", "team", "--", "r", str(tmp_path / "a.log")]
    done = handle(launched, *words, RUN_ID="other", ERROR_LOG="/none", EXIT_CODE="9")

    assert done.returncode == 0, done.stderr
    assert (row(launched)["exit_code"], row(launched)["end_reason"]) == (1, "exception")
    assert sorted(found.key for found in bucket.objects.all()) == [
        "crash-reports/r/error.log", "crash-reports/r/report.md",
    ]  # fmt: skip


def test_nonsense_costs_no_crash(launched: Ledger) -> None:
    """An exit code or a reason that cannot be meant, and a log that is not there, are no reason to lose it."""
    done = handle(launched, RUN_ID="r", ERROR_LOG="/none/a.log", EXIT_CODE="soon", END_REASON="bad luck")

    assert done.returncode == 4
    assert "reading the error log" in done.stderr
    assert (row(launched)["status"], row(launched)["exit_code"], row(launched)["end_reason"]) == (
        "crashed", None, "unknown",
    )  # fmt: skip


def test_what_is_not_handed_down_is_not_said(launched: Ledger) -> None:
    """Empty variables are none."""
    assert handle(launched, "r", ERROR_LOG="", EXIT_CODE="", END_REASON="").returncode == 0
    assert (row(launched)["status"], row(launched)["end_reason"]) == ("crashed", None)


@pytest.mark.parametrize(("handed", "why"), [({"RUN_ID": "nobody"}, "no run 'nobody'"), ({}, "run_id")])
def test_a_run_that_is_none_is_an_error(handed: dict[str, str], why: str, launched: Ledger) -> None:
    """With exit code 3 and one line that has the mend."""
    done = handle(launched, **handed)

    assert done.returncode == 3
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_is_not_named_costs_no_log(tmp_path: Path) -> None:
    """The log is kept; that nothing is recorded is told, and the exit code is 3."""
    (tmp_path / "a.log").write_text("Killed\n")
    done = handle(None, "r", str(tmp_path / "a.log"), "--folder", str(tmp_path))

    assert done.returncode == 3
    assert "TRAINING_DB_PATH not set" in done.stderr
    assert (tmp_path / "crash-reports/r/error.log").read_text() == "Killed\n"


def test_a_ledger_that_is_away_costs_no_crash(launched: Ledger, tmp_path: Path, monkeypatch: Any) -> None:
    """It goes to a spool of this user, where nobody has named one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "none").mkdir()
    missing = f"sqlite:///{tmp_path}/none/there.db"
    done = handle(None, "r", "--exit-code", "7", TRAINING_DB_URL=missing)
    answer = launched.sync(tmp_path / "state/training-run-ledger/spool")

    assert done.returncode == 4, done.stderr
    assert (answer.new, row(launched)["status"], row(launched)["exit_code"]) == (1, "crashed", 7)
