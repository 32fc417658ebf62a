"""A training wrapper's two lines say what the documented ones do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import AskedWrongly, RunNotFound
from ledger.integrations import wrapper
from tests.store.crowd import ROOT

LIVE = """
import json, os, sys, wandb
from ledger.integrations import wrapper
run = wandb.init(project="p", mode="offline", dir=sys.argv[1], settings=wandb.Settings(silent=True))
wrapper.started(run)
run.log({"loss": 0.5, "bad": float("nan")})
run.summary["objectives/a/raw_mean"] = 1.5
wrapper.ended("completed", run)
print(run.id)
run.finish()
"""


@pytest.fixture(autouse=True)
def run(book: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Give a ledger with a launched run, and the environment that its process has."""
    book.insert_run("r", None, {})
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    monkeypatch.setenv("RUN_ID", "r")
    monkeypatch.setattr(wrapper, "_began", {})
    return book


def row(book: Ledger) -> dict[str, Any]:
    found = book.get_run("r")
    assert found is not None
    return found


def test_a_training_is_recorded(run: Ledger) -> None:
    """Its start, W&B run, end, duration and final metrics."""
    wandb_run = SimpleNamespace(id="w1", url="https://wandb.ai/w1", summary=SimpleNamespace(_as_dict=lambda: {"l": 1}))
    wrapper.started(wandb_run)
    assert (row(run)["status"], row(run)["wandb_run_id"]) == ("running", "w1")
    assert (row(run)["wandb_url"], row(run)["started_at"] is None) == ("https://wandb.ai/w1", False)

    wrapper.ended("completed", wandb_run)
    assert (row(run)["status"], json.loads(row(run)["final_metrics_json"])) == ("completed", {"l": 1})
    assert (row(run)["duration_seconds"], row(run)["ended_at"] >= row(run)["started_at"]) == (0, True)


def test_the_public_apis_summary_will_do(run: Ledger) -> None:
    """It has its metrics under another name."""
    wrapper.ended(wandb_run=SimpleNamespace(id="w", url=None, summary=SimpleNamespace(_json_dict={"l": 2})))

    assert json.loads(row(run)["final_metrics_json"]) == {"l": 2}


def test_a_real_wandb_run_will_do(run: Ledger, tmp_path: Path) -> None:
    """A live run of the W&B library, in offline mode and in a process of its own."""
    command = [sys.executable, "-c", LIVE, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_DATA_DIR": str(tmp_path), "WANDB_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(row(run)["final_metrics_json"])

    assert (row(run)["status"], row(run)["wandb_run_id"]) == ("completed", done.stdout.strip())
    assert (metrics["loss"], metrics["bad"], metrics["objectives/a/raw_mean"]) == (0.5, None, 1.5)


def test_an_end_says_how_it_ended(run: Ledger) -> None:
    """Metrics by hand go before the summary; without a start there is no duration to say."""
    wrapper.ended("failed", metrics={"l": 3}, end_reason="user", exit_code=2)
    after = row(run)

    assert (after["status"], after["end_reason"], after["exit_code"]) == ("failed", "user", 2)
    assert (after["duration_seconds"], json.loads(after["final_metrics_json"])) == (None, {"l": 3})


def test_a_run_may_be_named(run: Ledger) -> None:
    """Where the environment does not; and another ledger, too."""
    run.insert_run("other", None, {})
    wrapper.started(run_id="other", ledger=run)

    assert [found["run_id"] for found in run.query_runs({"status": "running"})] == ["other"]


def test_a_run_that_is_not_named_or_known_is_an_error(run: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mend is to have RUN_ID handed down, or the launch recorded."""
    with pytest.raises(RunNotFound):
        wrapper.started(run_id="nobody")
    for name in ("", None):
        monkeypatch.setenv("RUN_ID", "") if name == "" else monkeypatch.delenv("RUN_ID")
        with pytest.raises(AskedWrongly, match="RUN_ID is not set: .*Have the launcher hand it down"):
            wrapper.started()
