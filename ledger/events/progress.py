"""Signs of life from the training process, and what another system saw."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from ledger.events.envelope import Event, Id, PlainMapping, Text
from ledger.events.lifecycle import Int64, Seconds
from ledger.events.plain import plain_mapping

__all__ = ["LEASE_SECONDS", "CheckpointSaved", "Heartbeat", "Imported", "MetricsLogged"]

LEASE_SECONDS = 300

Columns = Annotated[dict[str, list[JsonValue]], BeforeValidator(plain_mapping)]


class Heartbeat(Event):
    """The run lives: how far it is, duration and metrics so far, and within how many seconds it will beat again.

    A lease that is not said is LEASE_SECONDS; 0 promises nothing.
    """

    type: Literal["heartbeat"] = "heartbeat"
    step: Int64 | None = None
    duration_seconds: Seconds | None = None
    metrics: PlainMapping | None = None
    message: Text | None = None
    lease_seconds: Seconds | None = None


class MetricsLogged(Event):
    """A batch of steps in columns of one length: `{"step": [1, 2], "loss": [0.9, 0.8]}`; occurs at its last step."""

    type: Literal["metrics_logged"] = "metrics_logged"
    columns: Columns

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if len({len(values) for values in self.columns.values()}) > 1:
            raise ValueError("columns of one length are wanted")
        return self


class CheckpointSaved(Event):
    """The model as of a step was written to *uri*."""

    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    uri: Id
    step: Int64 | None = None
    metrics: PlainMapping | None = None


class Imported(Event):
    """A row, or a W&B run, as another system had it: fills what nobody else has said."""

    may_hold_secrets: ClassVar[tuple[str, ...]] = ("row",)

    type: Literal["imported"] = "imported"
    system: Id
    row: PlainMapping = Field(default_factory=dict)
    redacted: int | None = None
