"""The formats of `ledger runs`: what is read back is what query_runs gives, and a failure leaves no half file."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.frames import to_arrow
from ledger.projections.run import COLUMNS
from ledger.store import finishing
from tests.places import on_both

pytestmark = on_both

Ask = Callable[..., tuple[int, bytes, str]]
ALL = [*COLUMNS, "liveness"]


@pytest.fixture
def ask(book: Ledger, place: str, capfdbinary: pytest.CaptureFixture[bytes]) -> Ask:
    """Run a command on a ledger of three runs, one of which needs every kind of quoting."""
    book.insert_run(
        "r1", "w1", {"training": {"batch_size": 8}}, host="ec2", run_name='a "b",\r\n;=1+1', at="2026-01-01"
    )
    book.insert_run("r2", None, None, host="naïve 実験", at="2026-01-02")
    book.insert_run("r3", None, None, learning_rate=1e-4, at="2026-01-03")
    book.update_run_status("r1", "completed", duration_seconds=3723, final_metrics_json={"loss": 0.5})

    def ask(*words: str) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        code = main(["--db", place, *words])
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return ask


def text_of(value: object) -> str:
    return "" if value is None else str(value)


def by_id(book: Ledger) -> list[dict[str, Any]]:
    return book.query_runs(order_by="run_id")


def test_json_lines_read_back_equal(ask: Ask, book: Ledger) -> None:
    """Each line is a row, as query_runs gives it."""
    code, out, err = ask("runs", "--order-by", "run_id", "--format", "jsonl")

    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.decode().splitlines()] == by_id(book)


def test_csv_reads_back_equal(ask: Ask, book: Ledger) -> None:
    """RFC 4180: a heading, CRLF, quotes where they are needed, and nothing for NULL."""
    code, out, err = ask("runs", "--order-by", "run_id", "--format", "csv")
    heading, *rows = csv.reader(io.StringIO(out.decode(), newline=""))

    assert (code, err) == (0, "")
    assert heading == ALL
    assert rows == [[text_of(row[name]) for name in ALL] for row in by_id(book)]
    assert out.count(b"\r\n") == 4 + 1
    assert b'"a ""b"",\r\n;=1+1"' in out


def test_parquet_reads_back_equal(ask: Ask, book: Ledger) -> None:
    """The table is that of to_arrow, on stdout that is no terminal and in a file."""
    code, out, err = ask("runs", "--order-by", "run_id", "--format", "parquet")

    assert (code, err) == (0, "")
    assert pa.parquet.read_table(io.BytesIO(out)).equals(to_arrow(by_id(book)))


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "json", "table"])
def test_a_file_has_what_stdout_would_have(ask: Ask, tmp_path: Path, form: str) -> None:
    """With --output the same goes into the file, whether there was one or not, and nothing to stdout."""
    words = ["runs", "--format", form]
    _, out, _ = ask(*words)
    target = tmp_path / "out"

    for _ in range(2):
        assert ask(*words, "--output", str(target)) == (0, b"", "")
        assert target.read_bytes() == out
        target.write_bytes(b"older, and longer than the new one" * 1000)
        target.chmod(0o640)
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path for path in tmp_path.iterdir() if "unfinished" in path.name] == []


@pytest.mark.parametrize(
    ("form", "made"), [("jsonl", b'{"host": "ec2", "run_id": "r1"}\n'), ("csv", b"host,run_id\r\nec2,r1\r\n")]
)
def test_columns_are_chosen_and_ordered(ask: Ask, form: str, made: bytes) -> None:
    """--columns applies to every format."""
    assert ask("runs", "--host", "ec2", "--columns", "host,run_id", "--format", form)[1] == made


def test_no_runs_have_their_columns(ask: Ask) -> None:
    """Where nothing meets the filters there are a heading and a schema, and no rows."""
    nothing = ["runs", "--host", "moon", "--format"]

    assert ask(*nothing, "jsonl")[1] == b""
    assert ask(*nothing, "csv")[1].decode() == f"{','.join(ALL)}\r\n"
    assert pa.parquet.read_table(io.BytesIO(ask(*nothing, "parquet")[1])).equals(to_arrow([]))


def test_voided_runs_have_their_reason(ask: Ask) -> None:
    """With --include-voided there are two columns more, of their own types."""
    ask("void", "r3", "--reason", "bogus")
    words = ["runs", "--include-voided", "--columns", "run_id,voided,reason", "--order-by", "run_id", "--format"]

    assert ask(*words, "csv")[1] == b"run_id,voided,reason\r\nr1,false,\r\nr2,false,\r\nr3,true,bogus\r\n"
    assert pa.parquet.read_table(io.BytesIO(ask(*words, "parquet")[1]))["voided"].to_pylist() == [False, False, True]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_what_the_limit_leaves_out_is_said(ask: Ask, form: str) -> None:
    """On stderr, so that the data stay data; nothing is said where all runs are there."""
    assert ask("runs", "--limit", "2", "--format", form)[2] == "ledger: 2 of 3 runs; --limit all gives all.\n"
    assert ask("runs", "--limit", "all", "--format", form)[2] == ""


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["--format", "xml"], "invalid choice: 'xml'"),
        (["--json", "--format", "csv"], "say one of them"),
        (["--format", "csv", "--columns", "hots"], "Did you mean 'host'"),
    ],
)
def test_what_cannot_be_meant_is_refused(ask: Ask, words: list[str], mend: str) -> None:
    """One line says the mend."""
    code, _, err = ask("runs", *words)

    assert code == 2
    assert mend in err


def test_binary_is_kept_from_a_terminal(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet goes to a terminal for nobody; the error names --output."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, err = ask("runs", "--format", "parquet")

    assert (code, out) == (2, b"")
    assert "--output FILE" in err


def test_a_missing_extra_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the line that installs it is said."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = ask("runs", "--format", "parquet")

    assert code == 3
    assert "pip install 'training-run-ledger[arrow]'" in err


def test_a_failure_leaves_the_older_file(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk gives out the file is what it was, and nothing lies beside it."""
    target = tmp_path / "folder" / "runs.csv"
    target.parent.mkdir()
    target.write_text("older")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(finishing.os, "fsync", full)
    code, _, err = ask("runs", "--format", "csv", "--output", str(target))

    assert (code, target.read_text()) == (3, "older")
    assert "No space left" in err
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("target", ["", "nowhere/runs.csv"])
def test_a_place_that_takes_no_file_is_named(ask: Ask, tmp_path: Path, target: str) -> None:
    """A folder, and a file in a folder that is not there, are errors that name it."""
    code, _, err = ask("runs", "--format", "csv", "--output", str(tmp_path / target))

    assert code == 3
    assert str(tmp_path / target.partition("/")[0]) in err


def test_a_home_that_is_not_there_is_named(ask: Ask) -> None:
    """~nobody is asked wrongly, and the error says how a file of that name is written."""
    code, _, err = ask("runs", "--format", "csv", "--output", "~nosuch/x.csv")

    assert (code, err.count("\n")) == (2, 1)
    assert "./~nosuch/x.csv" in err


def test_a_link_and_a_pipe_stay_what_they_are(ask: Ask, tmp_path: Path) -> None:
    """What a link leads to is written, and what is no file is written to."""
    (tmp_path / "real").write_text("older")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)

    for name in ("link", "pipe"):
        assert (
            ask("runs", "--columns", "run_id", "--host", "ec2", "--format", "csv", "--output", str(tmp_path / name))[0]
            == 0
        )
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == reader.communicate(timeout=30)[0] == b"run_id\r\nr1\r\n"
