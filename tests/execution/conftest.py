"""Commands run by `ledger exec` in processes of their own, and what the ledger then says of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import NoLedger, RunNotFound

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")


def until(met: Callable[[], object], what: str) -> None:
    """Wait until something has come about; that it does is the claim, and not how fast."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


@dataclass
class Ground:
    """A folder with a ledger and a state folder of its own, and an environment that says so."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "runs.db"

    def words(self, words: tuple[str, ...], command: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "ledger", "exec", *words, "--", *command]

    def start(self, *command: str, words: tuple[str, ...] = ("--run-id", "r1"), **how: object) -> subprocess.Popen:
        said = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "env": self.environment, "cwd": self.folder}
        process = subprocess.Popen(self.words(words, command), **{**said, **how})
        self.started.append(process)
        return process

    def exec(
        self, *command: str, words: tuple[str, ...] = ("--run-id", "r1"), **how: object
    ) -> subprocess.CompletedProcess:
        """Run it to its end; 'code', 'out' and 'err' are as bytes."""
        process = self.start(*command, words=words, **how)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def row(self, run_id: str = "r1") -> dict[str, object]:
        with Ledger(self.path) as book:
            row = book.get_run(run_id)
        assert row is not None
        return row

    def end(self, run_id: str = "r1") -> tuple[object, object, object]:
        row = self.row(run_id)
        return row["status"], row["end_reason"], row["exit_code"]

    def events(self, run_id: str = "r1") -> list:
        with Ledger(self.path) as book:
            return list(book.events(run_id=run_id))

    def types(self, run_id: str = "r1") -> list[str]:
        """Return the types of what is recorded by now; nothing may be, nor a ledger."""
        try:
            return [event.type for event in self.events(run_id)]
        except (NoLedger, RunNotFound):
            return []


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "LEDGER_"))}
    for name in ("RUN_ID", "CHAIN_OF_CUSTODY_ID", "RESUMES_RUN_ID", "INSTANCE_ID", *RANKS):
        inherited.pop(name, None)
    made = Ground(tmp_path)
    made.environment = {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TRAINING_DB_PATH": str(made.path),
    }
    yield made
    for process in made.started:
        if process.poll() is None:  # a test has failed: end the child, too
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
        with process:  # closes its pipes
            pass
