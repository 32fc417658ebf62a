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
_SAID_MAX = 1000
_said: set[tuple[str, str]] = set()


class NotRecorded(UserWarning):
    """Something was not recorded, and training went on; the message says what, and the mend."""


def say_once(message: str, kind: str) -> None:
    """Warn at the line that called us, once a line and kind; where warnings are made errors, on the log."""
    depth, line = _caller()
    if (line, kind) in _said or len(_said) >= _SAID_MAX:
        return
    _said.add((line, kind))
    try:
        warnings.warn(message, NotRecorded, stacklevel=depth)
    except NotRecorded:
        _log.warning("%s", message)


def _caller() -> tuple[int, str]:
    """The line that is not of this package any more, and how far up it is."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- there is no other way to it
    count = 0
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, count = frame.f_back, count + 1
    return count, "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def harmless(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """Let *method* never raise: its error becomes a warning at the call."""

    @functools.wraps(method)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as exc:  # noqa: BLE001 -- nothing that we do wrong may end a training run
            first = " ".join(str(exc).split()) or "no further word"
            kind = type(exc).__name__
            say_once(f"run.{method.__name__}(...) was not recorded: {kind}: {first}", f"{method.__name__} {kind}")
            return None

    return guarded
