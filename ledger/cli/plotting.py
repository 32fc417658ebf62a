"""The verb that draws: in the terminal, or into a file."""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.cli.asking import filters_of
from ledger.cli.delivering import deliver
from ledger.cli.output import in_colour, say, say_document, width
from ledger.cli.place import asked
from ledger.cli.words import AGAIN, Words, add_as_of, add_common, add_filters, text
from ledger.errors import AskedWrongly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ledger.asking import Asking

__all__ = ["plot", "words"]

ENDINGS = ("png", "svg", "pdf")
_WIDTH, _HEIGHT = 100, 20  # where nobody says how wide a terminal is


def plot(said: Namespace) -> int:
    """Draw metric curves of runs, two objectives with their Pareto front, or the timeline of a chain of custody.

    In the terminal, or with --output into a file: .png, .svg or .pdf. The same data give the same file.
    With --json: what would be drawn, or with --output too where it was written.
    """
    format = _format(said.output)
    with asked(said) as ledger:
        if format is None:
            _tell(said, *said.tell(ledger, said))
            return 0
        figure: Figure = said.draw(ledger, said)
    from ledger.plots.style import picture

    deliver(picture(figure, format), said.output)
    if said.as_json:
        say_document({"output": said.output})
    return 0


def words(words: Words) -> None:
    """Add what can be drawn, each with its own words."""
    kinds = words.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, (draw, tell, help, add) in _KINDS.items():
        made = kinds.add_parser(name, help=help, description=plot.__doc__, allow_abbrev=False)
        add_common(made, db=SUPPRESS, as_json=SUPPRESS)
        add(made)
        made.add_argument("--output", metavar="FILE", type=text, help="a .png, .svg or .pdf, in an older one's place")
        add_as_of(made)
        made.set_defaults(draw=draw, tell=tell)


def _format(output: str | None) -> str | None:
    if output is None:
        return None
    ending = Path(output).suffix.lower().removeprefix(".")
    if ending not in ENDINGS:
        raise AskedWrongly(f"--output {output}: a name that ends in .{', .'.join(ENDINGS)} is wanted.")
    return ending


def _tell(said: Namespace, drawn: Callable[[int], str], data: object) -> None:
    if said.as_json:
        say_document(data)
    else:
        say(drawn(width() or _WIDTH))


def _draw_history(ledger: Asking, said: Namespace) -> Figure:
    from ledger.plots.curves import plot_history

    return plot_history(ledger, said.runs, said.metrics, log=said.log, max_points=_max_points(said))


def _tell_history(ledger: Asking, said: Namespace) -> tuple[Callable[[int], str], object]:
    from ledger.plots.curves import curves_of
    from ledger.plots.terminal import curves_text

    panels = curves_of(ledger, said.runs, said.metrics, _max_points(said))
    data = {
        metric: {curve.run_id: {"step": curve.steps, metric: curve.values} for curve in curves}
        for metric, curves in panels.items()
    }
    return lambda wide: curves_text(panels, wide, _HEIGHT, log=said.log, colour=in_colour()), data


def _max_points(said: Namespace) -> int | None:
    return None if said.max_points == "all" else said.max_points


def _history(words: Words) -> None:
    words.add_argument("runs", metavar="RUN", nargs="+", type=text, help="run_id")
    words.add_argument("--metric", dest="metrics", metavar="NAME", action="append", required=True, type=text,
                       help=f"draw this metric; {AGAIN}")  # fmt: skip
    words.add_argument("--log", action="store_true", help="with a logarithmic axis")
    words.add_argument("--max-points", metavar="N", default="1000",
                       help="of a curve at most, its extremes among them, or 'all' (default: %(default)s)")  # fmt: skip


def _draw_objectives(ledger: Asking, said: Namespace) -> Figure:
    from ledger.plots.objectives import plot_objectives

    return plot_objectives(ledger, said.x, said.y, filters_of(said), said.limit)


def _tell_objectives(ledger: Asking, said: Namespace) -> tuple[Callable[[int], str], object]:
    from ledger.plots.objectives import scatter_of
    from ledger.plots.terminal import scatter_text

    scatter = scatter_of(ledger, said.x, said.y, filters_of(said), said.limit)
    runs = [
        {"run_id": run_id, said.x: x, said.y: y, "on_front": place in scatter.front}
        for place, (run_id, (x, y)) in enumerate(zip(scatter.runs, scatter.points, strict=True))
    ]
    directions = dict(zip(scatter.objectives, scatter.directions, strict=True))
    data = {"directions": directions, "runs": runs, "lacking": scatter.lacking}
    return lambda wide: scatter_text(scatter, wide, _HEIGHT, colour=in_colour()), data


def _objectives(words: Words) -> None:
    words.add_argument("x", metavar="A", type=text, help="an objective, with or without _maximize or _minimize")
    words.add_argument("y", metavar="B", type=text, help="another")
    add_filters(words)
    words.add_argument("--limit", help="of the newest runs so many at most (default: all)")


def _draw_chain(ledger: Asking, said: Namespace) -> Figure:
    from ledger.plots.chain import plot_chain

    return plot_chain(ledger, said.chain)


def _tell_chain(ledger: Asking, said: Namespace) -> tuple[Callable[[int], str], object]:
    from ledger.plots.chain import bars_of
    from ledger.plots.terminal import chain_text

    bars = bars_of(ledger, said.chain)
    data = [{**vars(bar), "marks": [{"type": type, "occurred_at": at} for type, at in bar.marks]} for bar in bars]
    return lambda wide: chain_text(said.chain, bars, wide), data


def _chain(words: Words) -> None:
    words.add_argument("chain", metavar="ID", type=text, help="the id of a chain of custody")


Draw = Callable[["Asking", Namespace], "Figure"]
Tell = Callable[["Asking", Namespace], tuple[Callable[[int], str], object]]

_KINDS: dict[str, tuple[Draw, Tell, str, Callable[[Words], None]]] = {
    "history": (_draw_history, _tell_history, "metric curves of one or several runs", _history),
    "objectives": (_draw_objectives, _tell_objectives, "two objectives over runs, with their front", _objectives),
    "chain": (_draw_chain, _tell_chain, "the runs of a chain of custody, from launch to end", _chain),
}
