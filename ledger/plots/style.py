"""How pictures look: colours that the colour-blind tell apart, legends outside the data, the same bytes each time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ledger.errors import InvalidValue, MissingExtra
from ledger.table import visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FORMATS", "GREY", "STROKES", "drawing", "legend_beside", "new_figure", "picture", "short"]

# Okabe and Ito's, without the yellow that nobody sees on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#767676"
STROKES = ("-", "--", ":", "-.")
FORMATS = ("png", "svg", "pdf")

_NAME_LENGTH_MAX = 36
_INCHES_MAX = 200.0  # at twice as many a PNG comes to its limit of 65,536 lines
# No dates and no versions: the same data are the same bytes.
_METADATA: Mapping[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in our style, whatever the process has set. Raises MissingExtra where matplotlib is missing."""
    try:
        import matplotlib as mpl
    except ImportError as exc:
        raise MissingExtra("plot") from exc
    with (
        mpl.rc_context(
            {
                "axes.grid": True,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.titlesize": "medium",
                "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
                "grid.alpha": 0.3,
                "legend.frameon": False,
                "legend.fontsize": "small",
                "savefig.dpi": 150,
                "svg.fonttype": "none",  # text stays text
                "svg.hashsalt": "ledger",  # ids are made of what is drawn
                "text.parse_math": False,  # a run may be called "$5$"
                "timezone": "UTC",
            }
        ),
        warnings.catch_warnings(),
    ):
        # A name in a script that the font lacks is boxes, and an axis of one value is given some room.
        warnings.simplefilter("ignore", UserWarning)
        # A tick that lies beyond the floats, and so beyond the axis, is not shown.
        warnings.filterwarnings("ignore", "overflow", RuntimeWarning)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches, as far as a picture can be so high, that no pyplot knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, min(height, _INCHES_MAX)), layout="constrained")


def legend_beside(axes: Axes, entries: Mapping[str, Artist]) -> None:
    """Put a legend to the right of the data."""
    if entries:
        axes.figure.legend(list(entries.values()), list(entries), loc="outside right upper")


def picture(figure: Figure, format: str = "png") -> bytes:
    """Return the figure as the bytes of a file; the same data are the same bytes."""
    if format not in FORMATS:
        raise InvalidValue("format", format, f"one of {', '.join(FORMATS)} is wanted")
    out = io.BytesIO()
    with drawing():
        figure.savefig(out, format=format, metadata=_METADATA[format])
    return out.getvalue()


def short(name: str) -> str:
    """Return a name for a legend: on one line, and not longer than it is useful."""
    text = visible(name)
    cut = text if len(text) <= _NAME_LENGTH_MAX else f"{text[: _NAME_LENGTH_MAX - 1]}…"
    return f"\u200b{cut}" if cut.startswith("_") else cut  # which matplotlib would take for a name to be hidden
