"""Any event, any life of one or several runs, any stranger's config.

The lives are made to collide: few run ids, few W&B ids, few moments, so that ties, second launches,
contested ids and circles of resumed runs come up by themselves.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st

from ledger.events import EVENT_TYPES, Event, ScaffoldsRecorded, UnknownEvent
from ledger.events.lifecycle import EndReason
from ledger.events.results import Direction
from ledger.projections.columns import Kind
from ledger.projections.run import COLUMNS, HYPERPARAMETERS, STATUSES
from tests.builders import NOON, amendable

T = TypeVar("T")

RUN_IDS = ("r1", "r2", "r3", 'it\'s "4"; --\n😀')
WANDB_IDS = ("w1", "w2")
CHAINS = ("ABC123", "XYZ789")

HUGE = 10**400

# What a column's or a database's idea of text, number and time may stumble over.
ODD_TEXTS = (
    "", " ", "a\x00b", "\ud800", "NaN", "-Infinity", "null", "1e-4", "384", " 7 ", "1e999", "9" * 400, "true",
    "2024-05-01T12:00:00Z", "😀", "'; DROP TABLE training_runs; --", "[redacted]", "ß" * 300, "\u2028",
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1.5, -0.0, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, HUGE, 1e308, 5e-324, 1e22)
ODD_FLOATS = (float("nan"), float("inf"), float("-inf"))

texts = st.sampled_from(ODD_TEXTS) | st.text(st.characters(), max_size=12)
clean_texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
ids = clean_texts.filter(str.strip)
numbers = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.sampled_from(ODD_FLOATS) | texts


def _listed_or_keyed(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4)


@st.composite
def deep(draw: st.DrawFn, depth_max: int = 60) -> Any:
    """A value at the bottom of many lists and mappings."""
    value = draw(scalars)
    for _ in range(draw(st.integers(1, depth_max))):
        value = [value] if draw(st.booleans()) else {"k": value}
    return value


strangers = st.recursive(scalars, _listed_or_keyed, max_leaves=12) | deep()

# Few names, and a few values, so that what is said of one objective, metric or scaffold collides.
OBJECTIVES = ("QED", "COMT_activity", "COMT_activity_maximize", "tox_minimize", "tox")
VALUED = ("raw_mean", "normalized_mean", "raw_std", "normalized_std")
near_numbers = st.sampled_from([0.0, -0.0, 1, 2.5, "1e-1", True, None, "NaN", 10**400]) | numbers
objectives_listed = st.lists(
    st.sampled_from(OBJECTIVES)
    | st.fixed_dictionaries(
        {"name": st.sampled_from(OBJECTIVES) | strangers},
        optional={
            "alias": st.sampled_from(OBJECTIVES) | strangers,
            "weight": near_numbers,
            "direction": st.sampled_from(["maximize", "MIN", "sideways", 7]),
            "params": st.fixed_dictionaries({"uniprot": texts}),
        },
    ),
    max_size=4,
)
numbers_said = st.floats(width=32) | st.integers(-3, 3) | st.sampled_from(ODD_FLOATS)
measured = st.dictionaries(
    st.builds("objectives/{}/{}".format, st.sampled_from(OBJECTIVES), st.sampled_from(VALUED)), near_numbers, max_size=3
)


# Where a hyperparameter may lie, with whatever a stranger put there.
_PATHS = sorted({path for column in HYPERPARAMETERS.values() for path in column.column.config})


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config: some of the paths that are read, with anything in them, and anything beside."""
    made: dict[str, Any] = draw(st.dictionaries(texts, strangers, max_size=3))
    for path in draw(st.lists(st.sampled_from(_PATHS), max_size=4)):
        put(made, path.split("."), draw(numbers | strangers | st.sampled_from(["mgda", "pcgrad", 8, 0.5, "1e-4"])))
    if draw(st.booleans()):
        made["objectives"] = draw(objectives_listed)
    return made


def put(into: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Put *value* at the path *keys* unless something that is no mapping is in the way."""
    for key in keys[:-1]:
        below = into.setdefault(key, {})
        if not isinstance(below, dict):
            return
        into = below
    into[keys[-1]] = value


mappings = configs() | st.dictionaries(texts, strangers, max_size=3)

_NEAR = st.integers(0, 12).map(lambda seconds: timedelta(seconds=seconds))
_SKEW = st.sampled_from([timedelta(0)] * 6 + [timedelta(hours=-5), timedelta(hours=7), timedelta(days=-3650)])
_FINE = st.sampled_from([timedelta(0)] * 3 + [timedelta(microseconds=1), timedelta(microseconds=999_999)])

# Few moments, so that several events share one; some hours or years off, as clocks are.
moments = st.builds(lambda near, skew, fine: NOON + near + skew + fine, _NEAR, _SKEW, _FINE)
any_moments = moments | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 29), timezones=st.just(UTC))

event_ids = st.integers(0, 2**128 - 1).map(lambda number: str(uuid.UUID(int=number)))
whole = st.integers(-(2**63), 2**63 - 1)
seconds = st.integers(0, 40) | st.integers(0, 2**63 - 1)
not_finite = st.sampled_from(ODD_FLOATS)
resumable = st.sampled_from([*RUN_IDS, "elsewhere"])


@st.composite
def columns_logged(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Columns of one length, as metrics_logged takes them."""
    length = draw(st.integers(0, 3))
    return draw(st.dictionaries(texts, st.lists(scalars, min_size=length, max_size=length), max_size=3))


@st.composite
def steps_logged(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Columns as a training process logs them: few metrics, numbers mostly, and steps mostly."""
    length = draw(st.integers(1, 3))
    columns = draw(
        st.dictionaries(
            st.sampled_from(["loss", "acc", "val/error"]), st.lists(near_numbers, min_size=length, max_size=length)
        )
    )
    steps = st.lists(st.integers(0, 5) | st.sampled_from([None, "x", 2**70]), min_size=length, max_size=length)
    return {**columns, **({"step": draw(steps)} if draw(st.booleans()) else {})}


@st.composite
def scaffolds_said(draw: st.DrawFn) -> dict[str, Any]:
    """The two fields of a record of scaffolds, of one length."""
    length = draw(st.integers(0, 3))

    def column(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(values, min_size=length, max_size=length)

    said = {"name": column(st.none() | texts), "smiles": column(st.none() | texts)}
    said |= {name: column(st.none() | whole | strangers) for name in ("pareto_rank", "cluster", "unheard of")}
    columns = {"scaffold_id": draw(column(st.sampled_from(["s1", "s2"]) | strangers))}
    columns |= draw(st.fixed_dictionaries({}, optional=said))
    return {"columns": columns, "scores": draw(st.dictionaries(st.sampled_from(OBJECTIVES), column(near_numbers)))}


_OF_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    "text": clean_texts,
    "integer": whole | st.integers(0, 99).map(str),
    "real": numbers,
    "moment": any_moments.map(datetime.isoformat),
    "json": mappings | st.lists(clean_texts, max_size=3),
}
# Columns for which any text of their kind would hardly ever collide or fit.
_OF_COLUMN: dict[str, st.SearchStrategy[Any]] = {
    "wandb_run_id": st.sampled_from(WANDB_IDS),
    "resumes_run_id": resumable,
    "chain_of_custody_id": st.sampled_from(CHAINS),
    "status": st.sampled_from(STATUSES),
    "end_reason": st.sampled_from(get_args(EndReason)),
    "duration_seconds": seconds,
    "active_seconds": seconds,
}
_AMENDABLE = [name for name, column in COLUMNS.items() if amendable(column)]


@st.composite
def amendments(draw: st.DrawFn) -> dict[str, Any]:
    """New values for columns, NULLs among them; sometimes one that does not fit, or a column that is none."""
    names = draw(st.lists(st.sampled_from(_AMENDABLE), max_size=4, unique=True))
    made = {name: draw(st.none() | _OF_COLUMN.get(name, _OF_KIND[COLUMNS[name].kind])) for name in names}
    if draw(st.integers(0, 5)) == 0:
        made[draw(st.sampled_from([*COLUMNS, "no_column"]))] = draw(strangers)
    return made


_IMPORTED = st.dictionaries(st.sampled_from([*COLUMNS, "further"]), strangers | clean_texts, max_size=5)
_STATED = {name: st.integers(1, 99) | clean_texts | st.floats() for name in HYPERPARAMETERS}

# What each field of a payload may say; an event's fields are read off its class.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "config": configs(),
    "hyperparameters": st.fixed_dictionaries({}, optional=_STATED),
    "self_reported": st.booleans(),
    "redacted": st.none(),
    "started_at": any_moments,
    "ended_at": any_moments,
    "duration_seconds": seconds | not_finite,
    "final_metrics": mappings | measured,
    "metrics": mappings | measured,
    "objective_name": st.sampled_from(OBJECTIVES) | ids,
    "objective_alias": st.sampled_from(OBJECTIVES) | ids,
    "uniprot": clean_texts,
    "weight": numbers_said,
    "direction": st.sampled_from(get_args(Direction)),
    **dict.fromkeys(VALUED, numbers_said),
    "metadata": mappings,
    "presumed": st.booleans(),
    "lease_seconds": st.sampled_from([0, 1, 30]) | seconds | not_finite,
    "process": mappings,
    "error_log": clean_texts,
    "resumed_by_run_id": resumable,
    "step": whole | not_finite,
    "exit_code": whole | not_finite,
    "tags": st.lists(ids, max_size=3),
    "reason": ids,
    "scores": st.just({}),
    "system": ids,
    "uri": ids,
    "row": _IMPORTED,
    "columns": amendments(),
    "conversation_s3_key": ids,
    "crash_report_s3_key": ids,
    "error_log_s3_key": ids,
    "crash_analysis_s3_key": ids,
    "blog_post_url": ids,
    **{name: clean_texts for name in ("run_name", "config_file_path", "host", "instance_id", "instance_type")},
    **{name: clean_texts for name in ("wandb_url", "wandb_name", "note", "message", "detected_by", "testimony")},
    **{name: strategy for name, strategy in _OF_COLUMN.items() if not name.endswith(("status", "_seconds"))},
}


_OF_EVENT = {
    ("metrics_logged", "columns"): columns_logged() | steps_logged(),
    ("scaffolds_recorded", "columns"): st.none(),
}


def envelopes(run_ids: st.SearchStrategy[str], at: st.SearchStrategy[datetime]) -> dict[str, st.SearchStrategy[Any]]:
    """What every event bears: who, when, and an id of its own."""
    return {"run_id": run_ids, "occurred_at": at, "event_id": event_ids}


@st.composite
def events_of(
    draw: st.DrawFn,
    kind: type[Event],
    run_ids: st.SearchStrategy[str] = st.sampled_from(RUN_IDS),
    at: st.SearchStrategy[datetime] = moments,
) -> Event:
    """Any event of one kind; each field that need not be said is sometimes not said."""
    fields = {name: draw(strategy) for name, strategy in envelopes(run_ids, at).items()}
    for name in kind.payload_fields:
        of_event = (kind.wire_name, name)
        values = _OF_EVENT[of_event] if of_event in _OF_EVENT else FIELDS[name]
        if kind.model_fields[name].is_required() or draw(st.booleans()):
            fields[name] = draw(values)
    if kind is ScaffoldsRecorded:
        fields |= draw(scaffolds_said())
    return kind(**fields)


@st.composite
def unknown_events(draw: st.DrawFn, run_ids: st.SearchStrategy[str] = st.sampled_from(RUN_IDS)) -> Event:
    """What no version of this code has ever heard of: another type, a newer version, a further field."""
    envelope = {name: draw(strategy) for name, strategy in envelopes(run_ids, moments).items()}
    payload = draw(st.dictionaries(texts, strangers, max_size=2))
    match draw(st.integers(0, 2)):
        case 0:
            return UnknownEvent(type="moon_landed", payload=payload, **envelope)
        case 1:
            known = draw(st.sampled_from(sorted(EVENT_TYPES)))
            return UnknownEvent(type=known, schema_version=draw(st.integers(2, 9)), payload=payload, **envelope)
        case _:
            return UnknownEvent(type="completed", payload={**payload, "no field of it": 1}, **envelope)


# A life has more of what leads somewhere than of what is only attached.
_WEIGHTED = [*EVENT_TYPES] + [
    "launched",
    "started",
    "heartbeat",
    "completed",
    "crashed",
    "wandb_attached",
    "amended",
    "metrics_logged",
    "objective_stated",
    "scaffolds_recorded",
] * 2


@st.composite
def events(draw: st.DrawFn, run_ids: st.SearchStrategy[str] = st.sampled_from(RUN_IDS)) -> Event:
    """Any event."""
    chosen = draw(st.sampled_from([*_WEIGHTED, ""]))
    return draw(events_of(EVENT_TYPES[chosen], run_ids) if chosen else unknown_events(run_ids))


def histories(run_ids: Sequence[str] = RUN_IDS, size_max: int = 12) -> st.SearchStrategy[list[Event]]:
    """The lives of several runs, as one set of events in some order of arrival."""
    return st.lists(events(st.sampled_from(list(run_ids))), max_size=size_max, unique_by=lambda event: event.event_id)


def life(size_max: int = 14) -> st.SearchStrategy[list[Event]]:
    """The life of the one run "r1"."""
    return histories(RUN_IDS[:1], size_max)


@st.composite
def batched(draw: st.DrawFn, items: Sequence[T]) -> list[list[T]]:
    """The same items in another order, some of them twice, in batches of any size."""
    again = draw(st.lists(st.sampled_from(items), max_size=3)) if items else []
    shuffled = draw(st.permutations([*items, *again]))
    made: list[list[T]] = []
    while shuffled:
        size = draw(st.integers(1, len(shuffled)))
        made.append(shuffled[:size])
        shuffled = shuffled[size:]
    return made


def json_text_of(value: Any) -> str:
    """Return *value* as strict JSON text in one spelling."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


Maker = Callable[..., Event]
