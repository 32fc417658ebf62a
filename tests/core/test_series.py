"""What a run logged of each metric, summed up: as whoever looks at every single value would say."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.events import Event, Fact
from ledger.projections.fold import evolve, evolve_late, fold_facts, slips_in
from ledger.projections.metrics import METRIC_COLUMNS, Metric, add_up, less_is_better
from tests.builders import Row, clock, heartbeat, launched, metrics_logged, numbered, started, told
from tests.strategies import near_numbers, numbers_said


def rows_of(*events: Event) -> dict[str, Row]:
    """Return the metrics of the run "r" by name."""
    made: dict[str, Row] = told(events)["r"]["details"]["training_metrics"]
    return made


def logged(seconds: float = 0, number: int | None = None, /, **columns: list[Any]) -> Event:
    return metrics_logged(seconds, number=number, columns=columns)


def test_a_metric_is_summed_up() -> None:
    """Last, smallest and largest with the step at which they first were, how many, and from which event."""
    rows = rows_of(logged(1, 1, step=[1, 2, 3, 4], loss=[0.5, 0.25, 0.25, 0.75]), logged(2, 2, step=[5], loss=[0.5]))
    assert rows == {
        "loss": {
            "run_id": "r", "name": "loss", "last": 0.5, "last_step": 5, "min": 0.25, "min_step": 2, "max": 0.75, "max_step": 4,
            "best": 0.25, "best_step": 2, "count": 5, "non_finite": 0, "last_at": clock(2), "last_event_id": numbered(2),
        }
    }  # fmt: skip


BATCHES: dict[str, tuple[dict[str, list[Any]], dict[str, Any]]] = {
    "not finite": ({"step": [1, 2, 3], "m": [1.0, float("nan"), float("-inf")]}, {"count": 3, "non_finite": 2, "last": None, "last_step": 3, "min": 1.0, "max": 1.0}),
    "only such": ({"step": [1], "m": [float("nan")]}, {"count": 1, "non_finite": 1, "last": None, "min": None, "min_step": None, "max": None, "best": None, "best_step": None}),
    "gaps": ({"step": [1, 2, 3], "m": [None, 2, None]}, {"count": 1, "last": 2.0, "last_step": 2, "min_step": 2}),
    "no steps": ({"m": [2, 1]}, {"count": 2, "last": 1.0, "last_step": None, "min": 1.0, "min_step": None}),
    "steps that are none": ({"step": ["x", None, 2], "m": [1, 1, 1]}, {"min": 1.0, "min_step": 2, "max_step": 2, "last_step": 2}),
    "steps that fall": ({"step": [9, 3, 5], "m": [1, 1, 1]}, {"min_step": 3, "max_step": 3, "last_step": 5}),
    "spelled": ({"step": ["1", 2.0], "m": ["1e-1", "2"]}, {"count": 2, "min": 0.1, "min_step": 1, "max": 2.0, "max_step": 2}),
    "no numbers among numbers": ({"m": [1, True, "high", [2], {"a": 1}, 10**400]}, {"count": 1, "last": 1.0}),
    "a sum beyond all bounds": ({"m": [1e308, 1e308, -1e308]}, {"count": 3, "non_finite": 0, "min": -1e308, "max": 1e308}),
    "zeros": ({"m": [-0.0]}, {"min": 0.0, "max": 0.0, "last": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "wanted"), BATCHES.values(), ids=BATCHES)
def test_what_was_logged_counts_as_what_it_is(columns: dict[str, list[Any]], wanted: dict[str, Any]) -> None:
    """NaN and infinity count and are passed over otherwise; what is no number is not there; 0 has no sign."""
    row = rows_of(metrics_logged(columns=columns))["m"]
    assert {name: row[name] for name in wanted} == wanted
    assert all(math.copysign(1, value) == 1 for value in (row["min"], row["max"], row["last"]) if value == 0)


def test_what_was_never_a_number_has_no_row() -> None:
    """Nor has the step, nor a name that no database takes."""
    assert rows_of(metrics_logged(columns={"step": [1], "a": ["x"], "b": [None], "c\x00": [1]})) == {}


def summed(*logged: tuple[tuple[str, str], Any]) -> dict[str, Metric]:
    """What these columns of one run sum up to, each with the key of its event."""
    metrics: dict[str, Metric] = {}
    for key, columns in logged:
        add_up(metrics, "r", key, columns)
    return metrics


@pytest.mark.parametrize("columns", [None, 7, [], {"a": 7}, {"a": {}}, {"a": []}])
def test_a_stranger_of_a_batch_logs_nothing(columns: Any) -> None:
    """Summing up is total."""
    assert summed((("", ""), columns)) == {}


def test_steps_of_another_length_are_no_steps() -> None:
    """Nobody can say which value was at which."""
    (made,) = summed(((clock(), "e"), {"step": [1, 2], "m": [5]})).values()
    assert (made.last, made.last_step, made.min_step) == (5.0, None, None)


@pytest.mark.parametrize(
    ("name", "less"),
    [("loss", True), ("train/loss", True), ("val-error", True), ("val_loss_mean", True), ("loss/total", True), ("eval.ppl", True),
     ("TRAIN/LOSS", True), ("objectives/tox_minimize/raw_mean", True), ("acc", False), ("lossless", False), ("loss_fn/acc", False),
     ("objectives/QED_maximize/raw_mean", False), ("errors", False)],
)  # fmt: skip
def test_a_name_says_what_is_best(name: str, less: bool) -> None:
    """Less of a loss or of an error is better, of all else more is."""
    row = rows_of(metrics_logged(columns={"step": [1, 2], name: [1, 2]}))[name]
    assert less_is_better(name) is less
    assert (row["best"], row["best_step"]) == ((1.0, 1) if less else (2.0, 2))


values = near_numbers | numbers_said
logs = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(1, 4).flatmap(
            lambda length: st.fixed_dictionaries(
                {"loss": st.lists(values, min_size=length, max_size=length)},
                optional={
                    "acc": st.lists(values, min_size=length, max_size=length),
                    "step": st.lists(st.none() | st.integers(0, 4), min_size=length, max_size=length),
                },
            )
        ),
    ),
    max_size=5,
)


@given(logs, st.randoms(use_true_random=False), st.integers(-2, 5))
def test_the_rows_are_what_a_look_at_every_value_says(said: list[Any], random: Random, launch: int) -> None:
    """Signs of life in a row, early and late ones: the same numbers as of one list of all values."""
    events = [metrics_logged(seconds, columns=columns) for seconds, columns in said]
    wanted = {name: row for name in ("acc", "loss") if (row := _looked_at(name, events, said)) is not None}
    events += [launched(launch), started(launch + 0.5), heartbeat(2)]
    random.shuffle(events)

    assert rows_of(*events) == wanted


def _looked_at(name: str, events: list[Event], said: list[Any]) -> Row | None:
    seen = [
        (clock(seconds), event.event_id, place, number, columns.get("step", [None] * 9)[place])
        for event, (seconds, columns) in zip(events, said, strict=True)
        for place, value in enumerate(columns.get(name, []))
        if (number := _number(value)) is not None
    ]
    if not seen:
        return None
    at, event_id, _, last, last_step = max(seen, key=lambda one: one[:3])
    finite = [(number, step) for *_, number, step in seen if math.isfinite(number)]
    row: Row = {
        "run_id": "r", "name": name, "last": last if math.isfinite(last) else None, "last_step": last_step,
        "count": len(seen), "non_finite": len(seen) - len(finite), "last_at": at, "last_event_id": event_id,
    }  # fmt: skip
    for which in (min, max):
        value = which((number for number, _ in finite), default=None)
        at_steps = [step for number, step in finite if number == value and step is not None]
        row |= {which.__name__: value, f"{which.__name__}_step": min(at_steps, default=None)}
    best = "min" if name == "loss" else "max"
    return {**row, "best": row[best], "best_step": row[f"{best}_step"]}


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


@given(logs, st.integers(0, 5))
def test_what_is_stored_and_what_is_new_make_the_whole(said: list[Any], cut: int) -> None:
    """A row that was stored goes on as if nothing had been between."""
    logged = [((clock(at), numbered(n)), columns) for n, (at, columns) in enumerate(said)]
    before, new = summed(*logged[:cut]), summed(*logged[cut:])
    for name, metric in before.items():
        stored = Metric.restored(metric.row())
        new.setdefault(name, stored)
        if new[name] is not stored:
            new[name].add(stored)
    rows = {name: metric.row() for name, metric in new.items()}

    assert rows == {name: metric.row() for name, metric in summed(*logged).items()}
    assert all(row.keys() == METRIC_COLUMNS.keys() for row in rows.values())


def test_a_late_batch_slips_in() -> None:
    """Between signs of life it is added where it lies, and the run is what it would be in order."""
    early, late, last = (
        logged(1, 1, step=[1], loss=[1.0]),
        logged(2, 2, step=[2], loss=[0.5]),
        logged(3, 3, step=[3], loss=[2.0]),
    )
    in_order = [Fact.of(event, redacting=False) for event in (started(0), early, last)]
    life = fold_facts(in_order)
    fact = Fact.of(late, redacting=False)
    assert life is not None
    assert slips_in(life, fact)
    evolve_late(life, fact)
    life.sealed()

    wanted = fold_facts([*in_order, fact])
    assert wanted is not None
    assert {name: metric.row() for name, metric in life.metrics.items()} == {
        n: m.row() for n, m in wanted.metrics.items()
    }
    assert life.metrics["loss"].last == 2.0
    assert evolve(wanted, Fact.of(logged(9, 9, loss=[0.1]), redacting=False)).metrics["loss"].row()["min"] == 0.1
