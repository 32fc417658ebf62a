"""The command line looks back: as of then, why a row is as it is, and what a replay would change."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.cli import explaining
from ledger.cli.main import main
from tests.builders import amended, launched, started, wandb_attached

LONG = {"x": "y" * 200}
Ask = Callable[..., str]


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a ledger of two runs, the second of which was said to happen before the first."""
    with Ledger(path) as book:
        book.insert_run("r1", "w1", {**LONG, "batch_size": 8}, "ABC123", host="ec2", at="2026-01-01")
        book.update_run_status("r1", "running", at="2026-01-01T00:05:00Z")
        book.update_run_status("r1", "completed", duration_seconds=3723, at="2026-01-01T02:00:00Z")
        book.insert_run("r2", None, {}, "ABC123", host="laptop", at="2025-12-31")
        book.amend("r1", reason="typo", host="expanse", at="2026-01-03")

    def ask(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["--db", str(path), *words]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return ask


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], ["r2 launched laptop", "r1 completed expanse"]),
        (["--order-by", "created_at DESC"], ["r1 completed expanse", "r2 launched laptop"]),
        (["--as-of", "2026-01-02"], ["r2 launched laptop", "r1 completed ec2"]),
        (["--as-of", "2026-01-01T00:05:00Z"], ["r2 launched laptop", "r1 running ec2"]),
        (["--known-at", "3"], ["r1 running ec2"]),
        (["--known-at", "5", "--as-of", "2026-01-01T01:00:00Z"], ["r2 launched laptop", "r1 running ec2"]),
        (["--as-of", "0s", "--known-at", "0s"], ["r2 launched laptop", "r1 completed expanse"]),
        (["--known-at", "2", "--host", "ec2"], ["r1 launched ec2"]),
    ],
)
def test_runs_as_they_were(ask: Ask, words: list[str], lines: list[str]) -> None:
    """`runs` shows, the lost first, what had happened by --as-of, of what was known at --known-at; digits are a position."""
    shown = ask("runs", "--columns", "run_id,status,host", *words).splitlines()[2:]
    assert [" ".join(line.split()) for line in shown] == lines


def test_no_run_was_known_yet(ask: Ask) -> None:
    """Before the first event there is nothing, and how many there are is said of then."""
    assert ask("runs", "--known-at", "0") == "no runs\n"
    assert json.loads(ask("runs", "--known-at", "2", "--json", "--limit", "1"))["total"] == 1
    assert json.loads(ask("stats", "--known-at", "4", "--json"))["completed"] == 1
    assert json.loads(ask("stats", "--as-of", "2026-01-01T01:00:00Z", "--json"))["completed"] == 0


def test_one_run_as_it_was(ask: Ask) -> None:
    """`show` and `timeline` take the same words, and a run that was not known by then is an error that says so."""
    assert json.loads(ask("show", "r1", "--as-of", "2026-01-02", "--json"))["host"] == "ec2"
    assert "duration_seconds" not in ask("show", "r1", "--known-at", "3")
    assert [line.split()[2] for line in ask("timeline", "r1", "--known-at", "2").splitlines()[2:]] == [
        "launched",
        "wandb_attached",
    ]
    assert len(ask("timeline", "--chain", "ABC123", "--as-of", "2026-01-01T01:00:00Z").splitlines()) == 6
    for verb in ("show", "timeline"):
        assert "no run 'r2' in this ledger by then. Ask as of a later" in ask(verb, "r2", "--known-at", "3", code=2)
    assert "no run 'r9' in this ledger. Record its launch" in ask("show", "r9", code=2)


@pytest.mark.parametrize(
    "words",
    [["--as-of", "soon"], ["--as-of", "5"], ["--known-at", "soon"], ["--known-at", "-1"], ["--known-at", "9" * 5000]],
)
def test_what_is_no_moment_is_refused(ask: Ask, words: list[str]) -> None:
    """One line says what is wanted."""
    assert " is wanted" in ask("stats", *words, code=2)


def test_a_row_is_explained(ask: Ask) -> None:
    """A line a column: its value, what gave it, when, who, and what that replaced; the rest was never said."""
    heading, _, *lines = ask("explain", "r1").splitlines()
    by_column = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}

    assert heading.split() == "column value set by at source replaced".split()
    assert by_column["host"].startswith("expanse amended 2026-01-03 00:00:00Z ")
    assert by_column["host"].endswith(" ec2 (launched 2026-01-01 00:00:00Z)")
    assert by_column["status"].endswith(" running (started 2026-01-01 00:05:00Z), and 1 earlier")
    assert by_column["duration_seconds"].startswith("1:02:03 completed ")
    assert '{"x":"yyyy' in by_column["config_json"]
    assert len(max(lines[:-1], key=len)) < 250
    assert lines[-1].startswith("never said: wandb_url, ")
    assert "reason" not in lines[-1].replace("end_reason", "")


def test_one_column_is_explained_with_all_that_it_was(ask: Ask) -> None:
    """--column has a line for each value, the newest first."""
    lines = ask("explain", "r1", "--column", "status").splitlines()[2:]

    assert [line.split()[:2] for line in lines] == [
        ["completed", "completed"],
        ["running", "started"],
        ["launched", "launched"],
    ]
    assert ask("explain", "r1", "--column", "note") == "never said: note\n"
    assert "Did you mean 'host'" in ask("explain", "r1", "--column", "hots", code=2)
    assert "no run 'r9'" in ask("explain", "r9", code=2)


def test_an_explanation_in_json_is_what_python_gets(ask: Ask, path: Path) -> None:
    """A list of objects, one a column, each with a list of what it replaced."""
    (explained,) = json.loads(ask("explain", "r1", "--column", "host", "--json"))
    with Ledger(path) as book:
        (same,) = [each for each in book.explain("r1") if each.column == "host"]

    assert explained["value"] == same.value == "expanse"
    assert {**explained["replaced"][0]} == vars(same.replaced[0])
    assert json.loads(ask("explain", "r1", "--column", "note", "--json")) == []


def test_a_lost_wandb_id_says_who_holds_it(ask: Ask, path: Path) -> None:
    """What the run claims and who has it stand below the table."""
    with Ledger(path) as book:
        book.append([launched(0, run="\x1b[31m"), wandb_attached(0, run="\x1b[31m", wandb_run_id="w1")])
        book.append(amended(1, run="\x1b[31m", host=None))
    out = ask("explain", "r1")

    assert "\nwandb_run_id: this run claims 'w1', which run '\\x1b[31m' holds\n" in out
    assert "nothing" in next(line for line in out.splitlines() if line.startswith("wandb_run_id "))
    assert "\x1b" not in out
    assert "\x1b" not in ask("explain", "\x1b[31m")


def test_a_void_is_explained(ask: Ask) -> None:
    """A voided run says why, and by whom."""
    ask("void", "r1", "--reason", "bogus")
    assert ask("explain", "r1", "--column", "reason").splitlines()[2].split()[:2] == ["bogus", "voided"]


def edit(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


def test_a_dry_run_changes_nothing_and_shows_what_would_change(ask: Ask, path: Path) -> None:
    """A line a column, with what is stored and what would be, and how many of how many runs; exit code 0."""
    assert ask("replay", "--dry-run") == "nothing would change\n"
    edit(path, "UPDATE training_runs SET host = 'moon', batch_size = NULL")
    heading, _, *lines, verdict = ask("replay", "--dry-run").splitlines()

    assert heading.split() == ["run_id", "column", "stored", "computed"]
    assert [line.split() for line in lines] == [
        ["r1", "host", "moon", "expanse"],
        ["r1", "batch_size", "nothing", "8"],
        ["r2", "host", "moon", "laptop"],
    ]
    assert verdict == "3 columns of 2 runs would change"
    assert "moon" in ask("show", "r1")
    assert (ask("replay"), ask("replay", "--dry-run")) == ("2 runs folded again\n", "nothing would change\n")


def test_a_dry_run_in_json_is_one_document(ask: Ask, path: Path) -> None:
    """An array of changes with whole values; an empty one where nothing would change."""
    assert json.loads(ask("replay", "--dry-run", "--json")) == []
    edit(path, "DELETE FROM training_runs WHERE run_id = 'r2'")
    edit(path, "UPDATE training_runs SET config_json = NULL")
    records = json.loads(ask("replay", "--dry-run", "--json"))

    assert [(record["run_id"], record["column"], record["stored"]) for record in records] == [
        ("r1", "config_json", None),
        ("r2", "training_runs", None),
    ]
    assert (json.loads(records[0]["computed"]), records[1]["computed"]) == ({**LONG, "batch_size": 8}, "a row")


def test_long_values_are_cut_where_they_part(ask: Ask, path: Path) -> None:
    """Two long texts that begin alike are shown from shortly before they differ."""
    edit(path, "UPDATE training_runs SET config_json = replace(config_json, '\"batch_size\":8', '\"batch_size\":9')")
    (line,) = (line for line in ask("replay", "--dry-run").splitlines() if line.startswith("r1"))

    assert line.split()[2:] == ['...tch_size":9}', '...tch_size":8}']
    edit(path, "UPDATE training_runs SET config_json = substr(config_json, 1, 213)")
    assert ' ...yyy","batc  ...yyy","batch_size":8}' in ask("replay", "--dry-run")


def test_many_changes_are_said_in_several_tables(ask: Ask, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they need not all be kept; a run whose changes are in two of them is counted once."""
    with Ledger(path) as book:
        book.append([started(n, run=f"s{n}") for n in range(5)])
    edit(path, "UPDATE training_runs SET note = 'x', host = 'moon'")
    monkeypatch.setattr(explaining, "LINES_MAX", 3)
    lines = ask("replay", "--dry-run").splitlines()

    assert lines[-1] == "14 columns of 7 runs would change"
    assert sum(line.startswith("run_id") for line in lines) == 5
