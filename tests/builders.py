"""Short words for events, for histories and for what a ledger shows, so that a test says only what matters."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import Ledger
from ledger import events as facts
from ledger.events import Event, Fact, Recorded
from ledger.events.times import text_of
from ledger.projections.claims import Claim, settle
from ledger.projections.columns import Declared
from ledger.projections.details import DETAILS
from ledger.projections.fold import fold_facts
from ledger.projections.life import Life
from ledger.projections.run import COLUMNS
from ledger.store.details import details_of
from ledger.store.tables import PROJECTION

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = 3600

# What is local to a ledger, or to the moment at which it is asked.
LOCAL = frozenset({"liveness", *(name for name, column in COLUMNS.items() if column.column.local)})

Row = dict[str, Any]
Window = dict[str, Row]


def trials(usual: int, full: int) -> int:
    """Return how often to try: *full* where LEDGER_PROOF=full asks for it."""
    return full if os.environ.get("LEDGER_PROOF") == "full" else usual


def moment(seconds: float = 0) -> datetime:
    """Return the moment so many seconds after NOON."""
    return NOON + timedelta(seconds=seconds)


def clock(seconds: float = 0) -> str:
    """Return the same as the text that a row shows."""
    return text_of(moment(seconds))


def numbered(number: int) -> str:
    """Return the event id with this number: their order is that of the numbers."""
    return str(uuid.UUID(int=number))


def _maker(kind: Callable[..., Event]) -> Callable[..., Event]:
    def make(seconds: float = 0, *, run: str = "r", number: int | None = None, **fields: Any) -> Event:
        event_id = {} if number is None else {"event_id": numbered(number)}
        return kind(run_id=run, occurred_at=moment(seconds), **event_id, **fields)

    return make


launched = _maker(facts.Launched)
started = _maker(facts.Started)
completed = _maker(facts.Completed)
failed = _maker(facts.Failed)
crashed = _maker(facts.Crashed)
heartbeat = _maker(facts.Heartbeat)
metrics_logged = _maker(facts.MetricsLogged)
checkpoint_saved = _maker(facts.CheckpointSaved)
conversation_attached = _maker(facts.ConversationAttached)
wandb_attached = _maker(facts.WandbAttached)
described = _maker(facts.Described)
resumed = _maker(facts.Resumed)
crash_data_attached = _maker(facts.CrashDataAttached)
blog_attached = _maker(facts.BlogAttached)
annotated = _maker(facts.Annotated)
voided = _maker(facts.Voided)
unvoided = _maker(facts.Unvoided)
imported = _maker(facts.Imported)
objective_stated = _maker(facts.ObjectiveStated)
scaffolds_recorded = _maker(facts.ScaffoldsRecorded)
unknown = _maker(facts.UnknownEvent)


def amended(seconds: float = 0, *, run: str = "r", number: int | None = None, **columns: Any) -> Event:
    """Return an amendment of these columns."""
    event_id = {} if number is None else {"event_id": numbered(number)}
    return facts.Amended(run_id=run, occurred_at=moment(seconds), reason="it was wrong", columns=columns, **event_id)


def lives(events: Iterable[Event | Recorded]) -> dict[str, Life]:
    """Return the fold of each run that these events tell of."""
    by_run: dict[str, list[Fact]] = {}
    for event in events:
        by_run.setdefault(event.run_id, []).append(Fact.of(event, redacting=True))
    folded = {run_id: fold_facts(of_run) for run_id, of_run in by_run.items()}
    return {run_id: life for run_id, life in folded.items() if life is not None}


def told(events: Iterable[Event | Recorded]) -> Window:
    """Return what a ledger with these events has to show, by the pure functions alone: settle(fold)."""
    folded = lives(events)
    claims: dict[str, list[Claim]] = {}
    for life in folded.values():
        if (claim := life.claimed()) is not None:
            claims.setdefault(claim.wandb_run_id, []).append(claim)
    held = {settle(of_id): wandb_run_id for wandb_run_id, of_id in claims.items()}
    return {
        run_id: {
            **life.row,
            "wandb_run_id": held.get(run_id),
            "reason": life.void_reason,
            "voided": life.void_reason is not None,
            "details": {detail.name: {} if life.void_reason is not None else detail.rows(life) for detail in DETAILS},
        }
        for run_id, life in folded.items()
    }


def shown(book: Ledger) -> Window:
    """Return what a ledger shows of every run, voided ones too, without what is local to that ledger."""
    rows = book.query_runs(limit=None, include_voided=True)
    with book._answers._tables() as connection:
        beside = details_of(connection, PROJECTION, [row["run_id"] for row in rows])
    for row in rows:
        row["details"] = {
            detail.name: {key: dict(zip(detail.columns, values, strict=True)) for key, values in rows.items()}
            for detail, rows in zip(DETAILS, beside[row["run_id"]], strict=True)
        }
    return {row["run_id"]: {name: value for name, value in row.items() if name not in LOCAL} for row in rows}


def fold_of(*events: Event) -> Row:
    """Return the row that the events of the run "r" give, as plain values."""
    return told(events)["r"]


def amendable(column: Declared) -> bool:
    """Whether a person may correct this column."""
    return column.column.amendable
