"""What a call of `run.log` costs training, with the database there and in every kind of trouble.

The same loop without the calls runs beside it. What is timed is each single call, by perf_counter_ns, less what
the clock itself takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from ledger import Ledger

CALLS = 100_000

LOOP = f"""
import json, sys, time, os, logging, signal, resource
logging.disable(logging.CRITICAL)
import ledger
def measured(log):
    clock, times, began = time.perf_counter_ns, [], time.perf_counter()
    for step in range({CALLS}):
        metrics = {{"train/loss": 1 / (step + 1), "train/accuracy": 0.5}}
        start = clock()
        log(metrics, step=step)
        times.append(clock() - start)
    spent = time.perf_counter() - began
    times.sort()
    return {{"p50": times[len(times) // 2] / 1e3, "p999": times[-len(times) // 1000] / 1e3, "max": times[-1] / 1e3,
             "seconds": spent}}
bare = measured(lambda metrics, step: None)
with ledger.track("r") as run:
    print("begun", flush=True)
    if sys.argv[1:] == ["full"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.stdin.readline()
    ours = measured(run.log)
    closing = time.perf_counter()
print(json.dumps({{"bare": bare, "ours": ours, "closing": time.perf_counter() - closing}}))
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    hold = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "db.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        yield
        holder.stdin.close()


@contextmanager
def deleted(path: Path) -> Iterator[None]:
    kept = path.parent.with_suffix(".kept")
    os.rename(path.parent, kept)
    yield
    os.rename(kept, path.parent)


@contextmanager
def unopenable(path: Path) -> Iterator[None]:
    with deleted(path):
        path.parent.write_text("in the way")
        yield
        path.parent.unlink()


@contextmanager
def well(_: Path) -> Iterator[None]:
    yield


TROUBLES = {"there": well, "locked": locked, "deleted": deleted, "not to be opened": unopenable, "disk full": well}


def costs(folder: Path) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Yield, for each kind of trouble, the microseconds of a call and how long the block's end took."""
    for name, trouble in TROUBLES.items():
        path = folder / f"tracked-{name.replace(' ', '-')}" / "runs.db"
        words = ["full"] if name == "disk full" else []
        with Ledger(path) as book:
            book.init_db()
        yield name, _trained(f"sqlite:///{path}", folder / "state", partial(trouble, path), words)
        with Ledger(path) as book:
            if name not in ("there", "disk full"):
                book.sync(folder / "state" / "training-run-ledger" / "spool", clear=True)
            if name != "disk full":
                assert _logged(book) == list(range(CALLS)), name
    yield "server stopped", _with_a_server_stopped(folder / "state-on-server")


def _with_a_server_stopped(state: Path) -> dict[str, dict[str, float]]:
    """The same with PostgreSQL's server away from the first call to after the last."""
    from tests.postgres.server import Server

    @contextmanager
    def stopped() -> Iterator[None]:
        server.stop()
        yield
        server.restart()

    with Server.start() as server, Ledger(server.create_database("ledger")) as book:
        book.init_db()
        found = _trained(server.url("ledger"), state, stopped, [])
        for spool in (state / "training-run-ledger" / "spool").iterdir():
            book.sync(spool)
        assert _logged(book) == list(range(CALLS))
        assert book.verify()
    return found


def _trained(
    url: str, state: Path, trouble: Callable[[], AbstractContextManager[None]], words: list[str]
) -> dict[str, dict[str, float]]:
    env = {**os.environ, "TRAINING_DB_URL": url, "XDG_STATE_HOME": str(state)}
    with subprocess.Popen(
        [sys.executable, "-c", LOOP, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as training:
        assert training.stdout is not None
        training.stdout.readline()
        with trouble():
            out, _ = training.communicate("go\n")
    assert training.returncode == 0, url
    found: dict[str, dict[str, float]] = json.loads(out)
    return found


def _logged(book: Ledger) -> list[int]:
    return [s for e in book.events("r", types="metrics_logged") for s in e.event.columns["step"]]  # type: ignore[attr-defined]
