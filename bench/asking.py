"""get_run and the documented query_runs at growing sizes, beside the same SQL and rows on the bare driver."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.floor import CONFIG
from ledger import Ledger
from ledger.events import Completed, Event, Launched, Started
from ledger.projections.run import COLUMNS

METHODS = ("mgda", "pcgrad", "imtlg", "aligned_mtl")
FILTERS = {"status": "completed", "gradient_method": "mgda"}
SQL = (
    f"SELECT {', '.join(COLUMNS)} FROM training_runs WHERE status = ? AND gradient_method = ?"
    " ORDER BY created_at DESC, run_id LIMIT 50"
)


def fill(path: Path, runs: int) -> Ledger:
    """Record *runs* lives of three events, a thousand runs at a time."""
    book = Ledger(path)
    metrics = {f"objectives/objective_{n}_maximize/raw_mean": n / 7 for n in range(8)}
    for first in range(0, runs, 1000):
        events: list[Event] = []
        for n in range(first, min(first + 1000, runs)):
            config = {**CONFIG, "reward": {"gradient_method": METHODS[n % 4], "beta": 0.05}}
            run_id = f"run_{n:07}"
            events += [
                Launched(run_id=run_id, config=config, host="ec2", run_name=f"run {n}"),
                Started(run_id=run_id),
                Completed(run_id=run_id, duration_seconds=3600 + n, final_metrics=metrics),
            ]
        book.append(events)
    return book


def median_ms(work: Callable[[], object], count: int = 200) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def curve(folder: Path, sizes: tuple[int, ...]) -> list[dict[str, float]]:
    return [asked(folder / f"asked-{runs}.db", runs) for runs in sizes]


def asked(path: Path, runs: int) -> dict[str, float]:
    book = fill(path, runs)
    bare = sqlite3.connect(path)
    some = f"run_{runs // 2:07}"
    one_sql = f"SELECT {', '.join(COLUMNS)} FROM training_runs WHERE run_id = ?"
    assert len(book.query_runs(FILTERS, limit=50)) == len(bare.execute(SQL, tuple(FILTERS.values())).fetchall()) == 50
    found = {
        "runs": runs,
        "get_run_ms": median_ms(lambda: book.get_run(some)),
        "get_run_bare_ms": median_ms(lambda: bare.execute(one_sql, (some,)).fetchall()),
        "query_runs_ms": median_ms(lambda: book.query_runs(FILTERS, limit=50)),
        "query_runs_bare_ms": median_ms(lambda: bare.execute(SQL, tuple(FILTERS.values())).fetchall()),
    }
    bare.close()
    book.close()
    return found
