"""The Pareto front: of points with several objectives, those that no other point beats.

A point beats another if it is at least as good in every objective, and better in one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from operator import ge, mul, neg
from typing import Literal, TypeGuard, cast

from ledger.errors import InvalidValue
from ledger.projections.curves import is_number

__all__ = ["DIRECTIONS", "Direction", "front"]

Direction = Literal["maximize", "minimize"]
Point = tuple[float, ...]

DIRECTIONS = ("maximize", "minimize")


def front(points: Sequence[Sequence[float | None]], directions: Sequence[Direction]) -> list[int]:
    """Return which points are on the front, in their order; equal ones all are.

    A point that lacks a value, or has one that is not finite, is not. Up to three objectives take n log n; with more
    each point is compared with those of the front.
    """
    if not directions or any(direction not in DIRECTIONS for direction in directions):
        raise InvalidValue("directions", directions, "'maximize' or 'minimize' is wanted for each objective")
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    if any(len(point) != len(signs) for point in points):
        raise InvalidValue("points", f"{len(points)} points", f"{len(signs)} values are wanted of each")
    turned: Sequence[Point | None] = _turned_at_once(points, signs) or [_turned(point, signs) for point in points]
    best = _unbeaten({point for point in turned if point is not None})
    return [place for place, point in enumerate(turned) if point in best]


def _turned_at_once(points: Sequence[Sequence[float | None]], signs: Sequence[int]) -> list[Point]:
    """The same of all points, where every value is a finite float; else none."""
    columns = [cast("tuple[float, ...]", column) for column in zip(*points, strict=True)]
    if not columns or any(
        set(map(type, column)) != {float} or not all(map(math.isfinite, column)) for column in columns
    ):
        return []
    turned = (column if sign > 0 else map(neg, column) for column, sign in zip(columns, signs, strict=True))
    return list(zip(*turned, strict=True))


def _turned(point: Sequence[float | None], signs: Sequence[int]) -> Point | None:
    """The point with every objective to be maximized; None where it can be on no front."""
    if set(map(type, point)) == {float} and math.isfinite(sum(cast("Sequence[float]", point))):
        return tuple(map(mul, cast("Sequence[float]", point), signs))
    values = [value * sign for value, sign in zip(point, signs, strict=True) if _is_finite(value)]
    return tuple(values) if len(values) == len(signs) else None


def _is_finite(value: float | None) -> TypeGuard[float]:
    return is_number(value) and -math.inf < value < math.inf


def _unbeaten(points: Collection[Point]) -> set[Point]:
    """Those of different points that no other beats. In this order no point is beaten by one that comes later."""
    ordered = sorted(points, reverse=True)
    if not ordered:
        return set()
    return _by_stairs(ordered) if len(ordered[0]) <= 3 else _by_comparing(ordered)


def _by_stairs(ordered: Sequence[Point]) -> set[Point]:
    """The first objective only falls, so that the other two decide; the best in them so far are stairs that go down."""
    best: set[Point] = set()
    seconds: list[float] = []
    thirds: list[float] = []  # falls while `seconds` rises
    for point in ordered:
        _, second, third = (*point, 0.0, 0.0)[:3]
        place = bisect_left(seconds, second)
        if place < len(seconds) and thirds[place] >= third:
            continue
        best.add(point)
        after = place + (place < len(seconds) and seconds[place] == second)
        before = place
        while before and thirds[before - 1] <= third:
            before -= 1
        seconds[before:after], thirds[before:after] = [second], [third]
    return best


def _by_comparing(ordered: Sequence[Point]) -> set[Point]:
    best: list[Point] = []
    for point in ordered:
        if not any(all(map(ge, other, point)) for other in best):
            best.append(point)
    return set(best)
