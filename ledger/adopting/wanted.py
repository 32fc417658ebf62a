"""What each documented column is to be for what the earlier database has in it, and why if that is not the same."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

from pydantic import JsonValue

from ledger.adopting.rows import OldRow, Scalar
from ledger.errors import InvalidFact
from ledger.events.envelope import storable_text
from ledger.events.plain import plain
from ledger.events.redaction import redact
from ledger.events.times import parse_moment, text_of
from ledger.projections.fits import Plain, fitting, projected_json, without_non_finite
from ledger.projections.run import COLUMNS, STATUSES

__all__ = ["DOCUMENTED", "Wanted", "alike", "kept", "moment_of", "same", "wanted_of"]

# The columns that the earlier API has, but for the two that tell when a row came into its own database.
DOCUMENTED = tuple(takewhile(lambda name: not COLUMNS[name].column.local, COLUMNS))[1:]

# No clock says these, and the calendar goes on a little before and behind them.
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)

_TAKEN = {"moment": "a time in ISO 8601", "integer": "an integer of 64 bits", "real": "a finite number"}

_ROUNDED = "a duration is in whole seconds"
_NULL = "a number that is not finite is null in the row, and text in the event"
_TEXT = "a number that is not finite or has very many digits is text"
_NOBODY_SAID = "it ended and nobody said how: a presumed crash, which any word of a witnessed end replaces"

# W&B's own words for a run's state, which later versions wrote.
_OF_WANDB = {"finished": "completed", "killed": "failed"}


@dataclass(frozen=True)
class Wanted:
    """What the ledger's row is to show, what the two JSON columns hold as data, and why a column is not as it was."""

    columns: dict[str, Plain]
    data: dict[str, JsonValue]
    reasons: dict[str, str]
    birth: datetime
    latest: datetime

    @property
    def presumed(self) -> bool:
        """Whether nobody said how the run ended, and only its status or its time says that it did."""
        return self.reasons.get("status") == _NOBODY_SAID

    def said(self, name: str) -> JsonValue:
        """Return what an amendment says of a column."""
        return self.data.get(name) if COLUMNS[name].kind == "json" else self.columns[name]


def wanted_of(row: OldRow, *, redacting: bool) -> Wanted:
    """Return what a row is to become."""
    values = row.values
    birth = _best(values, "created_at", "created_at_db", "started_at", "ended_at", "updated_at_db") or _UNKNOWN
    latest = _best(values, "updated_at_db", "ended_at", "started_at") or birth
    made = Wanted({}, {}, {}, birth, max(birth, latest))
    for name in DOCUMENTED:
        if name not in values and name not in {"created_at", "status"}:
            continue
        value = values.get(name)
        match name:
            case "status":
                made.columns[name], why = _status(values)
            case "config_json" | "final_metrics_json":
                made.columns[name], why = _json(made, name, value, redacting=redacting)
            case _:
                made.columns[name], why = _value(name, value)
        if why:
            made.reasons[name] = why
    if made.columns["created_at"] is None:
        made.columns["created_at"] = text_of(birth)
        made.reasons["created_at"] = (
            "a ledger knows a time for every run: the best that the row has, else the year 1970"
        )
    return made


def moment_of(value: Scalar) -> datetime | None:
    """Return the moment that a value says, if an event can have occurred then."""
    try:
        moment = parse_moment(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and _EARLIEST <= moment <= _LATEST else None


def _best(values: Mapping[str, Scalar], *names: str) -> datetime | None:
    return next((moment for name in names if (moment := moment_of(values.get(name))) is not None), None)


def _status(values: Mapping[str, Scalar]) -> tuple[str, str]:
    said = values.get("status")
    word = said.strip().lower() if isinstance(said, str) else ""
    if said in STATUSES:
        return str(said), ""
    if word in STATUSES:
        return word, "the same status, as it is written here"
    if word in _OF_WANDB:
        return _OF_WANDB[word], f"W&B's word {word!r}, and this is what it means here"
    if word == "not_running" or moment_of(values.get("ended_at")) is not None:
        return "crashed", _NOBODY_SAID
    if moment_of(values.get("started_at")) is not None:
        return "running", "no status that there is; it was started, and nothing says that it ended"
    return "launched", "no status that there is, and nothing says that it was started"


def _value(name: str, value: Scalar) -> tuple[Plain, str]:
    """What a column holds for a value that is no JSON and no status."""
    column = COLUMNS[name]
    if value is None:
        return None, ""
    if isinstance(value, bytes):
        return None, "a blob, which fits no column"
    if column.kind == "text":
        return _text(name, value)
    made = fitting(column, _whole(value) if name == "duration_seconds" and isinstance(value, float) else value)
    if made is None:
        return None, f"the column takes {_TAKEN[column.kind]}"
    if isinstance(made, int) and made < 0 and name.endswith("_seconds"):
        return None, "no duration is negative"
    if same_plain(name, value, made):
        return made, ""
    return made, _ROUNDED if isinstance(value, float) else "text that spells a number is that number"


def _whole(seconds: float) -> int | None:
    return round(seconds) if math.isfinite(seconds) else None


def _text(name: str, value: str | float) -> tuple[str | None, str]:
    if isinstance(value, float):
        return None, "the column takes text"
    if isinstance(value, int):
        return str(value), "a number, and the column takes text"
    if not storable_text(value):
        return None, "text with a NUL, or with bytes that are no UTF-8"
    if name == "wandb_run_id" and not value:
        return None, "an empty id is none"
    return value, ""


def _json(made: Wanted, name: str, value: Scalar, *, redacting: bool) -> tuple[Plain, str]:
    if value is None:
        return None, ""
    raw = parsed(value)
    if not isinstance(raw, dict | list):
        return None, "the column takes a JSON object or list"
    try:
        data = _shallow(raw)
    except InvalidFact:
        return None, "JSON nested deeper than an event can bear"
    shown, secrets = redact(data) if redacting else (data, 0)
    why = ["secrets are redacted"] if secrets else []
    made.data[name] = data
    if name == "final_metrics_json":
        made.data[name] = shown  # the end that says them looks for no secrets
        shown = without_non_finite(shown)
        why += [] if same_json(raw, without_non_finite(data)) else [_NULL]
    elif not same_json(raw, data):
        why.append(_TEXT)
    return projected_json(shown), "; ".join(why)


def parsed(value: Scalar) -> object:
    """Return what a JSON text holds, None where it is no JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None


def kept(value: Scalar) -> JsonValue:
    """Return a value that no column takes, for an event that keeps it: JSON as data, a blob in base64."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, str):
        data = parsed(value) if value.lstrip()[:1] in {"{", "["} else None
        try:
            return value if data is None else _shallow(data)
        except InvalidFact:
            return value
    return plain(value)


def _shallow(data: object) -> JsonValue:
    """Return plain data that an event can bear also where it lies some levels down in it."""
    made = plain({"": {"": {"": data}}})
    for _ in range(3):
        made = made[""] if isinstance(made, dict) else made
    return made


def same(name: str, old: Scalar, shown: Plain) -> bool:
    """Whether the ledger shows what the earlier database has: the same text, number, moment or JSON."""
    if COLUMNS[name].kind == "json" and isinstance(old, str) and isinstance(shown, str):
        raw = parsed(old)
        return raw is not None and same_json(raw, json.loads(shown))
    return same_plain(name, old, shown)


def same_plain(name: str, one: Scalar, other: Plain) -> bool:
    """The same for two values that are no JSON."""
    if one is None or other is None:
        return one is other
    if isinstance(one, str) != isinstance(other, str) or isinstance(one, bytes):
        return False
    if COLUMNS[name].kind == "moment" and isinstance(one, str):
        return fitting(COLUMNS[name], one) == other
    return one == other


def alike(name: str, one: Plain, other: Plain) -> bool:
    """Whether two values of one column of the ledger are the same."""
    if COLUMNS[name].kind == "json" and isinstance(one, str) and isinstance(other, str):
        return one == other or same_json(json.loads(one), json.loads(other))
    return one == other


def same_json(one: object, other: object) -> bool:
    try:
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    except RecursionError:
        return False
