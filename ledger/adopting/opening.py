"""The earlier API's file, opened so that neither it nor what lies beside it changes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from ledger.errors import FileUnreadable, InvalidValue
from ledger.store.forking import refuse_disowned

__all__ = ["opened_old", "reading_old"]

_WANTED = "a training_runs.db of the earlier API is wanted"
_BUSY_SECONDS_MAX = 30


@contextmanager
def reading_old(path: Path) -> Iterator[None]:
    """Turn what the driver and the system raise over the earlier file into what the ledger raises."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        if "not a database" in str(exc):
            raise InvalidValue("OLD.db", str(path), f"{_WANTED}, and this is no SQLite file") from exc
        raise FileUnreadable(str(path), str(exc)) from exc


@contextmanager
def opened_old(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the earlier API's file. Raises InvalidValue for everything else, a ledger's file too."""
    if not path.is_file():
        raise InvalidValue("OLD.db", str(path), f"{_WANTED}, and there is none")
    with ExitStack() as until_closed:
        with reading_old(path):
            # What lies beside it lies beside the file, and not beside a link to it.
            connection = _connected(path.resolve(), until_closed)
            until_closed.callback(connection.close)
            _refuse_strangers(connection, path)
        yield connection


def _connected(path: Path, until_closed: ExitStack) -> sqlite3.Connection:
    """Connect without a right to change anything, as what lies beside the file allows it."""
    beside = {suffix for suffix in ("-wal", "-shm", "-journal") if path.with_name(path.name + suffix).exists()}
    if "-wal" in beside and "-shm" not in beside:
        return _copied(path, until_closed)  # nobody has it open, and reading it in its place would leave a -shm behind
    if beside:
        try:
            return _connection(path, "mode=ro")
        except sqlite3.OperationalError as exc:
            if "locked" in str(exc):
                raise
            # What a killed writer left half done, SQLite would finish in its place.
            return _copied(path, until_closed)
    try:
        # Who may write clears away, at his close, what SQLite puts beside a file in WAL mode that nobody has open.
        return _connection(path, "mode=rw")
    except sqlite3.OperationalError as exc:
        if "locked" in str(exc):
            raise
        return _connection(path, "immutable=1")  # nobody writes to it, and nobody may write beside it


def _copied(path: Path, until_closed: ExitStack) -> sqlite3.Connection:
    """Connect to a copy, with what lies beside it."""
    folder = Path(until_closed.enter_context(TemporaryDirectory(prefix="ledger-adopt-")))
    for suffix in ("", "-wal", "-journal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(path.with_name(path.name + suffix), folder / f"old.db{suffix}")
    return _connection(folder / "old.db", "mode=rw")


def _connection(path: Path, how: str) -> sqlite3.Connection:
    refuse_disowned(str(path))
    address = f"file:{quote(str(path.absolute()))}?{how}"
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:  # an interrupt too: nobody else would close it
        connection.close()
        raise
    return connection


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    if "training_events" in tables:
        wanted = f"{_WANTED}, and this is a ledger; take in its events with `ledger merge {path}`"
        raise InvalidValue("OLD.db", str(path), wanted)
    if "training_runs" not in tables:
        raise InvalidValue("OLD.db", str(path), f"{_WANTED}, and this database has no table training_runs")
    columns = [name.lower() for _, name, *_ in connection.execute("PRAGMA table_info(training_runs)")]
    if "run_id" not in columns:
        raise InvalidValue("OLD.db", str(path), f"{_WANTED}, and its table training_runs has no column run_id")
