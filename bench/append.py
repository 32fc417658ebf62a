"""Appends: one by one and in batches of a thousand, beside the floor."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.floor import CONFIG, Floor
from ledger import Ledger
from ledger.events import Heartbeat, Launched, Started

ROUNDS = 7


def ratios(ours: Callable[[], int], floor: Callable[[], int]) -> tuple[float, float, float]:
    """Return our rate, the floor's rate and the median of their ratios, taken in turn."""
    pairs = [(rate(ours), rate(floor)) for _ in range(ROUNDS)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def rate(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def singles(folder: Path, synchronous: str, count: int = 1000) -> tuple[float, float, float]:
    os.environ["TRAINING_DB_SYNCHRONOUS"] = synchronous
    book = Ledger(folder / f"one-{synchronous}.db")
    floor = Floor(str(folder / f"one-{synchronous}-floor.db"), synchronous)
    book.append([Launched(run_id="r", config=CONFIG), Started(run_id="r")])

    def ours() -> int:
        for step in range(count):
            book.append(Heartbeat(run_id="r", step=step, metrics={"loss": 1 / (step + 1)}))
        return count

    def bare() -> int:
        for step in range(count):
            floor.append("r", step)
        return count

    made = ratios(ours, bare)
    book.close()
    return made


def batches(folder: Path, synchronous: str = "FULL", runs: int = 100) -> tuple[float, float, float]:
    os.environ["TRAINING_DB_SYNCHRONOUS"] = synchronous
    book = Ledger(folder / "many.db")
    floor = Floor(str(folder / "many-floor.db"), synchronous)
    for n in range(runs):
        book.append([Launched(run_id=f"r{n}", config=CONFIG), Started(run_id=f"r{n}")])

    def ours() -> int:
        for _ in range(3):
            book.append([Heartbeat(run_id=f"r{n % runs}", step=n, metrics={"loss": 1 / (n + 1)}) for n in range(1000)])
        return 3000

    def bare() -> int:
        for _ in range(3):
            floor.append_batch([(f"r{n % runs}", n) for n in range(1000)])
        return 3000

    made = ratios(ours, bare)
    book.close()
    return made
