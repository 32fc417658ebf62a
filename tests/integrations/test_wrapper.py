"""A training wrapper's two lines say what the documented ones do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import AskedWrongly, RunNotFound
from ledger.integrations import wrapper


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
