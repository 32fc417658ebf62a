"""Copies of a ledger's file: taken while writers write, and put back with nothing thrown away."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import InvalidValue, LedgerBusy, NotALedger
from ledger.events.times import text_of
from ledger.origin import utc_now
from ledger.store.finishing import finished_file
from ledger.store.forking import connect
from ledger.store.sqlite import MEMORY, SQLiteDatabase
from ledger.store.translation import translating

__all__ = ["Restored", "backup", "restore"]


@dataclass(frozen=True)
class Restored:
    """What a restore did: where the former files are now, and which of their events the backup lacks."""

    set_aside: tuple[str, ...]
    newer_events: int | None
    newer_runs: tuple[str, ...] = ()


def backup(database: SQLiteDatabase, destination: str | os.PathLike[str]) -> Path:
    """Write one file that holds the ledger as of one moment, while writers go on.

    Raises InvalidValue when *destination* is there already: a backup never overwrites another.
    """
    target = Path(destination).expanduser()
    with database.read() as connection, translating(str(target)), finished_file(target, "DEST") as unfinished:
        _copy(connection, unfinished)
    return target


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Write all that *source* sees, also what is in its -wal, into one new file, and that to the disk."""
    with closing(connect(str(target))) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, whatever is done with it next
    with target.open("rb") as file:
        os.fsync(file.fileno())


def restore(path: str, source: str | os.PathLike[str]) -> Restored:
    """Put the backup *source* in the place of the ledger at *path*, whose files are set aside, not deleted.

    Raises LedgerBusy when another process has the ledger open, NotALedger when *source* is no ledger.
    """
    if path == MEMORY:
        raise InvalidValue("--db", path, "a ledger in a file is wanted")
    current, kept = Path(path), Path(source).expanduser()
    _check_source(kept)
    if current.exists() and kept.samefile(current):
        raise InvalidValue("SRC", str(source), "another file than the ledger itself is wanted")
    newer = _newer_than(current, kept) if current.exists() else (None, ())
    with translating(path):
        current.parent.mkdir(parents=True, exist_ok=True)
        arriving = current.with_name(f".{current.name}.arriving")
        arriving.unlink(missing_ok=True)
        with closing(connect(str(kept))) as source_connection:
            _copy(source_connection, arriving)  # whatever can fail fails before anything is moved
        with _taken_alone(current):
            set_aside = _set_aside(current)
            arriving.rename(current)
    return Restored(tuple(set_aside), *newer)


def _set_aside(current: Path) -> list[str]:
    stamp = text_of(utc_now()).replace(":", "").replace("-", "")
    moved = []
    for suffix in ("-wal", "-shm", "-journal", ""):
        file = current.with_name(current.name + suffix)
        if file.exists():
            aside = current.with_name(f"{current.name}.before-restore-{stamp}{suffix}")
            file.rename(aside)
            moved.append(str(aside))
    return moved


def _check_source(source: Path) -> None:
    if not source.is_file():
        raise InvalidValue("SRC", str(source), "a backup that is there is wanted")
    with closing(connect(str(source))) as connection, translating(str(source)):
        (verdict,) = connection.execute("PRAGMA quick_check").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if verdict != "ok" or "training_events" not in tables:
        raise NotALedger(f"{source} is no whole ledger ({verdict}); nothing was changed. Choose another backup.")


def _newer_than(current: Path, source: Path) -> tuple[int | None, tuple[str, ...]]:
    """The events of *current* that *source* lacks; None where the current file cannot be read any more."""
    connection = connect(str(current))
    try:
        connection.execute("ATTACH DATABASE ? AS kept", (str(source),))
        rows = connection.execute(
            "SELECT run_id, COUNT(*) FROM main.training_events"
            " WHERE event_id NOT IN (SELECT event_id FROM kept.training_events) GROUP BY run_id ORDER BY run_id"
        ).fetchall()
    except sqlite3.DatabaseError:
        return None, ()
    finally:
        connection.close()
    return sum(count for _, count in rows), tuple(run_id for run_id, _ in rows)


@contextmanager
def _taken_alone(current: Path) -> Iterator[None]:
    """Fold the WAL into the file, which only the one process that has it open can do, and let nobody write inside."""
    if not current.exists():
        yield
        return
    with closing(connect(str(current), timeout_seconds=2)) as connection:
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as exc:
            if "locked" in str(exc):
                raise LedgerBusy(str(current), 2) from exc
        except sqlite3.DatabaseError:
            pass  # damaged: that is why a backup is put back; its files are set aside as they are
        yield
