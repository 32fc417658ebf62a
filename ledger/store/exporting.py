"""Exports: the stored events as lines of JSON, which any ledger merges and any tool reads."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ledger.errors import LedgerUnreachable
from ledger.progress import Pace, Watcher
from ledger.store.finishing import finished_file
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.sqlite import Database
from ledger.store.statements import Connection

__all__ = ["Exported", "export"]

_ALL = f"SELECT {', '.join(EVENT_COLUMNS)} FROM training_events ORDER BY position"


@dataclass(frozen=True)
class Exported:
    """The file that was written, None where that was an open one, and how many events it holds."""

    path: Path | None
    events: int


def export(
    database: Database, destination: str | os.PathLike[str] | IO[bytes], watcher: Watcher | None = None
) -> Exported:
    """Write every event as of one moment, one a line, in order of acceptance, while writers go on.

    Raises InvalidValue when *destination* is there already: an export never overwrites another.
    """
    if not isinstance(destination, str | os.PathLike):
        with database.snapshot() as connection:
            return Exported(None, _write(connection, destination, watcher))
    target = Path(destination).expanduser()
    with database.snapshot() as connection:
        try:
            with finished_file(target, "FILE") as unfinished, unfinished.open("wb") as file:
                count = _write_into(file, connection, watcher, zipped=target.suffix == ".gz")
        except OSError as exc:
            raise LedgerUnreachable(f"{target}: {exc.strerror}. Mend the place, then do the same again.") from exc
    return Exported(target, count)


def _write_into(file: IO[bytes], connection: Connection, watcher: Watcher | None, *, zipped: bool) -> int:
    if not zipped:
        return _write(connection, file, watcher)
    # Neither name nor time in it: the same events are the same bytes.
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as out:
        return _write(connection, out, watcher)


def _write(connection: Connection, out: IO[bytes] | gzip.GzipFile, watcher: Watcher | None) -> int:
    (total,) = connection.execute("SELECT count(*) FROM training_events").fetchone()
    pace = Pace(total, watcher)
    for row in connection.execute(_ALL):
        out.write(f"{json.dumps(dict(zip(EVENT_COLUMNS, row, strict=True)))}\n".encode())
        pace.step()
    pace.finish()
    return int(total)
