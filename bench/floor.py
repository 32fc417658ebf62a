"""The floor of an append: what remains when only the driver, the schema and the hashes are left.

The same file layout, indexes and triggers as the ledger's; one row of `training_runs` upserted for
each event; payload text, digest and chain made with json and hashlib. No validation, no fold, no ids.
"""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256

from ledger.projections.run import COLUMNS
from ledger.store.migrations import schema_statements
from ledger.store.tables import training_heads

EVENT = "event_id, run_id, version, type, schema_version, occurred_at, recorded_at, source, payload, digest, chain"
HEADS = ", ".join(training_heads.columns.keys())
RUNS = ", ".join(COLUMNS)
SOURCE = '{"host":"hub","pid":1,"user":"u","program":"p","version":"1"}'
MOMENT = "2026-01-01T00:00:00.000000Z"

KNOWN = f"SELECT position, {EVENT} FROM training_events WHERE event_id = ?"
LOAD = (
    f"SELECT {', '.join(f'h.{n}' for n in HEADS.split(', '))}, {', '.join(f'r.{n}' for n in COLUMNS)}"
    " FROM training_heads h LEFT JOIN training_runs r ON r.run_id = h.run_id WHERE h.run_id = ?"
)
INSERT = f"INSERT INTO training_events ({EVENT}) VALUES ({', '.join('?' * 11)})"


def upsert(table: str, names: str) -> str:
    listed = names.split(", ")
    changes = ", ".join(f"{name} = excluded.{name}" for name in listed if name != "run_id")
    return (
        f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(listed))})"
        f" ON CONFLICT (run_id) DO UPDATE SET {changes}"
    )


UPSERT_HEAD = upsert("training_heads", HEADS)
UPSERT_RUN = upsert("training_runs", RUNS)


class Floor:
    """Hand-written sqlite3."""

    def __init__(self, path: str, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        execute = self.connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA synchronous = {synchronous}")
        if not execute("SELECT 1 FROM sqlite_master WHERE name = 'training_events'").fetchone():
            for statement in schema_statements():
                execute(statement)
        self.count = 0

    def row(self, run_id: str, step: int) -> list[object]:
        values = dict.fromkeys(COLUMNS)
        values |= {
            "run_id": run_id,
            "created_at": MOMENT,
            "started_at": MOMENT,
            "status": "running",
            "config_json": CONFIG_TEXT,
            "batch_size": 384,
            "learning_rate": 1e-4,
            "gradient_method": "mgda",
            "host": "ec2",
            "final_metrics_json": json.dumps({"loss": 1 / (step + 1)}),
            "last_seen_at": f"2026-01-01T00:00:00.{step % 1_000_000:06}Z",
            "updated_at_db": MOMENT,
            "created_at_db": MOMENT,
        }
        return list(values.values())

    def one(self, run_id: str, step: int) -> None:
        """Append one event with its row, in the open transaction."""
        execute = self.connection.execute
        self.count += 1
        event_id = f"{self.count:08x}-0000-7000-8000-000000000000"
        payload = json.dumps({"step": step, "metrics": {"loss": 1 / (step + 1)}}, separators=(",", ":"))
        execute(KNOWN, (event_id,)).fetchone()
        head = execute(LOAD, (run_id,)).fetchone()
        version, chain = (head[1] + 1, head[2]) if head else (1, "")
        digest = sha256(
            f'{{"event_id":"{event_id}","occurred_at":"{MOMENT}","payload":{payload},"run_id":{json.dumps(run_id)},'
            f'"schema_version":1,"source":{SOURCE},"type":"heartbeat"}}'.encode()
        ).hexdigest()
        chain = sha256((chain + digest).encode()).hexdigest()
        execute(INSERT, (event_id, run_id, version, "heartbeat", 1, MOMENT, MOMENT, SOURCE, payload, digest, chain))
        execute(UPSERT_HEAD, (run_id, version, chain, MOMENT, event_id, MOMENT, 0, 0, '{"launched":true}', version))
        execute(UPSERT_RUN, self.row(run_id, step))

    def append(self, run_id: str, step: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.one(run_id, step)
        self.connection.execute("COMMIT")

    def append_batch(self, steps: list[tuple[str, int]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for run_id, step in steps:
            self.one(run_id, step)
        self.connection.execute("COMMIT")


CONFIG = {
    "training": {
        "batch_size": 384, "learning_rate": 1e-4, "num_processes": 4, "max_steps": 2000,
        "gradient_accumulation_steps": 4, "max_grad_norm": 1.0, "bf16": True,
    },
    "reward": {"gradient_method": "mgda", "beta": 0.05, "enable_moving_targets": False},
    "objectives": [
        {"name": f"objective_{n}", "alias": f"objective_{n}_maximize", "weight": 2.0, "direction": "maximize"}
        for n in range(8)
    ],
    "generation": {"scaffolds": [{"name": f"s{n}", "smiles": "c1ccccc1"} for n in range(8)]},
}  # fmt: skip
CONFIG_TEXT = json.dumps(CONFIG)
