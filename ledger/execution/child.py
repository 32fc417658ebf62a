"""Starting a command in our place: its terminal, its group and its signals are as if we were not there."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.execution.signals import Held

__all__ = ["NotStarted", "start"]

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True)
class NotStarted:
    """Why a command was not started; *exit_code* is what a shell says then: 127 not found, 126 not executable."""

    exit_code: int
    why: str


def start(
    command: Sequence[str], environment: Mapping[str, str], held: Held, stderr: int | None = None
) -> int | NotStarted:
    """Start the command and return its pid."""
    actions = [] if stderr is None else [(os.POSIX_SPAWN_DUP2, stderr, 2)]
    try:
        return os.posix_spawnp(
            command[0],
            list(command),
            environment,
            file_actions=actions,
            setsigmask=held.before,
            setsigdef=_IGNORED_BY_PYTHON,
        )
    except OSError as exc:
        return _not_started(command[0], exc)


def _not_started(command: str, exc: OSError) -> NotStarted:
    missing = exc.errno in (errno.ENOENT, errno.ENOTDIR)
    name = command.encode("utf-8", "backslashreplace").decode("utf-8")
    why = "command not found" if missing else f"cannot be executed ({exc.strerror or exc})"
    return NotStarted(127 if missing else 126, f"{name}: {why}. Name a program that is on the PATH, or its path.")
