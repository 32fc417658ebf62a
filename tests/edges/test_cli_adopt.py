"""`ledger adopt` at a prompt: what it prints, and when the exit code is 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.cli.main import main
from tests.adopting.old import LATER, LATER_ROWS, ROWS, SCHEMA, inserted, made

Ask = Callable[..., tuple[int, str, str]]
SECRETIVE = '{"api_key": "hunter2", "lr": 1}'

SAID = """\
{old}: 6 runs; 30 events, {new} new, {known} known
  config_json, 1 run: the column takes a JSON object or list
    e_not_running: '{{"cut": "off' is None here
  final_metrics_json, 1 run: a number that is not finite is null in the row, and text in the event
    c_completed: '{{"loss": 0.1, "objectives/COMT/raw_mean": 0.7, "bad": NaN}}' is '{{"loss":0.1,"objectives/COMT/raw_mean":0.7,"bad":null}}' here
  status, 1 run: it ended and nobody said how: a presumed crash, which any word of a witnessed end replaces
    e_not_running: 'not_running' is 'crashed' here
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Give the golden file."""
    return made(tmp_path / "training_runs.db", SCHEMA, LATER, ROWS, LATER_ROWS)


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a ledger that is not there yet."""

    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(["--db", str(path), *words]), *capsys.readouterr()

    return ask


def test_it_says_what_came_and_what_differs(ask: Ask, old: Path) -> None:
    """Runs and events are counted, and each column that differs has its reason; that is no failure."""
    assert ask("adopt", str(old))[:2] == (0, SAID.format(old=old, new=30, known=0))
    assert ask("adopt", str(old))[:2] == (0, SAID.format(old=old, new=0, known=30))


def test_it_says_that_all_is_equal(ask: Ask, tmp_path: Path) -> None:
    """Without a difference there is one sentence."""
    old = inserted(made(tmp_path / "old.db", SCHEMA), [{"run_id": "r", "status": "launched"}])

    code, out, _ = ask("adopt", str(old))

    assert (code, out.splitlines()[1:]) == (0, ["  every documented column is as it was"])


def test_the_many_are_told_by_the_few(ask: Ask, tmp_path: Path) -> None:
    """Of runs that differ alike the first three are shown, and how many more there are."""
    rows = [{"run_id": f"r{number}", "status": "not_running"} for number in range(5)]

    out = ask("adopt", str(inserted(made(tmp_path / "old.db", SCHEMA), rows)))[1].splitlines()

    assert out[1].startswith("  status, 5 runs: ")
    assert [line.split(":")[0].strip() for line in out[2:5]] == ["r0", "r1", "r2"]
    assert out[5:] == ["    and 2 more; --json lists all"]


def test_for_machines_it_is_one_object(ask: Ask, old: Path) -> None:
    """With --json there are the counts, and every difference with both values and the reason."""
    code, out, _ = ask("adopt", str(old), "--json")
    said = json.loads(out)

    assert code == 0
    assert {name: said[name] for name in said if name != "differences"} == {
        "old": str(old), "ok": True, "runs": 6, "new": 30, "known": 0, "refused": 0
    }  # fmt: skip
    assert [set(each) for each in said["differences"]] == [{"run_id", "column", "old", "new", "why"}] * 3


def test_what_is_refused_makes_it_a_failure(ask: Ask, tmp_path: Path) -> None:
    """A row that can be of no run is named, and the exit code is 1; the others are in."""
    rows = [{"run_id": None, "status": "launched"}, {"run_id": "r", "status": "launched"}]

    code, out, _ = ask("adopt", str(inserted(made(tmp_path / "old.db", SCHEMA), rows)))

    assert (code, out.splitlines()[0].endswith("; 1 refused")) == (1, True)
    assert "  run_id, 1 run: training_runs: its run_id is no text; give it one of its own" in out
    assert ask("show", "r")[0] == 0


def test_a_wrong_file_is_asked_wrongly(ask: Ask, path: Path, tmp_path: Path) -> None:
    """One line says what is wanted, the exit code is 2, and no ledger was made."""
    code, out, err = ask("adopt", str(tmp_path / "none.db"))

    assert (code, out, path.exists()) == (2, "", False)
    assert "a training_runs.db of the earlier API is wanted, and there is none" in err


def test_the_message_for_an_earlier_file_is_a_command_that_works(ask: Ask, old: Path, tmp_path: Path) -> None:
    """What the error names takes the rows over."""
    code, _, err = ask("--db", str(old), "runs")
    command = err.split("`")[1]

    assert code == 3
    assert command == f"ledger --db NEW.db adopt {old}"
    assert ask(*command.replace("NEW.db", str(tmp_path / "new.db")).split()[1:])[0] == 0


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_not_printed(ask: Ask, tmp_path: Path, form: tuple[str, ...]) -> None:
    """What the ledger does not keep is not told either, in words or as JSON."""
    file = made(tmp_path / "secretive.db", SCHEMA)
    inserted(file, [{"run_id": "s", "created_at": "2025-01-01", "status": "running", "config_json": SECRETIVE}])
    code, out, err = ask(*form, "adopt", str(file))

    assert (code, "hunter2" in out + err, "[redacted]" in out) == (0, False, True)
