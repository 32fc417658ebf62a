"""Launch one run: its config, its launch and its conversation in the ledger, then its process, with exec around it."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ledger import Ledger
from ledger.demo import configs
from ledger.demo.place import Place
from ledger.demo.plan import Entry
from ledger.integrations.launch import record_launch

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What our caller was told of its own run, its own ledger and its own job is not for ours.
NOT_HANDED_DOWN = ("TRAINING_DB_", "LEDGER_", "SLURM_", "OMPI_", "PMI_", "RANK", "RESUMES_RUN_ID")


@dataclass(frozen=True)
class Launch:
    """A run whose process has been started; *process* is exec, and leads a process group of its own."""

    run_id: str
    chain_of_custody_id: str
    entry: Entry
    config: configs.Plain
    process: subprocess.Popen[bytes]

    def kill_what_is_left(self) -> None:
        """End whatever is there of the group: of an exec that was killed itself, the training process."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def launch(book: Ledger, place: Place, entry: Entry, chain: str, max_steps: int) -> Launch:
    """Record first, start afterwards: a process that dies at once still has a run to be found under."""
    run_id, config, path = f"{entry.name}_{chain}", entry.config(max_steps), place.config(entry.name)
    configs.write(config, path)
    record_launch(
        path,
        platform.node(),
        run_id=run_id,
        chain_of_custody_id=chain,
        conversation=conversation(run_id, entry.wish),
        folder=place.root,
        host="local",
        instance_type=platform.machine(),
        ledger=book,
    )
    return Launch(run_id, chain, entry, config, start(place, run_id, chain, path))


def conversation(run_id: str, wish: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "written_by": "ledger demo, in place of the people and agents of a team",
        "messages": [
            {"role": "user", "content": wish},
            {"role": "assistant", "content": f"Launching {run_id}."},
        ],
    }


def start(place: Place, run_id: str, chain: str, config_path: Path) -> subprocess.Popen[bytes]:
    log = place.log(run_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    place.state.mkdir(exist_ok=True)  # a temporary folder that is not there is not used
    train = [sys.executable, "-m", "ledger.demo.train", str(config_path), str(place.root)]
    with log.open("wb") as stderr:
        return subprocess.Popen(  # noqa: S603 -- our own module and our own paths, no shell
            [sys.executable, "-m", "ledger", "exec", "--run-id", run_id, "--", *train],
            env=environment(place, run_id, chain),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            process_group=0,
        )


def environment(place: Place, run_id: str, chain: str) -> dict[str, str]:
    """Hand down the documented variables, and keep all that is written inside of the demo's folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_DOWN)}
    # Processes that run side by side on two cores only get in each other's way with threads of their own.
    threads = dict.fromkeys(THREAD_VARIABLES, "1")
    ours = {
        "TRAINING_DB_PATH": str(place.ledger),
        "TRAINING_DB_SPOOL": str(place.spool),
        "XDG_STATE_HOME": str(place.state),
        "TMPDIR": str(place.state),
        "RUN_ID": run_id,
        "CHAIN_OF_CUSTODY_ID": chain,
    }
    return {**inherited, **threads, **ours}
