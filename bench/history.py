"""A million points of one run: what one takes on the disk, and how long the history takes, whole and sampled.

The floor is what nobody can do without: the payloads out of sqlite3, json.loads, and lists that grow.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ledger import Ledger
from ledger.events import Launched, MetricsLogged
from tests.postgres.server import DURABLE, Server

EVENTS, STEPS = 1_000, 1_000
METRICS = ("train/loss", "train/reward", "learning_rate")
SAMPLED_ROWS = 2_000
ASKED: dict[str, tuple[Sequence[str] | None, int | None]] = {
    "get_history": (None, None),
    "get_history, one metric": (METRICS[:1], None),
    f"get_history, {SAMPLED_ROWS:,} of the rows": (None, SAMPLED_ROWS),
}
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


def seconds(work: Callable[[], object], other: Callable[[], object], times: int = 5) -> tuple[float, float]:
    """Return the shortest of several times of each, taken in turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for done, times_of in zip((work, other), spent, strict=True):
            start = time.perf_counter()
            done()
            times_of.append(time.perf_counter() - start)
    return min(spent[0]), min(spent[1])


def fill(book: Ledger, events: int) -> None:
    chance = random.Random(7)
    for number in range(0, events, 50):
        book.append([batch(place, chance) for place in range(number, min(number + 50, events))])


def megabytes(place: str, names: Sequence[str] | None, max_points: int | None) -> float:
    """What a fresh process takes at most, beside what it takes for nothing."""
    code = (
        "import json, re, sys\nfrom ledger import Ledger\n"
        "def used(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "place, *asked = json.loads(sys.argv[1])\nbook = Ledger(place)\nbook.get_run('r')\nbefore = used()\n"
        "book.get_history('r', *asked)\nprint(used() - before)"
    )
    asked = [sys.executable, "-c", code, json.dumps([place, names, max_points])]
    return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def lines(folder: Path, events: int = EVENTS) -> Iterator[tuple[str, ...]]:
    path = folder / "history.db"
    with Ledger(path) as book:
        book.append(Launched(run_id="r"))
        empty = path.stat().st_size
        fill(book, events)
    points = events * STEPS
    with Ledger(path) as book:
        stored = path.stat().st_size - empty
        said = len(json.dumps({"columns": floor(path)}, separators=(",", ":")))
        assert len(book.get_history("r")["step"]) == points
        what = f"{points:,} steps of {len(METRICS)} metrics"
        yield f"bytes a step, {what}", f"{stored / points:.1f}", f"{said / points:.1f}", f"{stored / said:.2f}", ""
        for name, asked in ASKED.items():
            ours, bare = seconds(lambda asked=asked: book.get_history("r", *asked), lambda: floor(path))
            memory = f"{megabytes(str(path), *asked):.0f} MiB"
            yield f"{name}, {what}", f"{ours:.2f} s, {memory}", f"{bare:.2f} s", f"{ours / bare:.2f}", ""
    with Server.start(DURABLE) as server, Ledger(server.create_database("history")) as book:
        book.append(Launched(run_id="r"))
        fill(book, events)
        for name, asked in ASKED.items():
            ours, bare = seconds(lambda asked=asked: book.get_history("r", *asked), lambda: floor(path))
            yield f"{name}, PostgreSQL", f"{ours:.2f} s", f"{bare:.2f} s", f"{ours / bare:.2f}", ""
