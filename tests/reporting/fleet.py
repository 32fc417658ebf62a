"""Some runs with ends of every kind, and the same runs as pandas has them."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pandas as pd

from ledger import Ledger
from ledger.events import Event
from tests.builders import completed, crash_data_attached, crashed, failed, launched, moment, started, voided

METRIC = "objectives/COMT_activity_maximize/raw_mean"
METHODS = ("mgda", "pcgrad", "imtlg", None)
KINDS = ("g5.12xlarge", "p4d.24xlarge", "trn1.32xlarge", None)
HOUR = 3600.0


def fill(book: Ledger, runs: int = 120, seed: int = 0) -> None:
    """Record runs over half a year; some never start, some never end, some metrics are NaN or no number."""
    random = Random(f"reports {seed}")
    book.append([event for number in range(runs) for event in _life(random, number)])


def _life(random: Random, number: int) -> list[Event]:
    run, at = f"run-{number:04}", random.uniform(0, 180 * 24) * HOUR
    config: dict[str, Any] = {
        "training": {
            "lr": random.choice((1e-4, "1e-4", 3e-4)),
            "seed": number,
            "bf16": random.choice((True, False, 1)),
        },
        "objectives": [{"name": "COMT", "weight": random.choice((1, 2))}],
        "dotted.key": random.choice(("a", "b")),
    }
    if (method := random.choice(METHODS)) is not None:
        config["reward"] = {"gradient_method": method}
    told = [
        launched(at, run=run, config=config, instance_type=random.choice(KINDS), host=random.choice(("ec2", "hpc")))
    ]
    began, ended = at + random.uniform(0, 900), at + 900 + random.lognormvariate(9, 2)
    if random.random() < 0.9:
        told.append(started(began, run=run, started_at=moment(began)))
    elif random.random() < 0.5:
        return told
    if (drawn := random.random()) < 0.1:
        return told
    if drawn < 0.6:
        value = random.choice((random.gauss(0.5, 0.1), random.gauss(0.5, 0.1), float("nan"), "0.5", True, None))
        told.append(completed(ended, run=run, final_metrics={METRIC: value, "eval": {"loss": random.random()}}))
    else:
        reason = random.choice(("oom", "exception", None))
        told.append(random.choice((crashed, crashed, failed))(ended, run=run, end_reason=reason))
        if random.random() < 0.5:
            told.append(crash_data_attached(ended, run=run, crash_analysis_s3_key="analysis.md"))
    return [*told, voided(ended, run=run, reason="a test")] if random.random() < 0.05 else told


def frame(book: Any) -> pd.DataFrame:
    """Return every run as a row, with its times as moments and its config and metrics as objects."""
    made = pd.DataFrame(book.query_runs(limit=None))
    for name in ("created_at", "started_at", "ended_at"):
        made[name] = pd.to_datetime(made[name], utc=True, format="ISO8601")
    made["config"] = made["config_json"].map(lambda text: json.loads(text) if isinstance(text, str) else {})
    made["metrics"] = made["final_metrics_json"].map(lambda text: json.loads(text) if isinstance(text, str) else {})
    return made


def spans(runs: pd.DataFrame, now: Any) -> pd.DataFrame:
    """Return the same with begin and end: from the start, or the end less the duration, to the end, or to now."""
    end = runs["ended_at"].where(runs["status"] != "running", now)
    begin = runs["started_at"].fillna(end - pd.to_timedelta(runs["duration_seconds"], unit="s"))
    return runs.assign(begin=begin, end=end)


def plain(value: Any) -> Any:
    """Return a value as a report has it: pandas' NaN is None."""
    return None if value is None or (isinstance(value, float) and value != value) or value is pd.NaT else value


def grouped(runs: pd.DataFrame, by: str) -> dict[Any, pd.DataFrame]:
    """Return the runs with each value of a column."""
    return {plain(value): part for value, part in runs.groupby(by, dropna=False)}
