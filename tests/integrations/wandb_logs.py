"""W&B logs for tests: written by the real SDK in processes of its own, or record by record."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

BLOCK = 32_768

SCRIPT = r"""
import math, os, signal, sys, time
import numpy as np
import wandb

life = sys.argv[1]


def begin(**words):
    return wandb.init(project="digits", id=f"wb-{sys.argv[2] if len(sys.argv) > 2 else life}", **words)


def rows(run, count, text=""):
    for step in range(count):
        run.log({"loss": 1 / (step + 1), "text": text})


if life == "full":
    config = {
        "training": {"batch_size": 384, "learning_rate": 1e-4},
        "api_key": "of nobody's business", "depth": np.int64(3), "nan": math.nan,
    }
    run = begin(name="mgda", group="sweep", tags=["a", "b"], notes="first try", job_type="train", config=config)
    for step in range(5):
        run.log({
            "loss": np.float32(0.5), "nan": math.nan, "up": math.inf, "down": -math.inf, "step": step * 10,
            "hist": wandb.Histogram([1, 2, 3]), "val": {"loss": step, "deep": {"er": np.float64(step)}},
        })
    run.log({"first": 1}, step=10)
    run.log({"second": 2}, step=10)  # one step in two calls
    run.log({"late": 1}, step=7)  # which W&B drops
    run.log({"array": np.arange(3), "yes": True})
    run.config.update({"seed": 5, "training": {"batch_size": 512}}, allow_val_change=True)
    run.tags = (*run.tags, "c")
    run.summary["best"] = math.nan
    run.summary["score"] = {"mean": 1}
    run.finish()
elif life == "killed":
    run = begin()
    rows(run, 200, text="y" * 100)
    log = run.settings.sync_file
    while os.path.getsize(log) < 2 * 32768:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
elif life == "terminated":
    begin()
    os.kill(os.getpid(), signal.SIGKILL)
elif life == "exception":
    rows(begin(), 3)
    raise ValueError("boom")
elif life == "exception-within":
    with begin() as run:
        rows(run, 3)
        raise ValueError("boom")
elif life == "exit":
    rows(begin(), 3)
    sys.exit(3)
elif life == "interrupted":
    rows(begin(), 3)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
elif life == "finished-before-the-end":
    with begin() as run:
        rows(run, 3)
    try:
        raise ValueError("after W&B")
    except ValueError:
        sys.exit(1)
elif life == "resumed":
    run = begin(resume="allow")
    rows(run, int(sys.argv[3]))
    run.finish()
elif life == "disabled":
    run = wandb.init(project="digits", mode="disabled")
    rows(run, 3)
    run.finish()
"""


def environment(home: Path) -> dict[str, str]:
    """Return what a W&B process without a network has, in a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "TRAINING_DB_"))}
    said = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    return {**kept, **said, "HOME": str(home), "WANDB_DIR": str(home)}


def begun(home: Path, life: str, *words: str, script: str = SCRIPT) -> subprocess.Popen[bytes]:
    """Start a W&B process that writes below *home*."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", script, life, *words]
    sink = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment(home), cwd=home, stdin=sink, stdout=sink, stderr=sink)


def framed(records: Iterable[bytes]) -> bytes:
    """Return a log of these records, written as the format says and not as the reader reads."""
    made = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in records:
        rest, first = record, True
        while True:
            room = BLOCK - len(made) % BLOCK
            if room < 7:
                made += bytes(room)
                continue
            part, rest = rest[: room - 7], rest[room - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            made += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not rest:
                break
    return bytes(made)


def run_record(wandb_run_id: str = "abc", seconds: int = 1_700_000_000, **said: Any) -> Any:
    record = pb.Record(run=pb.RunRecord(run_id=wandb_run_id, host="node7", **said))
    record.run.start_time.seconds = seconds
    return record


def history(step: int, moment: float, *items: tuple[str | tuple[str, ...], str]) -> Any:
    """Return a row; each item is a key, or a path of keys, and the JSON text of its value."""
    record = pb.Record(history=pb.HistoryRecord(step=pb.HistoryStep(num=step)))
    for key, text in (("_timestamp", repr(moment)), ("_step", str(step)), *items):
        item = record.history.item.add(value_json=text)
        if isinstance(key, str):
            item.key = key
        else:
            item.nested_key.extend(key)
    return record


def written(path: Path, *records: Any) -> Path:
    """Write a log of these records."""
    path.write_bytes(framed(record.SerializeToString() for record in records))
    return path


def torn(log: bytes, about: int) -> bytes:
    """Return a log that ends within a record, one of those in its last block before *about*."""
    at = begins = about - about % BLOCK
    while BLOCK - at % BLOCK >= 7 and (after := at + 7 + struct.unpack_from("<H", log, at + 4)[0]) <= about:
        begins, at = at, after
    return log[: begins + 8]


def logs_below(home: Path) -> Iterator[Path]:
    """Yield the logs of a home, without the link to the latest."""
    yield from sorted(home.glob("wandb/offline-run-*/run-*.wandb"))
