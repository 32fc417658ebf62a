"""The four documented example queries, asked of the demo's ledger.

The documented `min_duration_hours` is left out of them: these runs take seconds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

from ledger import Ledger
from ledger.demo.methods import METHODS, MethodName

Row = Mapping[str, object]


def final_metrics(run: Row) -> dict[str, float]:
    """Return what the run's end said; a value that was not finite is None there, and left out here."""
    found = json.loads(str(run["final_metrics_json"] or "{}"))
    return {name: float(value) for name, value in found.items() if value is not None}


def best_by(book: Ledger, alias: str) -> list[Row]:
    """Rank the completed runs by one objective, best first, in the direction that its alias ends with."""
    runs = book.query_runs(filters={"status": "completed"}, order_by="created_at DESC", limit=100)
    scored = [(final_metrics(run).get(f"objectives/{alias}/raw_mean"), run) for run in runs]
    present = [(score, run) for score, run in scored if score is not None]
    present.sort(key=lambda pair: pair[0], reverse=alias.endswith("_maximize"))
    return [
        {"run_name": run["run_name"], "gradient_method": run["gradient_method"], alias: f"{score:.4f}"}
        for score, run in present
    ]


def compare_methods(book: Ledger) -> list[Row]:
    return [compared(book, method) for method in METHODS]


def compared(book: Ledger, method: MethodName) -> Row:
    completed = book.query_runs(filters={"gradient_method": method, "status": "completed"})
    crashed = book.query_runs(filters={"gradient_method": method, "status": "crashed"})
    ended = len(completed) + len(crashed)
    seconds = [run["duration_seconds"] for run in completed if run["duration_seconds"] is not None]
    return {
        "gradient_method": method,
        "completed": len(completed),
        "success": f"{100 * len(completed) / ended:.1f}%" if ended else "-",
        "avg_seconds": f"{sum(seconds) / len(seconds):.1f}" if seconds else "-",
    }


def without_post(book: Ledger) -> list[Row]:
    runs = book.query_runs(
        filters={"status": "completed", "has_blog_post": False}, order_by="duration_seconds DESC", limit=20
    )
    return [
        {name: run[name] for name in ("run_name", "duration_seconds", "config_file_path", "wandb_url")} for run in runs
    ]


def crashes_by_method(book: Ledger) -> list[Row]:
    crashes: defaultdict[str, list[Row]] = defaultdict(list)
    for run in book.query_runs(filters={"status": "crashed"}, limit=200):
        crashes[str(run["gradient_method"] or "unknown")].append(run)
    return [
        {
            "gradient_method": method,
            "crashes": len(runs),
            "with_analysis": sum(1 for run in runs if run["crash_analysis_s3_key"]),
        }
        for method, runs in sorted(crashes.items(), key=lambda item: len(item[1]), reverse=True)
    ]
