"""The ledger's file: found, created, closed, moved away and replaced under somebody's hands."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import LedgerClosed, LedgerError, NoLedger, NotConfigured
from tests.builders import heartbeat, launched, started
from tests.store.crowd import crowd

READING: dict[str, Callable[[Ledger], object]] = {
    "get_run": lambda book: book.get_run("r"),
    "query_runs": lambda book: book.query_runs(),
    "count_runs": lambda book: book.count_runs(),
    "get_stats": lambda book: book.get_stats(),
    "timeline": lambda book: book.timeline(run_id="r"),
    "events": lambda book: list(book.events()),
    "events of a chain": lambda book: list(book.events(chain_of_custody_id="C")),
    "verify": lambda book: book.verify(),
    "replay": lambda book: book.replay(),
    "update_run_status": lambda book: book.update_run_status("r", "running"),
    "annotate": lambda book: book.annotate("r", "n"),
    "amend": lambda book: book.amend("r", reason="x", note="n"),
    "void": lambda book: book.void("r", reason="x"),
    "attach_crash_data": lambda book: book.attach_crash_data("r", "k"),
    "attach_blog_post": lambda book: book.attach_blog_post("r", "u"),
}


@pytest.mark.parametrize("ask", READING.values(), ids=READING)
def test_a_ledger_that_is_not_there_is_an_error(tmp_path: Path, ask: Callable[[Ledger], object]) -> None:
    """No empty answer: the error names the place and the mend, and nothing is created."""
    place = tmp_path / "folder" / "runs.db"
    with Ledger(place) as book, pytest.raises(NoLedger, match="ledger init") as refused:
        ask(book)

    assert str(place) in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_backup_of_nothing_creates_nothing(tmp_path: Path) -> None:
    """Neither the ledger nor the backup's folder comes to be."""
    with Ledger(tmp_path / "runs.db") as book, pytest.raises(NoLedger):
        book.backup(tmp_path / "folder" / "backup.db")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "write", [Ledger.init_db, lambda book: book.append(launched(0)), lambda book: book.insert_run("r", None, {})]
)
def test_the_first_write_creates_the_ledger_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Callable[[Ledger], object]
) -> None:
    """With its folders; the log has one line that names the place."""
    place = tmp_path / "a" / "b" / "runs.db"
    with caplog.at_level(logging.INFO, "ledger"), Ledger(place) as book:
        write(book)
        write(book) if write is Ledger.init_db else book.append(started(1))

    assert [record.getMessage() for record in caplog.records] == [f"creating a new ledger at {place}"]
    assert place.is_file()


def test_closing_leaves_one_file(path: Path) -> None:
    """After writes and reads of several ledgers on one file, the last close leaves the file and nothing beside it."""
    with Ledger(path) as one, Ledger(path) as other:
        for number in range(300):
            (one if number % 2 else other).append(heartbeat(number, step=number))
        assert one.count_runs() == other.count_runs() == 1
        next(iter(other.events()))

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_many_processes_leave_one_file(path: Path) -> None:
    """The last process to close folds the WAL into the file."""
    crowd("append", 4, path, 20)

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_wal_does_not_grow_for_ever(path: Path) -> None:
    """Checkpoints keep it to some thousand pages, also while nobody closes."""
    with Ledger(path) as book:
        for number in range(600):
            book.append(heartbeat(number, step=number))
        wal = path.with_name(f"{path.name}-wal")

        assert wal.stat().st_size < 12_000_000


def test_closed_is_closed(path: Path) -> None:
    """Closing again does nothing; using it afterwards is an error that says what to do."""
    book = Ledger(path)
    book.append(launched(0))
    book.close()
    book.close()

    for use in (book.count_runs, lambda: book.append(started(1)), book.init_db, lambda: book.get_run("r")):
        with pytest.raises(LedgerClosed, match="Open a new one"):
            use()


def test_closing_what_was_never_used_creates_nothing(path: Path) -> None:
    """Nothing is opened before it is used."""
    Ledger(path).close()

    assert not path.exists()


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_a_file_that_was_removed_is_noticed(path: Path) -> None:
    """What is written next is in the file that is then there, not in one that no longer has a name."""
    with Ledger(path) as book:
        book.append(launched(0))
        remove(path)

        with pytest.raises(NoLedger):
            book.update_run_status("r", "running")
        book.append(launched(5, run="s"))
        assert [event.run_id for event in book.events()] == ["s"]

    with Ledger(path) as book:
        assert [event.run_id for event in book.events()] == ["s"]
        assert book.verify()


def test_readers_notice_too(path: Path) -> None:
    """Nobody is answered out of a file that was removed."""
    with Ledger(path) as book:
        book.append(launched(0))
        assert book.count_runs() == 1
        remove(path)

        with pytest.raises(NoLedger):
            book.count_runs()


def test_a_file_that_was_replaced_is_noticed(path: Path, tmp_path: Path) -> None:
    """Reads and writes go to the ledger that lies there now; the one before is as it was."""
    other = tmp_path / "other.db"
    with Ledger(other) as book:
        book.append([launched(0, run="other"), started(1, run="other")])
    with Ledger(path) as book:
        book.append(launched(0))
        aside = path.with_name("aside.db")
        for suffix in ("-wal", "-shm", ""):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        other.rename(path)

        assert [row["run_id"] for row in book.query_runs()] == ["other"]
        book.append(launched(5, run="s"))
        assert [event.run_id for event in book.events()] == ["other", "other", "s"]
        assert book.verify()

    for place, runs in ((path, ["other", "other", "s"]), (aside, ["r"])):
        with Ledger(place) as book:
            assert ([event.run_id for event in book.events()], bool(book.verify())) == (runs, True)


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Somebody cleaned up; the next launch is not lost for it."""
    place = tmp_path / "folder" / "runs.db"
    with Ledger(place) as book:
        book.append(launched(0))
        remove(place)
        place.parent.rmdir()
        book.append(launched(1, run="s"))

    with Ledger(place) as book:
        assert book.count_runs() == 1


def test_a_writer_waits_for_another_and_then_says_who_to_look_for(path: Path) -> None:
    """A lock that is held for too long ends in an error that names the mend; nothing was written."""
    with Ledger(path) as book:
        book.init_db()
    with Ledger(path, busy_seconds_max=0.2) as book, closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked by another process.*fuser"):
            book.append(launched(0))
        db.execute("ROLLBACK")
        assert book.append(launched(0)).position == 1


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    """While somebody holds the write lock, questions are answered from what is committed."""
    with Ledger(path) as book, closing(sqlite3.connect(path, isolation_level=None)) as db:
        book.append(launched(0))
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM training_runs")

        assert book.count_runs() == 1
        db.execute("ROLLBACK")


def test_the_ledger_is_durable_by_default(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """synchronous is FULL unless a setting says NORMAL; what is neither is refused."""

    def synchronous() -> int:
        with Ledger(path) as book, book._database.write() as connection:
            number: int = connection.execute("PRAGMA synchronous").fetchone()[0]
            return number

    assert synchronous() == 2
    monkeypatch.setenv("TRAINING_DB_SYNCHRONOUS", "normal")
    assert synchronous() == 1
    monkeypatch.setenv("TRAINING_DB_SYNCHRONOUS", "OFF")
    with pytest.raises(NotConfigured, match="FULL and NORMAL"):
        Ledger(path)


def test_off_records_nothing_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TRAINING_DB_URL=off: every recording call returns, one warning is logged, and no file comes to be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINING_DB_URL", "off")
    with caplog.at_level(logging.WARNING, "ledger"), Ledger() as book:
        book.init_db()
        book.insert_run("r", None, {"batch_size": 8})
        book.update_run_status("r", "running")
        book.annotate("r", "n")
        recorded: Any = book.append(launched(0))
        several = book.append([started(1), started(2)])

    assert (recorded.position, recorded.version, [event.position for event in several]) == (0, 0, [0, 0])
    assert [record.getMessage() for record in caplog.records] == ["TRAINING_DB_URL=off: nothing is recorded"]
    assert list(tmp_path.iterdir()) == []


def test_off_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is recorded, a question is an error and not an empty answer."""
    monkeypatch.setenv("TRAINING_DB_URL", "OFF")
    with Ledger() as book:
        for ask in (
            book.query_runs,
            book.get_stats,
            book.verify,
            lambda: book.get_run("r"),
            lambda: list(book.events()),
        ):
            with pytest.raises(NotConfigured, match="TRAINING_DB_URL=off"):
                ask()


def test_off_still_refuses_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that could not be meant is wrong whether it is recorded or not."""
    monkeypatch.setenv("TRAINING_DB_URL", "off")
    with Ledger() as book, pytest.raises(LedgerError):
        book.update_run_status("r", "banana")
