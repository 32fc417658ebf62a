"""Appends to PostgreSQL with many writers: ours, a bare psycopg loop of the same statements, and another recorder.

Each writer is a process that appends single events to a run of its own for some seconds; all commits are durable.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from uuid import uuid4

import psycopg

from bench.floor import CONFIG, MOMENT, SOURCE
from ledger import Ledger
from ledger.events import Heartbeat
from ledger.projections.life import FOLDED
from ledger.store import log
from ledger.store.tables import training_heads
from tests.postgres.server import DURABLE, Server

SECONDS = 4.0
HELD_SECONDS = 0.02
HELD_EVERY = 20
SLOW = {"commit_delay": "1000", "commit_siblings": "0"}  # as a busier disk, or a standby that is waited for

_HEADS = ", ".join(f"h.{column.name}" for column in training_heads.columns)
_ROW = ", ".join(f"r.{name}" for name in FOLDED)
LOCK = "SELECT version FROM training_heads WHERE run_id = %s FOR NO KEY UPDATE"
KNOWN = "SELECT * FROM training_events WHERE event_id = %s"
LOAD = (
    f"SELECT {_HEADS}, c.*, {_ROW} FROM training_heads h LEFT JOIN training_claims c ON c.run_id = h.run_id"
    " LEFT JOIN training_runs r ON r.run_id = h.run_id WHERE h.run_id = %s"
)
INSERT = (
    "INSERT INTO training_events (event_id, run_id, version, type, schema_version, occurred_at, recorded_at, source,"
    " payload, digest, chain) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING position"
)
HEAD = (
    "UPDATE training_heads SET version = %s, chain = %s, newest_occurred_at = %s, newest_event_id = %s, placed = %s,"
    " unreadable = %s, beside = %s, detailed = %s WHERE run_id = %s"
)
RUN = "UPDATE training_runs SET final_metrics_json_text = %s, last_seen_at = %s, updated_at_db = %s WHERE run_id = %s"


class Ours:
    """The ledger, as users append to it."""

    def __init__(self, url: str, run_id: str) -> None:
        self.book = Ledger(url)
        self.run_id = run_id

    def append(self, step: int, held_seconds: float) -> None:
        event = Heartbeat(run_id=self.run_id, step=step, metrics={"loss": 1 / (step + 1)})
        if not held_seconds:
            self.book.append(event)
            return
        with self.book._database.write() as connection:
            log.append(connection, self.book._facts([event]))
            time.sleep(held_seconds)


class Asking(Ours):
    """The ledger where it remembers nothing: each append looks at its run."""

    def __init__(self, url: str, run_id: str) -> None:
        super().__init__(url, run_id)
        self.book._database.remembered.keep = lambda _: None


class Bare:
    """Hand-written psycopg: the same statements, json and hashlib, and nothing else."""

    def __init__(self, url: str, run_id: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.run_id = run_id

    def append(self, step: int, held_seconds: float) -> None:
        execute = self.connection.execute
        execute("BEGIN")
        execute(LOCK, (self.run_id,)).fetchone()
        event_id = str(uuid4())
        execute(KNOWN, (event_id,)).fetchone()
        head = execute(LOAD, (self.run_id,)).fetchone()
        payload = json.dumps({"step": step, "metrics": {"loss": 1 / (step + 1)}}, separators=(",", ":"))
        digest = sha256(
            f'{{"event_id":"{event_id}","occurred_at":"{MOMENT}","payload":{payload},"run_id":{json.dumps(self.run_id)},'
            f'"schema_version":1,"source":{SOURCE},"type":"heartbeat"}}'.encode()
        ).hexdigest()
        chain = sha256((head[2] + digest).encode()).hexdigest()
        version = head[1] + 1
        row = (event_id, self.run_id, version, "heartbeat", 1, MOMENT, MOMENT, SOURCE, payload, digest, chain)
        execute(INSERT, row).fetchone()
        execute(HEAD, (version, chain, MOMENT, event_id, 0, 0, head[8], version, self.run_id))
        execute(RUN, (json.dumps({"loss": 1 / (step + 1)}), MOMENT, MOMENT, self.run_id))
        if held_seconds:
            time.sleep(held_seconds)
        execute("COMMIT")


class Other:
    """The recorder of the eventsourcing package: one event, no projection."""

    def __init__(self, url: str, run_id: str) -> None:
        from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

        known = psycopg.conninfo.conninfo_to_dict(url)
        datastore = PostgresDatastore(
            str(known["dbname"]), str(known["host"]), str(known["port"]), str(known["user"]), ""
        )
        self.recorder = PostgresApplicationRecorder(datastore, events_table_name="other_events")
        if not run_id:
            self.recorder.create_table()
        self.originator = uuid4()
        self.version = 0

    def append(self, step: int, _: float) -> None:
        from eventsourcing.persistence import StoredEvent

        self.version += 1
        payload = json.dumps({"step": step, "metrics": {"loss": 1 / (step + 1)}}).encode()
        self.recorder.insert_events([StoredEvent(self.originator, self.version, "heartbeat", payload)])


KINDS: dict[str, Callable[[str, str], Ours | Bare | Other]] = {
    "ours": Ours,
    "asking": Asking,
    "bare": Bare,
    "other": Other,
}


def write(kind: str, url: str, run_id: str, seconds: float, held_every: int) -> None:
    """One writer: says that it is ready, waits for a line, and prints how many events it appended."""
    writer = KINDS[kind](url, run_id)
    for step in range(20):
        writer.append(step, 0)
    print("ready", flush=True)
    sys.stdin.readline()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        done += 1
        writer.append(done, HELD_SECONDS if held_every and done % held_every == 0 else 0)
    print(done / (time.perf_counter() - start), flush=True)


def rate(kind: str, url: str, writers: int, *, held_every: int = 0, shared: bool = False) -> float:
    """Events a second that so many writers append together, to a run each or all to one."""
    with Ledger(url) as book:
        runs = [f"{kind}-{writers}-{held_every}-{number}-{uuid4().hex[:6]}" for number in range(writers)]
        runs = runs[:1] * writers if shared else runs
        for run_id in runs:
            book.insert_run(run_id, None, CONFIG, host="ec2")
    if kind == "other":
        Other(url, "")  # makes its table: of writers that do so together, some fail
    asked = [sys.executable, "-m", "bench.servers", kind, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*asked, run_id, str(SECONDS), str(held_every)], **pipes) for run_id in runs]
    for writer in started:
        writer.stdout.readline()
    for writer in started:
        writer.stdin.write("\n")
        writer.stdin.flush()
    return sum(float(writer.communicate()[0]) for writer in started)


def compared(
    url: str, writers: int, against: str, *, held_every: int = 0, shared: bool = False, rounds: int = 3
) -> tuple[float, float]:
    """The median rates of ours and of *against*, taken in turns."""
    found: dict[str, list[float]] = {"ours": [], against: []}
    for _ in range(rounds):
        for kind, rates in found.items():
            rates.append(rate(kind, url, writers, held_every=held_every, shared=shared))
    ours, others = (sorted(rates)[rounds // 2] for rates in found.values())
    return ours, others


def lines() -> Iterator[tuple[str, ...]]:
    """The lines of a server whose commits take as long as the disk does, and of one where they take 1 ms more."""
    with Server.start(DURABLE) as server:
        url = server.create_database("bench")
        for writers, held_every, bound in (
            (1, 0, "at least 0.75"),
            (4, 0, ""),
            (8, 0, "at least 0.6"),
            (8, HELD_EVERY, "at least 0.5"),
            (16, 0, ""),
        ):
            yield _line(url, writers, "bare", bound, held_every=held_every)
        yield _line(url, 4, "bare", "", shared=True)
        yield _line(url, 4, "asking", "", shared=True)
        for writers, bound in ((1, ""), (4, ""), (8, "at least 2"), (16, "")):
            yield _line(url, writers, "other", bound)
    with Server.start({**DURABLE, **SLOW}) as server:
        url = server.create_database("bench")
        for against, bound in (("bare", "at least 0.6"), ("other", "at least 2")):
            yield _line(url, 8, against, bound, more=", commits of 1 ms")


def _line(
    url: str, writers: int, against: str, bound: str, *, held_every: int = 0, shared: bool = False, more: str = ""
) -> tuple[str, ...]:
    ours, floor = compared(url, writers, against, held_every=held_every, shared=shared)
    more += " of one run" if shared else ""
    more += ", one in twenty held 20 ms" if held_every else ""
    what = f"append to PostgreSQL, {writers} writer(s){more}"
    return what, f"{ours:,.0f}/s", f"{against} {floor:,.0f}/s", f"{ours / floor:.2f}", bound


if __name__ == "__main__":
    kind, url, run_id, seconds, held_every = sys.argv[1:]
    write(kind, url, run_id, float(seconds), int(held_every))
