"""How much of a metric's spread goes with each hyperparameter, and what its values come to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import mul

from ledger.analytics.groups import Row
from ledger.analytics.levels import Level, levelled
from ledger.analytics.numbers import finite, quantile

__all__ = ["effects"]


def effects(
    parameters: Mapping[str, Sequence[object]], metric: Sequence[float | None], bins: int, *, constant_too: bool
) -> list[Row]:
    """Return the rows of effects: the values of each parameter stand beside the metric's, None is left out there."""
    known = {run: value for run, value in enumerate(metric) if value is not None}
    ascending = sorted(known, key=known.__getitem__)
    measured = _Measured([known[run] for run in ascending], ascending)
    made = []
    for name, values in parameters.items():
        levels, places = levelled(values, bins)
        if len(levels) > 1 or constant_too:
            made.append((name, _effect(levels, places, measured)))
    made.sort(key=lambda effect: (-_known(effect[1]), effect[0]))
    return [{"parameter": name, **row} for name, rows in made for row in rows]


def _known(rows: Sequence[Row]) -> float:
    said = rows[0]["epsilon_squared"] if rows else None
    return said if isinstance(said, float) else -math.inf


class _Measured:
    """A metric's values in ascending order, and which run each is of.

    Its deviations are of the order of 1: squares of what is huge or tiny would not fit into a float.
    """

    def __init__(self, values: list[float], runs: list[int]) -> None:
        self.values, self.runs = values, runs
        self.scale = max(map(abs, values), default=0.0) or 1.0
        scaled = [value / self.scale for value in values]
        centre = math.fsum(scaled) / len(scaled) if scaled else 0.0
        self.centre, self.deviations = centre, [value - centre for value in scaled]
        self.total = _squares(self.deviations)


def _squares(values: Sequence[float]) -> float:
    return math.fsum(map(mul, values, values))


def _effect(levels: Sequence[Level], places: Sequence[int], measured: _Measured) -> list[Row]:
    members: list[list[int]] = [[] for _ in levels]
    for at, run in enumerate(measured.runs):
        members[places[run]].append(at)
    runs = Counter(places)
    summaries = [_summary(of_level, measured) for of_level in members]
    eta, epsilon = _explained(
        [(len(of_level), mean) for of_level, (mean, _) in zip(members, summaries, strict=True)], measured
    )
    return [
        {
            "eta_squared": eta,
            "epsilon_squared": epsilon,
            **level.row(),
            **row,
            "left_out": runs[place] - len(members[place]),
        }
        for place, (level, (_, row)) in enumerate(zip(levels, summaries, strict=True))
    ]


def _summary(members: Sequence[int], measured: _Measured) -> tuple[float, Row]:
    """The mean deviation of a level's runs, and what their values come to."""
    if not members:
        return 0.0, {"count": 0, "mean": None, "std": None, "median": None}
    deviations = [measured.deviations[at] for at in members]
    mean = math.fsum(deviations) / len(members)
    spread = None
    if len(members) > 1:
        variance = _squares([deviation - mean for deviation in deviations]) / (len(members) - 1)
        spread = finite(math.sqrt(variance) * measured.scale)
    values = [measured.values[at] for at in members]
    centre = max(-1.0, min(1.0, measured.centre + mean)) * measured.scale
    return mean, {"count": len(members), "mean": centre, "std": spread, "median": quantile(values, 0.5)}


def _explained(means: Sequence[tuple[int, float]], measured: _Measured) -> tuple[float | None, float | None]:
    """The share of the spread that lies between the levels, and the same less what chance alone would give."""
    filled = [(count, mean) for count, mean in means if count]
    if len(filled) < 2 or measured.total == 0:
        return None, None
    eta = min(math.fsum(count * mean * mean for count, mean in filled) / measured.total, 1.0)
    spare = len(measured.values) - len(filled)
    return eta, eta - (len(filled) - 1) * (1 - eta) / spare if spare else None
