"""Sixteen processes on one file: how long the unluckiest append waits."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from ledger import Ledger
from ledger.events import Heartbeat

PROCESSES = 16
EACH = 200


def write(path: str, number: int, together: Barrier, results: multiprocessing.Queue[list[float]]) -> None:
    waits = []
    with Ledger(path) as book:
        book.append(Heartbeat(run_id=f"own_{number}"))  # opened and warm: what is measured is the waiting
        together.wait()
        for step in range(EACH):
            run_id = "shared" if step % 2 else f"own_{number}"
            event = Heartbeat(run_id=run_id, step=step, metrics={"loss": 1 / (step + 1)})
            start = time.perf_counter()
            book.append(event)
            waits.append(time.perf_counter() - start)
    results.put(waits)


def waits(folder: Path) -> tuple[float, float, float]:
    """Return appends per second, the median wait and the longest wait, in seconds."""
    path = str(folder / "writers.db")
    Ledger(path).init_db()
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[float]] = context.Queue()
    together = context.Barrier(PROCESSES + 1)
    processes = [context.Process(target=write, args=(path, n, together, results)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    together.wait()
    start = time.perf_counter()
    found = sorted(wait for _ in processes for wait in results.get())
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    assert len(found) == PROCESSES * EACH
    return len(found) / seconds, found[len(found) // 2], found[-1]
