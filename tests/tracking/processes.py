"""Training processes that end in every way, each a real one, and what their ledger then shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ledger import Ledger

Row = dict[str, Any]

SECONDS_MAX = 120


def heed_signals() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Place:
    """A ledger's file, and a home whose spool and error logs are its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "db" / "runs.db"  # in a folder of its own, which can be moved away
        self.state = folder / "state"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINING_DB_", "SLURM_"))}
        for name in ("RUN_ID", "CHAIN_OF_CUSTODY_ID", "RESUMES_RUN_ID", "RANK", "INSTANCE_ID"):
            kept.pop(name, None)
        return {**kept, "TRAINING_DB_PATH": str(self.path), "XDG_STATE_HOME": str(self.state), **more}

    def start(self, script: str, *, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a process that runs *script*."""
        code = textwrap.dedent(script)
        # Under nohup a child would ignore SIGHUP, which some of them are to end by.
        usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_signals}
        return subprocess.Popen(
            [sys.executable, "-c", code], env=self.environment(**(env or {})), **{**usual, **options}
        )

    def run(self, script: str, *, env: Mapping[str, str] | None = None, **options: Any) -> tuple[int, str, str]:
        """Run a process to its end; return its exit code, stdout and stderr."""
        process = self.start(script, env=env, **options)
        out, err = process.communicate(timeout=SECONDS_MAX)
        return process.returncode, out, err

    def ledger(self) -> Ledger:
        return Ledger(self.path)

    def row(self, run_id: str = "r") -> Row:
        with self.ledger() as book:
            row = book.get_run(run_id)
        assert row is not None
        return row

    def types(self, run_id: str = "r") -> list[str]:
        with self.ledger() as book:
            return [entry.type for entry in book.timeline(run_id=run_id)]

    @property
    def spool(self) -> Path:
        return self.state / "training-run-ledger" / "spool"

    def sync(self) -> None:
        with self.ledger() as book:
            book.sync(self.spool)


Opened = Callable[[], Place]
