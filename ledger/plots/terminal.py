"""The same pictures as text, for a terminal or a log: letters tell curves apart where there is no colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from string import ascii_lowercase
from typing import TYPE_CHECKING

from ledger.errors import MissingExtra
from ledger.plots.chain import MARKS, Bar, span_of, title_of
from ledger.plots.curves import Curve, remark
from ledger.plots.objectives import Scatter
from ledger.plots.style import short
from ledger.table import NARROWEST, table

if TYPE_CHECKING:
    from plotille import Figure

__all__ = ["chain_text", "curves_text", "scatter_text"]

Point = tuple[float, float]

_COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan", "white")
_LETTERS_A_CURVE = 6
_NAME_WIDTH = 26
_STATUS_WIDTH = 11
_TICK_WIDTH = 9
_SMALLEST = 1e-290  # of a range that can be divided
_POWER_MAX = 307  # whose power of ten is a float
_BESIDE = 16  # what the ticks of the values' axis take


def curves_text(
    panels: Mapping[str, Sequence[Curve]], width: int, height: int, *, log: bool = False, colour: bool = False
) -> str:
    """Return the curves of each metric, one below the other, with a legend."""
    return "\n\n".join(_panel(metric, curves, width, height, log, colour) for metric, curves in panels.items())


def _panel(metric: str, curves: Sequence[Curve], width: int, height: int, log: bool, colour: bool) -> str:  # noqa: FBT001, PLR0917 -- called in one place
    drawn = {
        number: segments
        for number, curve in enumerate(curves)
        if (segments := list(_segments(curve.steps, [_turned(v, log=log) for v in curve.drawn(log=log)])))
    }
    said = [short(metric), *filter(None, [remark(curves, log=log)])]
    if not drawn:
        return "\n".join([*said, "nothing to draw"])
    points = [point for segments in drawn.values() for segment in segments for point in segment]
    figure = _figure(points, width, height, _power if log else _plain, colour=colour)
    figure.x_label, figure.y_label = "step", "value"
    for number, segments in drawn.items():
        paint = _COLOURS[number % len(_COLOURS)]
        for segment in segments:
            figure.plot(*_apart(segment), lc=paint)
        figure.scatter(*_apart(_some(segments, number)), lc=paint, marker=_letter(number))
    legend = [f"  {_letter(number)}  {short(curves[number].run_id)}" for number in drawn]
    return "\n".join([*said, _shown(figure), *legend])


def scatter_text(scatter: Scatter, width: int, height: int, *, colour: bool = False) -> str:
    """Return the runs as points, those of the front as letters, which the legend names."""
    if not scatter.points:
        return f"{scatter.title()}: nothing to draw"
    figure = _figure(scatter.points, width, height, _plain, colour=colour)
    figure.x_label, figure.y_label = scatter.objectives
    rest = [point for place, point in enumerate(scatter.points) if place not in scatter.front]
    figure.scatter(*_apart(rest), marker="o")
    for number, place in enumerate(scatter.front):
        figure.scatter(*_apart([scatter.points[place]]), lc="red", marker=_letter(number))
    labels = [f"  {axis}: {label}" for axis, label in zip("xy", scatter.labels(), strict=True)]
    legend = [
        f"  {_letter(number)}  {short(scatter.runs[place])}  ({', '.join(map(_plain, scatter.points[place]))})"
        for number, place in enumerate(scatter.front)
    ]
    return "\n".join([scatter.title(), *labels, _shown(figure), "Pareto front:", *legend])


def chain_text(chain_of_custody_id: str, bars: Sequence[Bar], width: int) -> str:
    """Return a line for each run: dots from its launch, = while it ran, and letters for what happened to it."""
    begin, end = span_of(bars)
    room = max(width - _NAME_WIDTH - _STATUS_WIDTH, NARROWEST)

    def place(moment: datetime) -> int:
        whole = (end - begin).total_seconds()
        return round((moment - begin).total_seconds() / whole * (room - 1)) if whole else 0

    rows = [{"run": bar.label(), "time": _line(bar, place, room), "status": bar.status} for bar in bars]
    there = [mark for type, mark in MARKS.items() if any(kind == type for bar in bars for kind, _ in bar.marks)]
    signs = {"|": "launch", ".": "not started yet", "=": "from start to end", **{m.letter: m.name for m in there}}
    legend = [f"  {sign}  {name}" for sign, name in signs.items()]
    lines = table(rows, ["run", "time", "status"], width=width, gives_way="run")
    return "\n".join([title_of(chain_of_custody_id, bars), "", lines, "", *legend])


def _line(bar: Bar, place: Callable[[datetime], int], room: int) -> str:
    cells = [" "] * room
    first, begun, last = place(bar.launched), place(bar.started or bar.ended), place(bar.ended)
    cells[first : begun + 1] = "." * (begun + 1 - first)
    if bar.started is not None:
        cells[begun : last + 1] = "=" * (last + 1 - begun)
    cells[first] = "|"
    for type, at in bar.marks:
        # One that falls on another stands beside it.
        free = [cell for cell in range(place(at), room) if not cells[cell].isalpha()]
        cells[free[0] if free else place(at)] = MARKS[type].letter
    return "".join(cells)


def _figure(points: Sequence[Point], width: int, height: int, tick: Callable[[float], str], *, colour: bool) -> Figure:
    try:
        import plotille
    except ImportError as exc:
        raise MissingExtra("plot") from exc
    figure = plotille.Figure()
    figure.width, figure.height, figure.origin = max(width - _BESIDE, 20), max(height, 5), False
    figure.with_colors = colour
    figure.color_mode = "names"
    figure.register_label_formatter(float, lambda value, chars, **_: _plain(value).rjust(chars))
    figure.y_ticks_fkt = lambda value, _: tick(value)
    figure.set_x_limits(*_limits([x for x, _ in points]))
    figure.set_y_limits(*_limits([y for _, y in points]))
    return figure


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of an axis, with some room: what lies on its edge would not be drawn."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.02 if low < high else (abs(low) or 1.0) * 0.5, _SMALLEST)
    return low - room, high + room


def _shown(figure: Figure) -> str:
    return "\n".join(line.rstrip(" \u2800") for line in str(figure.show()).splitlines())


def _segments(steps: Sequence[float], values: Sequence[float]) -> Iterator[list[Point]]:
    """The parts of a curve between its gaps."""
    part: list[Point] = []
    for step, value in zip(steps, values, strict=True):
        if math.isfinite(value):
            part.append((step, value))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _some(segments: Sequence[Sequence[Point]], number: int) -> list[Point]:
    """The points that bear a curve's letter, shifted from curve to curve so that letters do not cover each other."""
    points = [point for segment in segments for point in segment]
    apart = max(len(points) // _LETTERS_A_CURVE, 1)
    return list(points[min(number * apart // 7, len(points) - 1) :: apart])


def _apart(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _letter(number: int) -> str:
    return ascii_lowercase[number % len(ascii_lowercase)]


def _turned(value: float, *, log: bool) -> float:
    return math.log10(value) if log and math.isfinite(value) else value


def _power(value: float) -> str:
    """The value whose logarithm is given; the room beside the data may lie beyond the floats."""
    return _plain(10**value) if abs(value) < _POWER_MAX else f"1e{round(value):+}"


def _plain(value: float) -> str:
    text = f"{value:.4g}"
    return text if len(text) <= _TICK_WIDTH else f"{value:.2g}"
