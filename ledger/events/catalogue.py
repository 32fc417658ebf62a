"""The closed union of events; listing a class here is the one mention beside its own."""

from __future__ import annotations

from typing import get_args

from ledger.events.attachments import (
    Annotated,
    BlogAttached,
    ConversationAttached,
    CrashDataAttached,
    Described,
    WandbAttached,
)
from ledger.events.corrections import Amended, Unvoided, Voided
from ledger.events.envelope import Event
from ledger.events.lifecycle import Completed, Crashed, Failed, Launched, Resumed, Started
from ledger.events.progress import CheckpointSaved, Heartbeat, Imported, MetricsLogged
from ledger.events.results import ObjectiveStated, ScaffoldsRecorded

__all__ = ["EVENT_TYPES", "AnyEvent"]

AnyEvent = (
    Launched
    | ConversationAttached
    | Started
    | WandbAttached
    | Described
    | Heartbeat
    | MetricsLogged
    | CheckpointSaved
    | ObjectiveStated
    | ScaffoldsRecorded
    | Completed
    | Failed
    | Crashed
    | Resumed
    | CrashDataAttached
    | BlogAttached
    | Annotated
    | Amended
    | Voided
    | Unvoided
    | Imported
)

EVENT_TYPES: dict[str, type[Event]] = {kind.wire_name: kind for kind in get_args(AnyEvent)}
