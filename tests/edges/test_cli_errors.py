"""What the command line does when it cannot: one line with the mend, an exit code, and nothing else."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.table import table

FORMULA = "name\x1b[31m\n\u202e"


@pytest.fixture
def place(path: Path) -> str:
    """Give a ledger of one run, whose name a stranger chose."""
    with Ledger(path) as book:
        book.insert_run("r1", None, {}, run_name=FORMULA, at="2026-01-01")
    return str(path)


def shell(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start `python -m ledger` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ledger", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("words", "code", "mend"),
    [
        (["rnus"], 2, "Did you mean 'runs'"),
        (["--json"], 2, "See: ledger --help"),
        (["runs", "--bogus"], 2, "unknown words: --bogus. See: ledger runs --help"),
        (["runs", "-f", "host"], 2, "NAME=VALUE"),
        (["runs", "-f", "hots=ec2"], 2, "Did you mean 'host'"),
        (["runs", "--status", "crashd"], 2, "'crashed'"),
        (["runs", "--limit", "few"], 2, "a whole number"),
        (["runs", "--order-by", "1; DROP TABLE training_runs"], 2, "unknown order"),
        (["runs", "--columns", ","], 2, "names with commas between"),
        (["show", "r9"], 2, "no run 'r9'"),
        (["annotate", "r1"], 2, "--note, --tag or --set"),
        (["show", "\udcff"], 2, "is not UTF-8"),
        (["show", "r1", "--known-at", "0"], 2, "by then"),
        (["stats", "--as-of", "soon"], 2, "a moment is wanted"),
        (["explain", "r1", "--column", "hots"], 2, "Did you mean 'host'"),
        (["timeline", "--chain", "NOPE"], 2, "chain_of_custody_id 'NOPE'"),
        (["events", "--types", "launch"], 2, "Did you mean 'launched'"),
        (["events", "--follow", "--chain", "C"], 2, "--run RUN"),
        (["events", "--follow", "--after", "99"], 2, "newest is 1"),
        (["events", "--follow", "--types", "launch"], 2, "Did you mean 'launched'"),
        (["subscriptions", "slack"], 2, "unknown subscription 'slack'"),
        (["amend", "r1", "--reason", "r", "host=a", "host=b"], 2, "given twice"),
        (["annotate", "r1", "--set", "k=1", "--set", "k=2"], 2, "given twice"),
        (["amend", "r1", "host=x"], 2, "--reason"),
        (["void", "r9", "--reason", "bogus"], 2, "no run 'r9'"),
        (["restore-backup", "/nowhere/x.db"], 2, "/nowhere/x.db"),
        (["--db", "/nowhere/runs.db", "runs"], 3, "`ledger init`"),
        (["--db", "/proc/runs.db", "init"], 3, "/proc/runs.db"),
        (["--db", "off", "runs"], 3, "give one with --db"),
        (["--db", "postgresql://me:secret@hub/runs", "runs"], 3, "me:***@hub"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_line_with_the_mend(
    place: str, words: list[str], code: int, mend: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line goes to stderr; with --json an object with the same words goes to stdout."""
    found = main(["--db", place, *words, *(["--json"] if as_json else [])])
    out, err = capsys.readouterr()

    assert (found, err.count("\n")) == (code, 1)
    assert err.startswith("ledger: ")
    assert mend in err
    if "--json" in words or as_json:
        document = json.loads(out)
        assert f"ledger: {document['error']}\n" == err
        assert document["kind"][0].isupper()
    else:
        assert out == ""


def test_no_ledger_is_named_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Where neither --db nor a variable names a ledger, the line has the export to copy."""
    assert main(["stats"]) == 3
    assert "export TRAINING_DB_PATH=" in capsys.readouterr().err


def test_recording_switched_off_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With TRAINING_DB_URL=off a person who annotates is told that nothing is recorded."""
    monkeypatch.setenv("TRAINING_DB_URL", "off")

    assert main(["annotate", "r1", "--note", "odd"]) == 3
    assert "nothing is recorded" in capsys.readouterr().err


def test_a_word_alone_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`ledger` by itself asks nothing, and shows what could be asked."""
    assert main([]) == 2
    assert "usage: ledger" in capsys.readouterr().out


def broken(*_: object) -> int:
    raise KeyError("a bug\nof ours")


def test_a_bug_is_one_line_too(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody foresaw is 70, and its traceback lies in a file that the line names."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Ledger, "get_stats", broken)
    assert main(["--db", place, "stats"]) == 70
    err = capsys.readouterr().err

    (file,) = tmp_path.glob("ledger-bug-*.txt")
    assert err.count("\n") == 1
    assert str(file) in err
    assert "Traceback (most recent call last)" in file.read_text()


def interrupted(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


def test_an_interruption_is_quiet(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends with 130 and without a traceback."""
    monkeypatch.setattr(Ledger, "replay", interrupted)

    assert main(["--db", place, "replay"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("words", "code"), [(["runs"], 0), (["show", "r9"], 2), (["--db", "/nowhere/x", "runs"], 3)])
def test_the_process_ends_with_the_exit_code(place: str, words: list[str], code: int) -> None:
    """`python -m ledger` is the command line, and the variable names the ledger."""
    process = shell(*words, TRAINING_DB_PATH=place)
    process.communicate()

    assert process.returncode == code


@pytest.mark.parametrize("words", [("events", "--json"), ("export", "-")], ids=str)
def test_a_reader_that_has_enough_is_no_error(path: Path, words: tuple[str, ...]) -> None:
    """`ledger events | head -1` prints one line, and nobody complains."""
    with Ledger(path) as book:
        book.insert_run("r1", None, {})
        for number in range(300):
            book.annotate("r1", "x" * 1000, number=number)
    process = shell("--db", str(path), *words)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert (process.stderr.read(), process.wait()) == ("", 141)
    process.stderr.close()


def out_of_space(*_: object) -> int:
    raise OSError(28, "No space left on device", "/tmp/copy.db")


def test_a_place_that_fails_is_said_in_json_too(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the system refuses is an object on stdout like any other error, while stdout takes it."""
    monkeypatch.setattr(Ledger, "get_stats", out_of_space)

    assert main(["--db", place, "stats", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["kind"] == "OSError"
    assert err == f"ledger: {json.loads(out)['error']}\n"


def followed(path: Path, *words: str) -> subprocess.Popen[str]:
    """Start following a ledger of one event, and wait until that was printed."""
    with Ledger(path) as book:
        book.insert_run("r1", None, {})
    process = shell("--db", str(path), "events", "--follow", *words)
    assert process.stdout is not None
    assert "launched" in process.stdout.readline()
    return process


def test_following_prints_each_event_as_it_comes(path: Path) -> None:
    """`events --follow` flushes each line, of the types that were asked for, and Ctrl-C ends it quietly with 130."""
    process = followed(path, "--json", "--types", "launched,started")
    assert process.stdout is not None
    with Ledger(path) as book:
        for number in range(3):
            book.annotate("r1", "odd")
            book.update_run_status("r1", "running")
            assert json.loads(process.stdout.readline())["position"] == 3 + 2 * number
    process.send_signal(signal.SIGINT)

    assert (*process.communicate(), process.returncode) == ("", "", 130)


def test_a_follower_whose_reader_went_away_ends(path: Path) -> None:
    """`ledger events --follow | head -1` ends with the next event, and nobody complains."""
    process = followed(path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with Ledger(path) as book:
        book.annotate("r1", "odd")

    assert (process.stderr.read(), process.wait(30)) == ("", 141)
    process.stderr.close()


@pytest.mark.parametrize("words", [["runs"], ["runs", "--json"], ["show", "r9", "--json"]])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_goes_nowhere_is_no_bug(place: str, words: list[str]) -> None:
    """Where the disk of the output is full, the line says so, once."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ledger", "--db", place, *words],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    asked_wrongly = "r9" in words
    assert (done.returncode, done.stderr.count("\n")) == (2 if asked_wrongly else 3, 1)
    assert ("no run 'r9'" if asked_wrongly else "No space left on device") in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ("runs", 0, ""),
        ("report outcomes", 0, ""),
        ("plot history r1 --metric loss", 0, ""),
        ("plot chain C", 0, ""),
        ("show r9 --json", 2, "no run 'r9'"),
        ("export -", 2, "Name a file"),
    ],
)
def test_a_closed_stdout_is_no_bug(path: Path, words: str, code: int, line: str) -> None:
    """Where the command is started with stdout closed, nothing is shown, and what goes wrong is one line as ever."""
    with Ledger(path) as book, book.track("r1", chain_of_custody_id="C") as run:
        run.log({"loss": 1.0}, step=1)
    command = f"'{sys.executable}' -m ledger --db '{path}' {words} >&-"
    done = subprocess.run(command, shell=True, check=False, stderr=subprocess.PIPE, text=True)

    assert (done.returncode, done.stderr.count("\n")) == (code, 1 if line else 0)
    assert line in done.stderr


def test_an_encoding_that_lacks_a_character_is_no_bug(path: Path) -> None:
    """What the terminal cannot show comes as an escape."""
    with Ledger(path) as book:
        book.insert_run("r1", None, {}, run_name="模型")
    out, err = shell("--db", str(path), "runs", PYTHONIOENCODING="ascii").communicate()

    assert (out.split()[-1], err) == ("\\u6a21\\u578b", "")


@pytest.mark.parametrize("words", [["runs"], ["show", "r1"], ["timeline", "r1"], ["events"]])
def test_a_strangers_text_cannot_steer_the_terminal(
    place: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters of a name are printed as escapes."""
    main(["--db", place, *words])
    out = capsys.readouterr().out

    assert "\\x1b" in out
    assert out.replace("\n", "").isprintable()


def test_the_command_line_is_light() -> None:
    """Reading the words and showing the help load no driver, no pydantic and no numpy."""
    code = (
        "import sys; from ledger.cli.main import main; main(['--help']);"
        "print({'sqlalchemy', 'pydantic', 'sqlite3', 'numpy', 'ledger.demo'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == "set()\n"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_a_terminal(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """List a crashed run with a long name on a terminal of 110 columns."""
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Ledger(path) as book:
        book.insert_run("r1", None, {}, run_name="n" * 200)
        book.update_run_status("r1", "crashed")

    def listed() -> str:
        with redirect_stdout(Terminal()) as terminal:
            main(["--db", str(path), "runs"])
        return terminal.getvalue()

    return listed


def test_a_status_is_coloured_on_a_terminal(on_a_terminal: Callable[[], str]) -> None:
    """On a terminal a status that says how it went has its colour."""
    assert "\x1b[31mcrashed\x1b[0m" in on_a_terminal()


def test_no_color_is_respected(on_a_terminal: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes the colours away."""
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b" not in on_a_terminal()


def test_a_table_fits_the_terminal(on_a_terminal: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the last column gives way."""
    monkeypatch.setenv("NO_COLOR", "1")

    assert max(map(len, on_a_terminal().splitlines())) == 110


def test_nothing_is_cut_elsewhere(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output is no terminal, every word is whole."""
    with Ledger(path) as book:
        book.insert_run("r1", None, {}, run_name="n" * 200)
    main(["--db", str(path), "runs"])

    assert "n" * 200 in capsys.readouterr().out


def test_numbers_stand_right_and_nothing_is_a_dash() -> None:
    """Columns of numbers and clock times are aligned right, others left; what is not there is a dash."""
    rows = [{"name": "a", "n": 1, "time": "1:00:00"}, {"name": None, "n": 10.5, "time": "10:00:00"}]

    assert table(rows, ["name", "n", "time"]).splitlines() == [
        "name     n      time",
        "----  ----  --------",
        "a        1   1:00:00",
        "-     10.5  10:00:00",
    ]


def test_wide_characters_keep_the_columns_straight() -> None:
    """A character of two columns counts as two, a combining one as none."""
    rows = [{"name": "模型", "next": "x"}, {"name": "e\u0301abc", "next": "x"}]

    assert table(rows, ["name", "next"]).splitlines()[2:] == ["模型  x", "e\u0301abc  x"]


def test_a_table_without_rows_is_its_heading() -> None:
    """No rows leave the heading and the rule below it."""
    assert table([], ["a", "bc"]) == "a  bc\n-  --"
