"""What the environment of a training process says of its run: ids that were handed down, rank, job."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

from ledger import origin

__all__ = [
    "hand_down",
    "handed_down",
    "instance_id",
    "is_interactive",
    "job_has_timed_out",
    "owner_lives",
    "rank",
    "this_host",
    "under_slurm",
]

CHAIN, RESUMES, RUN = "CHAIN_OF_CUSTODY_ID", "RESUMES_RUN_ID", "RUN_ID"
OWNER = "LEDGER_TRACKED_BY"  # the process that tracks RUN_ID, and that id
_inherited: dict[str, str | None] = {}
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")


def handed_down(name: str) -> str | None:
    """Return an id that a launcher has set, None where it is not there or blank."""
    value = os.environ.get(name, "").strip()
    return value or None


def hand_down(runs: Sequence[tuple[str, str | None]]) -> None:
    """Let processes that are started from now on know of which run they are: the latest of *runs* that are tracked.

    With none of them any more the environment says again what it said before there was one.
    """
    if not _inherited:
        _inherited.update({name: os.environ.get(name) for name in (RUN, CHAIN, OWNER)})
    said: dict[str, str | None] = dict(_inherited)
    if runs:
        run_id, chain = runs[-1]
        said = {RUN: run_id, CHAIN: chain or said[CHAIN], OWNER: f"{os.getpid()} {run_id}"}
    else:
        _inherited.clear()
    for name, value in said.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def owner_lives(run_id: str) -> bool:
    """Whether the environment comes from another process, which tracks the same run and still runs."""
    pid, _, owned = os.environ.get(OWNER, "").partition(" ")
    return owned == run_id and pid.isdigit() and int(pid) != os.getpid() and origin.is_running(int(pid))


def rank() -> int:
    """Return which of the processes that train together this is, as torchrun, MPI and srun say it; 0 for one alone."""
    for name in _RANKS:
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit():
            return int(text)
    return 0


def under_slurm() -> bool:
    return bool(os.environ.get("SLURM_JOB_ID"))


def instance_id() -> str | None:
    """Return the Slurm job (`123`, or `123_4` for a task of an array) that this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or handed_down("INSTANCE_ID")


def job_has_timed_out(now: float) -> bool:
    """Whether the end that Slurm has set for the job (SLURM_JOB_END_TIME, in seconds since 1970) has come."""
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    return text.isascii() and text.isdigit() and now >= int(text) - 5


def this_host() -> str:
    return socket.gethostname()


def is_interactive() -> bool:
    """Whether a person types at this process: its end is no end of training."""
    shell = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (shell is not None and getattr(shell, "get_ipython", lambda: None)() is not None)
