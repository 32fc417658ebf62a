"""Events into a run. Pure and total: any history that a ledger accepted folds, and no clock is read.

`fold` puts the events into canonical order, `(occurred_at, event_id)`, and lets each act on what is
known so far; `evolve` is that one step, and the projector takes it alone where an event comes in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pydantic import JsonValue

from ledger.events import EVENT_TYPES, Event, Fact, Recorded
from ledger.projections.beats import beat, beat_in_a_row
from ledger.projections.fits import fitting, projected_json, without_non_finite
from ledger.projections.life import Life, read_config
from ledger.projections.lifecycle import ENDED, LEADS_TO, RESULTS, SIGNS_OF_LIFE, revives
from ledger.projections.metrics import add_up
from ledger.projections.objectives import with_statement
from ledger.projections.run import COLUMNS, HYPERPARAMETERS, Run, Status
from ledger.projections.scaffolds import recorded

__all__ = ["Step", "evolve", "fold", "fold_facts", "fold_steps"]

Payload = dict[str, JsonValue]
Key = tuple[str, str]  # (occurred_at, event_id): canonical order

# (occurred_at, event_id, type, what it says if that is understood): to fold a million, no objects are made. Such
# tuples sort canonically by themselves: the first two are never those of another event of the ledger.
Step = tuple[str, str, str, Payload | None]


def fold(events: Iterable[Event | Recorded]) -> Run | None:
    """Return the run that *events* of one run tell of, in whatever order and however often they come.

    None where none of them can be understood. `wandb_run_id` is what the run claims.
    """
    life = fold_facts(
        event.fact() if isinstance(event, Recorded) else Fact.of(event, redacting=False) for event in events
    )
    return None if life is None else life.run()


def fold_facts(facts: Iterable[Fact]) -> Life | None:
    """Return the fold of one run's facts, sealed."""
    life: Life | None = None
    last = ""
    for fact in sorted(facts, key=canonical):
        if fact.event_id != last and fact.understood is not None:
            life = evolve(life, fact)
        last = fact.event_id
    return None if life is None else life.sealed()


def canonical(fact: Fact) -> Key:
    return fact.occurred_at, fact.event_id


def evolve(life: Life | None, fact: Fact) -> Life:
    """Let one event, later than all before it, act on *life* (in place). The fact has to be understood.

    Call `sealed` on what comes out before its row is read.
    """
    if fact.understood is None:
        raise ValueError("an event that is not understood is left out of the fold")
    return _act_on(life, fact.run_id, fact.type, canonical(fact), fact.understood)


def fold_steps(run_id: str, in_order: Iterable[Step]) -> Life | None:
    """Return the fold, sealed, of one run's events in canonical order: what evolving with each would give.

    Most events are signs of life in a row, of which only the latest show.
    """
    life: Life | None = None
    following: list[Step] = []  # signs of life behind the one that acted, while the run is running
    runs_on = False
    for step in in_order:
        occurred_at, event_id, type, said = step
        if said is None:
            continue
        sign = type in SIGNS_OF_LIFE
        if sign and runs_on:
            following.append(step)
            if len(following) < _FOLLOWING_MAX:
                continue
        if life is not None and following:
            _follow(life, following)
            following = []
            if sign:
                continue
        life = _act_on(life, run_id, type, (occurred_at, event_id), said)
        runs_on = sign and life.row["status"] == "running"
    if life is None:
        return None
    if following:
        _follow(life, following)
    return life.sealed()


def _follow(life: Life, signs: Sequence[Step]) -> None:
    """Let signs of life in a row act on a run that is running: none of them changes that."""
    occurred_at, event_id, _, _ = signs[-1]
    life.row["last_seen_at"] = occurred_at
    life.signed = (occurred_at, event_id)
    beat_in_a_row(life, [((at, id), said) for at, id, type, said in signs if type == "heartbeat" and said is not None])
    for at, event_id, type, said in signs:
        if type == "metrics_logged" and said is not None:
            _log(life, (at, event_id), said)


def _act_on(life: Life | None, run_id: str, type: str, key: Key, payload: Payload) -> Life:
    if life is None:
        life = Life.born(run_id, key[0])
    if type in SIGNS_OF_LIFE:  # most events by far
        _sign_of_life(life, type, key, payload)
        return life
    for name in _PLAIN_WRITES[type]:
        if name in payload:
            life.write(name, payload[name])
    act = _ACTS.get(type)
    if act is not None:
        act(life, key, payload)
    if type not in RESULTS:
        life.settled = key
    return life


def slips_in(life: Life, fact: Fact) -> bool:
    """Whether a late event can be folded without folding the run afresh.

    So it is for a sign of life behind the latest event of another kind, of which results are none: they and signs
    of life do not touch each other. Among signs of life in a row, all that their order decides is whose metrics and
    duration show. Many processes that write to one run make this the common case.
    """
    return fact.type in SIGNS_OF_LIFE and fact.understood is not None and (life.settled or ("", "")) < canonical(fact)


def evolve_late(life: Life, fact: Fact) -> None:
    """Let a late event that `slips_in` act on *life*, as it would have in its time."""
    if life.signed is None or life.signed < canonical(fact):
        _sign_of_life(life, fact.type, canonical(fact), fact.understood or {})
    elif fact.type == "heartbeat":
        beat(life, canonical(fact), fact.understood or {})
    elif fact.type == "metrics_logged":
        _log(life, canonical(fact), fact.understood or {})
    if life.settled is None:  # no launch has arrived, nor anything else but signs of life
        life.row["created_at"] = min(str(life.row["created_at"]), fact.occurred_at)


def _launched(life: Life, key: Key, payload: Payload) -> None:
    birth, life.launched = not life.launched, True
    if birth and "created_at" not in life.amended:
        life.row["created_at"] = key[0]
    for name in _LAUNCH_WRITES:
        if name in payload and name not in life.amended and (birth or life.row[name] is None):
            life.write(name, payload[name])
    stated = _stated(payload.get("hyperparameters"))
    if not birth:
        known = _loaded(life.row["config_json"])
        stated = {n: value for n, value in stated.items() if read_config(HYPERPARAMETERS[n], known) is None}
    life.explicit = {**stated, **life.explicit}
    life.read_hyperparameters(_launch_config(life, payload, birth=birth))


def _launch_config(life: Life, payload: Payload, *, birth: bool) -> JsonValue:
    """Take over the launch's config, if it is its turn, and return the config that now holds."""
    config = payload.get("config")
    free = life.row["config_json"] in (None, "{}") or (birth and bool(config))
    if free and isinstance(config, dict) and "config_json" not in life.amended:
        life.row["config_json"] = projected_json(config)
        return config
    return _loaded(life.row["config_json"])


def _stated(hyperparameters: JsonValue) -> dict[str, str | int | float | None]:
    if not isinstance(hyperparameters, dict):
        return {}
    made = {n: fitting(c, hyperparameters[n]) for n, c in HYPERPARAMETERS.items() if n in hyperparameters}
    return {name: value for name, value in made.items() if value is not None}


def _started(life: Life, key: Key, payload: Payload) -> None:
    said = fitting(COLUMNS["started_at"], payload.get("started_at"))
    at = said if isinstance(said, str) else key[0]
    known = life.row["started_at"]
    life.row["started_at"] = min(at, known) if isinstance(known, str) else at
    life.set_running()
    life.lease = life.lease_from = None  # another process may not know of heartbeats
    life.open_segment(at)
    life.derive_times()


def _sign_of_life(life: Life, type: str, key: Key, payload: Payload) -> None:
    row = life.row
    row["last_seen_at"] = key[0]
    life.signed = key
    if row["status"] != "running" and revives(row["status"], presumed=life.presumed):
        life.set_running()
        life.segment_end = None  # the presumed crash had closed it, and was wrong
        life.derive_times()
    if type == "heartbeat":
        beat(life, key, payload)
    elif type == "metrics_logged":
        _log(life, key, payload)


def _log(life: Life, key: Key, payload: Payload) -> None:
    """Add to what was logged, in whatever order."""
    add_up(life.metrics, str(life.row["run_id"]), key, payload.get("columns"))


def _objective_stated(life: Life, _: Key, payload: Payload) -> None:
    life.objectives = with_statement(life.objectives, payload)


def _scaffolds_recorded(life: Life, _: Key, payload: Payload) -> None:
    recorded(life.scaffolds, payload)


def _ended(status: Status, life: Life, key: Key, payload: Payload) -> None:
    presumed = payload.get("presumed") is True
    row = life.row
    if presumed and row["status"] in ENDED and not life.presumed:
        return
    row["status"], life.presumed = status, presumed
    if not presumed:
        life.lease = life.lease_from = None
    ended = fitting(COLUMNS["ended_at"], payload.get("ended_at"))
    said = fitting(COLUMNS["duration_seconds"], payload.get("duration_seconds"))
    first, says_times = row["ended_at"] is None, ended is not None or said is not None
    if first or ended is not None:
        row["ended_at"] = ended or key[0]
    if says_times:  # a later end that says neither changes neither
        life.said_duration = max(0, said) if isinstance(said, int) else None
    if first or says_times:
        life.unknown_duration = False
    life.write("end_reason", payload.get("end_reason"))
    life.write("exit_code", payload.get("exit_code"))
    _write_metrics(life, payload.get("final_metrics"))
    if life.segment_start is not None:
        life.segment_end = str(row["ended_at"])
    life.derive_times()


def _write_metrics(life: Life, metrics: JsonValue) -> None:
    if isinstance(metrics, dict) and (metrics or life.row["final_metrics_json"] is None):  # an empty one says nothing
        life.show_metrics(metrics)


def _wandb_attached(life: Life, key: Key, payload: Payload) -> None:
    wandb_run_id = fitting(COLUMNS["wandb_run_id"], payload.get("wandb_run_id"))
    if isinstance(wandb_run_id, str):
        life.claim = wandb_run_id
        life.claims.setdefault(wandb_run_id, key)


def _annotated(life: Life, _: Key, payload: Payload) -> None:
    tags, metadata = payload.get("tags"), payload.get("metadata")
    if isinstance(tags, list):
        known = _loaded(life.row["tags_json"])
        known = known if isinstance(known, list) else []
        gathered = dict.fromkeys(tag for tag in (*known, *tags) if isinstance(tag, str))
        life.row["tags_json"] = projected_json(list(gathered))
    if isinstance(metadata, dict):
        life.row["metadata_json"] = projected_json({**_metadata(life), **metadata})


def _amended(life: Life, key: Key, payload: Payload) -> None:
    columns = payload.get("columns")
    for name, value in columns.items() if isinstance(columns, dict) else ():
        column = COLUMNS.get(name)
        if column is None or not column.column.amendable:
            continue
        made = fitting(column, without_non_finite(value) if name == "final_metrics_json" else value)
        if made is None and (value is not None or not column.nullable):
            continue  # a value that does not fit was never this column's
        if isinstance(made, int) and made < 0 and name.endswith("_seconds"):
            continue
        life.amended.add(name)
        _amend(life, key, name, made)
    life.derive_times()


def _amend(life: Life, key: Key, name: str, value: str | float | None) -> None:
    if name == "wandb_run_id":
        life.claim = str(value) if value else None
        life.claims = {str(value): key} if value else {}
        return
    life.row[name] = value
    match name:
        case "final_metrics_json":
            life.shown_metrics = None
        case "config_json":
            life.read_hyperparameters(_loaded(value))
        case "status":
            life.presumed = False
        case "duration_seconds":
            life.said_duration, life.unknown_duration = (
                (int(value) if value is not None else None),
                value is None,
            )
        case "active_seconds":
            life.active_before = None if value is None else int(value) * 1_000_000
            life.segment_start = life.segment_end = None


def _voided(life: Life, _: Key, payload: Payload) -> None:
    life.void_reason = str(payload.get("reason") or "")


def _unvoided(life: Life, *_: object) -> None:
    life.void_reason = None


def _imported(life: Life, _: Key, payload: Payload) -> None:
    row = payload.get("row")
    rest: Payload = {}
    for name, value in row.items() if isinstance(row, dict) else ():
        if name not in _IMPORTABLE:
            if name not in COLUMNS:
                rest[name] = value
        elif name in HYPERPARAMETERS:
            life.imported.setdefault(name, fitting(COLUMNS[name], value))
        elif name == "final_metrics_json" and life.row[name] is None and name not in life.amended:
            _write_metrics(life, value)
        elif (
            life.row[name] is None or (name == "config_json" and life.row[name] == "{}")
        ) and name not in life.amended:
            life.write(name, value)
    life.read_hyperparameters(_loaded(life.row["config_json"]))
    if rest:
        life.row["metadata_json"] = projected_json({**rest, **_metadata(life)})


def _metadata(life: Life) -> Payload:
    known = _loaded(life.row["metadata_json"])
    return known if isinstance(known, dict) else {}


def _loaded(text: object) -> JsonValue:
    value: JsonValue = json.loads(text) if isinstance(text, str) else None
    return value


_ACTS: dict[str, Callable[[Life, Key, Payload], None]] = {
    "launched": _launched,
    "started": _started,
    **{type: partial(_ended, LEADS_TO[type]) for type in sorted(ENDED)},
    "wandb_attached": _wandb_attached,
    "annotated": _annotated,
    "amended": _amended,
    "voided": _voided,
    "unvoided": _unvoided,
    "imported": _imported,
    "objective_stated": _objective_stated,
    "scaffolds_recorded": _scaffolds_recorded,
}

_FOLLOWING_MAX = 100

# Columns that follow from more than the one event that bears their name.
_DERIVED = frozenset(
    {
        "run_id",
        "wandb_run_id",
        "created_at",
        "started_at",
        "ended_at",
        "duration_seconds",
        "status",
        "end_reason",
        "exit_code",
        "last_seen_at",
        "active_seconds",
    }
)

# An event's field that bears a column's name writes that column, and nothing more has to be said of it here.
_PLAIN_WRITES: dict[str, tuple[str, ...]] = {
    type: () if type == "launched" else tuple(n for n in kind.payload_fields if n in COLUMNS and n not in _DERIVED)
    for type, kind in EVENT_TYPES.items()
}
_LAUNCH_WRITES = tuple(n for n in EVENT_TYPES["launched"].payload_fields if n in COLUMNS)
_IMPORTABLE = frozenset(
    name for name, c in COLUMNS.items() if c.column.amendable and name not in _DERIVED and c.kind != "json"
) | {"config_json", "final_metrics_json"}
