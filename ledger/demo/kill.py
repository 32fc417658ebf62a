"""Kill a run's training process, as somebody would who finds it through the ledger: with SIGKILL."""

from __future__ import annotations

import os
import signal

from ledger import Ledger, origin
from ledger.events import Started


def kill(book: Ledger, run_id: str) -> int | None:
    """Say so in the ledger, kill, and return the pid; None where the process was gone before."""
    pid = training_process(book, run_id)
    if pid is not None:
        book.annotate(run_id, f"killed by hand: kill -9 {pid}", tags=["killed"])
        os.kill(pid, signal.SIGKILL)
    return pid


def training_process(book: Ledger, run_id: str) -> int | None:
    """Return the pid that the latest start names, if that is still the same process: pids are given out again."""
    starts = [recorded.event for recorded in book.events(run_id=run_id, types="started")]
    told = [event.process for event in starts if isinstance(event, Started) and event.process is not None]
    pid = told[-1].get("pid") if told else None
    return pid if isinstance(pid, int) and origin.process(pid) == told[-1] else None
