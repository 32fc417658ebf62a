"""A chain of custody as a picture: a bar for each run, from its launch to its end, and marks for what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ledger.errors import RunNotFound
from ledger.plots.style import drawing, legend_beside, new_figure, short

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ledger.asking import Asking
    from ledger.projections.timeline import Entry
    from ledger.store.statements import Row

__all__ = ["MARKS", "STATUS_COLOURS", "Bar", "Mark", "bars_of", "plot_chain", "span_of", "title_of"]

_EARLIEST, _LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)

STATUS_COLOURS = {
    "launched": "#767676",
    "running": "#56B4E9",
    "completed": "#009E73",
    "failed": "#E69F00",
    "crashed": "#D55E00",
}


@dataclass(frozen=True)
class Mark:
    """A kind of event: what it is called, its letter in the terminal and its shape in a picture."""

    name: str
    letter: str
    shape: str
    size: int = 64


MARKS = {
    "conversation_attached": Mark("conversation", "c", "o"),
    "crashed": Mark("crash", "X", "X"),
    "failed": Mark("failure", "F", "P"),
    "crash_data_attached": Mark("crash analysis", "a", "s", 160),
    "blog_attached": Mark("blog post", "b", "*", 150),
}


@dataclass(frozen=True)
class Bar:
    """One run: when it was launched, started and ended (None: it has not), and what was attached to it when."""

    run_id: str
    name: str
    status: str
    launched: datetime
    started: datetime | None
    ended: datetime
    marks: list[tuple[str, datetime]]

    def label(self) -> str:
        return short(self.name)


def bars_of(ledger: Asking, chain_of_custody_id: str) -> list[Bar]:
    """Return the runs of a chain in the order of their launches, voided ones too. Raises RunNotFound."""
    entries = ledger.timeline(chain_of_custody_id=chain_of_custody_id)
    asked = {"chain_of_custody_id": chain_of_custody_id}
    rows = ledger.query_runs(asked, "created_at, run_id", None, include_voided=True)
    if not rows:
        raise RunNotFound(chain_of_custody_id, chain=True)
    return [_bar(row, [entry for entry in entries if entry.run_id == row["run_id"]]) for row in rows]


def _bar(row: Row, entries: Sequence[Entry]) -> Bar:
    """One that has not ended is drawn up to the last that was heard of it."""
    starts = [entry.occurred_at for entry in entries if entry.type == "started"]
    heard = row["last_seen_at"] or max(starts, default=row["created_at"])
    begins = [row[name] for name in ("created_at", "started_at") if row[name]]
    name = row["run_name"] or row["run_id"]
    return Bar(
        row["run_id"],
        f"{name} (void)" if row["voided"] else name,
        row["status"],
        datetime.fromisoformat(min(begins)),
        datetime.fromisoformat(row["started_at"]) if row["started_at"] else None,
        datetime.fromisoformat(max(*begins, row["ended_at"] or heard)),
        [(entry.type, datetime.fromisoformat(entry.occurred_at)) for entry in entries if entry.type in MARKS],
    )


def plot_chain(ledger: Asking, chain_of_custody_id: str) -> Figure:
    """Return a figure of a chain of custody; times are in UTC."""
    bars = bars_of(ledger, chain_of_custody_id)
    with drawing():
        figure = new_figure(10, 1.6 + 0.42 * len(bars))
        axes = figure.subplots()
        entries = _statuses(axes, bars) | _marks(axes, bars)
        axes.set_title(title_of(chain_of_custody_id, bars), loc="left")
        axes.set_yticks(range(len(bars)), [bar.label() for bar in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        _time_axis(axes, bars)
        legend_beside(axes, entries)
    return figure


def title_of(chain_of_custody_id: str, bars: Sequence[Bar]) -> str:
    """Return the chain's id and the time that it took."""
    begin, end = (f"{moment:%Y-%m-%d %H:%M}" for moment in span_of(bars))
    return f"{short(chain_of_custody_id)}, {begin} to {end} UTC"


def span_of(bars: Sequence[Bar]) -> tuple[datetime, datetime]:
    """Return the first and the last moment that bars and marks show."""
    moments = [at for bar in bars for at in (bar.launched, bar.ended, *(at for _, at in bar.marks))]
    return min(moments), max(moments)


def _statuses(axes: Axes, bars: Sequence[Bar]) -> dict[str, Artist]:
    from matplotlib.patches import Patch

    waiting = STATUS_COLOURS["launched"]
    for row, bar in enumerate(bars):
        begun = bar.started or bar.ended
        axes.hlines(row, _number(bar.launched), _number(begun), color=waiting, linewidth=1.5)
        axes.vlines(_number(bar.launched), row - 0.25, row + 0.25, color=waiting, linewidth=1.5)
        if bar.started is not None:
            long = _number(bar.ended) - _number(bar.started)
            axes.barh(row, long, left=_number(bar.started), height=0.5, color=STATUS_COLOURS[bar.status])
    there = [status for status in STATUS_COLOURS if any(bar.status == status for bar in bars)]
    return {status: Patch(color=STATUS_COLOURS[status]) for status in there}


def _marks(axes: Axes, bars: Sequence[Bar]) -> dict[str, Artist]:
    """Black on white, so that they are seen on every colour; of two at one moment the smaller is above."""
    made: dict[str, Artist] = {}
    for type, mark in MARKS.items():
        places = [(_number(at), row) for row, bar in enumerate(bars) for kind, at in bar.marks if kind == type]
        if places:
            xs, ys = [x for x, _ in places], [y for _, y in places]
            made[mark.name] = axes.scatter(
                xs, ys, marker=mark.shape, s=mark.size, color="black", edgecolors="white", zorder=4 - mark.size / 1000
            )
    return made


def _time_axis(axes: Axes, bars: Sequence[Bar]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    begin, end = span_of(bars)
    room = max((end - begin) * 0.03, timedelta(seconds=30))
    # The calendar ends; all that is recorded lies before its last day.
    before, after = min(room, begin - _EARLIEST), min(room, _LATEST - end)
    axes.set_xlim(_number(begin - before), _number(end + after))
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.set_xlabel("time (UTC)")


def _number(moment: datetime) -> float:
    from matplotlib.dates import date2num

    return float(date2num(moment))
