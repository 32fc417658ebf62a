"""The laws of the fold, on any life: it is order-free, total and one step at a time, and carries all it needs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ledger.events import EVENT_TYPES, Event, Fact, Started
from ledger.events.envelope import storable_text
from ledger.events.plain import json_text, plain_mapping
from ledger.events.times import text_of
from ledger.projections import fold as folding
from ledger.projections.columns import Declared
from ledger.projections.fold import canonical, evolve, evolve_late, fold, fold_facts, fold_steps, slips_in
from ledger.projections.life import Life
from ledger.projections.run import COLUMNS, Run
from ledger.projections.timeline import entries
from tests.builders import LOCAL, launched, moment, told, unknown
from tests.strategies import (
    RUN_IDS,
    batched,
    event_ids,
    events_of,
    histories,
    json_text_of,
    life,
    moments,
    strangers,
)


def fact(event: Event) -> Fact:
    return Fact.of(event, redacting=True)


def fits(column: Declared, value: Any) -> bool:
    """Whether a column of this kind takes the value as it is, on every database."""
    if value is None:
        return column.nullable
    if column.choices and value not in column.choices:
        return False
    match column.kind:
        case "integer":
            return type(value) is int and -(2**63) <= value < 2**63
        case "real":
            return type(value) is float and math.isfinite(value)
        case "json":
            return type(value) is str and storable_text(value) and json_text_of(json.loads(value)) is not None
        case "moment":
            return type(value) is str and len(value) == len("2024-05-01T12:00:00.000000Z") and value[-1] == "Z"
        case _:
            return type(value) is str and storable_text(value)


@given(st.data())
def test_the_fold_is_order_free(data: st.DataObject) -> None:
    """Any permutation of any set of events, with any of them twice, folds to the same rows."""
    events = data.draw(histories())
    shuffled = [event for batch in data.draw(batched(events)) for event in batch]

    assert told(shuffled) == told(events)


@given(life())
def test_the_fold_is_total_and_its_values_fit(events: list[Event]) -> None:
    """Any life folds, and each of its values fits its column as every database knows it."""
    run = fold(events)

    row = {} if run is None else asdict(run)
    assert {name: value for name, value in row.items() if name not in LOCAL and not fits(COLUMNS[name], value)} == {}


@st.composite
def careless_facts(draw: st.DrawFn) -> Fact:
    """A known event with anything at all in its fields: accepted once, by a code that asked for less."""
    kind = EVENT_TYPES[draw(st.sampled_from(sorted(EVENT_TYPES)))]
    payload = plain_mapping({name: draw(strangers) for name in kind.payload_fields if draw(st.booleans())})
    bare = Started(run_id="r1", event_id=draw(event_ids), occurred_at=draw(moments))
    stored = fact(bare)
    return replace(stored, type=kind.wire_name, payload=json_text(payload), understood=payload)


@st.composite
def some_beats(draw: st.DrawFn) -> Fact:
    """A sign of life with something of what shows, or nothing."""
    said = {
        "metrics": {"loss": draw(st.integers(0, 3))},
        "duration_seconds": draw(st.sampled_from([1, 2, "3", "x", True])),
    }
    kept = draw(st.sets(st.sampled_from(sorted(said))))
    kind = draw(st.sampled_from(["heartbeat", "heartbeat", "metrics_logged", "checkpoint_saved"]))
    stored = fact(Started(run_id="r1", event_id=draw(event_ids), occurred_at=draw(moments)))
    payload = {name: value for name, value in said.items() if kind == "heartbeat" and name in kept}
    return replace(stored, type=kind, payload=json_text(payload), understood=payload)


def lives_as_facts() -> st.SearchStrategy[list[Fact]]:
    return life().map(lambda events: list({event.event_id: fact(event) for event in events}.values()))


@given(st.lists(careless_facts(), max_size=8, unique_by=lambda made: made.event_id))
def test_the_fold_is_total_over_careless_payloads(facts: list[Fact]) -> None:
    """Whatever lies in the fields of an event that was accepted, it folds, its values fit, and it can be told."""
    folded = fold_facts(facts)

    row = {} if folded is None else folded.row
    assert {name: value for name, value in row.items() if not fits(COLUMNS[name], value)} == {}
    assert len(entries(facts)) == len(facts)


@given(life())
def test_step_by_step_is_the_same_as_the_fold(events: list[Event]) -> None:
    """Evolving one event after the other in canonical order gives what fold gives."""
    made: Life | None = None
    for each in sorted(map(fact, events), key=canonical):
        if each.understood is not None:
            made = evolve(made, each)

    assert (made.run() if made else None) == fold(events)


@given(st.lists(careless_facts() | some_beats(), max_size=12, unique_by=lambda made: made.event_id) | lives_as_facts())
def test_a_history_at_once_is_the_same_as_step_by_step(facts: list[Fact]) -> None:
    """Signs of life in a row, of which only the latest show, leave what each of them in turn would have left."""
    one_by_one = fold_facts(facts)
    steps = sorted((made.occurred_at, made.event_id, made.type, made.understood) for made in facts)
    for following in (1, 2, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folding, "_FOLLOWING_MAX", following)
            at_once = fold_steps(facts[0].run_id, steps) if facts else None
        assert at_once == one_by_one


@given(life())
def test_what_a_row_does_not_show_is_carried_beside_it(events: list[Event]) -> None:
    """A life that is packed away and restored between any two events goes on as if it had not been."""
    made: Life | None = None
    for each in sorted(map(fact, events), key=canonical):
        if each.understood is not None:
            made = evolve(made and Life.restored(dict(made.row), made.beside()), each).sealed()

    whole = fold_facts(map(fact, events))
    assert (made and (made.row, made.beside(), made.claimed())) == (
        whole and (whole.row, whole.beside(), whole.claimed())
    )


@given(life())
def test_restoring_gives_the_same_life(events: list[Event]) -> None:
    """Nothing that a life remembers is lost in its row and what is packed beside it; what has rows of its own begins anew."""
    made = fold_facts(map(fact, events))

    if made is not None:
        restored = Life.restored(made.row, made.beside())
        same = [field.name for field in fields(Life) if getattr(restored, field.name) != getattr(made, field.name)]
        assert set(same) <= {"metrics", "scaffolds"}
        assert (restored.metrics, restored.scaffolds) == ({}, {})


@given(histories(RUN_IDS[:1]))
def test_entries_are_in_canonical_order_and_on_one_line(events: list[Event]) -> None:
    """A timeline has one line for each event, in the order in which things happened, and none is too long."""
    lines = entries(map(fact, events))

    assert [(line.occurred_at, line.event_id) for line in lines] == sorted(
        (text_of(event.occurred_at), event.event_id) for event in events
    )
    assert all(0 < len(line.summary) <= 100 and "\n" not in line.summary for line in lines)


@example({"training": {"batch_size": 384}, "objectives": [1, 2]})
@given(strangers)
def test_a_strangers_config_stays_whole(config: Any) -> None:
    """Whatever a config says, the row's JSON says it too, though columns may leave it out."""
    stored = fact(launched(0, config={"config": config}))
    row = told([launched(0, config={"config": config})])["r"]

    assert json.loads(row["config_json"]) == json.loads(stored.payload)["config"]


SIGNS = ["heartbeat", "metrics_logged", "checkpoint_saved"]


@given(
    st.lists(st.sampled_from([*SIGNS * 3, "started", "crashed", "amended", "launched"]), min_size=2, max_size=7),
    st.data(),
)
def test_a_late_sign_of_life_that_slips_in_folds_as_in_its_time(kinds: list[str], data: st.DataObject) -> None:
    """Where a late event needs no refolding, what it does to the life is what it would have done in order."""
    events = [data.draw(events_of(EVENT_TYPES[kind], st.just("r1"))) for kind in kinds]
    assume(len({event.event_id for event in events}) == len(events))
    late, *rest = map(fact, events)
    made = fold_facts(rest)

    if made is not None and slips_in(made, late):
        evolve_late(made, late)
        made.sealed()
        whole = fold_facts([late, *rest])
        assert whole is not None
        assert (made.row, made.beside()) == (whole.row, whole.beside())


def test_what_is_not_understood_does_not_evolve() -> None:
    """The fold leaves it out; whoever asks for it all the same made a mistake."""
    with pytest.raises(ValueError, match="left out of the fold"):
        evolve(None, fact(unknown(0, type="moon_landed")))


def test_a_line_has_its_parts_as_keys_and_as_attributes() -> None:
    """And an attribute that no line has is the usual error."""
    (line,) = entries([fact(launched(0))])

    assert (line.type, line["type"]) == ("launched", "launched")
    with pytest.raises(AttributeError, match="mood"):
        _ = line.mood


def test_nothing_folds_to_no_run() -> None:
    """Without an event that can be understood there is no run."""
    assert fold([]) is None


def test_a_fold_gives_a_run_of_the_declared_columns() -> None:
    """What fold returns is the documented row, typed, with what the run claims."""
    run = fold([launched(0, run_name="n")])

    assert isinstance(run, Run)
    assert (run.run_id, run.run_name, run.created_at) == ("r", "n", text_of(moment(0)))
