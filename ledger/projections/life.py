"""What a fold carries along: a run's row as plain values, and what later events need beside it.

The row is kept as the columns' own values and moments as text, whose order is the order of time: a
fold over a million events builds no objects. `beside` packs the rest for `training_heads`, so that
an event which comes in order is folded onto the stored row without reading the run's history.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import JsonValue

from ledger.projections.claims import Claim
from ledger.projections.columns import Declared
from ledger.projections.fits import Plain, fitting, path_into, projected_json, without_non_finite
from ledger.projections.metrics import Metric
from ledger.projections.objectives import Stated
from ledger.projections.run import COLUMNS, HYPERPARAMETERS, Run
from ledger.projections.scaffolds import Scaffolds

__all__ = ["Life", "Row", "microseconds_between"]

Row = dict[str, Plain]
Key = tuple[str, str]  # (occurred_at, event_id): canonical order

# What the fold writes: all but what is local to a ledger, and but for `wandb_run_id`, which `settle` gives.
FOLDED = tuple(name for name, c in COLUMNS.items() if not c.column.local and name != "wandb_run_id")

_INTEGER_MAX = 2**63 - 1
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Life:
    """One run's fold so far. `evolve` changes it in place; nobody else does."""

    row: Row
    launched: bool = False
    amended: set[str] = field(default_factory=set)
    explicit: Row = field(default_factory=dict)  # hyperparameters that were stated, not read from the config
    imported: Row = field(default_factory=dict)  # hyperparameters that only another system knew
    presumed: bool = False  # the crash that the row shows was concluded, not witnessed
    said_duration: int | None = None
    unknown_duration: bool = False  # a person cleared it
    active_before: int | None = None  # microseconds of the segments before the present one
    segment_start: str | None = None
    segment_end: str | None = None  # None while the segment is open
    claim: str | None = None
    claims: dict[str, Key] = field(default_factory=dict)  # each stated id and its earliest statement
    void_reason: str | None = None
    lease: int | None = None  # seconds after a sign of life within which its process promised another one
    # Canonical keys: of the latest event that is no sign of life, of the latest sign of life, and of the
    # latest heartbeat whose metrics, whose duration, and whose lease count.
    settled: Key | None = None
    signed: Key | None = None
    metrics_from: Key | None = None
    duration_from: Key | None = None
    lease_from: Key | None = None
    # The metrics that the row is to show, not written as text yet: of a thousand heartbeats one is.
    shown_metrics: dict[str, JsonValue] | None = None
    # What was stated of objectives by hand; and, of the events that were folded since the life was restored, what
    # they say of metrics and of scaffolds.
    objectives: Stated = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)
    scaffolds: Scaffolds = field(default_factory=dict)

    @classmethod
    def born(cls, run_id: str, occurred_at: str) -> Life:
        row: Row = dict.fromkeys(FOLDED)
        row["run_id"] = run_id
        row["created_at"] = occurred_at
        row["status"] = "launched"
        return cls(row)

    def beside(self) -> str:
        """Return what the row does not show, as JSON text that `restored` reads."""
        packed: dict[str, JsonValue] = {
            name: value for name in _SCALARS if (value := getattr(self, name)) is not None and value is not False
        }
        if self.amended:
            packed["amended"] = list[JsonValue](sorted(self.amended))
        if self.explicit:
            packed["explicit"] = dict(self.explicit)
        if self.imported:
            packed["imported"] = dict(self.imported)
        if self.objectives:
            packed["objectives"] = [list(statement) for statement in self.objectives]
        if self.claims:
            packed["claims"] = {name: list(key) for name, key in self.claims.items()}
        for name in _KEYS:
            if (key := getattr(self, name)) is not None:
                packed[name] = list(key)
        return _encode(packed)

    @classmethod
    def restored(cls, row: Row, beside: str) -> Life:
        """Return the fold as it was when *row* and *beside* were stored."""
        packed = json.loads(beside)
        amended = set(packed.pop("amended", ()))
        claims = {name: (key[0], key[1]) for name, key in packed.pop("claims", {}).items()}
        objectives = [(name, field, value) for name, field, value in packed.pop("objectives", ())]
        for name in _KEYS:
            if name in packed:
                packed[name] = tuple(packed[name])
        return cls(row, amended=amended, claims=claims, objectives=objectives, **packed)

    def show_metrics(self, metrics: dict[str, JsonValue]) -> None:
        """Let the row show these, from the next `sealed` on."""
        self.row["final_metrics_json"], self.shown_metrics = "", metrics

    def sealed(self) -> Life:
        """Return itself with a row that can be read."""
        if self.shown_metrics is not None:
            self.row["final_metrics_json"] = projected_json(without_non_finite(self.shown_metrics))
            self.shown_metrics = None
        return self

    def claimed(self) -> Claim | None:
        """Return the run's claim to a W&B id; a voided run claims nothing."""
        if self.claim is None or self.void_reason is not None:
            return None
        run_id, resumes = self.row["run_id"], self.row["resumes_run_id"]
        return Claim(self.claim, str(run_id), *self.claims[self.claim], None if resumes is None else str(resumes))

    def run(self) -> Run:
        """Return the row as a Run that holds what it claims."""
        make: Callable[..., Run] = Run
        return make(**self.sealed().row, wandb_run_id=self.claim)

    def write(self, name: str, value: JsonValue) -> None:
        """Set a column where *value* says something that fits it."""
        made = fitting(COLUMNS[name], value)
        if made is not None:
            self.row[name] = made

    def read_hyperparameters(self, config: JsonValue) -> None:
        """Set the columns that are read from the config, but for those that were amended or stated."""
        for name, column in HYPERPARAMETERS.items():
            if name not in self.amended:
                stated = self.explicit.get(name)
                read = read_config(column, config) if stated is None else stated
                self.row[name] = self.imported.get(name) if read is None else read

    def set_running(self) -> None:
        self.row["status"] = "running"
        self.row["ended_at"] = self.row["duration_seconds"] = None
        self.said_duration, self.unknown_duration, self.presumed = None, False, False

    def open_segment(self, at: str) -> None:
        """Begin to count active time, unless it is being counted; no earlier than the last segment ended."""
        if self.segment_start is not None and self.segment_end is None:
            return
        self.active_before = self.active_microseconds()
        self.segment_start = at if self.segment_end is None else max(at, self.segment_end)
        self.segment_end = None

    def active_microseconds(self) -> int | None:
        if self.segment_start is None or self.segment_end is None:
            return self.active_before
        return (self.active_before or 0) + max(0, microseconds_between(self.segment_start, self.segment_end))

    def derive_times(self) -> None:
        """Bring the two durations in line with what was said and with the moments they are made of."""
        row = self.row
        active = self.active_microseconds()
        row["active_seconds"] = None if active is None else min(active // 1_000_000, _INTEGER_MAX)
        started, ended = row["started_at"], row["ended_at"]
        if self.unknown_duration:
            row["duration_seconds"] = None
        elif self.said_duration is not None:
            row["duration_seconds"] = self.said_duration
        elif isinstance(started, str) and isinstance(ended, str):
            row["duration_seconds"] = max(0, microseconds_between(started, ended)) // 1_000_000


def read_config(column: Declared, config: JsonValue) -> Plain:
    """Return what the first of the column's paths that is there and fits says."""
    for path in column.column.config:
        value = path_into(config, path)
        if column.column.counted:
            value = len(value) if isinstance(value, list | dict) else None
        made = fitting(column, value)
        if made is not None:
            return made
    return None


def microseconds_between(start: str, end: str) -> int:
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)) // _MICROSECOND
    except (ValueError, TypeError):  # somebody changed a stored time behind our back, and verify has to get so far
        return 0


_SCALARS = (
    "launched",
    "presumed",
    "said_duration",
    "unknown_duration",
    "active_before",
    "segment_start",
    "segment_end",
    "claim",
    "void_reason",
    "lease",
)
_KEYS = ("settled", "signed", "metrics_from", "duration_from", "lease_from")
_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode
