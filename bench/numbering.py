"""How followers on a server come to an order: what each way costs writers, and how long after a commit they have it.

Bare psycopg on the ledger's own schema, in the same run on the same server. A transaction locks its run, writes what
is kept of it and its event. (a) gives no order: the floor. (b) is the ledger's: the event has its transaction's number,
and who follows stays below the oldest that is open. (c) numbers as the last step, under a lock that the commit gives
back. One transaction in twenty may be held open, before its last step.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import psycopg

from bench.floor import MOMENT, SOURCE
from bench.servers import HELD_EVERY, HELD_SECONDS
from ledger import Ledger

SECONDS = 2.0
LOOK_SECONDS = 0.002
WAYS = ("unlocked", "horizon", "numbered last")
_PAYLOAD = '{"step":1,"metrics":{"loss":0.5}}'

_COLUMNS = "event_id, run_id, version, type, schema_version, occurred_at, recorded_at, source, payload, digest, chain"
_INSERT = "INSERT INTO {} ({}) VALUES ({}%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING position"
_BEHIND = (
    "greatest(ledger_transaction(), (SELECT transaction_id FROM training_events WHERE run_id = %s AND version = %s)), "
)
_LOOK = {
    "unlocked": "SELECT position FROM plain_events WHERE position > %s ORDER BY position",
    "horizon": "SELECT transaction_id, position FROM training_events WHERE (transaction_id, position) > (%s, %s)"
    " AND transaction_id < ledger_horizon() ORDER BY transaction_id, position",
    "numbered last": "SELECT position FROM numbered_events WHERE position > %s ORDER BY position",
}
_LOCK = "SELECT pg_advisory_xact_lock(1)"


class Measured(NamedTuple):
    """Commits in a second, and the median and the 99th percentile of seconds from a commit until it was seen."""

    rate: float
    median: float
    late: float


def prepare(url: str) -> None:
    """Make the ledger, and beside it the same table twice without numbers of transactions."""
    with Ledger(url) as book:
        book.init_db()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_heads (run_id text PRIMARY KEY, version bigint, chain text)")
        for name in ("plain_events", "numbered_events"):
            connection.execute(
                f"CREATE TABLE {name} (LIKE training_events INCLUDING INDEXES INCLUDING DEFAULTS INCLUDING IDENTITY)"
            )
            connection.execute(f"ALTER TABLE {name} DROP COLUMN transaction_id")


def write(
    url: str, way: str, number: int, one_in: int, together: Barrier, said: multiprocessing.Queue[dict[int, float]]
) -> None:
    """Commit for a while, and say when which position was."""
    run_id = f"{way}-{number}-{time.monotonic_ns()}"
    committed: dict[int, float] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO bench_heads VALUES (%s, 0, '')", (run_id,))
        together.wait()
        until = time.monotonic() + SECONDS
        version = 0
        while time.monotonic() < until:
            version += 1
            position = _commit(connection, way, run_id, version, holds=one_in > 0 and (version + number) % one_in == 0)
            committed[position] = time.monotonic()
    said.put(committed)


def _commit(connection: psycopg.Connection[tuple[int]], way: str, run_id: str, version: int, *, holds: bool) -> int:
    execute = connection.execute
    row = (
        f"{run_id}-{version}", run_id, version, "heartbeat", 1, MOMENT, MOMENT, SOURCE, _PAYLOAD, "d" * 64, "c" * 64,
    )  # fmt: skip
    execute("BEGIN")
    execute("SELECT version FROM bench_heads WHERE run_id = %s FOR NO KEY UPDATE", (run_id,)).fetchone()
    execute("UPDATE bench_heads SET version = %s, chain = %s WHERE run_id = %s", (version, "c" * 64, run_id))
    if holds:
        time.sleep(HELD_SECONDS)
    if way == "numbered last":
        execute(_LOCK)
        found = execute(_INSERT.format("numbered_events", _COLUMNS, ""), row)
    elif way == "unlocked":
        found = execute(_INSERT.format("plain_events", _COLUMNS, ""), row)
    else:
        statement = _INSERT.format("training_events", f"transaction_id, {_COLUMNS}", _BEHIND)
        found = execute(statement, (run_id, version - 1, *row))
    (position,) = found.fetchone() or (0,)
    execute("COMMIT")
    return position


def read(url: str, way: str, together: Barrier, said: multiprocessing.Queue[dict[int, float]]) -> None:
    """Follow for a while and say when which position was seen."""
    seen: dict[int, float] = {}
    statement = _LOOK[way]
    with psycopg.connect(url, autocommit=True) as connection:
        after: tuple[int, ...] = (-1, 0) if way == "horizon" else (0,)
        together.wait()
        until = time.monotonic() + SECONDS + 0.3
        while time.monotonic() < until:
            rows = connection.execute(statement, after).fetchall()
            now = time.monotonic()
            for row in rows:
                seen[row[-1]] = now
                after = row
            time.sleep(LOOK_SECONDS)
    said.put(seen)


def measured(url: str, way: str, writers: int, *, holds: bool) -> Measured:
    """Let writers write and one follow, on emptied tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE training_events DISABLE TRIGGER ALL")
        connection.execute("TRUNCATE training_events, plain_events, numbered_events, bench_heads")
    context = multiprocessing.get_context("spawn")
    wrote: multiprocessing.Queue[dict[int, float]] = context.Queue()
    saw: multiprocessing.Queue[dict[int, float]] = context.Queue()
    together = context.Barrier(writers + 1)
    processes = [
        context.Process(target=write, args=(url, way, n, HELD_EVERY if holds else 0, together, wrote))
        for n in range(writers)
    ]
    processes.append(context.Process(target=read, args=(url, way, together, saw)))
    for process in processes:
        process.start()
    committed: dict[int, float] = {}
    for _ in range(writers):
        committed.update(wrote.get())
    seen = saw.get()
    for process in processes:
        process.join()
    delays = sorted(max(0.0, seen[position] - at) for position, at in committed.items() if position in seen)
    return Measured(len(committed) / SECONDS, statistics.median(delays), delays[int(len(delays) * 0.99)])


def table(url: str, rounds: int) -> Iterator[tuple[int, bool, str, Measured]]:
    """Yield the median of rounds taken in turn, for one writer and eight, none held and one in twenty."""
    for writers in (1, 8):
        for holds in (False, True):
            found: dict[str, list[Measured]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way in WAYS:
                    found[way].append(measured(url, way, writers, holds=holds))
            for way in WAYS:
                yield writers, holds, way, Measured(*map(statistics.median, zip(*found[way], strict=True)))


def lines(url: str, rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield the table's lines for results.md; the floor is the way without an order."""
    prepare(url)
    floor = 0.0
    for writers, holds, way, found in table(url, rounds):
        floor = found.rate if way == WAYS[0] else floor
        what = f"followers' order, {writers} writing{', 1 in 20 held 20 ms' if holds else ''}: {way}"
        seen = f"{found.rate:,.0f}/s, seen after {found.median * 1000:.1f} ms, p99 {found.late * 1000:.0f} ms"
        yield what, seen, f"{floor:,.0f}/s", f"{found.rate / floor:.2f}", ""
