"""The first events of a tracked run: what its process says of itself, beside what the ledger knows already."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import JsonValue

from ledger.asking import Asking
from ledger.errors import InvalidValue, LedgerError
from ledger.events import Event, Launched, Resumed, WandbAttached
from ledger.events.plain import plain_mapping
from ledger.events.redaction import redact
from ledger.projections.run import COLUMNS
from ledger.recording import Recording
from ledger.tracking import surroundings

__all__ = ["BUSY_SECONDS_MAX", "Book", "Keeps", "Known", "Said", "Shared", "known_of", "launch_events", "said_of"]

LOOK_SECONDS_MAX = 2.0
BUSY_SECONDS_MAX = 0.5  # how long the writer, and a fork beside it, waits for a database before it spools
_FIELDS = tuple(name for name in Launched.payload_fields if name in COLUMNS)  # what a launch says of columns


class Keeps(Protocol):
    """What tracking needs of a ledger."""

    @property
    def spooled(self) -> str | None: ...
    def append(self, events: Event | Sequence[Event]) -> object: ...
    def get_run(self, run_id: str) -> Mapping[str, object] | None: ...
    def events(self, run_id: str, *, types: str) -> Iterable[object]: ...
    def close(self) -> None: ...


class Book(Recording, Asking):
    """A ledger of the tracker's own."""


class Shared:
    """Somebody else's ledger, which stays open when the tracker is done with it."""

    spooled = None

    def __init__(self, book: Keeps) -> None:
        self.append, self.get_run, self.events = book.append, book.get_run, book.events

    def close(self) -> None:
        """Whoever opened it closes it."""


@dataclass(frozen=True)
class Said:
    """What was said of the run when tracking began; `fields` are those of `Launched` beside the config."""

    run_id: str
    config: dict[str, JsonValue] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def resumes_run_id(self) -> str | None:
        resumed = self.fields.get("resumes_run_id")
        return None if resumed is None else str(resumed)


@dataclass(frozen=True)
class Known:
    """What the ledger knows: the run's row, if it was launched, and the row of the run that it goes on from.

    `asked` is False where the ledger did not answer in time.
    """

    asked: bool = False
    row: Mapping[str, object] | None = None
    launched: bool = False
    resumed: Mapping[str, object] | None = None


def known_of(book: Keeps, said: Said, seconds_max: float = LOOK_SECONDS_MAX) -> Known:
    """Look, for a bounded time, at what the ledger knows of the run."""
    found: list[Known] = []

    def look() -> None:
        try:
            found.append(_look(book, said))
        except (LedgerError, OSError):  # away, empty or a spool: then what we say is all there is
            found.append(Known())

    thread = threading.Thread(target=look, name="ledger looks", daemon=True)
    thread.start()
    thread.join(seconds_max)
    return found[0] if found else Known()


def _look(book: Keeps, said: Said) -> Known:
    row = book.get_run(said.run_id)
    launched = row is not None and any(True for _ in book.events(said.run_id, types="launched"))
    resumed = None if said.resumes_run_id is None else book.get_run(said.resumes_run_id)
    return Known(True, row, launched, resumed)


def launch_events(said: Said, known: Known, at: datetime) -> list[Event]:
    """Return what is to be recorded before a start: what the ledger lacks of the launch, and what is resumed.

    Raises InvalidFact for what is not well formed.
    """
    made: list[Event] = []
    launch = Launched(run_id=said.run_id, occurred_at=at, config=said.config, self_reported=True, **said.fields)
    if not known.launched or _adds(said, known.row or {}):
        made.append(launch)
    if said.resumes_run_id is not None:
        made += _resuming(said.run_id, said.resumes_run_id, known, at)
    return made


def _adds(said: Said, row: Mapping[str, object]) -> bool:
    """Whether the launch that is known lacks something that we say, or was made with another config."""
    if any(value is not None and row.get(name) is None for name, value in said.fields.items()):
        return True
    if not said.config:
        return False
    stored = row.get("config_json")
    ours, _ = redact(said.config)
    return not isinstance(stored, str) or json.loads(stored) != ours


def _resuming(run_id: str, resumed_run_id: str, known: Known, at: datetime) -> list[Event]:
    """The other half of the link on the run that stopped, and its W&B run for the one that goes on."""
    if known.asked and known.resumed is None:
        return []  # there is no such run, and saying something of it would make one
    made: list[Event] = [Resumed(run_id=resumed_run_id, occurred_at=at, resumed_by_run_id=run_id)]
    wandb_run_id = (known.resumed or {}).get("wandb_run_id")
    if wandb_run_id is not None:
        url, name = ((known.resumed or {}).get(column) for column in ("wandb_url", "wandb_name"))
        made.append(
            WandbAttached(run_id=run_id, occurred_at=at, wandb_run_id=wandb_run_id, wandb_url=url, wandb_name=name)
        )
    return made


def said_of(run_id: str | None, config: object, fields: Mapping[str, object]) -> Said:
    """Return what the call and the environment say. Raises InvalidValue where neither names a run."""
    named = run_id if run_id is not None else surroundings.handed_down(surroundings.RUN)
    if named is None:
        raise InvalidValue("run_id", None, "name the run, track(run_id), or set RUN_ID in its environment")
    handed = {
        "chain_of_custody_id": surroundings.handed_down(surroundings.CHAIN),
        "resumes_run_id": surroundings.handed_down(surroundings.RESUMES),
        "host": surroundings.this_host(),
        "instance_id": surroundings.instance_id(),
    }
    made = {name: fields.get(name) if fields.get(name) is not None else handed.get(name) for name in _FIELDS}
    if made["resumes_run_id"] == named:
        made["resumes_run_id"] = None
    return Said(named, plain_mapping(config), {name: value for name, value in made.items() if value is not None})
