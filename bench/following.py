"""How long after another process's commit a follower has the event."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Event as Signal
from pathlib import Path

from ledger import Ledger
from ledger.events import Heartbeat

COMMITS = 200
PAUSE_SECONDS = 0.013  # beside the follower's own pace, so that commits meet it at any moment between two looks


def write(path: str, ready: Signal, committed: multiprocessing.Queue[list[float]]) -> None:
    times = []
    with Ledger(path) as book:
        book.append(Heartbeat(run_id="r", step=-1))  # opened and warm
        ready.wait()
        for step in range(COMMITS):
            time.sleep(PAUSE_SECONDS)
            book.append(Heartbeat(run_id="r", step=step, metrics={"loss": 1 / (step + 1)}))
            times.append(time.monotonic())  # one clock for all processes of the machine
    committed.put(times)


def latencies(folder: Path) -> tuple[float, float]:
    """Return the median and the longest time from commit to delivery, in seconds."""
    path = str(folder / "followed.db")
    Ledger(path).init_db()
    context = multiprocessing.get_context("spawn")
    committed: multiprocessing.Queue[list[float]] = context.Queue()
    ready = context.Event()
    writer = context.Process(target=write, args=(path, ready, committed))
    writer.start()
    delivered = []
    with Ledger(path) as book:
        for event in book.follow():
            delivered.append(time.monotonic())
            if event.position == 1:
                ready.set()
            elif event.position == COMMITS + 1:
                break
    # An append returns a little after its commit: a delivery may come before it, and then took no time.
    found = sorted(max(0.0, had - said) for had, said in zip(delivered[1:], committed.get(), strict=True))
    writer.join()
    return found[len(found) // 2], found[-1]
