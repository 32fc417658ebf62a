"""Metric curves of several runs: a panel for each metric, a colour for each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ledger.errors import InvalidValue, UnknownColumn
from ledger.plots.style import COLOURS, GREY, STROKES, drawing, legend_beside, new_figure, short
from ledger.projections.curves import STEP, Values, is_number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ledger.asking import Asking

__all__ = ["LARGEST", "MAX_POINTS", "Curve", "curves_of", "plot_history", "remark"]

MAX_POINTS = 1000
LARGEST = 1e300  # beyond it the differences that axes are made of are not finite
_NO_ROOM = 1e250  # above it the room beside the data, a part of all decades, may lie beyond the floats
_FEW = 50  # so many points are shown one by one


@dataclass(frozen=True)
class Curve:
    """What a run logged of a metric, by step, or row by row where it said no steps."""

    run_id: str
    steps: list[float]
    values: list[float]

    def drawn(self, *, log: bool) -> list[float]:
        """The values, with NaN for what has no place on the axis: a gap."""
        return [value if abs(value) < LARGEST and (value > 0 or not log) else math.nan for value in self.values]

    def lost(self) -> list[float]:
        """The steps at which the value was not finite."""
        return [step for step, value in zip(self.steps, self.values, strict=True) if not abs(value) < LARGEST]


def curves_of(
    ledger: Asking, runs: Sequence[str], metrics: Sequence[str], max_points: int | None = MAX_POINTS
) -> dict[str, list[Curve]]:
    """Return the curves of each metric, one a run; that of a run which never logged it is empty.

    Raises RunNotFound, and UnknownColumn for a metric that none of the runs logged.
    """
    for name, listed in (("runs", runs), ("metrics", metrics)):
        if isinstance(listed, str) or not listed:
            raise InvalidValue(name, listed, "a list of one or more is wanted")
    return {
        metric: _of_metric(ledger, list(dict.fromkeys(runs)), metric, max_points) for metric in dict.fromkeys(metrics)
    }


def _of_metric(ledger: Asking, runs: Sequence[str], metric: str, max_points: int | None) -> list[Curve]:
    made: list[Curve] = []
    unknown: UnknownColumn | None = None
    for run_id in runs:
        try:
            columns = ledger.get_history(run_id, metric, max_points)
            made.append(_curve(run_id, columns[STEP], columns[metric]))
        except UnknownColumn as exc:
            unknown = exc
            made.append(Curve(run_id, [], []))
    if unknown is not None and not any(curve.values for curve in made):
        raise unknown
    return made


def _curve(run_id: str, steps: Values, values: Values) -> Curve:
    said = any(map(is_number, steps))
    placed = [_step(step) for step in steps] if said else [float(row) for row in range(len(values))]
    points = [
        (step, _drawable(value))
        for step, value in zip(placed, values, strict=True)
        if is_number(value) and math.isfinite(step)
    ]
    return Curve(run_id, [step for step, _ in points], [value for _, value in points])


def _step(step: JsonValue) -> float:
    """The step as a float; NaN for what has no place on the axis."""
    placed = _drawable(step) if is_number(step) else math.nan
    return placed if abs(placed) < LARGEST else math.nan


def _drawable(value: float) -> float:
    """The value as a float; what no axis has room for is infinite."""
    if isinstance(value, float) or abs(value) < LARGEST:
        return float(value)
    return math.inf if value > 0 else -math.inf


def remark(curves: Sequence[Curve], *, log: bool) -> str:
    """Say which runs have no curve here, and why, and what an x is; "" where there is neither."""
    reasons: dict[str, list[str]] = {}
    for curve in curves:
        if not any(map(math.isfinite, curve.drawn(log=log))):
            finite = len(curve.lost()) < len(curve.values)
            why = "nothing above 0" if finite else "nothing finite" if curve.values else "not logged"
            reasons.setdefault(why, []).append(short(curve.run_id))
    said = [f"{why}: {', '.join(runs) if len(runs) < 4 else f'{len(runs)} runs'}" for why, runs in reasons.items()]
    if any(curve.lost() for curve in curves):
        said.append("x: not finite")
    return "; ".join(said)


def plot_history(
    ledger: Asking,
    runs: Sequence[str],
    metrics: Sequence[str],
    *,
    log: bool = False,
    max_points: int | None = MAX_POINTS,
) -> Figure:
    """Return a figure of these metrics of these runs; *ledger* may be a view of the past.

    With *log* the values' axis is logarithmic. A value that is not finite is a gap, and an x at the bottom.
    """
    panels = curves_of(ledger, runs, metrics, max_points)
    with drawing():
        figure = new_figure(9, 1 + 3.2 * len(panels))
        all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for axes, (metric, curves) in zip(all_axes, panels.items(), strict=True):
            lines = _panel(axes, curves, log=log)
            axes.set_ylabel(short(metric))
            axes.set_title(remark(curves, log=log), loc="left", color=GREY, fontsize="small")
            if axes is all_axes[0]:
                legend_beside(axes, lines)
        all_axes[-1].set_xlabel("step")
    return figure


def _panel(axes: Axes, curves: Sequence[Curve], *, log: bool) -> dict[str, Artist]:
    largest = max((value for curve in curves for value in curve.drawn(log=True) if value > 0), default=None)
    if log and largest is not None:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        if largest > _NO_ROOM:
            axes.margins(y=0)
    made: dict[str, Artist] = {}
    for number, curve in enumerate(curves):
        colour, values = COLOURS[number % len(COLOURS)], curve.drawn(log=log)
        stroke = STROKES[number // len(COLOURS) % len(STROKES)]
        marker = "." if len(values) <= _FEW else ""
        (line,) = axes.plot(curve.steps, values, stroke, color=colour, marker=marker, linewidth=1.3)
        made[short(curve.run_id)] = line
        lonely = [place for place in range(len(values)) if _stands_alone(values, place)]
        axes.plot([curve.steps[place] for place in lonely], [values[place] for place in lonely], ".", color=colour)
        lost = curve.lost()
        axes.plot(lost, [0.02] * len(lost), "x", color=colour, transform=axes.get_xaxis_transform(), markersize=5)
    return made


def _stands_alone(values: Sequence[float], place: int) -> bool:
    """Whether no line leads to or from a value."""
    beside = [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]
    return math.isfinite(values[place]) and not any(map(math.isfinite, beside))
