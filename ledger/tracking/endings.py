"""How a training process ended, judged from what is seen inside of it."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ledger.errors import InvalidValue
from ledger.events.lifecycle import EndReason
from ledger.tracking import surroundings

__all__ = ["COMPLETED", "Ending", "StoppedMeans", "by_exception", "by_exit_code", "by_signal", "stopped"]

StoppedMeans = Literal["failed", "completed"]
_STATUSES = ("completed", "failed", "crashed")
_REASONS: tuple[str, ...] = get_args(EndReason)


@dataclass(frozen=True)
class Ending:
    """The status of the end, why, the exit code where it is known, and what to keep as its error log."""

    status: Literal["completed", "failed", "crashed"]
    end_reason: EndReason | None = None
    exit_code: int | None = None
    error_log: str = ""
    is_stop: bool = False  # somebody stopped it by hand

    def meaning(self, stopped_means: str) -> Ending:
        """Return the same, where a stop by hand may mean that the run was completed."""
        return replace(self, status="completed") if self.is_stop and stopped_means == "completed" else self

    @classmethod
    def said(cls, status: str, end_reason: str | None, exit_code: int | None, error_log: str) -> Ending:
        """Return what a caller says. Raises InvalidValue."""
        for name, value, known in (("status", status, _STATUSES), ("end_reason", end_reason, (None, *_REASONS))):
            if value not in known:
                raise InvalidValue(name, value, f"one of {', '.join(filter(None, known))} is wanted")
        make: Callable[..., Ending] = cls
        return make(status, end_reason, exit_code, error_log)


COMPLETED = Ending("completed")


def stopped(exit_code: int | None = None) -> Ending:
    """A person stopped it: Ctrl-C, scancel, the end of a notebook."""
    return Ending("failed", "user", exit_code, is_stop=True)


def by_exception(exc: BaseException | None, *, exit_code: int | None = None) -> Ending:
    """Judge what left the block, or what nobody caught; *exit_code* is that of an exception that ends the process."""
    match exc:
        case None:
            return COMPLETED
        case KeyboardInterrupt():
            return stopped(130)
        case SystemExit():
            return by_exit_code(exc.code)
        case GeneratorExit():
            return Ending("failed", "unknown")
    if type(exc).__name__ == "CancelledError":  # what asyncio makes of a Ctrl-C, and of any other wish to stop
        return stopped(exit_code)
    reason: EndReason = "oom" if _is_out_of_memory(exc) else "exception"
    return Ending("crashed", reason, exit_code, "".join(traceback.format_exception(exc)))


def _is_out_of_memory(exc: BaseException) -> bool:
    """Python's own, and those of torch, jax and cupy, which are RuntimeErrors of a telling name."""
    if isinstance(exc, BaseExceptionGroup):
        return any(map(_is_out_of_memory, exc.exceptions))
    return isinstance(exc, MemoryError) or type(exc).__name__ in {"OutOfMemoryError", "OutOfMemory"}


def by_exit_code(code: object) -> Ending:
    """Judge what `sys.exit` was called with: nothing and 0 are success, a text is printed and means 1."""
    if code is None or code == 0:
        return Ending("completed", exit_code=0)
    if isinstance(code, int):
        return Ending("failed", exit_code=code & 0xFF)
    return Ending("failed", exit_code=1, error_log=f"{code}\n")


def by_signal(number: int, now: float) -> Ending:
    """Judge a signal that asks to end; under Slurm SIGTERM is scancel, unless the job's time is over."""
    code = 128 + number
    if number == signal.SIGINT:
        return stopped(code)
    if number == signal.SIGTERM and surroundings.under_slurm():
        return Ending("crashed", "timeout", code) if surroundings.job_has_timed_out(now) else stopped(code)
    return Ending("crashed", "signal", code)
