"""The earlier file stays as it is, whatever lies beside it and whoever has it open; and what is none is named."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import Ledger, LedgerError
from ledger.errors import InvalidValue, NotALedger, OnlyASpool
from tests.adopting.old import LATER, LATER_ROWS, ROWS, SCHEMA, made
from tests.builders import launched

NOBODY = 65534


def state(folder: Path) -> dict[str, str]:
    """Return every file of a folder, with what is in it; of SQLite's index of a WAL only that it is there."""
    return {
        path.name: "" if path.name.endswith("-shm") else sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Give a folder of its own for the earlier file."""
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@contextmanager
def at_rest(shelf: Path) -> Iterator[None]:
    yield


@contextmanager
def in_wal_mode_at_rest(shelf: Path) -> Iterator[None]:
    made(shelf / "old.db", "PRAGMA journal_mode = WAL")
    yield


@contextmanager
def write_locked(shelf: Path) -> Iterator[None]:
    with closing(sqlite3.connect(shelf / "old.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE training_runs SET run_name = 'never committed'")
        yield


@contextmanager
def write_locked_in_wal_mode(shelf: Path) -> Iterator[None]:
    made(shelf / "old.db", "PRAGMA journal_mode = WAL")
    with write_locked(shelf):
        yield


def left_by_a_killed_writer(shelf: Path, *scripts: str) -> None:
    """Let a process write and die with the file open, so that what it leaves beside the file stays."""
    script = "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    script += "for sql in sys.argv[2:]: db.execute(sql)\nos._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(shelf / "old.db"), *scripts], check=True)


UNCHECKPOINTED = ("PRAGMA journal_mode = WAL", "UPDATE training_runs SET run_name = 'from the WAL'")


@contextmanager
def wal_of_a_killed_writer(shelf: Path) -> Iterator[None]:
    left_by_a_killed_writer(shelf, *UNCHECKPOINTED)
    assert {"old.db-shm", "old.db-wal"} < {path.name for path in shelf.iterdir()}
    yield


@contextmanager
def wal_that_was_copied_along(shelf: Path) -> Iterator[None]:
    left_by_a_killed_writer(shelf, *UNCHECKPOINTED)
    (shelf / "old.db-shm").unlink()
    yield


@contextmanager
def hot_journal(shelf: Path) -> Iterator[None]:
    left_by_a_killed_writer(
        shelf, "PRAGMA cache_size = 1", "BEGIN", "UPDATE training_runs SET config_json = printf('%.*c', 200000, 'x')"
    )
    assert (shelf / "old.db-journal").stat().st_size > 0
    yield


@contextmanager
def somebody_writes_in_wal_mode(shelf: Path) -> Iterator[None]:
    with closing(sqlite3.connect(shelf / "old.db", isolation_level=None)) as db:
        for sql in UNCHECKPOINTED:
            db.execute(sql)
        yield


PLACES = {
    "at rest": (at_rest, None),
    "in WAL mode, at rest": (in_wal_mode_at_rest, None),
    "while another holds the write lock": (write_locked, None),
    "while another holds it in WAL mode": (write_locked_in_wal_mode, None),
    "with a WAL that a killed writer left": (wal_of_a_killed_writer, "from the WAL"),
    "with a WAL that was copied along": (wal_that_was_copied_along, "from the WAL"),
    "with a WAL that is being written": (somebody_writes_in_wal_mode, "from the WAL"),
    "with a journal that has to be rolled back": (hot_journal, None),
}


@pytest.mark.parametrize(("place", "name"), PLACES.values(), ids=PLACES)
def test_the_file_and_its_folder_stay_as_they_are(book: Ledger, shelf: Path, place: Callable, name: str | None) -> None:
    """Neither the file nor what lies beside it changes, nothing is left beside it, and what is committed is read."""
    made(shelf / "old.db", SCHEMA, LATER, ROWS, LATER_ROWS)
    with place(shelf):
        before = state(shelf)
        adopted = book.adopt(shelf / "old.db")
        assert state(shelf) == before

    assert (adopted.runs, adopted.ok) == (6, True)
    assert book.get_run("c_completed")["run_name"] == name
    assert book.get_run("c_completed")["final_metrics_json"].startswith('{"loss":0.1')


@pytest.mark.parametrize(("place", "name"), PLACES.values(), ids=PLACES)
def test_it_stays_as_it_is_behind_a_link(book: Ledger, shelf: Path, place: Callable, name: str | None) -> None:
    """What lies beside the file lies there, and not beside a link to it."""
    made(shelf / "old.db", SCHEMA, LATER, ROWS, LATER_ROWS)
    link = shelf.parent / "link.db"
    link.symlink_to(shelf / "old.db")
    with place(shelf):
        before = state(shelf)
        adopted = book.adopt(link)
        assert state(shelf) == before

    assert (adopted.runs, adopted.ok) == (6, True)
    assert book.get_run("c_completed")["run_name"] == name


@contextmanager
def no_root() -> Iterator[None]:
    """Be somebody whom rights stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_who_may_write_nothing_there_can_adopt(book: Ledger, old: Path, mode: str) -> None:
    """A user who may only read the file and its folder takes it over, in WAL mode too."""
    book.adopt(old)  # what is imported when it is used lies where only root may read
    with tempfile.TemporaryDirectory() as place:
        shelf, home = Path(place) / "shelf", Path(place) / "home"
        shelf.mkdir()
        home.mkdir()
        home.chmod(0o777)
        Path(place).chmod(0o755)
        made(shelf / "old.db", SCHEMA, LATER, ROWS, LATER_ROWS, f"PRAGMA journal_mode = {mode}")
        (shelf / "old.db").chmod(0o444)
        shelf.chmod(0o555)
        before = state(shelf)
        with no_root(), Ledger(home / "runs.db") as other:
            with pytest.raises(PermissionError):
                (shelf / "new").touch()
            adopted = other.adopt(shelf / "old.db")
        assert (adopted.runs, adopted.ok, state(shelf)) == (6, True, before)
        shelf.chmod(0o755)


def a_ledger(path: Path) -> None:
    with Ledger(path) as book:
        book.append(launched(0))


STRANGERS = {
    "nothing": (lambda path: None, "there is none"),
    "a folder": (Path.mkdir, "there is none"),
    "text": (lambda path: path.write_text("dear diary, " * 100), "no SQLite file"),
    "nothing in it": (Path.touch, "no table training_runs"),
    "another database": (lambda path: made(path, "CREATE TABLE songs (title)"), "no table training_runs"),
    "another table": (lambda path: made(path, "CREATE TABLE training_runs (title)"), "no column run_id"),
    "a ledger": (a_ledger, "take in its events with `ledger merge "),
}


@pytest.mark.parametrize(("make", "words"), STRANGERS.values(), ids=STRANGERS)
def test_what_is_no_file_of_the_earlier_api_is_named(tmp_path: Path, make: Callable, words: str) -> None:
    """The error says what is wanted; the ledger is not even created, and the file is as it was."""
    stranger = tmp_path / "stranger"
    make(stranger)
    before = stranger.read_bytes() if stranger.is_file() else None

    with Ledger(tmp_path / "runs.db") as book, pytest.raises(InvalidValue, match=words):
        book.adopt(stranger)

    assert not (tmp_path / "runs.db").exists()
    assert before == (stranger.read_bytes() if stranger.is_file() else None)


def test_a_damaged_file_is_named(tmp_path: Path, old: Path) -> None:
    """Pages that are no pages any more are an error with a mend, and no traceback."""
    whole = old.read_bytes()
    old.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    with Ledger(tmp_path / "runs.db") as book, pytest.raises(LedgerError, match="cannot be read"):
        book.adopt(old)


def test_opening_it_as_a_ledger_names_the_command(old: Path) -> None:
    """Whoever takes the earlier file for a ledger is told what to run."""
    with Ledger(old) as book, pytest.raises(NotALedger, match=rf"`ledger --db NEW.db adopt {old}`"):
        book.get_stats()
    with Ledger(old) as book, pytest.raises(NotALedger, match=rf"`ledger --db NEW.db adopt {old}`"):
        book.adopt(old)


def test_a_spool_adopts_nothing(tmp_path: Path, old: Path) -> None:
    """On a spool nobody can compare, and the error says so."""
    with Ledger(f"spool://{tmp_path}/spool") as spool, pytest.raises(OnlyASpool):
        spool.adopt(old)
