"""A million points of one run: what one takes on the disk, and how long the history takes, whole and sampled.

The floor is what nobody can do without: the payloads out of sqlite3, json.loads, and lists that grow.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ledger import Ledger
from ledger.events import Launched, MetricsLogged

EVENTS, STEPS = 1_000, 1_000
METRICS = ("train/loss", "train/reward", "learning_rate")
SAMPLED_ROWS = 2_000
PAYLOADS = """
SELECT payload FROM training_events WHERE run_id = ? AND type = 'metrics_logged' ORDER BY occurred_at, event_id
"""


def batch(number: int, chance: random.Random) -> MetricsLogged:
    steps = range(number * STEPS, (number + 1) * STEPS)
    columns = {name: [chance.gauss(1.0, 0.3) for _ in steps] for name in METRICS}
    return MetricsLogged(run_id="r", columns={"step": list(steps), **columns})


def floor(path: Path) -> dict[str, list[float]]:
    """Read the same columns by hand."""
    made: dict[str, list[float]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for (payload,) in connection.execute(PAYLOADS, ("r",)):
            for name, values in json.loads(payload)["columns"].items():
                made.setdefault(name, []).extend(values)
    return made


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of several times."""
    spent: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def lines(folder: Path, events: int = EVENTS) -> Iterator[tuple[str, ...]]:
    path = folder / "history.db"
    chance = random.Random(7)
    with Ledger(path) as book:
        book.append(Launched(run_id="r"))
        empty = path.stat().st_size
        for number in range(0, events, 50):
            book.append([batch(place, chance) for place in range(number, min(number + 50, events))])
    points = events * STEPS
    with Ledger(path) as book:
        stored = path.stat().st_size - empty
        said = len(json.dumps({"columns": floor(path)}, separators=(",", ":")))
        assert len(book.get_history("r")["step"]) == points
        bare = seconds(lambda: floor(path))
        what = f"{points:,} steps of {len(METRICS)} metrics"
        yield f"bytes a step, {what}", f"{stored / points:.1f}", f"{said / points:.1f}", f"{stored / said:.2f}", ""
        for name, asked in (
            ("get_history", lambda: book.get_history("r")),
            ("get_history, one metric", lambda: book.get_history("r", METRICS[:1])),
            (f"get_history, {SAMPLED_ROWS:,} of the rows", lambda: book.get_history("r", None, SAMPLED_ROWS)),
        ):
            ours = seconds(asked)
            yield f"{name}, {what}", f"{ours:.2f} s", f"{bare:.2f} s", f"{ours / bare:.2f}", ""
