"""A run's life: launched, started, and the three ways in which it ends."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, FiniteFloat

from ledger.events.envelope import Event, Id, OwnText, PlainMapping, Text
from ledger.events.plain import plain
from ledger.events.times import UtcDateTime

__all__ = ["Completed", "Crashed", "EndReason", "Failed", "Launched", "Resumed", "Seconds", "Started"]

EndReason = Literal["exception", "signal", "oom", "preempted", "timeout", "node_failure", "user", "unknown"]


def _not_finite(value: object) -> object:
    return plain(value) if isinstance(value, Real) else value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _whole_seconds(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number of seconds is wanted")  # noqa: TRY004 -- pydantic reports ValueErrors
    try:
        return round(seconds) if isinstance(value, Real) and abs(seconds := float(value)) < 2**63 else value
    except OverflowError:  # no float is as large; the bounds refuse it
        return value


# A float that is not finite, as JSON has it: it is kept in the event, and fits no column of numbers.
NotFinite = Annotated[Literal["NaN", "Infinity", "-Infinity"], BeforeValidator(_not_finite)]
Int64 = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**63), lt=2**63, strict=True)] | NotFinite
Seconds = Annotated[int, BeforeValidator(_whole_seconds), Field(ge=0, lt=2**63)] | NotFinite
Hyperparameter = Int64 | Annotated[FiniteFloat, Field(strict=True)] | OwnText


class Launched(Event):
    """A launcher asked for this run; or, with `self_reported`, the run's own process said so at its start."""

    may_hold_secrets: ClassVar[tuple[str, ...]] = ("config",)

    type: Literal["launched"] = "launched"
    config: PlainMapping = Field(default_factory=dict)
    chain_of_custody_id: Id | None = None
    run_name: Text | None = None
    config_file_path: Text | None = None
    host: Text | None = None
    instance_id: Text | None = None
    instance_type: Text | None = None
    hyperparameters: dict[str, Hyperparameter] | None = None
    resumes_run_id: Id | None = None
    self_reported: bool | None = None
    redacted: int | None = None


class Started(Event):
    """Training runs, for the first time or again; `process` says in which process, so that it can be looked for."""

    type: Literal["started"] = "started"
    started_at: UtcDateTime | None = None
    process: PlainMapping | None = None


class Resumed(Event):
    """Another run goes on where this one stopped: the other half of that run's `resumes_run_id`."""

    type: Literal["resumed"] = "resumed"
    resumed_by_run_id: Id


class _Ended(Event):
    """What every end can say; one that went wrong also its `error_log`: a traceback, or the end of stderr.

    `detected_by` is who noticed it, if not the run itself, and `testimony` what a witness said of it.
    """

    ended_at: UtcDateTime | None = None
    duration_seconds: Seconds | None = None
    final_metrics: PlainMapping | None = None
    end_reason: EndReason | None = None
    exit_code: Int64 | None = None
    detected_by: Text | None = None
    testimony: Text | None = None


class Completed(_Ended):
    """Training reached its end."""

    type: Literal["completed"] = "completed"


class Failed(_Ended):
    """Training stopped because somebody, or the program itself, decided so."""

    type: Literal["failed"] = "failed"
    error_log: Text | None = None


class Crashed(_Ended):
    """Training stopped and nobody meant it to; `presumed` when that was concluded and not witnessed."""

    type: Literal["crashed"] = "crashed"
    presumed: bool | None = None
    error_log: Text | None = None
