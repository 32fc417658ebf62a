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


def write(
    place: str, pause_seconds: float, commits: int, ready: Signal, committed: multiprocessing.Queue[list[float]]
) -> None:
    times = []
    with Ledger(place) as book:
        book.append(Heartbeat(run_id="r", step=-1))  # opened and warm
        ready.wait()
        for step in range(commits):
            time.sleep(pause_seconds)
            book.append(Heartbeat(run_id="r", step=step, metrics={"loss": 1 / (step + 1)}))
            times.append(time.monotonic())  # one clock for all processes of the machine
    committed.put(times)


def latencies(place: str | Path, pause_seconds: float = PAUSE_SECONDS, commits: int = COMMITS) -> tuple[float, float]:
    """Return the median and the longest time from commit to delivery, in seconds."""
    place = str(place)
    with Ledger(place) as book:
        book.init_db()
    context = multiprocessing.get_context("spawn")
    committed: multiprocessing.Queue[list[float]] = context.Queue()
    ready = context.Event()
    writer = context.Process(target=write, args=(place, pause_seconds, commits, ready, committed))
    writer.start()
    delivered = []
    with Ledger(place) as book:
        for event in book.follow():
            delivered.append(time.monotonic())
            if event.position == 1:
                ready.set()
            elif event.position == commits + 1:
                break
    # An append returns a little after its commit: a delivery may come before it, and then took no time.
    found = sorted(max(0.0, had - said) for had, said in zip(delivered[1:], committed.get(), strict=True))
    writer.join()
    return found[len(found) // 2], found[-1]
