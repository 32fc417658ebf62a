"""Backups: whole while writers write, and put back with nothing thrown away."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import InvalidValue, LedgerBusy, LedgerError, LedgerUnreachable, NotALedger
from tests.builders import completed, heartbeat, launched, shown, started, told
from tests.store.crowd import writing


def test_a_backup_is_one_whole_ledger(book: Ledger, tmp_path: Path) -> None:
    """One file, with nothing beside it, that shows what the ledger showed."""
    book.append([launched(0, config={"batch_size": 8}), started(1), completed(2)])
    made = book.backup(tmp_path / "folder" / "backup.db")

    assert [file.name for file in made.parent.iterdir()] == ["backup.db"]
    with Ledger(made) as copy:
        assert list(copy.events()) == list(book.events())
        assert (shown(copy), bool(copy.verify())) == (shown(book), True)


def test_a_backup_while_writers_write_is_whole(path: Path, tmp_path: Path) -> None:
    """Taken at any moment between their commits, each backup verifies, and each knows more than the one before."""
    writers = [writing(path, f"r{number}") for number in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        with Ledger(path) as book:
            backups = [book.backup(tmp_path / f"backup-{number}.db") for number in range(8)]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()

    counts = []
    for backup in backups:
        with Ledger(backup) as copy:
            events = list(copy.events())
            assert (bool(copy.verify()), shown(copy)) == (True, told(events))
            counts.append(len(events))
    assert counts == sorted(counts)
    assert counts[-1] > 2


def test_a_backup_never_overwrites_another(book: Ledger, tmp_path: Path) -> None:
    """A file that is there is left as it is."""
    there = tmp_path / "there.db"
    there.write_text("precious")

    with pytest.raises(InvalidValue, match="does not exist yet"):
        book.backup(there)

    assert there.read_text() == "precious"


def test_a_backup_leaves_nothing_half_done(book: Ledger, tmp_path: Path) -> None:
    """Where there is no room for it, the error says so and nothing of it stays."""
    folder = tmp_path / "file"
    folder.write_text("no folder")

    with pytest.raises(LedgerError):
        book.backup(folder / "backup.db")

    assert folder.read_text() == "no folder"


def test_a_backup_that_fails_leaves_nothing_beside(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written under another name goes with it, and what SQLite put beside that."""

    def full(descriptor: int) -> None:
        (unfinished,) = (tmp_path / "out").iterdir()
        unfinished.with_name(f"{unfinished.name}-journal").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    book.append(launched(0))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LedgerUnreachable, match="No space left"):
        book.backup(tmp_path / "out" / "kept.db")

    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def kept(book: Ledger, tmp_path: Path) -> Path:
    """Give a backup of a ledger that went on afterwards."""
    book.append([launched(0), started(1)])
    made = book.backup(tmp_path / "kept" / "backup.db")
    book.append([completed(2), launched(0, run="s"), started(1, run="s")])
    return made


def test_a_restore_says_what_the_backup_lacks(book: Ledger, kept: Path, path: Path) -> None:
    """How many events are newer and of which runs; the ledger then is what the backup was."""
    restored = book.restore_backup(kept)

    assert (restored.newer_events, restored.newer_runs) == (3, ("r", "s"))
    assert [event.type for event in book.events()] == ["launched", "started"]
    assert (shown(book), bool(book.verify())) == (told(book.events()), True)
    book.append(completed(9))
    book.close()
    assert kept.exists()


def test_a_restore_sets_the_former_file_aside(book: Ledger, kept: Path, path: Path) -> None:
    """Nothing is thrown away: the ledger as it was lies beside, whole."""
    before = list(book.events())
    restored = book.restore_backup(kept)

    (aside,) = restored.set_aside
    assert Path(aside).parent == path.parent
    with Ledger(aside) as former:
        assert (list(former.events()), bool(former.verify())) == (before, True)


def test_what_a_restore_sets_aside_can_be_merged_back(book: Ledger, kept: Path) -> None:
    """The events that the backup lacked are not lost: the ledger is a set."""
    before = shown(book)
    (aside,) = book.restore_backup(kept).set_aside
    with Ledger(aside) as former:
        book.append(former.events())

    assert (shown(book), bool(book.verify())) == (before, True)


def test_a_killed_writers_wal_does_not_reach_the_restored_file(path: Path, tmp_path: Path) -> None:
    """A -wal that was left behind is folded in and set aside; it never meets the backup."""
    with Ledger(path) as book:
        book.append(launched(0))
        kept = book.backup(tmp_path / "backup.db")
    writer = writing(path, "late")
    assert writer.stdout is not None
    said = {writer.stdout.readline().strip() for _ in range(5)}
    writer.kill()
    writer.communicate()
    assert path.with_name(f"{path.name}-wal").exists()

    with Ledger(path) as book:
        restored = book.restore_backup(kept)
        assert (book.count_runs(), bool(book.verify())) == (1, True)
    with Ledger(restored.set_aside[-1]) as former:
        assert said <= {event.event_id for event in former.events()}
        assert former.verify()


def test_a_restore_waits_for_nobody(path: Path, tmp_path: Path) -> None:
    """While another process has the ledger open, it is refused and nothing is moved."""
    with Ledger(path) as book:
        book.append(launched(0))
        kept = book.backup(tmp_path / "backup.db")
    writer = writing(path, "r")
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        with Ledger(path) as book, pytest.raises(LedgerBusy):
            book.restore_backup(kept)
        time.sleep(0.1)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()

    assert [file.name for file in sorted(path.parent.glob("*before-restore*"))] == []
    with Ledger(path) as book:
        assert book.get_run("shared") is not None
        assert book.verify()


def test_an_idle_reader_is_another_process_too(book: Ledger, kept: Path, path: Path) -> None:
    """A second Ledger that only has the file open stops a restore."""
    with Ledger(path) as other:
        assert other.count_runs() == 2
        with pytest.raises(LedgerBusy):
            book.restore_backup(kept)
    assert book.count_runs() == 2


def test_a_restore_where_there_is_no_ledger_yet(kept: Path, tmp_path: Path) -> None:
    """On a new machine the backup becomes the ledger; nothing had to be set aside."""
    with Ledger(tmp_path / "new" / "runs.db") as fresh:
        restored = fresh.restore_backup(kept)

        assert (restored.set_aside, restored.newer_runs) == ((), ())
        assert fresh.count_runs() == 1


def test_a_damaged_ledger_can_be_restored(path: Path, tmp_path: Path) -> None:
    """That is what backups are for; what is newer cannot be known then, and the damaged file is kept."""
    with Ledger(path) as book:
        book.append([launched(0), started(1)])
        kept = book.backup(tmp_path / "backup.db")
    with path.open("r+b") as file:
        file.seek(0)
        file.write(b"rubbish" * 1000)

    with Ledger(path) as book:
        restored = book.restore_backup(kept)
        assert (restored.newer_events, len(restored.set_aside)) == (None, 1)
        assert (book.count_runs(), bool(book.verify())) == (1, True)


def _missing(path: Path) -> None:
    pass


def _text(path: Path) -> None:
    path.write_text("no database" * 100)


def _another(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.commit()


@pytest.mark.parametrize(("make", "error"), [(_missing, InvalidValue), (_text, NotALedger), (_another, NotALedger)])
def test_what_is_no_backup_is_not_restored(
    book: Ledger, tmp_path: Path, make: Callable[[Path], None], error: type[LedgerError]
) -> None:
    """The ledger stays in its place."""
    book.append(heartbeat(0, step=1))
    source = tmp_path / "source.db"
    make(source)

    with pytest.raises(error):
        book.restore_backup(source)

    assert book.count_runs() == 1
    assert list(tmp_path.glob("*before-restore*")) == []


def test_a_ledger_is_not_restored_from_itself(book: Ledger, path: Path) -> None:
    """The file itself is no backup of it."""
    book.append(launched(0))

    with pytest.raises(InvalidValue, match="another file"):
        book.restore_backup(path)
    assert book.count_runs() == 1


def test_a_ledger_in_memory_has_backups_too(tmp_path: Path) -> None:
    """It can be written to a file, and not be put back."""
    with Ledger(":memory:") as book:
        book.append(launched(0))
        made = book.backup(tmp_path / "backup.db")
        with pytest.raises(InvalidValue, match="in a file"):
            book.restore_backup(made)

    with Ledger(made) as copy:
        assert copy.count_runs() == 1


def test_a_restore_takes_what_lies_in_the_wal_of_its_source(path: Path, tmp_path: Path) -> None:
    """A copy that somebody has open is restored as it reads, not as its main file alone stands."""
    with Ledger(tmp_path / "kept.db") as kept:
        for run in range(5):
            kept.append(launched(0, run=f"r{run}"))
        with Ledger(path) as book:
            book.append(launched(0, run="old"))
            book.restore_backup(tmp_path / "kept.db")
            assert (book.count_runs(), book.verify().ok) == (5, True)
