"""What is attached to a run along its way. None of these touches its status."""

from __future__ import annotations

from typing import ClassVar, Literal

from ledger.events.envelope import Event, Id, PlainMapping, Text

__all__ = [
    "Annotated",
    "BlogAttached",
    "ConversationAttached",
    "CrashDataAttached",
    "Described",
    "WandbAttached",
]


class WandbAttached(Event):
    """The run reports to W&B; stating an id is a claim to it (see `projections.claims`)."""

    type: Literal["wandb_attached"] = "wandb_attached"
    wandb_run_id: Id | None = None
    wandb_url: Text | None = None
    wandb_name: Text | None = None


class ConversationAttached(Event):
    """The conversation that led to this run was exported."""

    type: Literal["conversation_attached"] = "conversation_attached"
    conversation_s3_key: Id


class CrashDataAttached(Event):
    """What is known of a crash was uploaded; it says nothing of the status."""

    type: Literal["crash_data_attached"] = "crash_data_attached"
    crash_report_s3_key: Id | None = None
    error_log_s3_key: Id | None = None
    crash_analysis_s3_key: Id | None = None


class BlogAttached(Event):
    """The run was written up."""

    type: Literal["blog_attached"] = "blog_attached"
    blog_post_url: Id


class Described(Event):
    """A call after the launch says the run's name, or which run it goes on from."""

    type: Literal["described"] = "described"
    run_name: Text | None = None
    resumes_run_id: Id | None = None


class Annotated(Event):
    """A remark: the latest note shows, tags gather, metadata is merged key by key."""

    may_hold_secrets: ClassVar[tuple[str, ...]] = ("metadata",)

    type: Literal["annotated"] = "annotated"
    note: Text | None = None
    tags: tuple[Id, ...] | None = None
    metadata: PlainMapping | None = None
    redacted: int | None = None
