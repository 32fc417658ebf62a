"""Another interpreter with this very code, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

__all__ = ["may_start", "start"]

_PYTHON = re.compile(r"(python|pypy)[\d.]*t?")
_ROOT = str(Path(__file__).absolute().parents[2])  # where this code was imported from
_FLAGS = {"isolated": "I", "ignore_environment": "E", "no_user_site": "s", "no_site": "S", "optimize": "O"}


def may_start() -> bool:
    """Whether there is a processor for it, and an interpreter that is known to be one and nothing else."""
    if sys.platform == "win32" or getattr(sys, "frozen", False) or not _PYTHON.fullmatch(_name_of(sys.executable)):
        return False
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors > 1


def _name_of(executable: str | None) -> str:
    return Path(executable or "").name


def start(code: str, words: Sequence[str], ends: Sequence[int], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Run *code*, which finds the *words* and then where modules are in sys.argv, with these open *ends* of pipes.

    What goes wrong in it is written to *errors*. Raises OSError where it cannot be started.
    """
    flags = [f"-{letter * getattr(sys.flags, name)}" for name, letter in _FLAGS.items() if getattr(sys.flags, name)]
    return subprocess.Popen(  # noqa: S603 -- this interpreter and our own code, no shell
        [sys.executable, *flags, "-c", code, *words, *_places()],
        pass_fds=ends,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


def _places() -> list[str]:
    """Where this process finds modules; a folder that is named from where one stands may be another by now."""
    places = list(dict.fromkeys(place if Path(place).is_absolute() else _ROOT for place in sys.path))
    return places if _ROOT in places else [*places, _ROOT]
