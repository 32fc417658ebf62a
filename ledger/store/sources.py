"""Files that events are merged from, told by what is in them: another ledger's, or an export.

A source is never changed. A ledger is read by the columns that its first schema had, which never change,
so that one of another version is read as it stands; and a page at a time, so that its writers go on.
"""

from __future__ import annotations

import gzip
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from ledger.errors import InvalidFact, NotALedger
from ledger.events.fact import Recorded, checked
from ledger.events.times import LATEST
from ledger.store.forking import refuse_disowned
from ledger.store.merging import Arrival, Refusal, Source, arriving
from ledger.store.statements import StoredRow
from ledger.store.translation import is_busy, translating

__all__ = ["SAID", "arriving_row", "opened_file"]

PAGE_EVENTS_MAX = 500
PAGE_BYTES_MAX = 4_000_000
DATABASE_BYTES_MIN = 512  # one page; SQLite takes a byte or two for a database to be


@contextmanager
def opened_file(path: Path) -> Iterator[Source]:
    """Open a source. Raises NotALedger where it is another SQLite database."""
    with translating(str(path)):
        connection = _connected(path) if path.stat().st_size >= DATABASE_BYTES_MIN else None
    if connection is None:
        yield _Export(path)
        return
    with closing(connection):
        with translating(str(path)):
            source = _LedgerFile(connection, path)
        yield source


def _connected(path: Path) -> sqlite3.Connection | None:
    """Connect to another ledger's file without a right to change it; None where it is no database.

    SQLite tells: whoever opens and closes a database by himself gives away the locks that this process has on it.
    """
    try:
        return _connected_to_database(path)
    except sqlite3.DatabaseError as exc:
        if "not a database" in str(exc):
            return None
        raise


def _connected_to_database(path: Path) -> sqlite3.Connection:
    path = path.resolve()  # what lies beside it lies beside the file, not beside a link to it
    wal = path.with_name(f"{path.name}-wal")
    # Who may write to a file that nobody has open clears away, at its close, what reading put beside it. Where
    # somebody has it open, or was killed, what lies beside is not ours.
    mode = "ro" if wal.exists() else "rw"
    try:
        return _reading(path, f"mode={mode}")
    except sqlite3.OperationalError as exc:
        if is_busy(exc) or wal.exists() or path.with_name(f"{path.name}-journal").exists():
            raise
        return _reading(path, "immutable=1")  # nobody writes to it, and nobody may write beside it


def _reading(path: Path, how: str) -> sqlite3.Connection:
    refuse_disowned(str(path))
    address = f"file:{quote(str(path))}?{how}"
    connection = sqlite3.connect(address, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        # What somebody made of a text behind the ledger's back is refused by its digest, not by the driver.
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:  # an interrupt too: nobody else would close it
        connection.close()
        raise
    return connection


SAID = ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload", "digest")
_SAID = ", ".join(SAID)
_SOURCE, _PAYLOAD = 6, 7  # behind a number and five more of these
_EVENTS = f"SELECT position, {_SAID} FROM training_events WHERE position > ? AND position <= ? ORDER BY position"
_CONFLICTS = f"SELECT rowid, {_SAID} FROM training_conflicts WHERE rowid > ? AND rowid <= ? ORDER BY rowid"


class _LedgerFile:
    """The events of another ledger as it stands at this moment, and behind them what it keeps of conflicts."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.place = str(path)
        self._connection = connection
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "training_events" not in tables:
            raise NotALedger(
                f"{path} is another SQLite database; it was left as it is. Merge from a ledger's file; "
                "`ledger adopt` takes over a training_runs.db of the earlier API."
            )
        self._last, self.steps = self._extent("position", "training_events")
        self._last_conflict, kept = (
            self._extent("rowid", "training_conflicts") if "training_conflicts" in tables else (0, 0)
        )
        self.steps += kept

    def _extent(self, number: str, table: str) -> tuple[int, int]:
        last, count = self._connection.execute(f"SELECT coalesce(max({number}), 0), count(*) FROM {table}").fetchone()
        return last, count

    def arrivals(self) -> Iterator[Arrival]:
        yield from self._rows(_EVENTS, "position", self._last)
        yield from self._rows(_CONFLICTS, "conflict", self._last_conflict)

    def _rows(self, sql: str, kind: str, last: int) -> Iterator[Arrival]:
        after = 0
        while after < last:
            page = self._page(sql, after, last)
            if not page:
                return
            for row in page:
                yield arriving_row(f"{kind} {row[0]}", row)
            after = page[-1][0]

    def _page(self, sql: str, after: int, last: int) -> list[StoredRow]:
        page: list[StoredRow] = []
        size = 0
        with translating(self.place), closing(self._connection.execute(sql, (after, last))) as rows:
            for row in rows:
                page.append(row)
                size += _size(row)
                if len(page) >= PAGE_EVENTS_MAX or size >= PAGE_BYTES_MAX:
                    break
        return page


def _size(row: StoredRow) -> int:
    return len(str(row[_PAYLOAD])) + len(str(row[_SOURCE]))  # no text, but for what a stranger made of the file


def arriving_row(where: str, row: StoredRow) -> Arrival:
    """Return the event of a row, a number and then what is SAID, or why it is refused."""
    position, event_id, run_id, type, schema_version, occurred_at, source, payload, digest = row
    recorded = Recorded(
        position, event_id, run_id, 0, type, schema_version, occurred_at, LATEST, source, payload, digest, ""
    )
    try:
        return Arrival(where, _size(row), 1, checked(recorded))
    except InvalidFact as exc:
        return Arrival(where, _size(row), 1, Refusal(where, event_id if isinstance(event_id, str) else None, str(exc)))


class _Export:
    """Lines of events in a file, zipped or not. Its steps are bytes of the file."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self.steps = path.stat().st_size

    def arrivals(self) -> Iterator[Arrival]:
        number = end = 0
        with translating(self.place), self._path.open("rb") as file:
            zipped = file.peek(2).startswith(b"\x1f\x8b")
            try:
                for number, line in enumerate(gzip.GzipFile(fileobj=file) if zipped else self._lines(file), 1):
                    begin, end = end, file.tell()
                    if line.strip():
                        yield _of_line(f"line {number}", line, end - begin)
            except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
                why = f"the file is cut off or damaged from here on ({exc}); export it again"
                yield Arrival(f"line {number + 1}", 0, 0, Refusal(f"line {number + 1}", None, why))

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        """What was there when the file was opened: somebody may be writing on."""
        left = self.steps
        for line in file:
            yield line[:left]
            left -= len(line)
            if left <= 0:
                return


def _of_line(where: str, line: bytes, steps: int) -> Arrival:
    try:
        return arriving(where, line.decode().strip(), steps)
    except UnicodeDecodeError as exc:
        return Arrival(where, len(line), steps, Refusal(where, None, f"a line that is no UTF-8 ({exc})"))
