"""Which logs a path means, and whether somebody still writes to one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ledger import origin
from ledger.errors import InvalidValue

__all__ = ["QUIET_SECONDS", "logs_of", "may_still_grow"]

QUIET_SECONDS = 3600
_PATTERNS = ("run-*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb")


def logs_of(place: str | os.PathLike[str]) -> list[Path]:
    """Return the logs of a `.wandb` file, of a run's folder, or of a folder with several, oldest folder first.

    Raises InvalidValue where there is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    # `latest-run` is a link to one of the others.
    found = {log.resolve(): log for pattern in _PATTERNS for log in sorted(path.glob(pattern), reverse=True)}
    if not found:
        wanted = "a W&B log (run-ID.wandb), a run's folder (offline-run-*, run-*) or a folder of several is wanted"
        raise InvalidValue("PATH", str(place), wanted)
    return sorted(found)


def may_still_grow(log: Path, host: str) -> bool:
    """Whether a log without an exit record may be of a run that goes on.

    On the machine that wrote it, that is so while a process has it open; elsewhere, or where the system does not say
    so, for an hour after it was last written to.
    """
    if host == origin.machine()[0] and Path("/proc/self/fd").is_dir() and _is_ours(log):
        return any(_has_open(process, log) for process in _processes())
    written_at = datetime.fromtimestamp(log.stat().st_mtime, UTC)
    return (origin.utc_now() - written_at).total_seconds() < QUIET_SECONDS


def _is_ours(log: Path) -> bool:
    """Whether we may see what the processes of the log's owner have open."""
    return os.geteuid() in {0, log.stat().st_uid}


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _has_open(process: Path, log: Path) -> bool:
    try:
        return any(_same(entry, log) for entry in (process / "fd").iterdir())
    except OSError:  # it has ended meanwhile, or is another user's
        return False


def _same(entry: Path, log: Path) -> bool:
    try:
        return entry.samefile(log)
    except OSError:
        return False
