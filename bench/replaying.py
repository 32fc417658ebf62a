"""A million events: replay, verification and merge beside the floor that reads and parses every payload."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path

from bench.floor import CONFIG
from ledger import Ledger
from ledger.asking import Asking
from ledger.events import CheckpointSaved, Completed, Event, Heartbeat, Launched, MetricsLogged, Started, WandbAttached
from ledger.store.migrations import creating
from ledger.store.tables import training_metrics, training_objectives, training_runs

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS_A_RUN = 50
WRITTEN = (training_runs, training_objectives, training_metrics)


def life(number: int, draw: random.Random) -> Iterator[Event]:
    """One run of twenty minutes: 36 heartbeats, 8 batches of 20 steps, two checkpoints, 32 final metrics."""
    run_id = f"run-{draw.getrandbits(32):08x}-{number}"
    begun = BEGIN + timedelta(minutes=number)

    def said(seconds: float) -> dict[str, object]:
        return {"run_id": run_id, "occurred_at": begun + timedelta(seconds=seconds)}

    chain = f"C{number % 3000:05}"
    yield Launched(**said(0), config=CONFIG, run_name=f"name-{number}", host="ec2", chain_of_custody_id=chain)
    yield WandbAttached(**said(1), wandb_run_id=f"w{number}", wandb_url=f"https://wandb.ai/t/p/runs/w{number}")
    yield Started(**said(5))
    names = ("train/loss", "train/grad_norm", "lr", "reward/mean")
    for beat in range(36):
        metrics = {name: draw.random() for name in names}
        yield Heartbeat(**said(30 * beat + 10), step=50 * beat, duration_seconds=30 * beat, metrics=metrics)
    for batch in range(8):
        steps = list(range(20 * batch, 20 * batch + 20))
        columns = {"step": steps, **{name: [draw.random() for _ in steps] for name in ("train/loss", "reward/mean")}}
        yield MetricsLogged(**said(130 * batch + 20), columns=columns)
    for save in range(2):
        yield CheckpointSaved(**said(500 * save + 25), step=1000 * save, uri=f"s3://bucket/{run_id}/{save}.pt")
    kinds = ("raw_mean", "normalized_mean", "raw_std", "normalized_std")
    final = {f"objectives/objective_{n}_maximize/{kind}": draw.random() for n in range(8) for kind in kinds}
    yield Completed(**said(1200), duration_seconds=1195, final_metrics=final, exit_code=0)


def events(runs: int) -> Iterator[Event]:
    """The lives of so many runs as they come in: one begins each minute, some twenty are alive at a time."""
    draw = random.Random(1)
    waiting: list[tuple[datetime, str, Event]] = []
    for number in range(runs):
        for event in life(number, draw):
            heappush(waiting, (event.occurred_at, event.event_id, event))
        while waiting and waiting[0][0] < BEGIN + timedelta(minutes=number + 1):
            yield heappop(waiting)[2]
    while waiting:
        yield heappop(waiting)[2]


def filled(path: Path, runs: int) -> float:
    """Make the ledger, and return how many events a second it took in."""
    begun, batch, count = time.perf_counter(), [], 0
    with Ledger(path) as book:
        for event in events(runs):
            batch.append(event)
            count += 1
            if len(batch) == 1000:
                book.append(batch)
                batch = []
        if batch:
            book.append(batch)
    return count / (time.perf_counter() - begun)


def floor_seconds(path: Path) -> float:
    """Read all payloads, json.loads each, and executemany the rows into tables with the same indexes."""
    with closing(sqlite3.connect(path)) as source:
        rows = {table: source.execute(f"SELECT * FROM {table.name}").fetchall() for table in WRITTEN}
        beside = sqlite3.connect(path.with_name("floor.db"), isolation_level=None)
        beside.execute("PRAGMA journal_mode = WAL")
        for table in WRITTEN:
            for statement in creating(table):
                beside.execute(statement)
        begun = time.perf_counter()
        for (payload,) in source.execute("SELECT payload FROM training_events"):
            json.loads(payload)
        beside.execute("BEGIN")
        for table, found in rows.items():
            places = ", ".join("?" * len(table.columns))
            beside.executemany(f"INSERT INTO {table.name} VALUES ({places})", found)
        beside.execute("COMMIT")
        spent = time.perf_counter() - begun
    beside.close()
    path.with_name("floor.db").unlink()
    return spent


WORKS = {
    "replay": "book.replay()",
    "verify": "assert book.verify()",
}


def measured(path: Path, work: str) -> tuple[float, float]:
    """Do it in a process of its own; return the seconds, and the most memory that the process had, in MiB."""
    return _in_a_process(
        "from ledger import Ledger\n"
        f"with Ledger({str(path)!r}) as book:\n"
        "    book.init_db()\n    begun = time.perf_counter()\n"
        f"    {work}\n    spent = time.perf_counter() - begun\n"
    )


def _in_a_process(code: str) -> tuple[float, float]:
    """Run *code*, which says what it `spent`; what this process has in memory counts as that one's, and is little."""
    code = f"import resource, time\n{code}print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    spent, memory = map(float, done.stdout.split())
    return spent, memory


def longest_wait(path: Path) -> float:
    """Append now and then while another process replays, and return the longest that an append took."""
    slowest, done = 0.0, threading.Event()
    replaying = threading.Thread(target=lambda: (measured(path, WORKS["replay"]), done.set()))
    with Ledger(path) as book:
        book.append(Heartbeat(run_id="beside", step=0))
        replaying.start()
        step = 1
        while not done.is_set():
            event = Heartbeat(run_id="beside", step=step)
            begun = time.perf_counter()
            book.append(event)
            slowest = max(slowest, time.perf_counter() - begun)
            step += 1
            time.sleep(0.005)
    replaying.join()
    return slowest


def looking_back(path: Path) -> tuple[float, float, float]:
    """Seconds to prepare a view of now, and milliseconds of one query on it and on the ledger itself."""
    ask = {"status": "completed", "gradient_method": "mgda"}
    with Ledger(path) as book, book.as_of() as view:
        begun = time.perf_counter()
        view.count_runs()
        prepared = time.perf_counter() - begun
        times: dict[Asking, list[float]] = {view: [], book: []}
        for _ in range(101):
            for asked, found in times.items():
                begun = time.perf_counter()
                asked.query_runs(ask, limit=50)
                found.append(1000 * (time.perf_counter() - begun))
    return prepared, *(sorted(found)[50] for found in times.values())


def lines(folder: Path, runs: int) -> Iterator[tuple[str, ...]]:
    path = folder / "million.db"
    size = f"{runs * EVENTS_A_RUN:,} events"
    yield f"taking in {size} in thousands", f"{filled(path, runs):,.0f}/s", "", "", ""
    floors = []
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in WORKS}
    for _ in range(5):
        floors.append(_in_a_process(f"from bench.replaying import *\nspent = floor_seconds(Path({str(path)!r}))\n")[0])
        for name, work in WORKS.items():
            times[name].append(measured(path, work))
    floor = sorted(floors)[2]
    for name, found in times.items():
        seconds, memory = sorted(found)[2]
        yield f"{name}, {size}", f"{seconds:.1f} s", f"{floor:.1f} s", f"{seconds / floor:.2f}", "at most 1.5"
        yield f"{name}, most memory", f"{memory:.0f} MiB", "", "", "under 200 MiB"
    prepared, then, now = looking_back(path)
    yield f"as_of, {runs:,} runs: prepared in", f"{prepared:.1f} s", f"{floor:.1f} s", f"{prepared / floor:.2f}", ""
    yield "as_of, query_runs on what is prepared", f"{then:.3f} ms", f"{now:.3f} ms", f"{then / now:.2f}", "as without"
    yield "an append during a replay: longest wait", f"{longest_wait(path):.3f} s", "", "", "at most 0.1 s"
    spent, memory = measured(folder / "merged.db", f"book.merge({str(path)!r})")
    rate = f"{runs * EVENTS_A_RUN / spent:,.0f}/s"
    yield f"merge, {size}: {rate}", f"{spent:.1f} s", f"{floor:.1f} s", f"{spent / floor:.1f}", ""
    yield "merge, most memory", f"{memory:.0f} MiB", "", "", "under 200 MiB"
