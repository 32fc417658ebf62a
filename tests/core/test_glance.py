"""A glance never passes what the classes would refuse, and passes nearly all that they take."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidFact
from ledger.events import EVENT_TYPES, Event, Fact, Recorded
from ledger.events import fact as facts
from ledger.events.fact import checked
from ledger.events.glance import payload_beyond_doubt, source_beyond_doubt
from tests.builders import NOON, completed, heartbeat, launched, metrics_logged, started
from tests.strategies import HUGE, ODD_NUMBERS, ODD_TEXTS, events, mappings, strangers

NONE_OF_IT = [None, True, False, [], {}, [1], {"a": 1}, {"a": [1], "b": []}, 0.5, "", " ", "7", "yes", *ODD_NUMBERS]


def recorded(event_id: Any, run_id: Any, type: Any, version: Any, at: Any, source: Any, payload: Any) -> Recorded:
    """Return a record of these words with the digest that they have, if they can have one."""
    made = Recorded(1, event_id, run_id, 1, type, version, at, NOON, source, payload, "", "")
    try:
        return replace(made, digest=made.fact().digest())
    except (ValueError, TypeError, AttributeError):
        return made


def of(event: Event, **changed: Any) -> Recorded:
    """Return an event as a ledger has it, but for what is changed."""
    fact = Fact.of(event, redacting=False)
    said = {
        "event_id": fact.event_id, "run_id": fact.run_id, "type": fact.type, "version": fact.schema_version,
        "at": event.occurred_at, "source": fact.source, "payload": fact.payload,
    }  # fmt: skip
    return recorded(**{**said, **changed})


def verdict(judge: Any, record: Recorded) -> Any:
    try:
        return judge(record)
    except InvalidFact as exc:
        return str(exc)


def agree(record: Recorded) -> None:
    """A glance that passes gives what the classes give; where it doubts, they decide."""
    judged = verdict(facts._judged, record)
    assert verdict(checked, record) == judged
    passed = facts._beyond_doubt(record)
    assert passed is None or passed == judged


@given(events())
def test_what_was_recorded_passes(event: Event) -> None:
    """Every event that can be made is what the classes say of it."""
    agree(of(event))


@pytest.mark.parametrize(
    "event",
    [
        launched(0, config={"a": {"b": [1]}}), started(0), completed(0, exit_code=0, duration_seconds=7),
        metrics_logged(0, columns={"a": [1]}), heartbeat(0, step=7, duration_seconds=9, lease_seconds=30, metrics={"a": 1}),
    ],
)  # fmt: skip
def test_the_usual_passes_at_a_glance(event: Event) -> None:
    """No class is asked for what comes by the million."""
    assert facts._beyond_doubt(of(event)) is not None


ENVELOPE: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.sampled_from(["", "x", "A" * 8 + "-0000-0000-0000-000000000000", "{" + "0" * 32 + "}", "0" * 32]),
    "run_id": st.sampled_from([*ODD_TEXTS, None, 1, b"r"]),
    "type": st.sampled_from([*ODD_TEXTS, *EVENT_TYPES, None, 1]),
    "version": st.sampled_from([0, 1, 2, -1, True, 1.0, "1", None, 2**63 - 1, 2**63, HUGE]),
    "at": st.sampled_from(
        [NOON, "yesterday", None, 5, datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1), "2024-05-01"]
    ),
    "source": st.sampled_from(["", "null", "[]", "{", "{}", '{"pid":true}', '{"pid":1.0}', '{"pid":"1"}', '{"host":1}'])
    | st.dictionaries(st.sampled_from(["host", "pid", "user", "x"]), strangers, max_size=2).map(json.dumps),
    "payload": strangers.map(json.dumps) | mappings.map(json.dumps) | st.sampled_from(["", "null", "{", b"{}", None]),
}


@given(events(), st.sampled_from(sorted(ENVELOPE)), st.data())
def test_another_word_in_an_envelope_is_judged_alike(event: Event, name: str, data: st.DataObject) -> None:
    """Whatever stands where it does not belong, with a digest that fits."""
    agree(of(event, **{name: data.draw(ENVELOPE[name])}))


@given(st.data())
def test_another_value_in_a_payload_is_judged_alike(data: st.DataObject) -> None:
    """Any value in any field of any kind; fields that are missing, and one too many."""
    kind = EVENT_TYPES[data.draw(st.sampled_from(sorted(EVENT_TYPES)))]
    fields = st.sampled_from([*kind.payload_fields, "no field"])
    values = st.sampled_from([*NONE_OF_IT, *ODD_TEXTS]) | strangers
    payload = data.draw(st.dictionaries(fields, values, max_size=4))
    agree(of(started(0), type=kind.wire_name, payload=json.dumps(payload)))


FIELDS = [(name, field) for name, kind in EVENT_TYPES.items() for field in kind.payload_fields]


@pytest.mark.parametrize(("type", "field"), FIELDS)
def test_each_field_is_judged_alike(type: str, field: str) -> None:
    """Every odd value in every field, beside what the kind needs."""
    needed = {"reason": "r", "uri": "u", "system": "s", "blog_post_url": "b", "conversation_s3_key": "c", "columns": {}}
    rest = {
        name: needed[name] for name, said in EVENT_TYPES[type].model_fields.items() if name in needed and name != field
    }
    for value in [*NONE_OF_IT, *ODD_TEXTS, "2024-05-01", "oom", float("inf"), [["a"]], ["a", " "], {"a": 1e999}]:
        text = json.dumps({**rest, field: value}).replace("Infinity", "1e999")
        agree(of(started(0), type=type, payload=text))


@pytest.mark.parametrize("depth", [98, 99, 100, 101, 102, 500])
def test_depth_is_judged_alike(depth: int) -> None:
    """A payload as deep as can be kept passes, one level more does not; braces in a text are no levels."""
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, json.dumps("[{" * depth)):
        agree(of(started(0), type="launched", payload=f'{{"config":{{"a":{text}}}}}'))
        agree(of(started(0), type="unheard_of", payload=f'{{"a":{text}}}'))


def test_a_class_with_a_rule_of_its_own_is_known_to_the_glance() -> None:
    """A rule over several fields is beyond a glance: one holds for a single field, the other's fields are doubted."""
    ruled = {name for name, kind in EVENT_TYPES.items() if kind.__pydantic_decorators__.model_validators}
    assert ruled == {"metrics_logged", "scaffolds_recorded"}
    assert not payload_beyond_doubt("scaffolds_recorded", "", {}, {"columns": {"scaffold_id": []}})


def test_a_long_source_is_looked_at_too() -> None:
    """It is only not remembered."""
    assert source_beyond_doubt(json.dumps({"host": "h" * 5000}))
    assert not source_beyond_doubt(json.dumps({"host": 5, "x": "h" * 5000}))
