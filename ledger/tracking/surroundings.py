"""What the environment of a training process says of its run: ids that were handed down, rank, job."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "handed_down",
    "handing_down",
    "instance_id",
    "is_interactive",
    "job_has_timed_out",
    "rank",
    "this_host",
    "under_slurm",
]

CHAIN, RESUMES, RUN = "CHAIN_OF_CUSTODY_ID", "RESUMES_RUN_ID", "RUN_ID"
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")


def handed_down(name: str) -> str | None:
    """Return an id that a launcher has set, None where it is not there or blank."""
    value = os.environ.get(name, "").strip()
    return value or None


@contextmanager
def handing_down(run_id: str, chain_of_custody_id: str | None) -> Iterator[None]:
    """Let processes that are started inside the block know of which run they are."""
    ours = {RUN: run_id, **({CHAIN: chain_of_custody_id} if chain_of_custody_id else {})}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if os.environ.get(name) != ours[name]:
                continue  # somebody else's by now
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def rank() -> int:
    """Return which of the processes that train together this is, as torchrun, MPI and srun say it; 0 for one alone."""
    for name in _RANKS:
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit():
            return int(text)
    return 0


def under_slurm() -> bool:
    return "SLURM_JOB_ID" in os.environ


def instance_id() -> str | None:
    """Return the Slurm job (`123`, or `123_4` for a task of an array) that this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or handed_down("INSTANCE_ID")


def job_has_timed_out(now: float) -> bool:
    """Whether the end that Slurm has set for the job (SLURM_JOB_END_TIME, in seconds since 1970) has come."""
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    return text.isdigit() and now >= int(text) - 5


def this_host() -> str:
    return socket.gethostname()


def is_interactive() -> bool:
    """Whether a person types at this process: its end is no end of training."""
    shell = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (shell is not None and getattr(shell, "get_ipython", lambda: None)() is not None)
