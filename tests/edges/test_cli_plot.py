"""`ledger plot`: text in the terminal, a picture with --output, data with --json."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.plots.chain import plot_chain
from ledger.plots.curves import plot_history
from ledger.plots.style import picture
from tests.builders import metrics_logged, moment
from tests.places import on_both

pytestmark = on_both

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(book: Ledger, place: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a ledger of two runs of a chain, with curves and objectives."""
    for number, run in enumerate(("r1", "r2")):
        book.insert_run(run, None, {"reward": {"gradient_method": "mgda"}}, "ABC123", host="ec2", at=moment(number))
        book.append(metrics_logged(10, run=run, columns={"step": [1, 2, 3], "loss": [1.0, math.nan, 0.5 + number]}))
        metrics = {f"objectives/{name}/raw_mean": number + 0.5 for name in ("a_maximize", "b_minimize")}
        book.update_run_status(run, "completed", final_metrics_json=metrics, at=moment(100 + number))

    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["--db", place, "plot", *words])
        return code, *capsys.readouterr()

    return ask


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["history", "r1", "r2", "--metric", "loss"], ["loss", "(step)", "  a  r1", "  b  r2", "x: not finite"]),
        (["history", "r1", "--metric", "loss", "--log"], ["loss", "  a  r1"]),
        (
            ["objectives", "a", "b"],
            ["x: a (raw mean, maximize)", "y: b (raw mean, minimize)", "(1.5, 1.5)", "(0.5, 0.5)"],
        ),
        (["objectives", "a", "b", "--host", "moon"], ["0 runs: nothing to draw"]),
        (["objectives", "a", "b", "--limit", "1", "--method", "mgda"], ["1 run\n", "  a  r2"]),
        (["chain", "ABC123"], ["ABC123, 2024-05-01 12:00 to 2024-05-01 12:01 UTC", "r1", "r2", "completed"]),
    ],
)
def test_without_output_it_is_text(ask: Ask, words: list[str], shown: list[str]) -> None:
    """A terminal, a pipe and a log get the picture as text, with its legend, and without colours in a file."""
    code, out, err = ask(*words)

    assert (code, err) == (0, "")
    assert [text for text in shown if text not in out] == []
    assert "\x1b" not in out


def test_a_terminal_has_colours(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody looks at it the curves have colours, and none with NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[" in ask("history", "r1", "--metric", "loss")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in ask("history", "r1", "--metric", "loss")[1]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "PNG"])
def test_a_file_is_the_picture(ask: Ask, book: Ledger, tmp_path: Path, ending: str) -> None:
    """--output writes the same bytes as the functions give, in an older one's place."""
    target = tmp_path / f"curve.{ending}"
    target.write_text("older")

    assert ask("history", "r1", "r2", "--metric", "loss", "--output", str(target)) == (0, "", "")
    assert target.read_bytes() == picture(plot_history(book, ["r1", "r2"], ["loss"]), ending.lower())
    assert ask("chain", "ABC123", "--output", str(target)) == (0, "", "")
    assert target.read_bytes() == picture(plot_chain(book, "ABC123"), ending.lower())


def test_json_has_what_would_be_drawn(ask: Ask, tmp_path: Path) -> None:
    """--json gives the data, strictly; with --output, where the picture is."""
    curves = json.loads(ask("history", "r1", "--metric", "loss", "--json")[1])
    scatter = json.loads(ask("objectives", "a", "b", "--json")[1])
    bars = json.loads(ask("chain", "ABC123", "--json")[1])
    written = json.loads(ask("chain", "ABC123", "--json", "--output", str(tmp_path / "c.svg"))[1])

    assert curves == {"loss": {"r1": {"step": [1, 2, 3], "loss": [1.0, "NaN", 0.5]}}}
    assert scatter["directions"] == {"a": "maximize", "b": "minimize"}
    assert {(run["run_id"], run["a"], run["on_front"]) for run in scatter["runs"]} == {
        ("r1", 0.5, True),
        ("r2", 1.5, True),
    }
    assert [(bar["run_id"], bar["status"], bar["marks"]) for bar in bars] == [
        ("r1", "completed", []),
        ("r2", "completed", []),
    ]
    assert written == {"output": str(tmp_path / "c.svg")}


def test_the_past_is_drawn(ask: Ask) -> None:
    """--as-of shows what had happened by then."""
    assert json.loads(ask("chain", "ABC123", "--as-of", "2024-05-01T12:00:50Z", "--json")[1])[0]["status"] == "running"


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        ([], "required: WHAT"),
        (["histori"], "invalid choice: 'histori'"),
        (["history", "--metric", "loss"], "required: RUN"),
        (["history", "r1"], "required: --metric"),
        (["history", "r1", "--metric", "los"], "Did you mean 'loss'"),
        (["history", "nobody", "--metric", "loss"], "no run 'nobody'"),
        (["history", "r1", "--metric", "loss", "--max-points", "few"], "a whole number"),
        (["history", "r1", "--metric", "loss", "--max-points", "1"], "at least 3 are needed"),
        (["history", "r1", "--metric", "loss", "--output", "curve.gif"], "ends in .png, .svg, .pdf"),
        (["objectives", "a", "c"], "unknown column 'c'"),
        (["objectives", "a", "b", "-f", "hots=ec2"], "Did you mean 'host'"),
        (["chain", "XYZ"], "no run with chain_of_custody_id 'XYZ'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ask: Ask, words: list[str], mend: str) -> None:
    """One line says what was wrong and what there is."""
    code, out, err = ask(*words)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert mend in err


def test_a_missing_extra_is_named(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the line that installs it is said, and no file is made."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = ask("chain", "ABC123", "--output", str(tmp_path / "c.png"))

    assert code == 3
    assert "pip install 'training-run-ledger[plot]'" in err
    assert not (tmp_path / "c.png").exists()
