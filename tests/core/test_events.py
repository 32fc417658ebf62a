"""Making an event is strict, reading one is not: what is not understood is kept whole."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import AskedWrongly, InvalidFact
from ledger.events import (
    EVENT_TYPES,
    Amended,
    Annotated,
    AnyEvent,
    CheckpointSaved,
    Completed,
    Event,
    Fact,
    Heartbeat,
    Launched,
    MetricsLogged,
    Recorded,
    Started,
    UnknownEvent,
    Voided,
    parse_event,
    upcast,
)
from tests.builders import clock, completed, crash_data_attached, fold_of, moment, started, unknown, wandb_attached
from tests.strategies import FIELDS, events, events_of, strangers, texts

BAD: dict[str, tuple[Callable[[], object], str]] = {
    "unknown field": (lambda: Started(run_id="r", mood="good"), "has no field 'mood'"),
    "no run": (lambda: Started(), "needs run_id"),
    "empty run id": (lambda: Started(run_id=" "), "run_id"),
    "run id with NUL": (lambda: Started(run_id="a\x00"), "NUL"),
    "run id with a surrogate": (lambda: Started(run_id="a\ud800"), "surrogates"),
    "run id that is none": (lambda: Started(run_id=7), "run_id"),
    "event id": (lambda: Started(run_id="r", event_id="7"), "a UUID is wanted"),
    "time that is none": (lambda: Started(run_id="r", started_at="soon"), "started_at"),
    "moment that is none": (lambda: Started(run_id="r", occurred_at=12), "occurred_at"),
    "reason missing": (lambda: Voided(run_id="r"), "needs reason"),
    "reason empty": (lambda: Voided(run_id="r", reason=""), "reason"),
    "end reason": (lambda: Completed(run_id="r", end_reason="banana"), "end_reason"),
    "negative duration": (lambda: Completed(run_id="r", duration_seconds=-1), "duration_seconds"),
    "duration that is no number": (lambda: Completed(run_id="r", duration_seconds="long"), "duration_seconds"),
    "boolean duration": (lambda: Completed(run_id="r", duration_seconds=True), "duration_seconds"),
    "exit code that is no whole number": (lambda: Completed(run_id="r", exit_code=0.5), "exit_code"),
    "path for an id": (lambda: Launched(run_id=Path("/r")), "run_id"),
    "number for a reason": (lambda: Voided(run_id="r", reason=7), "reason"),
    "boolean for a text": (lambda: Launched(run_id="r", instance_id=True), "instance_id"),
    "fraction for a text": (lambda: Launched(run_id="r", instance_id=0.5), "instance_id"),
    "path with NUL": (lambda: Launched(run_id="r", config_file_path=Path("a\x00")), "config_file_path"),
    "duration of 65 bits": (lambda: Completed(run_id="r", duration_seconds=2**63), "duration_seconds"),
    "exit code of 65 bits": (lambda: Completed(run_id="r", exit_code=2**63), "exit_code"),
    "boolean exit code": (lambda: Completed(run_id="r", exit_code=True), "exit_code"),
    "metrics that are no mapping": (lambda: Completed(run_id="r", final_metrics=[1]), "mapping"),
    "config that is no mapping": (lambda: Launched(run_id="r", config="a: 1"), "mapping"),
    "columns of two lengths": (lambda: MetricsLogged(run_id="r", columns={"a": [1], "b": []}), "one length"),
    "columns that are no lists": (lambda: MetricsLogged(run_id="r", columns={"a": 1}), "columns"),
    "no uri": (lambda: CheckpointSaved(run_id="r"), "needs uri"),
    "empty tag": (lambda: Annotated(run_id="r", tags=[""]), "tags"),
    "no columns": (lambda: Amended(run_id="r", reason="x"), "needs columns"),
    "schema version 0": (lambda: Started(run_id="r", schema_version=0), "schema_version"),
    "schema version of 65 bits": (lambda: Started(run_id="r", schema_version=2**63), "schema_version"),
    "no kind": (lambda: Event(run_id="r", type="started"), "kinds"),
    "name with NUL": (lambda: Launched(run_id="r", run_name="a\x00"), "run_name"),
    "nested too deep": (lambda: Launched(run_id="r", config=_deep()), "nested deeper"),
}


NOT_FINITE: dict[str, Callable[[Any], Event]] = {
    "duration": lambda value: Completed(run_id="r", duration_seconds=value),
    "duration so far": lambda value: Heartbeat(run_id="r", duration_seconds=value),
    "exit code": lambda value: Completed(run_id="r", exit_code=value),
    "step": lambda value: Heartbeat(run_id="r", step=value),
    "step of a checkpoint": lambda value: CheckpointSaved(run_id="r", uri="s3://k", step=value),
}


@pytest.mark.parametrize("make", NOT_FINITE.values(), ids=NOT_FINITE)
@pytest.mark.parametrize(("value", "text"), [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")])
@pytest.mark.parametrize("kind", [float, np.float32])
def test_a_number_that_is_not_finite_refuses_no_event(
    make: Callable[[Any], Event], value: str, text: str, kind: Callable[[str], Any]
) -> None:
    """It is stored as its text, read back as the same event, and fits no column."""
    event = make(kind(value))
    with Ledger(":memory:") as book:
        recorded = book.append(event)
        row = book.get_run("r")

        assert text in json.loads(recorded.payload).values()
        assert recorded.event == event
        assert book.append([recorded.event, recorded])[1] == recorded
        assert row is not None
        assert (row["duration_seconds"], row["exit_code"]) == (None, None)


def test_a_hyperparameter_that_is_not_finite_refuses_no_launch() -> None:
    """Its column is read from the config as if it were not said."""
    event = Launched(run_id="r", config={"beta": 0.5}, hyperparameters={"beta": float("nan"), "num_gpus": float("inf")})

    assert event.hyperparameters == {"beta": "NaN", "num_gpus": "Infinity"}
    assert [fold_of(event)[name] for name in ("beta", "num_gpus")] == [0.5, None]


def test_what_describes_a_run_may_be_a_path_or_a_number() -> None:
    """A path is kept as its text, and so is the number of a job."""
    event = Launched(
        run_id="r",
        config_file_path=Path("/data/a.yaml"),
        instance_id=12345,
        host=np.int64(7),
        hyperparameters={"beta": 5},
    )

    assert (event.config_file_path, event.instance_id, event.host) == ("/data/a.yaml", "12345", "7")
    assert event.hyperparameters == {"beta": 5}
    assert Heartbeat(run_id="r", message=Path("m")).message == "m"


def _deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(1000):
        value = {"k": value}
    return value


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_an_event_refuses_to_be_made_wrong(make: Callable[[], object], words: str) -> None:
    """What is not meant is an InvalidFact, a ValueError too, that says in one line what is wrong."""
    with pytest.raises(InvalidFact) as refused:
        make()

    assert words in str(refused.value)
    assert isinstance(refused.value, AskedWrongly | ValueError)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_an_event_never_changes() -> None:
    """A fact is frozen."""
    event = Started(run_id="r")

    with pytest.raises(ValueError, match="frozen"):
        event.run_id = "s"  # type: ignore[misc]


def test_what_is_not_given_is_made() -> None:
    """Id, time and source are made where the event is made."""
    before = datetime.now(UTC)
    event = Started(run_id="r")

    assert uuid.UUID(event.event_id).version == 7
    assert before <= event.occurred_at <= datetime.now(UTC)
    assert event.occurred_at.tzinfo is UTC
    assert (event.type, event.schema_version) == ("started", 1)


def test_numpy_scalars_are_numbers() -> None:
    """What a training loop has at hand is taken as the number it is."""
    event = Heartbeat(run_id="r", step=np.int64(4), duration_seconds=np.float32(4.6), metrics={"l": np.float64(0.5)})

    assert event.said() == {"step": 4, "duration_seconds": 5, "metrics": {"l": 0.5}}


def test_seconds_are_rounded_to_whole_ones() -> None:
    """A duration is an integer, whatever a stop watch said."""
    assert [Completed(run_id="r", duration_seconds=s).duration_seconds for s in (4.4, 4.6, 7, "8")] == [4, 5, 7, 8]


def test_the_union_is_all_there_is() -> None:
    """Every kind of event is in AnyEvent, under the name that is written in it, and nothing else is."""
    subclasses = {kind for kind in _subclasses(Event) if getattr(kind, "wire_name", "")}

    assert set(get_args(AnyEvent)) == subclasses == set(EVENT_TYPES.values())
    assert all(kind.wire_name == name == kind(**_least(kind)).type for name, kind in EVENT_TYPES.items())


def _subclasses(kind: type[Event]) -> set[type[Event]]:
    return {kind} | {below for each in kind.__subclasses__() for below in _subclasses(each)}


def _least(kind: type[Event]) -> dict[str, Any]:
    required = {
        "conversation_s3_key": "k",
        "blog_post_url": "k",
        "uri": "k",
        "resumed_by_run_id": "r2",
        "reason": "k",
        "system": "k",
        "columns": {"scaffold_id": []},
        "objective_name": "o",
    }
    return {"run_id": "r"} | {
        name: required[name] for name in kind.payload_fields if kind.model_fields[name].is_required()
    }


def test_every_field_can_be_drawn() -> None:
    """The strategies of these tests know each field of each event, so that no new one goes untried."""
    assert {name for kind in EVENT_TYPES.values() for name in kind.payload_fields} <= set(FIELDS)


@given(events())
def test_an_event_parses_to_itself(event: Event) -> None:
    """An event's envelope and payload, read back, make the same event."""
    record = {name: getattr(event, name) for name in Event.model_fields} | {"payload": event.said()}

    assert parse_event(record).said() == event.said()
    assert type(parse_event(record)) is type(event)


@given(
    st.sampled_from(sorted(EVENT_TYPES.values(), key=lambda kind: kind.wire_name)).flatmap(events_of), texts, strangers
)
def test_a_further_field_is_kept(event: Event, name: str, value: Any) -> None:
    """Reading an event with a field that this version does not know keeps it whole, as an UnknownEvent."""
    payload = {**event.said(), f"{name} further": value}
    record = {name: getattr(event, name) for name in Event.model_fields} | {"payload": payload}

    parsed = parse_event(record)

    assert isinstance(parsed, UnknownEvent)
    assert (parsed.type, parsed.event_id, parsed.occurred_at) == (event.type, event.event_id, event.occurred_at)
    assert parsed.payload.keys() == payload.keys()


UNKNOWN = {
    "type": unknown(0, type="moon_landed", payload={"crew": 3}),
    "newer version": unknown(0, type="started", schema_version=2, payload={"started_at": "soon"}),
    "further field": unknown(0, type="completed", payload={"exit_code": 0, "mood": "good"}),
}


@pytest.mark.parametrize("event", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_understood_is_kept_shown_and_left_out(event: UnknownEvent) -> None:
    """It lies in the ledger whole, timelines show it as it is, and no row comes of it."""
    with Ledger(":memory:") as book:
        book.append(event)

        (kept,) = book.events("r")
        (line,) = book.timeline(run_id="r")
        assert (kept.type, json.loads(kept.payload)) == (event.type, event.payload)
        assert kept.event == event
        assert ("not understood" in line.summary, line.type) == (True, event.type)
        assert (book.get_run("r"), book.count_runs(), bool(book.verify())) == (None, 0, True)


MALFORMED = {
    "known type": unknown(0, type="completed", payload={"exit_code": "zero"}),
    "missing field": unknown(0, type="voided", payload={}),
    "impossible moment": unknown(0, type="started", payload={"started_at": "soon"}),
}


@pytest.mark.parametrize("event", MALFORMED.values(), ids=MALFORMED)
def test_a_known_kind_has_to_be_well_formed(event: UnknownEvent) -> None:
    """An event of a known kind does not slip in malformed by being called unknown."""
    with Ledger(":memory:") as book:
        with pytest.raises(InvalidFact):
            book.append(event)

        assert list(book.events()) == []


def test_the_last_day_of_the_calendar_is_nobodys() -> None:
    """What would leave no later moment is refused when it is appended."""
    with Ledger(":memory:") as book:
        with pytest.raises(InvalidFact, match="before 9999-12-31"):
            book.append(Started(run_id="r", occurred_at="9999-12-31T00:00:00Z"))

        assert list(book.events()) == []


FORGED: dict[str, dict[str, Any]] = {
    "payload": {"payload": '{"exit_code":4}'},
    "payload that is no JSON": {"payload": "exit code 4"},
    "payload that is no mapping": {"payload": "[]"},
    "payload that is not strict": {"payload": '{"exit_code":NaN}'},
    "source": {"source": "{}"},
    "digest": {"digest": "0" * 64},
    "run": {"run_id": "another"},
    "empty run": {"run_id": ""},
    "event id": {"event_id": "7"},
    "time": {"occurred_at": moment(6)},
    "time that is none": {"occurred_at": "soon"},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_what_another_ledger_recorded_has_to_be_what_its_digest_says(forged: dict[str, Any]) -> None:
    """A recorded event that somebody changed on its way is refused, and nothing of it is accepted."""
    with Ledger(":memory:") as book, Ledger(":memory:") as other:
        recorded = book.append(completed(5, exit_code=3))
        with pytest.raises(InvalidFact):
            other.append(Recorded(**{**vars_of(recorded), **forged}))

        assert list(other.events()) == []
        assert other.append(recorded).digest == recorded.digest


def test_a_recorded_event_shows_its_own_fields() -> None:
    """What events() yields has the stored columns, and beside them what the event itself says."""
    with Ledger(":memory:") as book:
        book.append(completed(5, exit_code=3))
        (recorded,) = book.events()

    assert isinstance(recorded, Recorded)
    assert (recorded.position, recorded.version, recorded.type, recorded.run_id) == (1, 1, "completed", "r")
    assert (recorded.exit_code, recorded.occurred_at, recorded.event.exit_code) == (3, moment(5), 3)
    with pytest.raises(AttributeError):
        _ = recorded.mood
    with pytest.raises(AttributeError):
        _ = recorded._private


def test_what_was_accepted_once_can_be_read_for_ever() -> None:
    """A payload that today's code would refuse is shown as an unknown event, whole."""
    with Ledger(":memory:") as book:
        recorded = book.append(completed(5, exit_code=3))
    careless = Recorded(**{**vars_of(recorded), "payload": '{"exit_code":"three"}'})

    assert isinstance(careless.event, UnknownEvent)
    assert careless.event.payload == {"exit_code": "three"}


def vars_of(recorded: Recorded) -> dict[str, Any]:
    return {name: getattr(recorded, name) for name in Recorded.__dataclass_fields__}


def test_yesterdays_payload_is_read_as_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of an older schema_version goes through each step to today's, and then folds."""
    steps = {
        ("completed", 1): lambda payload: {"code": payload["exit"]},
        ("completed", 2): lambda payload: {"exit_code": payload["code"]},
    }
    monkeypatch.setattr(upcast, "UPCASTS", steps)
    monkeypatch.setitem(upcast._CURRENT, "completed", 3)
    old = unknown(0, type="completed", payload={"exit": 7})
    middle = unknown(1, run="s", type="completed", schema_version=2, payload={"code": 8})
    with Ledger(":memory:") as book:
        recorded = book.append(old)
        book.append(middle)

        rows = {row["run_id"]: (row["status"], row["exit_code"]) for row in book.query_runs()}
        assert rows == {"r": ("completed", 7), "s": ("completed", 8)}
        assert recorded.event.exit_code == 7
        assert json.loads(recorded.payload) == {"exit": 7}
        assert book.verify()


def test_a_missing_step_is_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no step leads on from an old version, the event is kept and left out."""
    monkeypatch.setitem(upcast._CURRENT, "completed", 3)
    with Ledger(":memory:") as book:
        book.append(unknown(0, type="completed", payload={}))

        assert (book.count_runs(), len(list(book.events()))) == (0, 1)


def test_saying_nothing_is_no_field() -> None:
    """What is None is not in the payload: an absent argument and None are the same."""
    assert Fact.of(started(0, started_at=None), redacting=True).payload == "{}"
    assert Fact.of(started(0, started_at=clock(0)), redacting=True).payload == f'{{"started_at":"{clock(0)}"}}'


@pytest.mark.parametrize("event", [crash_data_attached(0), wandb_attached(0)], ids=lambda event: event.type)
def test_every_event_has_something_to_be_read(event: Event) -> None:
    """A line of a timeline says something, also of an event that says nothing further."""
    with Ledger(":memory:") as book:
        book.append(event)

        assert book.timeline(run_id="r")[0].summary.strip()


@pytest.mark.parametrize("seconds", [10**400, -(10**400), 2**63])
def test_no_duration_is_too_large_to_be_refused(seconds: int) -> None:
    """It is a wrong value like any other, however many digits it has."""
    with pytest.raises(InvalidFact, match="duration_seconds"):
        completed(0, duration_seconds=seconds)
