"""Pictures show what they should, are the same bytes each time, and whatever a run logged makes none of them fail."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.image import imread

from ledger import Ledger
from ledger.errors import InvalidValue, MissingExtra, RunNotFound, UnknownColumn
from ledger.plots.chain import bars_of, plot_chain
from ledger.plots.curves import curves_of, plot_history
from ledger.plots.objectives import plot_objectives, scatter_of
from ledger.plots.style import picture
from ledger.plots.terminal import chain_text, curves_text, scatter_text
from tests.builders import launched, metrics_logged, moment
from tests.places import on_both

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAN, INF = math.nan, math.inf

Draw = Callable[[Ledger], "Figure"]

DRAWN: dict[str, Draw] = {
    "history": lambda book: plot_history(book, ["run-a", "run-b"], ["train/loss"]),
    "objectives": lambda book: plot_objectives(book, "COMT_activity", "toxicity"),
    "chain": lambda book: plot_chain(book, "ABC123"),
}
LABELS = {
    "history": ["run-a", "run-b", "train/loss", "step"],
    "objectives": [
        "COMT_activity (raw mean, maximize)",
        "toxicity (raw mean, minimize)",
        "Pareto front",
        "other runs",
        "run-a",
        "2 runs; 2 more lack one of the two",
    ],
    "chain": ["time (UTC)", "first", "run-b", "completed", "crashed", "conversation", "blog post", "crash analysis"],
}


def ended(book: Ledger, run: str, comt: float, toxicity: float, seconds: float) -> None:
    metrics = {"objectives/COMT_activity_maximize/raw_mean": comt, "objectives/toxicity/raw_mean": toxicity}
    book.update_run_status(run, "completed", final_metrics_json=metrics, at=moment(seconds))


@pytest.fixture
def full(book: Ledger) -> Ledger:
    """Give a ledger of a chain with three runs, one of which crashed, and of a fourth outside it."""
    config = {"objectives": [{"name": "toxicity", "direction": "minimize"}]}
    for number, run in enumerate(("run-a", "run-b", "run-c", "run-d")):
        name, chain = ("first", "ABC123") if run == "run-a" else (None, None if run == "run-d" else "ABC123")
        book.insert_run(run, None, config, chain, run_name=name, at=moment(3600 * number))
        book.update_run_status(run, "running", at=moment(3600 * number + 600))
        values = [1 / (step + number + 1) for step in range(200)]
        book.append(
            metrics_logged(3600 * number + 700, run=run, columns={"step": list(range(200)), "train/loss": values})
        )
    book.attach_conversation("run-a", "c.json", at=moment(5))
    ended(book, "run-a", 0.9, 0.1, 9000)
    ended(book, "run-d", 0.5, 0.5, 19000)
    book.update_run_status("run-b", "crashed", at=moment(9500))
    book.attach_crash_data("run-b", error_log_s3_key="e", at=moment(9700))
    book.attach_blog_post("run-a", "https://example.org", at=moment(30000))
    return book


@on_both
@pytest.mark.parametrize("kind", DRAWN)
def test_a_picture_is_not_blank(full: Ledger, kind: str) -> None:
    """A PNG has the figure's size, more white than anything else, and several colours beside it."""
    figure = DRAWN[kind](full)
    pixels = imread(BytesIO(picture(figure)))
    wide, high = figure.get_size_inches() * 150
    colours = {tuple(pixel) for row in (pixels[::5, ::5] * 255).astype(int) for pixel in row}

    assert pixels.shape[:2] == (int(high), int(wide))
    assert 0.5 < (pixels[:, :, :3] == 1.0).all(axis=2).mean() < 0.99
    assert len(colours) > 4


@on_both
@pytest.mark.parametrize("kind", DRAWN)
def test_an_svg_has_its_labels_as_text(full: Ledger, kind: str) -> None:
    """Every label can be searched for and read out, and there is no date in it."""
    text = picture(DRAWN[kind](full), "svg").decode()

    assert [label for label in LABELS[kind] if f">{label}<" not in text] == []
    assert "<dc:date>" not in text


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
@pytest.mark.parametrize("kind", DRAWN)
def test_the_same_data_are_the_same_bytes(full: Ledger, kind: str, format: str) -> None:
    """A picture is drawn anew with other settings in the process, and not a byte differs."""
    first = picture(DRAWN[kind](full), format)
    with mpl.rc_context({"svg.hashsalt": "other", "svg.fonttype": "path", "axes.grid": False, "text.parse_math": True}):
        again = picture(DRAWN[kind](full), format)

    assert first == again


def test_nothing_of_the_process_is_touched(full: Ledger) -> None:
    """No pyplot is loaded by drawing, in a process that had loaded none, and the settings are what they were."""
    before = dict(mpl.rcParams)
    picture(DRAWN["history"](full))
    code = (
        "import sys; from ledger import Ledger; from ledger.plots.curves import plot_history\n"
        "from ledger.plots.style import picture\n"
        "picture(plot_history(Ledger(sys.argv[1]), ['run-a'], ['train/loss']))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code, full.url], capture_output=True, text=True, check=True)

    assert dict(mpl.rcParams) == before
    assert made.stdout == "False\n"


def test_twelve_runs_can_be_told_apart(book: Ledger) -> None:
    """No two curves have the same colour and stroke, and all are in the legend, beside the data."""
    runs = [f"r{number}" for number in range(12)]
    book.append([metrics_logged(1, run=run, columns={"step": [1, 2], "loss": [n, n]}) for n, run in enumerate(runs)])
    figure = plot_history(book, runs, ["loss"])
    picture(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines if len(line.get_xdata()) == 2}

    assert len(looks) == 12
    assert [text.get_text() for text in legend.get_texts()] == runs
    assert legend.get_window_extent().x0 > axes.get_window_extent().x1


def test_what_is_not_finite_is_a_gap(book: Ledger) -> None:
    """A NaN breaks the curve, and its step bears a mark; a row without a value does not break it."""
    book.append(metrics_logged(1, columns={"step": [1, 2, 3, 4], "loss": [1, NAN, None, 4]}))
    (curve,) = curves_of(book, ["r"], ["loss"])["loss"]

    assert (curve.steps, curve.lost()) == ([1, 2, 4], [2])
    assert [math.isnan(value) for value in curve.drawn(log=False)] == [False, True, False]
    assert "x: not finite" in picture(plot_history(book, ["r"], ["loss"]), "svg").decode()


def test_who_has_no_curve_is_said(book: Ledger) -> None:
    """A run that did not log a metric, or nothing that has a place on the axis, is named above the panel."""
    book.append([launched(run="none"), metrics_logged(1, run="low", columns={"step": [1], "loss": [-1], "x": [1]})])
    book.append(
        [metrics_logged(1, columns={"step": [1], "loss": [1]}), metrics_logged(1, run="nan", columns={"loss": [NAN]})]
    )
    runs = ["r", "none", "low", "nan"]
    text = curves_text(curves_of(book, runs, ["loss"]), 80, 8, log=True)

    assert "not logged: none; nothing above 0: low; nothing finite: nan; x: not finite" in text
    assert "  a  r" in text
    assert "not logged: r, none, nan" in picture(plot_history(book, runs, ["x"]), "svg").decode()


def test_a_long_chain_is_a_picture(book: Ledger) -> None:
    """A chain of more runs than a picture has room for makes one all the same, as high as pictures are."""
    book.append([launched(number, run=f"r{number}", chain_of_custody_id="C") for number in range(500)])
    figure = plot_chain(book, "C")

    assert figure.get_size_inches()[1] == 200
    assert picture(figure, "svg").count(b">r") == 500


def test_a_crash_is_seen_with_its_analysis(book: Ledger) -> None:
    """Where both are at one moment the crash is above, and the analysis larger."""
    book.insert_run("r", None, None, "C", at=moment())
    book.update_run_status("r", "crashed", at=moment(60))
    book.attach_crash_data("r", error_log_s3_key="e", at=moment(60))
    figure = plot_chain(book, "C")
    crash, analysis = [made for made in figure.axes[0].collections if isinstance(made, PathCollection)]

    assert crash.get_zorder() > analysis.get_zorder()
    assert crash.get_sizes()[0] < analysis.get_sizes()[0]


@pytest.mark.parametrize(("launch", "end"), [
    ("0001-01-01T00:00:00Z", "2024-05-01T12:00:00Z"),
    ("2024-05-01T12:00:00Z", "9999-12-30T23:59:59.999999Z"),
    ("0001-01-01T00:00:00Z", "9999-12-30T23:59:59.999999Z"),
    ("9999-12-30T23:59:59.999999Z", "9999-12-30T23:59:59.999999Z"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
])  # fmt: skip
def test_a_chain_at_the_end_of_the_calendar_is_a_picture(book: Ledger, launch: str, end: str) -> None:
    """The axis has no room where there are no days, and the first and last moments are drawn."""
    book.insert_run("r", None, None, "C", at=launch)
    book.update_run_status("r", "running", at=launch)
    book.update_run_status("r", "completed", at=end)

    assert picture(plot_chain(book, "C")).startswith(b"\x89PNG")
    assert "completed" in chain_text("C", bars_of(book, "C"), 80)


def test_what_lies_beyond_the_axes_is_left_out(book: Ledger) -> None:
    """Steps and values that are finite, and too large for an axis, do not keep the others from being drawn."""
    columns = {"step": [-1e308, 1e308, 1, 2], "loss": [1, 2, 3, 4], "wide": [1, 2, 9.9e299, 5e-324]}
    book.append(metrics_logged(1, columns=columns))
    (curve,) = curves_of(book, ["r"], ["loss"])["loss"]

    assert (curve.steps, curve.values) == ([1, 2], [3, 4])
    assert "1e+312" in curves_text(curves_of(book, ["r"], ["wide"]), 80, 8, log=True)
    assert picture(plot_history(book, ["r"], ["wide"], log=True)).startswith(b"\x89PNG")


def test_names_are_what_they_are(book: Ledger) -> None:
    """A name is no formula, hides nothing, stays on one line, and is cut where it is too long."""
    names = ["$x_1$", "_hidden", "line\nbreak", "x" * 300, "実験", "&<>"]
    book.append([metrics_logged(1, run=name, columns={"step": [1], "loss": [1]}) for name in names])
    text = picture(plot_history(book, names, ["loss"]), "svg").decode()

    for shown in ("$x_1$", "_hidden", "line\\nbreak", "x" * 35 + "…", "実験", "&amp;&lt;&gt;"):
        assert f"{shown}<" in text


def test_steps_that_were_not_said_are_rows(book: Ledger) -> None:
    """Without steps a curve goes by the number of its row."""
    book.append(metrics_logged(1, columns={"loss": [5, 6, 7]}))

    assert curves_of(book, ["r"], ["loss"])["loss"][0].steps == [0, 1, 2]


def test_what_cannot_be_drawn_is_refused(book: Ledger) -> None:
    """Unknown runs, metrics, objectives and chains are errors; so are lists without anything in them."""
    book.append(metrics_logged(1, columns={"step": [1], "loss": [5]}))
    for wrong, error in (
        (lambda: plot_history(book, ["s"], ["loss"]), RunNotFound),
        (lambda: plot_history(book, ["r"], ["los"]), UnknownColumn),
        (lambda: plot_history(book, [], ["loss"]), InvalidValue),
        (lambda: plot_history(book, ["r"], "loss"), InvalidValue),
        (lambda: plot_history(book, ["r"], ["loss"], max_points=0), InvalidValue),
        (lambda: plot_objectives(book, "a", "b"), UnknownColumn),
        (lambda: plot_objectives(book, "a", ""), InvalidValue),
        (lambda: plot_chain(book, "ABC123"), RunNotFound),
        (lambda: picture(plot_history(book, ["r"], ["loss"]), "gif"), InvalidValue),
    ):
        with pytest.raises(error):
            wrong()


@pytest.mark.parametrize("module", ["matplotlib", "plotille"])
def test_a_missing_extra_is_named(full: Ledger, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the libraries the error has the line that installs them."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(MissingExtra, match=r"\[plot\]"):
        if module == "matplotlib":
            plot_history(full, ["run-a"], ["train/loss"])
        else:
            curves_text(curves_of(full, ["run-a"], ["train/loss"]), 80, 10)


@on_both
def test_a_scatter_has_the_front(full: Ledger) -> None:
    """Directions come from the config and the names, and only runs with both values are points."""
    scatter = scatter_of(full, "COMT_activity_maximize", "toxicity")

    assert scatter.directions == ("maximize", "minimize")
    assert dict(zip(scatter.runs, scatter.points, strict=True)) == {"run-d": (0.5, 0.5), "run-a": (0.9, 0.1)}
    assert [scatter.runs[place] for place in scatter.front] == ["run-a"]
    assert "  a  run-a  (0.9, 0.1)" in scatter_text(scatter, 80, 10)


def test_no_runs_are_an_empty_picture(book: Ledger) -> None:
    """Where nothing meets the filters the axes are empty, and the title says so."""
    assert "0 runs" in picture(plot_objectives(book, "a", "b"), "svg").decode()
    assert scatter_text(scatter_of(book, "a", "b"), 80, 10) == "0 runs: nothing to draw"


def test_what_is_not_finite_is_on_no_front(book: Ledger) -> None:
    """NaN and infinity are null in the projected metrics, and their run lacks the objective."""
    for run, value in (("r", NAN), ("s", INF), ("t", 1.0)):
        book.insert_run(run, None, None)
        ended(book, run, value, 1.0, 10)
    scatter = scatter_of(book, "COMT_activity", "toxicity")

    assert (scatter.runs, scatter.lacking) == (["t"], 2)


@on_both
def test_a_chain_in_the_terminal(full: Ledger) -> None:
    """Each run is a line: where it was launched, how long it ran, and what happened to it."""
    full.void("run-c", reason="bogus")
    lines = chain_text("ABC123", bars_of(full, "ABC123"), 72).splitlines()
    rows = [line for line in lines if line.endswith(("completed", "crashed", "running"))]

    assert lines[0] == "ABC123, 2024-05-01 12:00 to 2024-05-01 20:20 UTC"
    assert [row.split("  ")[0] for row in rows] == ["first", "run-b", "run-c (void)"]
    assert ["c" in rows[0][13:], "b" in rows[0][13:50], "X" in rows[1], "a" in rows[1][13:50]] == [True] * 4
    assert [line.strip() for line in lines[-4:]] == ["c  conversation", "X  crash", "a  crash analysis", "b  blog post"]


def test_the_past_can_be_drawn(full: Ledger) -> None:
    """A view of what had happened by then gives the picture of then."""
    with full.as_of(moment(3700)) as view:
        assert [bar.status for bar in bars_of(view, "ABC123")] == ["running", "launched"]
        assert len(curves_of(view, ["run-a"], ["train/loss"])["train/loss"][0].values) == 200


NUMBERS = count()
VALUES = (
    st.sampled_from([0, 1, -1, 1e308, -1e308, 9.9e299, -9.9e299, 5e-324, 10**400, NAN, INF, -INF, None, "text", True])
    | st.floats()
)
STEPS = st.none() | st.sampled_from([0, 1, 2, 10**30, 10**400, 1e308, -1e308, "a", NAN])


@pytest.fixture(scope="module")
def memory() -> Iterator[Ledger]:
    with Ledger(":memory:") as book:
        yield book


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(STEPS, VALUES), min_size=1, max_size=6), log=st.booleans())
def test_whatever_was_logged_is_drawn(memory: Ledger, rows: list[tuple[Any, Any]], log: bool) -> None:
    """Any steps and any values make a picture and a text, never an error of the libraries below."""
    run = f"r{next(NUMBERS)}"
    memory.append(metrics_logged(1, run=run, columns={"step": [s for s, _ in rows], "m": [v for _, v in rows]}))

    assert picture(plot_history(memory, [run], ["m"], log=log)).startswith(b"\x89PNG")
    assert curves_text(curves_of(memory, [run], ["m"]), 60, 6, log=log).startswith("m\n")
