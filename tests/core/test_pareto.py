"""The front has the points that no other beats, and no others."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidValue
from ledger.projections.pareto import DIRECTIONS, front

VALUES = st.integers(-3, 3) | st.sampled_from([0.5, -0.0, None, math.nan, math.inf, -math.inf, True])


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Draw points with few different values, so that many are equal in something."""
    directions = draw(st.lists(st.sampled_from(DIRECTIONS), min_size=1, max_size=5))
    return draw(st.lists(st.tuples(*[VALUES] * len(directions)), max_size=25)), directions


def naive(points: list[tuple[Any, ...]], directions: list[Any]) -> list[int]:
    """Return the front by its definition."""
    turned = [
        tuple(value if direction == "maximize" else -value for value, direction in zip(point, directions, strict=True))
        if all(type(value) in (int, float) and math.isfinite(value) for value in point)
        else None
        for point in points
    ]
    there = [point for point in turned if point is not None]
    return [
        place
        for place, point in enumerate(turned)
        if point is not None
        and not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in there)
    ]


@given(question=questions())
def test_the_front_is_what_no_point_beats(question: tuple[list[tuple[Any, ...]], list[Any]]) -> None:
    """For any points, any number of objectives and any directions it is the front of the definition."""
    assert front(*question) == naive(*question)


def test_equal_points_stay_together() -> None:
    """Two runs with the same values are both on the front, or neither is."""
    assert front([(1, 2), (1, 2), (0, 0), (2, 1)], ["maximize", "maximize"]) == [0, 1, 3]
    assert front([(1, 2), (1, 2), (0, 0), (0, 0)], ["minimize", "minimize"]) == [2, 3]


def test_more_objectives_than_three_are_compared_one_by_one() -> None:
    """A point that is beaten in four objectives is not on the front; one that is best in a single one is."""
    points = [(3, 3, 3, 3), (2, 3, 3, 3), (0, 0, 0, 4), (0, 0, 0, 4)]

    assert front(points, ["maximize"] * 4) == [0, 2, 3]


def test_no_points_have_no_front() -> None:
    """Neither nothing at all nor points that all lack a value."""
    assert front([], ["maximize"]) == []
    assert front([(None, 1), (math.nan, 2)], ["maximize", "minimize"]) == []


@pytest.mark.parametrize(
    ("points", "directions"), [([(1,)], []), ([(1,)], ["up"]), ([(1, 2)], ["maximize"]), ([()], ["maximize"])]
)
def test_what_cannot_be_meant_is_refused(points: list[tuple[Any, ...]], directions: list[Any]) -> None:
    """Each objective needs a direction, and each point a value for it."""
    with pytest.raises(InvalidValue, match="wanted"):
        front(points, directions)


@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("all_on_it", [True, False])
def test_many_runs_take_no_time(objectives: int, all_on_it: bool) -> None:
    """20,000 points are sorted out in a fraction of a second, also where all of them are on the front."""
    chance = random.Random(3)
    points: list[tuple[float, ...]] = []
    for _ in range(20_000):
        angle, height = chance.random() * math.pi / 2, chance.random()
        flat = math.sqrt(1 - height * height) if objectives == 3 else 1.0
        radius = 1.0 if all_on_it else chance.random()
        whole = (flat * math.cos(angle) * radius, flat * math.sin(angle) * radius, height * radius)
        points.append(whole[:objectives])
    start = time.perf_counter()
    found = front(points, ["maximize"] * objectives)

    assert time.perf_counter() - start < 5
    assert (len(found) > 19_000) == all_on_it
