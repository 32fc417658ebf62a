"""The facts: what can happen to a run, and how each is written down."""

from __future__ import annotations

from ledger.events.attachments import (
    Annotated,
    BlogAttached,
    ConversationAttached,
    CrashDataAttached,
    Described,
    WandbAttached,
)
from ledger.events.catalogue import EVENT_TYPES, AnyEvent
from ledger.events.corrections import Amended, Unvoided, Voided
from ledger.events.envelope import Event, Source, UnknownEvent
from ledger.events.fact import Fact, Recorded, parse_event
from ledger.events.lifecycle import Completed, Crashed, Failed, Launched, Resumed, Started
from ledger.events.progress import LEASE_SECONDS, CheckpointSaved, Heartbeat, Imported, MetricsLogged
from ledger.events.results import ObjectiveStated, ScaffoldsRecorded

__all__ = [
    "EVENT_TYPES",
    "LEASE_SECONDS",
    "Amended",
    "Annotated",
    "AnyEvent",
    "BlogAttached",
    "CheckpointSaved",
    "Completed",
    "ConversationAttached",
    "CrashDataAttached",
    "Crashed",
    "Described",
    "Event",
    "Fact",
    "Failed",
    "Heartbeat",
    "Imported",
    "Launched",
    "MetricsLogged",
    "ObjectiveStated",
    "Recorded",
    "Resumed",
    "ScaffoldsRecorded",
    "Source",
    "Started",
    "UnknownEvent",
    "Unvoided",
    "Voided",
    "WandbAttached",
    "parse_event",
]
