"""Launch one run: its config, its launch and its conversation in the ledger, then its process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ledger import Ledger
from ledger.demo import configs
from ledger.demo.place import Place
from ledger.demo.plan import Entry

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Launch:
    """A run whose process has been started."""

    run_id: str
    chain_of_custody_id: str
    entry: Entry
    config: configs.Plain
    process: subprocess.Popen[bytes]


def launch(book: Ledger, place: Place, entry: Entry, chain: str, max_steps: int) -> Launch:
    """Record first, start afterwards: a process that dies at once still has a run to be found under."""
    run_id, config, path = f"{entry.name}_{chain}", entry.config(max_steps), place.config(entry.name)
    configs.write(config, path)
    book.insert_run(
        run_id,
        None,
        config,
        chain,
        run_name=entry.name,
        config_file_path=str(path),
        host="local",
        instance_id=platform.node(),
        instance_type=platform.machine(),
    )
    book.attach_conversation(run_id, keep_conversation(place, run_id, entry.wish))
    return Launch(run_id, chain, entry, config, start(place, run_id, chain, path))


def keep_conversation(place: Place, run_id: str, wish: str) -> str:
    conversation = {
        "run_id": run_id,
        "written_by": "ledger demo, in place of the people and agents of a team",
        "messages": [
            {"role": "user", "content": wish},
            {"role": "assistant", "content": f"Launching {run_id}."},
        ],
    }
    return place.keep(f"conversations/{run_id}/conversation.json", json.dumps(conversation, indent=2))


def start(place: Place, run_id: str, chain: str, config_path: Path) -> subprocess.Popen[bytes]:
    log = place.log(run_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ledger.demo.train", str(config_path), str(place.root)]
    with log.open("wb") as stderr:
        return subprocess.Popen(  # noqa: S603 -- our own module and our own paths, no shell
            command,
            env=environment(place, run_id, chain),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def environment(place: Place, run_id: str, chain: str) -> dict[str, str]:
    """Hand down the documented variables; a TRAINING_DB_URL of the caller's must not win over our path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_DB_")}
    # Processes that run side by side on two cores only get in each other's way with threads of their own.
    threads = dict.fromkeys(THREAD_VARIABLES, "1")
    ours = {"TRAINING_DB_PATH": str(place.ledger), "RUN_ID": run_id, "CHAIN_OF_CUSTODY_ID": chain}
    return {**inherited, **threads, **ours}
