"""An explanation is true: the last that it says of a column is the row's value, and every step was there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from ledger import Ledger
from ledger.errors import InvalidValue, RunNotFound
from ledger.events import Event, Fact
from ledger.projections.explain import EXPLAINED, Explanation, explain
from tests.builders import (
    amended,
    clock,
    completed,
    fold_of,
    heartbeat,
    launched,
    lives,
    numbered,
    started,
    told,
    unknown,
    unvoided,
    voided,
    wandb_attached,
)
from tests.strategies import histories, life


def explained(*events: Event, holder: dict[str, str] | None = None) -> dict[str, Explanation]:
    """Return the explanation of the run "r" by column; it holds every W&B id unless *holder* says who does."""
    accepted = [(Fact.of(event, redacting=False), clock(number)) for number, event in enumerate(events)]
    made = explain(accepted, (holder or {}).get if holder is not None else lambda _: "r")
    return {explanation.column: explanation for explanation in made}


def story(explanation: Explanation) -> list[tuple[object, str]]:
    """Return each value of a column with the type of its event, the newest first."""
    return [(setting.value, setting.type) for setting in (explanation, *explanation.replaced)]


def check_explained(book: Ledger, run_id: str) -> None:
    """Compare an explanation with the row, column by column; where there is no row there is no explanation."""
    row = book.get_run(run_id)
    if row is None:
        with pytest.raises(RunNotFound):
            book.explain(run_id)
        return
    made = {explanation.column: explanation for explanation in book.explain(run_id)}
    assert {name: made[name].value if name in made else None for name in EXPLAINED} == {
        name: row.get(name) for name in EXPLAINED
    }
    events = {event.event_id: event for event in book.events(run_id)}
    for explanation in made.values():
        for setting in (explanation, *explanation.replaced):
            fact = events[setting.event_id].fact()
            assert (setting.type, setting.occurred_at) == (fact.type, fact.occurred_at)


@given(histories())
def test_an_explanation_ends_at_the_row(history: list[Event]) -> None:
    """For any lives, contested W&B ids and voided runs among them: the explained values are those of get_run."""
    with Ledger(":memory:") as book:
        book.append(history)
        for run_id in {event.run_id for event in history}:
            check_explained(book, run_id)


@given(life())
def test_each_setting_is_what_the_fold_showed_after_that_event(history: list[Event]) -> None:
    """Folded up to an event that set a column, the row has just that value; before it, the value that it replaced."""
    for run_id in lives(history):
        ordered = sorted(history, key=lambda event: (event.occurred_at, event.event_id))
        accepted = [(Fact.of(event, redacting=True), clock()) for event in history]
        places = {event.event_id: place for place, event in enumerate(ordered)}
        for explanation in explain(accepted, lambda _: run_id):
            if explanation.column.endswith("_db"):
                continue
            settings = (explanation, *explanation.replaced)
            for setting, before in zip(settings, (*explanation.replaced, None), strict=True):
                at = places[setting.event_id]
                assert value_after(ordered[: at + 1], explanation.column) == setting.value
                assert value_after(ordered[:at], explanation.column) == (before.value if before else None)


def value_after(history: list[Event], column: str) -> Any:
    row = told(history).get("r1")
    return None if row is None else row[column]


def test_a_status_has_a_history() -> None:
    """Each status is there with the event that led to it; one that changes nothing is not."""
    made = explained(launched(0), started(1), started(2), heartbeat(3, step=1), completed(4))

    assert story(made["status"]) == [("completed", "completed"), ("running", "started"), ("launched", "launched")]
    assert [setting.occurred_at for setting in (made["status"], *made["status"].replaced)] == [
        clock(4),
        clock(1),
        clock(0),
    ]


def test_order_of_arrival_does_not_matter() -> None:
    """What came late is explained where it happened; only the local columns go by arrival."""
    made = explained(completed(9, number=1), launched(0, number=2, host="ec2"), amended(5, number=3, host="laptop"))

    assert story(made["host"]) == [("laptop", "amended"), ("ec2", "launched")]
    assert (made["created_at_db"].event_id, made["updated_at_db"].event_id) == (numbered(1), numbered(3))
    assert (made["created_at_db"].value, made["updated_at_db"].value) == (clock(0), clock(2))


def test_an_amendment_is_explained_also_where_it_came_before_the_launch() -> None:
    """It beats the launch in any order, so the launch has set nothing."""
    made = explained(amended(0, host="laptop", note=None), launched(1, host="ec2"))

    assert story(made["host"]) == [("laptop", "amended")]
    assert "note" not in made


def test_a_cleared_column_is_explained() -> None:
    """Nothing is a value, too, once something has been there."""
    made = explained(launched(0, host="ec2"), amended(1, host=None))
    assert story(made["host"]) == [(None, "amended"), ("ec2", "launched")]


def test_what_nothing_was_said_of_is_left_out() -> None:
    """A column that never had a value has no explanation, and what cannot be understood explains nothing."""
    made = explained(launched(0), unknown(1, type="moon_landed"))

    assert {*made} == {"run_id", "status", "created_at", "config_json", "created_at_db", "updated_at_db"}
    assert made["updated_at_db"].type == "moon_landed"
    assert explain([(Fact.of(unknown(1, type="moon_landed"), redacting=False), clock())], lambda _: None) == []


def test_who_said_it_is_told_as_in_a_timeline() -> None:
    """Host and user, and what it was imported from."""
    event = launched(0, source={"user": "ana", "host": "hub", "program": "a.py", "pid": 7})
    assert explained(event)["status"].source == "ana@hub a.py (pid 7)"


def test_a_lost_wandb_id_is_explained_by_who_holds_it() -> None:
    """The row's NULL says what the run claims, and which run holds that."""
    events = [launched(0), wandb_attached(1, wandb_run_id="w1"), wandb_attached(2, wandb_run_id="w2")]
    lost, held = (explained(*events, holder={"w2": run})["wandb_run_id"] for run in "sr")

    assert (lost.value, lost.claim, lost.held_by, lost.type) == (None, "w2", "s", "wandb_attached")
    assert (held.value, held.claim, held.held_by) == ("w2", "w2", None)
    assert [setting.value for setting in lost.replaced] == ["w1"]


def test_a_voided_run_is_explained_with_its_reason() -> None:
    """It claims no W&B id while it is void, and the events that voided it and took that back say so."""
    events = [launched(0), wandb_attached(1, wandb_run_id="w"), voided(2, reason="bogus")]
    void, back = explained(*events), explained(*events, unvoided(3, reason="not bogus"))

    assert (story(void["reason"]), void["wandb_run_id"].value) == ([("bogus", "voided")], None)
    assert story(back["reason"]) == [(None, "unvoided"), ("bogus", "voided")]
    assert story(back["wandb_run_id"]) == [("w", "unvoided"), (None, "voided"), ("w", "wandb_attached")]


def test_a_ledger_explains_who_holds_what(book: Ledger) -> None:
    """The holder is the one of the row, and the values are plain data that JSON takes."""
    book.append([launched(0, config={"lr": 0.1}), wandb_attached(3, wandb_run_id="w")])
    book.append([launched(0, run="s"), wandb_attached(1, run="s", wandb_run_id="w")])
    (explanation,) = [each for each in book.explain("r") if each.column == "wandb_run_id"]

    assert (explanation.value, explanation.claim, explanation.held_by) == (None, "w", "s")
    assert json.dumps([each.value for each in book.explain("r")])
    assert [each.value for each in book.explain("r") if each.column == "learning_rate"] == [
        fold_of(launched(0, config={"lr": 0.1}))["learning_rate"]
    ]


def test_an_unknown_run_cannot_be_explained(book: Ledger) -> None:
    """Nor can what is no run's id at all."""
    for run_id in ("r9", "\x00", "\ud800", ""):
        with pytest.raises(RunNotFound):
            book.explain(run_id)
    with pytest.raises(InvalidValue, match="text is wanted"):
        book.explain(5)
