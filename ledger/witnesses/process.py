"""The witness of this machine: is the process in which a run was started still there?

A pid alone proves nothing, since it is given out again; a process is told from all others by the
machine's boot, the namespace of its pid and the moment at which it was started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger import origin
from ledger.events.times import text_of
from ledger.witnesses.kinds import Row, Testimony

__all__ = ["LocalProcess"]

_IDENTITY = ("host", "boot_id", "pid", "started", "namespace")
_PID_END = 2**31
_EVERYBODYS_NAMES = ("", "localhost", "localhost.localdomain")


class LocalProcess:
    """Tells of runs whose `started` said in which process of this machine they run."""

    name = "process"

    def testify(self, runs: Sequence[Row], /) -> dict[str, Testimony]:
        words = {str(run["run_id"]): _testimony(run) for run in runs}
        return {run_id: word for run_id, word in words.items() if word is not None}


def _testimony(run: Row) -> Testimony | None:
    said = run.get("process")
    if not isinstance(said, Mapping):
        return None
    host, boot_id = origin.machine()
    pid = said.get("pid")
    if said.get("host") != host or host in _EVERYBODYS_NAMES or type(pid) is not int or not 0 < pid < _PID_END:
        return None
    if said.get("boot_id") != boot_id:
        return _of_another_boot(run, said, boot_id)
    return _of_this_boot(said, pid)


def _of_another_boot(run: Row, said: Mapping[str, object], boot_id: str) -> Testimony | None:
    """Dead, unless it gave a sign of life after this machine was started: then it is on another of the same name."""
    booted_at = origin.booted_at()
    seen = run.get("last_seen_at") or run.get("started_at")
    if not said.get("boot_id") or not boot_id or booted_at is None or str(seen) > text_of(booted_at):
        return None
    return Testimony(
        alive=False,
        words=f"{said['host']} was started anew since, at {booted_at:%Y-%m-%d %H:%M:%SZ}",
        end_reason="unknown",
    )


def _of_this_boot(said: Mapping[str, object], pid: int) -> Testimony | None:
    if said.get("namespace") != (origin.process() or {}).get("namespace"):
        return None  # another container, where the pid is somebody else's
    try:
        there = origin.process(pid)
    except PermissionError:
        return None
    what = f"pid {pid} on {said['host']}"
    if there is not None and all(there.get(name) == said.get(name) for name in _IDENTITY):
        return Testimony(alive=True, words=f"{what} is running")
    if not said.get("boot_id") or "started" not in said or (there is None and origin.is_hidden(pid)):
        return None
    found = "is gone" if there is None else "is another process by now"
    return Testimony(alive=False, words=f"{what} {found}", end_reason="unknown")
