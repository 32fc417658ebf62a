"""Who may read a ledger's file, and not write to it or beside it, has every answer, whether or not somebody has it open."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import LedgerDamaged, LedgerUnreachable, NoLedger
from ledger.store.filesystem import is_mounted
from tests.adopting.test_untouched import no_root
from tests.builders import completed, heartbeat, launched, shown, started, told


@pytest.fixture
def shelf() -> Iterator[Path]:
    """Give a ledger's file in a folder where everybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "shelf", "runs.db")
        with Ledger(path) as book:
            book.append([launched(0), started(1), completed(2, exit_code=0)])
            book.verify()
            told(list(book.events()))  # what is imported when it is used lies where only root may read
            shown(book)
            book.as_of(known=2).query_runs()
        closed(path)
        yield path
        opened(path)


def closed(path: Path) -> None:
    for beside in path.parent.iterdir():
        beside.chmod(0o444)
    path.parent.chmod(0o555)


def opened(path: Path) -> None:
    path.parent.chmod(0o755)
    for beside in path.parent.iterdir():
        beside.chmod(0o644)


@contextmanager
def somebody_else(path: Path) -> Iterator[Ledger]:
    with no_root(), Ledger(path) as book:
        with pytest.raises(PermissionError):
            (path.parent / "new").touch()
        yield book


def test_a_file_that_nobody_has_open_is_read_as_it_rests(shelf: Path) -> None:
    """Rows, events, stats, the past and a verification; nothing is written there, and recording says that it cannot be."""
    before = {file.name: file.read_bytes() for file in shelf.parent.iterdir()}
    with somebody_else(shelf) as book:
        assert shown(book) == told(list(book.events()))
        assert book.get_run("r")["status"] == "completed"  # type: ignore[index]
        assert book.as_of(known=2).query_runs()[0]["status"] == "running"
        assert book.verify()
        with pytest.raises(LedgerUnreachable, match="nothing was written"):
            book.append(heartbeat(3))
        assert book.count_runs() == 1
    assert {file.name: file.read_bytes() for file in shelf.parent.iterdir()} == before


def test_what_is_written_meanwhile_is_seen(shelf: Path) -> None:
    """A writer comes and goes, several times: who reads has what is committed, and never a mixture."""
    with no_root():
        reader = Ledger(shelf)
        assert len(list(reader.events())) == 3
    counts = []
    for minute in range(3, 6):
        with Ledger(shelf) as writer:
            opened(shelf)
            writer.append(heartbeat(minute))
            closed(shelf)
            with no_root():
                counts.append(len(list(reader.events())))
        opened(shelf)
        closed(shelf)
        with no_root():
            counts.append(len(list(reader.events())))
    with no_root():
        reader.close()

    assert counts == [4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize("others_ask", [False, True])
def test_an_answer_from_a_file_that_stirred_is_not_given(shelf: Path, others_ask: bool) -> None:
    """Somebody writes in the middle of a question: its answer could be a mixture, whatever others have seen since."""
    with somebody_else(shelf) as book:
        assert book.count_runs() == 1
        with pytest.raises(LedgerUnreachable, match="in the middle of a question. Ask again"):
            with book._database.snapshot():
                os.seteuid(os.getuid())
                opened(shelf)
                with Ledger(shelf) as writer:
                    writer.append([heartbeat(minute) for minute in range(3, 400)])
                closed(shelf)
                if others_ask:
                    with no_root():
                        assert len(list(book.events())) == 400
        assert book.count_runs() == 1


def test_a_file_that_is_gone_is_no_ledger_any_more(shelf: Path) -> None:
    """Who has read it says so, as of any other."""
    with somebody_else(shelf) as book:
        assert book.count_runs() == 1
        os.seteuid(os.getuid())
        opened(shelf)
        kept = shelf.rename(shelf.with_name("elsewhere.db"))
        with no_root(), pytest.raises(NoLedger):
            book.count_runs()
        kept.rename(shelf)


def test_what_was_killed_in_the_middle_is_not_read_as_if_it_rested(shelf: Path) -> None:
    """A WAL beside the file holds events that the file has not."""
    opened(shelf)
    with Ledger(shelf) as writer:
        writer.append(heartbeat(3))
        kept = {file.name: file.read_bytes() for file in shelf.parent.iterdir()}
    for name, content in kept.items():
        shelf.with_name(name).write_bytes(content)
    closed(shelf)
    with somebody_else(shelf) as book:
        assert len(list(book.events())) == 4


@pytest.mark.parametrize("is_there", [True, False], ids=["live", "killed"])
def test_what_somebody_is_in_the_middle_of_with_a_journal_is_not_read(shelf: Path, is_there: bool) -> None:
    """On a network filesystem there is no WAL: a journal beside the file says that it is half written."""
    opened(shelf)
    with closing(sqlite3.connect(shelf, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = DELETE")
        writer.execute("PRAGMA cache_size = 5")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE filler (x)")
        writer.executemany("INSERT INTO filler VALUES (?)", [(b"x" * 4000,)] * 500)
        journal = shelf.with_name("runs.db-journal").read_bytes()
        half = shelf.read_bytes()
        if is_there:
            closed(shelf)
            with no_root(), Ledger(shelf, busy_seconds_max=0.2) as book, pytest.raises(LedgerUnreachable) as refused:
                book.verify()
            opened(shelf)
        writer.execute("ROLLBACK")
    if not is_there:
        shelf.write_bytes(half)
        shelf.with_name("runs.db-journal").write_bytes(journal)
        closed(shelf)
        with somebody_else(shelf) as book, pytest.raises(LedgerUnreachable) as refused:
            book.verify()
        opened(shelf)
        with Ledger(shelf) as book:  # who may write mends it
            assert book.verify()
    assert not isinstance(refused.value, LedgerDamaged)


def test_a_file_of_two_names_is_not_taken_for_resting(shelf: Path) -> None:
    """Beside the other name may lie a WAL with what the file has not."""
    opened(shelf)
    os.link(shelf, shelf.with_name("other.db"))
    closed(shelf)
    with somebody_else(shelf) as book, pytest.raises(LedgerUnreachable):
        book.count_runs()


def test_a_mounted_file_is_known_as_such(tmp_path: Path) -> None:
    """As a container has one of its host; what lies beside it there is not here."""
    assert any(is_mounted(Path(line.split()[1])) for line in Path("/proc/mounts").read_text().splitlines())
    assert not is_mounted(tmp_path / "runs.db")


def test_a_mounted_file_is_not_taken_for_resting(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its WAL lies where it comes from."""
    monkeypatch.setattr("ledger.store.resting.is_mounted", lambda path: path == shelf.resolve())
    with somebody_else(shelf) as book, pytest.raises(LedgerUnreachable):
        book.count_runs()


def test_many_readers_at_once_leave_as_many_open_and_no_more(shelf: Path) -> None:
    """SQLite keeps a descriptor of each that is closed while others are open, so that none is closed."""
    opened(shelf)
    counts = []
    with Ledger(shelf) as writer, closing(sqlite3.connect(shelf)) as held:
        writer.append(heartbeat(3))
        held.execute("SELECT count(*) FROM training_events").fetchone()
        closed(shelf)
        with somebody_else(shelf) as book:
            for _ in range(5):
                with ExitStack() as together:
                    for _ in range(12):
                        together.enter_context(book._database.read()).execute("SELECT 1 FROM training_runs").fetchone()
                counts.append(len(os.listdir("/proc/self/fd")))
        opened(shelf)
    assert counts[-1] == counts[0]


def test_writers_that_come_and_go_leave_nothing_open(shelf: Path) -> None:
    """A page that is asked for days opens no more files than one that was asked once."""
    with no_root():
        reader = Ledger(shelf)
        reader.count_runs()
    counts = []
    for minute in range(3, 23):
        opened(shelf)
        with Ledger(shelf) as writer:
            writer.append(heartbeat(minute))
        closed(shelf)
        with no_root():
            assert len(list(reader.events())) == minute + 1
        counts.append(len(os.listdir("/proc/self/fd")))
    with no_root():
        reader.close()
    assert counts[-1] <= counts[0]


def test_a_ledger_of_before_that_may_only_be_read_says_who_mends_it(shelf: Path) -> None:
    """It has to be opened once by who may write to it."""
    opened(shelf)
    with closing(sqlite3.connect(shelf)) as db, db:
        db.execute("DELETE FROM ledger_migrations WHERE name = 'm004_consumers'")
    closed(shelf)
    with somebody_else(shelf) as book, pytest.raises(LedgerUnreachable, match=r"former version.*`ledger init`"):
        book.count_runs()
