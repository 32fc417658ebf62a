"""No server outlives the process for which it was started, however that process ends.

    python keeper.py OWNER FOLDER

goes into the background, waits until the process OWNER is gone or somebody else removed FOLDER, ends every server whose
data lie in FOLDER, and removes it. It needs the standard library alone.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["clear", "end", "family", "keep", "processes", "servers"]

PROGRAMS = {"postgres", "initdb", "pg_basebackup"}
SHUTDOWN_SECONDS = 10  # the postmaster itself kills after five what does not end
LOOKS_SECONDS = 0.5


class Process(NamedTuple):
    parent: int
    command: list[str]


def keep(folder: Path, owner: int) -> None:
    """Have *folder* cleared when the process *owner* is gone; return once that is certain."""
    subprocess.run(
        [sys.executable, "-I", "-S", __file__, str(owner), str(folder)],
        check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def clear(folder: Path) -> None:
    """End the servers in *folder* and remove it."""
    end(servers(folder))
    if (folder / "data" / "postmaster.pid").exists():
        release(folder / "data" / "postmaster.pid")
    shutil.rmtree(folder, ignore_errors=True)


def release(pid_file: Path) -> None:
    """Remove the shared memory that a killed postmaster left; its key and id are on the seventh line."""
    lines = pid_file.read_text().splitlines()
    if len(lines) >= 7 and len(lines[6].split()) == 2:
        subprocess.run(["ipcrm", "-m", lines[6].split()[1]], check=False, stderr=subprocess.DEVNULL)


def processes() -> dict[int, Process]:
    """Return all that run; who has ended and was not yet waited for does not."""
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], check=True, capture_output=True, text=True)
        lines = [line.split() for line in listed.stdout.splitlines()]
        return {int(pid): Process(int(parent), command) for pid, parent, *command in lines}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended while we looked
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found[int(folder.name)] = Process(int(parent), command)
    return found


def servers(folder: Path) -> list[int]:
    """Return the processes of PostgreSQL's programs that were started on *folder*."""
    return [
        pid
        for pid, process in processes().items()
        if Path(process.command[0]).name in PROGRAMS
        and any(word == str(folder) or word.startswith(f"{folder}/") for word in process.command[1:])
    ]


def family(pids: Iterable[int]) -> set[int]:
    """Return these processes and their descendants, of those that run."""
    running = processes()
    found = set(pids) & running.keys()
    while more := {pid for pid, process in running.items() if process.parent in found} - found:
        found |= more
    return found


def end(pids: list[int]) -> None:
    """Shut servers down at once, so that they give back their memory; kill what does not follow."""
    everybody = family(pids)
    tell(pids, signal.SIGQUIT)
    tell(pids, signal.SIGCONT)
    if not gone(everybody, SHUTDOWN_SECONDS):
        tell(everybody, signal.SIGKILL)
        gone(everybody, SHUTDOWN_SECONDS)


def tell(pids: Iterable[int], word: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, word)


def gone(pids: set[int], seconds: float) -> bool:
    """Wait until none of *pids* runs."""
    until = time.monotonic() + seconds
    while pids & processes().keys():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def watch(owner: int, folder: Path) -> None:
    """Go into the background and wait there; whoever called goes on once the owner is in sight."""
    sight = None
    with suppress(ProcessLookupError):
        sight = os.pidfd_open(owner) if hasattr(os, "pidfd_open") else -1
    if os.fork():
        os._exit(0)
    os.setsid()
    while sight is not None and folder.exists():
        if sight >= 0 and select.select([sight], [], [], LOOKS_SECONDS)[0]:
            break
        if sight < 0:
            time.sleep(LOOKS_SECONDS)
            if owner not in processes():
                break
    clear(folder)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
