"""What a caller's words say, as events: the documented functions' arguments are checked and named here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from numbers import Integral
from typing import Literal

from pydantic import JsonValue

from ledger.errors import AskedWrongly, InvalidValue, UnknownColumn, UnknownKeyword, nearest
from ledger.events import (
    Amended,
    Annotated,
    Completed,
    CrashDataAttached,
    Crashed,
    Described,
    Event,
    Failed,
    Heartbeat,
    Launched,
    ObjectiveStated,
    ScaffoldsRecorded,
    Started,
    WandbAttached,
)
from ledger.events.envelope import storable_text
from ledger.events.plain import NON_FINITE, plain, plain_mapping
from ledger.events.times import parse_moment, text_of
from ledger.projections.columns import Declared, Kind
from ledger.projections.filters import parse_whole_number
from ledger.projections.fits import fitting, is_key
from ledger.projections.objectives import VALUES
from ledger.projections.run import COLUMNS, HYPERPARAMETERS, STATUSES
from ledger.projections.scaffolds import SCAFFOLD_COLUMNS, is_score

__all__ = ["About", "When", "amended", "annotated", "crash", "crash_data", "launch", "status_change"]

When = datetime | date | str
# What a documented function speaks of, which decides what is checked: a launch, a run that is known, its crash.
About = Literal["launch", "known run", "crash"]
Said = Mapping[str, object]

_ENDS: dict[str, Callable[..., Event]] = {"completed": Completed, "failed": Failed, "crashed": Crashed}
_SAYABLE = tuple(status for status in STATUSES if status != "launched")
_OF_AN_END = ("ended_at", "end_reason", "exit_code")
_OF_IDS = ("_id", "_key")  # what names a thing is never blank
_WANDB = ("wandb_run_id", "wandb_url", "wandb_name")
_DESCRIBING = ("run_name", "resumes_run_id")


def when(at: When | None) -> dict[str, object]:
    """Return the envelope's time as it was said, for a backfill; nothing where the call itself is the time."""
    return {} if at is None else {"occurred_at": at}


def launch(run_id: str, config: object, said: dict[str, object], at: When | None) -> list[Event]:
    """Return the launch and, where they are said, the W&B fields."""
    stated = {name: said.pop(name, None) for name in HYPERPARAMETERS}
    hyperparameters = {n: _hyperparameter(n, value) for n, value in stated.items() if value is not None}
    wandb = {name: said.pop(name, None) for name in _WANDB}
    launched = Launched(
        run_id=run_id,
        config=plain_mapping(config),
        hyperparameters=hyperparameters or None,
        **said,
        **when(at),
    )
    return [launched, *_some(WandbAttached, run_id, wandb, at)]


def _hyperparameter(name: str, value: object) -> JsonValue:
    """The value as its column holds it; one that is not finite is recorded, though no column holds it."""
    said = plain(value)
    return said if isinstance(said, str) and said in NON_FINITE else _fitted(HYPERPARAMETERS[name], name, value)


def status_change(run_id: str, status: str, said: Said, at: When | None) -> list[Event]:
    """Return the events that a call of update_run_status states, in the order in which they happen."""
    _check_status(status)
    metrics = None if said["final_metrics_json"] is None else metrics_of(said["final_metrics_json"])
    events = _some(Described, run_id, _picked(said, _DESCRIBING), at)
    events += _some(WandbAttached, run_id, _picked(said, _WANDB), at)
    if status == "running":
        for name in _OF_AN_END:
            if said[name] is not None:
                raise InvalidValue(name, said[name], "it belongs to an end, and the status is 'running'")
        events.append(Started(run_id=run_id, started_at=said["started_at"], **when(at)))
        progress = {"duration_seconds": said["duration_seconds"], "metrics": metrics}
        # Whoever says this promises no further word: its silence means nothing.
        if any(value is not None for value in progress.values()):
            events.append(Heartbeat(run_id=run_id, lease_seconds=0, **progress, **when(at)))
        return events
    events += _some(Started, run_id, _picked(said, ("started_at",)), at)
    ended = _picked(said, (*_OF_AN_END, "duration_seconds"))
    return [*events, _ENDS[status](run_id=run_id, final_metrics=metrics, **ended, **when(at))]


def _check_status(status: object) -> None:
    if status == "launched":
        raise InvalidValue(
            "status",
            status,
            f"a launch is recorded with insert_run(...), and here one of {', '.join(_SAYABLE)} is wanted",
        )
    if status not in STATUSES:
        wanted = f"one of {', '.join(_SAYABLE)} is wanted"
        raise InvalidValue("status", status, wanted, nearest(str(status), _SAYABLE))


def metrics_of(value: object) -> dict[str, JsonValue]:
    """Return final metrics from a mapping, a W&B summary, or the JSON text of an object."""
    try:
        return plain_mapping(json.loads(value) if isinstance(value, str) else value)
    except (ValueError, RecursionError) as exc:
        wanted = "a mapping or the JSON text of an object is wanted"
        raise InvalidValue("final_metrics_json", value, f"{wanted} ({exc})") from None


def crash(run_id: str, said: Said, at: When | None) -> Event:
    return Crashed(run_id=run_id, **said, **when(at))


def crash_data(run_id: str, keys: Said, at: When | None) -> list[Event]:
    """Return the attachment, and before it the crash that it is about."""
    if all(value is None for value in keys.values()):
        raise AskedWrongly(f"attach_crash_data needs at least one of {', '.join(keys)}.")
    crashed = Crashed(run_id=run_id, detected_by="attach_crash_data", **when(at))
    return [crashed, *_some(CrashDataAttached, run_id, keys, at)]


def annotated(
    run_id: str, note: str | None, tags: str | Iterable[str] | None, metadata: Said, at: When | None
) -> Event:
    """Return a remark that says at least something; None says nothing."""
    if not isinstance(tags, Iterable | None):
        raise InvalidValue("tags", tags, "a text or several are wanted")
    listed = (tags,) if isinstance(tags, str) else tuple(tags or ())
    metadata = {name: value for name, value in metadata.items() if value is not None}
    if note is None and not listed and not metadata:
        raise AskedWrongly("annotate(...) needs a note, tags, or metadata as further keywords.")
    return Annotated(
        run_id=run_id,
        note=note,
        tags=listed or None,
        metadata=plain_mapping(metadata) if metadata else None,
        **when(at),
    )


def amended(run_id: str, reason: str, columns: Said, at: When | None) -> Event:
    """Return new values for named columns, each checked against its column."""
    amendable = [name for name, c in COLUMNS.items() if c.column.amendable]
    if not columns:
        raise AskedWrongly("amend(...) needs at least one column=value.")
    for name in columns:
        if name not in amendable:
            hint = " The ledger itself makes this column." if name in COLUMNS else ""
            raise UnknownColumn(name, amendable, hint)
    values = {name: _amendment(COLUMNS[name], name, value) for name, value in columns.items()}
    return Amended(run_id=run_id, reason=reason, columns=values, **when(at))


def _amendment(column: Declared, name: str, value: object) -> JsonValue:
    if value is None:
        if not column.nullable:
            raise InvalidValue(name, value, "this column always has a value")
        return None
    if column.kind == "json":
        return _json_amendment(name, value)
    return _fitted(column, name, value)


def _json_amendment(name: str, value: object) -> JsonValue:
    made = _parsed(value) if isinstance(value, str) else plain(value)
    if not isinstance(made, list if name == "tags_json" else dict):
        raise InvalidValue(name, value, f"{_wanted(COLUMNS[name], name)} is wanted")
    if isinstance(made, list) and not all(isinstance(tag, str) for tag in made):
        raise InvalidValue(name, value, f"{_wanted(COLUMNS[name], name)} is wanted")
    return made


def _parsed(text: str) -> JsonValue:
    try:
        return plain(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _fitted(column: Declared, name: str, value: object) -> JsonValue:
    """The value as the column holds it, or InvalidValue: what is said by hand is meant to be there."""
    said = _moment(value) if column.kind == "moment" else plain(value)
    made = fitting(column, said)
    if made is None or (name.endswith(_OF_IDS) and not str(made).strip()):
        raise InvalidValue(name, value, f"{_wanted(column, name)} is wanted")
    if column.name.endswith("_seconds") and isinstance(made, int):
        parse_whole_number(name, made)
    return made


def _moment(value: object) -> JsonValue:
    try:
        return text_of(parse_moment(value))
    except ValueError:
        return None


_WANTED: dict[Kind, str] = {
    "text": "text without NUL and lone surrogates",
    "integer": "a whole number of 64 bits",
    "real": "a finite number",
    "moment": "a datetime or ISO 8601 text",
    "json": "a mapping or the JSON text of an object",
}


def _wanted(column: Declared, name: str) -> str:
    if column.choices:
        return f"one of {', '.join(column.choices)}"
    return "a list of texts" if name == "tags_json" else _WANTED[column.kind]


def objective(run_id: str, name: str, said: Said, at: When | None) -> Event:
    _check_key("objective_name", run_id, name)
    return ObjectiveStated(run_id=run_id, objective_name=name, **said, **when(at))


def objective_metric(metric_type: object, value: object) -> dict[str, object]:
    """Return what is said of one of an objective's values."""
    if metric_type not in VALUES:
        wanted = f"one of {', '.join(VALUES)} is wanted"
        raise InvalidValue("metric_type", metric_type, wanted, nearest(str(metric_type), VALUES))
    if value is None:
        raise InvalidValue("value", value, "a number is wanted; one that is not finite is one, too")
    return {str(metric_type): value}


def _check_key(what: str, run_id: str, key: object) -> None:
    """Refuse by hand what would be recorded and have no row."""
    if isinstance(run_id, str) and isinstance(key, str) and storable_text(run_id + key) and not is_key(run_id, key):
        raise InvalidValue(what, key, "a name is wanted that has at most 2,000 bytes together with the run's")


def scaffolds(run_id: str, listed: Iterable[Mapping[str, object]], at: When | None) -> list[Event]:
    """Return the events that record so many scaffolds, each of a limited number of them."""
    every = [_scaffold(run_id, said) for said in listed] if isinstance(listed, Iterable) else []
    if not every:
        raise InvalidValue("scaffolds", listed, "one or several mappings with a scaffold_id are wanted")
    parts = (every[begin : begin + _SCAFFOLDS_AT_ONCE] for begin in range(0, len(every), _SCAFFOLDS_AT_ONCE))
    return [_recorded(run_id, part, at) for part in parts]


def _recorded(run_id: str, part: list[dict[str, JsonValue]], at: When | None) -> Event:
    scores = [scored if isinstance(scored := said.get("scores"), dict) else {} for said in part]
    columns = [name for name in _OF_A_SCAFFOLD if name != "scores" and any(name in said for said in part)]
    return ScaffoldsRecorded(
        run_id=run_id,
        columns={name: [said.get(name) for said in part] for name in columns},
        scores={name: [each.get(name) for each in scores] for name in sorted({n for each in scores for n in each})},
        **when(at),
    )


def _scaffold(run_id: str, said: object) -> dict[str, JsonValue]:
    """What is said of one, each value as its column holds it."""
    if not isinstance(said, Mapping):
        raise InvalidValue("scaffolds", said, "a mapping with a scaffold_id is wanted for each")
    for name in said:
        if name not in _OF_A_SCAFFOLD:
            sayable = ", ".join(_OF_A_SCAFFOLD)
            raise InvalidValue("scaffolds", name, f"{sayable} can be said", nearest(str(name), _OF_A_SCAFFOLD))
    made: dict[str, JsonValue] = {
        name: _fitted(SCAFFOLD_COLUMNS[name], name, value)
        for name, value in said.items()
        if name != "scores" and value is not None
    }
    if "scaffold_id" not in made:
        raise InvalidValue("scaffolds", dict(said), "a scaffold_id is wanted for each")
    _check_key("scaffold_id", run_id, made["scaffold_id"])
    scores = plain_mapping(said.get("scores"))
    for name, score in scores.items():
        if score is not None and not is_score(score):
            raise InvalidValue(f"scores[{name!r}]", score, "a number is wanted")
    return {**made, "scores": scores} if scores else made


_OF_A_SCAFFOLD = (*(name for name in SCAFFOLD_COLUMNS if name not in ("run_id", "scores_json")), "scores")
_SCAFFOLDS_AT_ONCE = 1000


def version(expected: object) -> int:
    """Return the version that an append expects; text is none, other than in a filter."""
    if isinstance(expected, bool) or not isinstance(expected, Integral) or expected < 0:
        raise InvalidValue("expected_version", expected, "how many events the run has, 0 or more, is wanted")
    return int(expected)


def _picked(said: Said, names: Iterable[str]) -> dict[str, object]:
    return {name: said[name] for name in names}


def _some(kind: Callable[..., Event], run_id: str, said: Said, at: When | None) -> list[Event]:
    """The event, if it has anything to say."""
    return [kind(run_id=run_id, **said, **when(at))] if any(value is not None for value in said.values()) else []


def refuse_unknown(unknown: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise UnknownKeyword for the first keyword that a documented function does not have."""
    for name in unknown:
        raise UnknownKeyword(name, known)
