"""python -m bench.analytics [--runs N]: each report of a large ledger, beside hand-written SQL for the same answer.

The SQL runs on the bare driver and the same file. Where it takes several statements for one report, they are added up.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.fleet import METRIC, fill
from ledger import Ledger

RUNS = 20_000
TIMES = 7
PRICES = [
    {"instance_type": "g5.12xlarge", "price_per_hour": 5.672},
    {"instance_type": "p4d.24xlarge", "price_per_hour": 32.77, "from": "2020-01-01"},
    {"instance_type": "p4d.24xlarge", "price_per_hour": 21.96, "from": "2026-06-01"},
    {"instance_type": "p5.48xlarge", "price_per_hour": 98.32},
]
THREE = ["gradient_method", "beta", "config.training.optimizer"]

COUNTS = "count(*), " + ", ".join(
    f"sum(status = '{s}')" for s in ("launched", "running", "completed", "failed", "crashed")
)
SECONDS = "CASE status WHEN 'running' THEN (julianday(:now) - julianday(started_at)) * 86400 ELSE duration_seconds END"
QUANTILES = (
    "avg(CASE WHEN n IN ((c + 1) / 2, (c + 2) / 2) THEN s END),"
    " avg(CASE WHEN n IN (CAST(0.9 * (c - 1) AS INT) + 1, CAST(0.9 * (c - 1) AS INT) + 2) THEN s END)"
)
RANKED = (
    "SELECT *, row_number() OVER (PARTITION BY g ORDER BY s) n, count(s) OVER (PARTITION BY g) c"
    " FROM (SELECT {group} g, {value} s, status, crash_analysis_s3_key a FROM training_runs WHERE {where})"
)
SPAN = (
    "SELECT instance_type, status, julianday(started_at) b,"
    " julianday(CASE status WHEN 'running' THEN :now ELSE ended_at END) e FROM training_runs"
)
PRICED = (
    "WITH spans AS MATERIALIZED ("
    + SPAN
    + "), prices(kind, price, since, until) AS (VALUES ('g5.12xlarge', 5.672, 0, 1e9),"
    " ('p4d.24xlarge', 32.77, 0, julianday('2026-06-01')), ('p4d.24xlarge', 21.96, julianday('2026-06-01'), 1e9),"
    " ('p5.48xlarge', 98.32, 0, 1e9))"
    " SELECT instance_type{month}, count(*), sum(e - b) * 24,"
    " sum(max(0, min(e, until) - max(b, since)) * price) * 24,"
    " sum((status = 'crashed') * max(0, min(e, until) - max(b, since)) * price) * 24"
    " FROM spans LEFT JOIN prices ON kind = instance_type GROUP BY 1{second}"
)
VALUE = f"json_extract(final_metrics_json, '$.\"{METRIC}\"')"
EFFECT = (
    "SELECT g, count(s), avg(s), avg(s * s), avg(CASE WHEN n IN ((c + 1) / 2, (c + 2) / 2) THEN s END) FROM ("
    + RANKED.format(group="{group}", value=VALUE, where="status = 'completed'")
    + ") GROUP BY g"
)
WEEKS = (
    "WITH RECURSIVE spans AS MATERIALIZED (" + SPAN + "), weeks(w) AS (SELECT floor(min(b) / 7) * 7 FROM spans"
    " UNION ALL SELECT w + 7 FROM weeks WHERE w + 7 < julianday(:now))"
    " SELECT w, sum(min(e, w + 7) - max(b, w)) * 24 FROM weeks JOIN spans ON b < w + 7 AND e > w GROUP BY w"
)
DIFF = (
    "SELECT a.fullkey, a.value, b.value FROM (SELECT t.* FROM training_runs, json_tree(config_json) t WHERE run_id ="
    " 'run_000001') a FULL JOIN (SELECT t.* FROM training_runs, json_tree(config_json) t WHERE run_id = 'run_000002') b"
    " ON a.fullkey = b.fullkey WHERE a.atom IS NOT b.atom"
)
SPREAD = (
    "SELECT fullkey, atom, count(*) FROM (SELECT config_json FROM training_runs WHERE status = '{status}' LIMIT 500) r,"
    " json_tree(r.config_json) t WHERE atom IS NOT NULL GROUP BY 1, 2"
)
LAST = (
    "SELECT run_id, created_at, config_json FROM training_runs WHERE status = '{status}' ORDER BY created_at DESC"
    " LIMIT 1"
)
PATHS = [
    *("batch_size", "learning_rate", "beta", "gradient_method", "num_gpus", "host", "instance_type"),
    *(f"json_extract(config_json, '$.training.{name}')" for name in ("optimizer", "seed", "warmup.steps")),
    *(f"json_extract(config_json, '$.objectives[{n}].weight')" for n in range(10)),
]

Report = tuple[str, Callable[[Ledger], object], list[str]]


def _ranked(columns: str, group: str, value: str, where: str = "1") -> str:
    return f"SELECT g, {columns}, {QUANTILES} FROM ({RANKED.format(group=group, value=value, where=where)}) GROUP BY g"


BROKEN = "status IN ('crashed', 'failed')"
REPORTS: list[Report] = [
    ("outcomes", lambda b: b.outcomes(), [f"SELECT gradient_method, {COUNTS} FROM training_runs GROUP BY 1"]),
    ("outcomes by instance_type", lambda b: b.outcomes("instance_type"),
     [f"SELECT instance_type, {COUNTS} FROM training_runs GROUP BY 1"]),
    ("outcomes by a config path", lambda b: b.outcomes("config.training.optimizer"),
     [f"SELECT json_extract(config_json, '$.training.optimizer'), {COUNTS} FROM training_runs GROUP BY 1"]),
    ("durations", lambda b: b.durations(), [_ranked("count(s), avg(s), min(s), max(s), sum(s)", "1", SECONDS)]),
    ("durations by gradient_method", lambda b: b.durations("gradient_method"),
     [_ranked("count(s), avg(s), min(s), max(s), sum(s)", "gradient_method", SECONDS)]),
    ("crashes", lambda b: b.crashes(),
     [_ranked("sum(status = 'crashed'), sum(status = 'failed'), count(a)", "end_reason", "duration_seconds", BROKEN)]),
    ("time_to_crash", lambda b: b.time_to_crash(),
     [(f"SELECT (s >= 60) + (s >= 600) + (s >= 3600) + (s >= 21600) + (s >= 86400), status, count(*) FROM"
      f" (SELECT duration_seconds s, status FROM training_runs WHERE {BROKEN}) GROUP BY 1, 2")]),
    ("throughput", lambda b: b.throughput(),
     ["SELECT strftime('%Y-%W', created_at), count(*) FROM training_runs GROUP BY 1",
      "SELECT strftime('%Y-%W', ended_at), status, count(*) FROM training_runs GROUP BY 1, 2", WEEKS]),
    ("cost", lambda b: b.cost(PRICES), [PRICED.format(month="", second="")]),
    ("cost by month", lambda b: b.cost(PRICES, "month"), [PRICED.format(month=", strftime('%Y-%m', b)", second=", 2")]),
    ("best_runs", lambda b: b.best_runs(METRIC),
     [(f"SELECT run_id, run_name, {VALUE} v FROM training_runs WHERE status = 'completed' AND v IS NOT NULL"
      " ORDER BY v DESC, run_id LIMIT 10")]),
    ("config_diff of two runs", lambda b: b.config_diff("run_000001", "run_000002"), [DIFF]),
    ("config_diff of two groups", lambda b: b.config_diff({"status": "completed"}, {"status": "crashed"}),
     [SPREAD.format(status=status) for status in ("completed", "crashed")]),
    ("last_good_first_crashed", lambda b: b.last_good_first_crashed(),
     [LAST.format(status=status) for status in ("crashed", "completed", "crashed")] + [DIFF]),
    ("effects of one column", lambda b: b.effects(METRIC, ["gradient_method"]),
     [EFFECT.format(group="gradient_method")]),
    ("effects of two columns and a path", lambda b: b.effects(METRIC, THREE),
     [EFFECT.format(group=group) for group in (*THREE[:2], "json_extract(config_json, '$.training.optimizer')")]),
    ("effects of all that varies", lambda b: b.effects(METRIC), [EFFECT.format(group=group) for group in PATHS]),
]  # fmt: skip


def lines(folder: Path, runs: int = RUNS) -> Iterator[tuple[str, ...]]:
    """Yield a line for each report: ours, the SQL's, their ratio, and what is to be reached."""
    path = folder / "reports.db"
    with fill(path, runs) as book:
        bare = sqlite3.connect(path)
        for name, report, statements in REPORTS:
            ours, floor = in_turn(lambda ask=report: ask(book), lambda texts=statements: asked(bare, texts))
            bound = "at most 100 ms, ratio 3" if runs == RUNS else ""
            yield f"{name}, {runs:,} runs", f"{ours:.1f} ms", f"{floor:.1f} ms", f"{ours / floor:.2f}", bound
        started = time.perf_counter()
        book.importance(METRIC)
        yield f"importance, {runs:,} runs", f"{(time.perf_counter() - started) * 1000:,.0f} ms", "", "", ""
        bare.close()


def asked(bare: sqlite3.Connection, statements: list[str]) -> None:
    now = {"now": datetime.now(UTC).isoformat()}
    for statement in statements:
        bare.execute(statement, now if ":now" in statement else {}).fetchall()


def in_turn(ours: Callable[[], object], floor: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of both in milliseconds, taken in turn, since others use the machine, too."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES):
        for work, times in zip((ours, floor), found, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return statistics.median(found[0]) * 1000, statistics.median(found[1]) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print("| what | ledger | bare SQL | ratio | to reach |\n| --- | --- | --- | --- | --- |")
        for line in lines(Path(folder), asked.runs):
            print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
