"""Batches of steps become columns of one length, and fewer rows of them still show what matters."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidValue, UnknownColumn
from ledger.projections.curves import curves
from ledger.projections.sampling import sampled

NAN, INF = math.nan, math.inf

CELLS = st.none() | st.integers(-5, 5) | st.floats(width=16) | st.sampled_from(["text", True])


@st.composite
def histories(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Draw columns of one length."""
    length = draw(st.integers(1, 60))
    names = draw(st.lists(st.sampled_from("abcd"), max_size=3, unique=True))
    cells = st.lists(CELLS, min_size=length, max_size=length)
    return {"step": list(range(length)), **{name: draw(cells) for name in names}}


def numbers(values: list[Any]) -> list[float]:
    return [value for value in values if type(value) in (int, float) and math.isfinite(value)]


def needed(history: dict[str, list[Any]]) -> int:
    """Return how many rows the extremes take, as the refusal says it."""
    try:
        sampled(history, 0)
    except InvalidValue as exc:
        return int(str(exc).partition("at least ")[2].partition(" ")[0])
    raise AssertionError(history)


def same(one: object, other: object) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))


def test_batches_follow_one_another() -> None:
    """A column that a batch does not have is None there, and all have one length; names are sorted behind the step."""
    made = curves([{"step": [1, 2], "loss": [0.5, 0.4]}, {"step": [3], "acc": [0.9]}])

    assert made == {"step": [1, 2, 3], "acc": [None, None, 0.9], "loss": [0.5, 0.4, None]}
    assert list(made) == ["step", "acc", "loss"]


def test_what_is_not_finite_comes_as_floats() -> None:
    """The words that JSON has for NaN and the infinities are the floats that were logged."""
    (nan, *rest) = curves([{"step": [1, 2, 3, 4], "loss": ["NaN", "Infinity", "-Infinity", 1]}])["loss"]

    assert math.isnan(nan)
    assert rest == [INF, -INF, 1]


def test_what_holds_no_number_has_to_be_named() -> None:
    """Texts, truth values and histograms are left out, and given as they are to who names their column."""
    histogram = {"_type": "histogram", "values": [1], "bins": [0, 1]}
    batch = {"step": [1, 2, 3], "mixed": [1, "a", True], "text": ["a", "b", None], "h": [None, None, histogram]}

    assert curves([batch]) == {"step": [1], "mixed": [1]}
    assert curves([batch], ["text"]) == {"step": [1, 2], "text": ["a", "b"]}
    assert curves([batch], ["h", "mixed"]) == {"step": [1, 2, 3], "h": [None, None, histogram], "mixed": [1, "a", True]}


def test_rows_without_a_value_are_left_out() -> None:
    """Only rows that have a value of a named column stay; who names the step has every step."""
    batches = [{"step": [1, 2, 3], "loss": [1.0, None, 3.0], "acc": [None, 2.0, 3.0]}, {"step": [4], "acc": [4.0]}]

    assert curves(batches, ["loss"]) == {"step": [1, 3], "loss": [1.0, 3.0]}
    assert curves(batches, ["loss", "step"]) == {"step": [1, 2, 3, 4], "loss": [1.0, None, 3.0, None]}


def test_a_name_that_was_never_logged_is_refused() -> None:
    """The nearest is offered; a run that logged nothing at all has empty columns."""
    with pytest.raises(UnknownColumn, match="Did you mean 'loss'"):
        curves([{"step": [1], "loss": [1]}], ["los"])
    assert curves([], ["los"]) == {"step": [], "los": []}
    assert curves([{"step": [1], "loss": [None]}], ["loss"]) == {"step": [], "loss": []}


def test_steps_need_not_be_said() -> None:
    """A batch without steps has None for them."""
    assert curves([{"loss": [1, 2]}, {"step": [3], "loss": [3]}]) == {"step": [None, None, 3], "loss": [1, 2, 3]}


@pytest.mark.parametrize("broken", [None, 5, {}, {"loss": 5}, {"step": [], "loss": []}])
def test_what_is_no_batch_adds_nothing(broken: Any) -> None:
    """What an earlier code accepted, or somebody changed, takes nothing away from the rest."""
    assert curves([broken, {"step": [1], "loss": [2]}]) == {"step": [1], "loss": [2]}


def test_short_columns_are_filled() -> None:
    """A column that is shorter than the others has no values at its end."""
    assert curves([{"step": [1, 2], "loss": [5]}], ["loss", "step"]) == {"step": [1, 2], "loss": [5, None]}


@given(history=histories(), more=st.integers(0, 40))
def test_a_sample_is_some_of_the_rows(history: dict[str, list[Any]], more: int) -> None:
    """It has as many rows as are asked for, each a row of the exact history, in its order, the first and last too."""
    length = len(history["step"])
    asked = needed(history) + more
    made = sampled(history, asked)
    steps = made["step"]

    assert len(steps) == min(asked, length)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, length - 1)
    for name, values in made.items():
        assert all(same(value, history[name][step]) for value, step in zip(values, steps, strict=True))


@given(history=histories(), more=st.integers(0, 40))
def test_a_sample_keeps_the_extremes(history: dict[str, list[Any]], more: int) -> None:
    """The smallest and largest number of each column are in it, and a NaN and an infinity where there is one."""
    made = sampled(history, needed(history) + more)

    for name, values in history.items():
        exact, kept = numbers(values), numbers(made[name])
        assert (min(exact, default=0), max(exact, default=0)) == (min(kept, default=0), max(kept, default=0))
        floats = [
            {str(v) for v in column if type(v) is float and not math.isfinite(v)} for column in (values, made[name])
        ]
        assert floats[0] == floats[1]


@given(history=histories())
def test_too_few_rows_are_refused(history: dict[str, list[Any]]) -> None:
    """One row less than the extremes need is an error that says how many they need; a short history is whole."""
    least = needed(history)

    with pytest.raises(InvalidValue, match=f"at least {least} are needed"):
        sampled(history, least - 1)
    assert sampled(history, len(history["step"])) == history


def test_a_sample_shows_the_shape() -> None:
    """A spike in the middle of each of many parts is kept, though it is no extreme of the whole."""
    values = [float(row % 100 == 50) * (1 + row / 10_000) for row in range(10_000)]
    made = sampled({"step": list(range(10_000)), "loss": values}, 500)

    assert len(made["step"]) == 500
    assert sum(value > 0 for value in made["loss"]) == 100


def test_an_empty_history_is_whole() -> None:
    """Of no rows there is nothing to leave out."""
    assert sampled({"step": []}, 0) == {"step": []}
