"""Who may read a ledger's file, and not write to it or beside it, has every answer, whether or not somebody has it open."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import LedgerUnreachable, NoLedger
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


def test_an_answer_from_a_file_that_stirred_is_not_given(shelf: Path) -> None:
    """Somebody writes in the middle of a question: its answer could be a mixture."""
    with somebody_else(shelf) as book:
        assert book.count_runs() == 1
        with pytest.raises(LedgerUnreachable, match="in the middle of a question. Ask again"):
            with book._database.snapshot():
                os.seteuid(os.getuid())
                opened(shelf)
                with Ledger(shelf) as writer:
                    writer.append([heartbeat(minute) for minute in range(3, 400)])
                closed(shelf)
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
