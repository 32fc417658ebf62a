"""The boundary that keeps a training run alive: whatever goes wrong in recording is said, and not raised."""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Concatenate, ParamSpec, TypeVar

__all__ = ["NotRecorded", "harmless", "say_once"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_log = logging.getLogger("ledger")
_HERE = str(Path(__file__).parent)
_said: set[str] = set()


class NotRecorded(UserWarning):
    """Something was not recorded, and training went on; the message says what, and the mend."""


def say_once(message: str) -> None:
    """Warn at the line that called us, once in a process; where warnings are made errors, on the log."""
    if message in _said:
        return
    _said.add(message)
    try:
        warnings.warn(message, NotRecorded, stacklevel=_frames_of_ours())
    except NotRecorded:
        _log.warning("%s", message)


def _frames_of_ours() -> int:
    """How far up the line is that is not of this package."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- there is no other way to it
    count = 0
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, count = frame.f_back, count + 1
    return count


def harmless(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """Let *method* never raise: its error becomes a warning at the call."""

    @functools.wraps(method)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as exc:  # noqa: BLE001 -- nothing that we do wrong may end a training run
            first = " ".join(str(exc).split()) or "no further word"
            say_once(f"run.{method.__name__}(...) was not recorded: {type(exc).__name__}: {first}")
            return None

    return guarded
