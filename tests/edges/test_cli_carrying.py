"""export, merge and copy at a prompt: what they print, and when the exit code is 1."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.cli import output
from ledger.cli.main import main
from ledger.doctor import examine
from ledger.progress import Progress
from tests.builders import completed, launched, started

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a ledger of one run."""
    with Ledger(path) as book:
        book.append([launched(0, number=1), completed(1, number=2, exit_code=0)])

    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(["--db", str(path), *words]), *capsys.readouterr()

    return ask


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Give another ledger: it knows one event too, one more, and one that says something else."""
    with Ledger(tmp_path / "other.db") as book:
        book.append([launched(0, number=1), completed(1, number=2, exit_code=9), started(2, number=3)])
    return tmp_path / "other.db"


def test_an_export_says_how_many(ask: Ask, tmp_path: Path) -> None:
    """In words, or as JSON; a file that is there is not written over."""
    assert ask("export", f"{tmp_path}/a.jsonl")[:2] == (0, f"{tmp_path}/a.jsonl: 2 events\n")
    code, out, _ = ask("export", f"{tmp_path}/b.jsonl.gz", "--json")
    assert (code, json.loads(out)) == (0, {"export": f"{tmp_path}/b.jsonl.gz", "events": 2, "conflicts": 0})
    assert ask("export", f"{tmp_path}/a.jsonl")[0] == 2


def test_an_export_says_what_is_kept_aside(ask: Ask, other: Path, tmp_path: Path) -> None:
    """Its lines are more than its events where the ledger keeps a conflict."""
    ask("merge", str(other))

    assert ask("export", f"{tmp_path}/a.jsonl")[1] == f"{tmp_path}/a.jsonl: 3 events, and 1 conflict kept aside\n"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_an_export_to_stdout_is_its_lines_alone(ask: Ask, path: Path, words: list[str]) -> None:
    """So that it can be piped; whatever else was said."""
    command = [sys.executable, "-m", "ledger", "--db", str(path), "export", "-", *words]
    made = subprocess.run(command, capture_output=True, text=True, check=True)

    assert [json.loads(line)["position"] for line in made.stdout.splitlines()] == [1, 2]
    assert made.stderr == ""


def test_a_merge_says_what_became_of_each_source(ask: Ask, other: Path, tmp_path: Path) -> None:
    """How many were new, known and refused, and why; the exit code is 1 when something was refused."""
    ask("export", f"{tmp_path}/own.jsonl")
    code, out, err = ask("merge", str(other), f"{tmp_path}/own.jsonl")

    assert (code, err) == (1, "")
    first, refusal, proof, second, _ = out.splitlines()
    assert first == f"{other}: 3 events: 1 new, 1 known, 1 refused"
    assert refusal.startswith("  refused: position 2, event 00000000-0000-0000-0000-000000000002: known with other")
    assert "same digest" in proof
    assert second == f"{tmp_path}/own.jsonl: 2 events: 0 new, 2 known, 0 refused"
    assert ask("merge", f"{tmp_path}/own.jsonl")[0] == 0


def test_a_merge_as_json(ask: Ask, other: Path) -> None:
    """The same as an object."""
    code, out, _ = ask("merge", str(other), "--json")
    (source,) = json.loads(out)["sources"]
    (refusal,) = source.pop("refusals")

    assert code == 1
    assert source == {"source": str(other), "events": 3, "new": 1, "known": 1, "refused": 1, "proved": True}
    assert (refusal["where"], refusal["event_id"]) == ("position 2", "00000000-0000-0000-0000-000000000002")


def test_many_refusals_are_counted_and_a_few_listed(ask: Ask, tmp_path: Path) -> None:
    """A stranger's file does not fill the screen, nor move its cursor."""
    (tmp_path / "a.txt").write_text("dear \x1b[31mdiary\n" * 50)
    code, out, _ = ask("merge", f"{tmp_path}/a.txt")

    assert (code, out.count("refused: line"), out.count("\x1b")) == (1, 20, 0)
    assert "and 30 more" in out


def test_a_copy_says_what_it_compared(ask: Ask, tmp_path: Path) -> None:
    """In words, or as JSON; a ledger with events is refused."""
    assert ask("copy", "--to", f"{tmp_path}/a.db")[:2] == (
        0,
        f"{tmp_path}/a.db: 2 events of 1 run, compared with those here\n",
    )
    assert json.loads(ask("copy", "--to", f"sqlite:///{tmp_path}/b.db", "--json")[1]) == {
        "copy": f"{tmp_path}/b.db",
        "events": 2,
        "runs": 1,
    }
    code, _, err = ask("copy", "--to", f"{tmp_path}/a.db")
    assert (code, "merge" in err) == (2, True)


def test_the_doctor_lists_conflicts(ask: Ask, other: Path, path: Path) -> None:
    """Which event, of which run, from where, and what to do; and nothing where there is none."""
    assert not any("training_conflicts" in remark for remark in examine(str(path)).remarks)
    ask("merge", str(other))
    report = examine(str(path))

    (remark,) = (remark for remark in report.remarks if "training_conflicts" in remark)
    assert f"event 00000000-0000-0000-0000-000000000002 of run r (from {other})" in remark
    assert "amend" in remark
    assert report.problems == []


class Terminal:
    """What stderr is at a prompt."""

    def __init__(self) -> None:
        self.shown = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.shown += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_shows_where_somebody_looks(ask: Ask, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal one line is written over and over, and cleared at the end; elsewhere there is none."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ask("merge", str(other))

    assert f"\rmerge {other}: 100 %, 0:00:00 left" in terminal.shown
    assert terminal.shown.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(1000, 0, None), "1,000"),
        (Progress(0, 10, None), "0 %"),
        (Progress(5, 10, 61.2), "50 %, 0:01:02 left"),
    ],
)
def test_progress_in_words(progress: Progress, said: str) -> None:
    """A count where the whole is not known; percent and the time left where it is."""
    assert output._so_far(progress) == said
