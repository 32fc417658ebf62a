"""Two objectives of many runs against each other, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import InvalidValue
from ledger.plots.curves import LARGEST
from ledger.plots.style import COLOURS, GREY, drawing, legend_beside, new_figure, short
from ledger.projections.pareto import Direction, front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ledger.asking import Asking

__all__ = ["Scatter", "plot_objectives", "scatter_of"]

_NAMED_MAX = 12  # so many points have room for a name


@dataclass(frozen=True)
class Scatter:
    """Runs with finite values of both objectives, which of them are on the front, and how many runs lack one."""

    objectives: tuple[str, str]
    directions: tuple[Direction, Direction]
    runs: list[str]
    points: list[tuple[float, float]]
    front: list[int]
    lacking: int

    def labels(self) -> list[str]:
        """What stands at the axes."""
        pairs = zip(self.objectives, self.directions, strict=True)
        return [f"{short(name)} (raw mean, {direction})" for name, direction in pairs]

    def title(self) -> str:
        lacking = f"; {self.lacking} more lack one of the two" if self.lacking else ""
        return f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'}{lacking}"

    def stairs(self) -> list[tuple[float, float]]:
        """The different points of the front, from left to right."""
        return sorted({self.points[place] for place in self.front})


def scatter_of(
    ledger: Asking, x: str, y: str, filters: Mapping[str, object] | None = None, limit: int | None = None
) -> Scatter:
    """Return the values of two objectives over the runs that meet *filters*.

    Raises UnknownColumn for an objective that none of them has.
    """
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, str) or not value:
            raise InvalidValue(name, value, "an objective's name is wanted")
    reached = ledger.reached([x, y], filters, limit=limit)
    along, up = reached.directions
    shown = [run for run in reached.runs if max(map(abs, run.values)) < LARGEST]
    points = [(run.values[0], run.values[1]) for run in shown]
    lacking = ledger.count_runs(filters) - len(reached.runs) if limit is None else 0
    runs = [run.run_id for run in shown]
    return Scatter((x, y), (along, up), runs, points, front(points, (along, up)), lacking)


def plot_objectives(
    ledger: Asking, x: str, y: str, filters: Mapping[str, object] | None = None, limit: int | None = None
) -> Figure:
    """Return a figure of two objectives over runs; those that no other run beats are marked and joined."""
    scatter = scatter_of(ledger, x, y, filters, limit)
    with drawing():
        figure = new_figure(9, 5.5)
        _draw(figure.subplots(), scatter)
    return figure


def _draw(axes: Axes, scatter: Scatter) -> None:
    best = {place: scatter.points[place] for place in scatter.front}
    rest = [point for place, point in enumerate(scatter.points) if place not in best]
    entries = {}
    if rest:
        entries["other runs"] = axes.scatter(*_turned(rest), s=22, color=GREY, alpha=0.6, linewidths=0)
    if best:
        # Between two of its points nothing is reached: the front falls in steps.
        shape = "steps-pre" if scatter.directions[0] == "maximize" else "steps-post"
        axes.plot(*_turned(scatter.stairs()), drawstyle=shape, color=COLOURS[1], linewidth=1)
        entries["Pareto front"] = axes.scatter(
            *_turned(list(best.values())), s=46, color=COLOURS[1], marker="D", edgecolors="white", zorder=3
        )
    for place in best if len(best) <= _NAMED_MAX else ():
        name = short(scatter.runs[place])
        # On the side that no run has reached, away from the line.
        offset = (7, -10 if scatter.directions[1] == "minimize" else 5)
        axes.annotate(name, scatter.points[place], offset, textcoords="offset points", fontsize="x-small")
    across, up = scatter.labels()
    axes.set(xlabel=across, ylabel=up)
    axes.set_title(scatter.title(), loc="left", color=GREY, fontsize="small")
    axes.margins(0.08)
    legend_beside(axes, entries)


def _turned(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
