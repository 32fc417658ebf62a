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
from ledger.store.database import Database
from ledger.store.finishing import finished_file
from ledger.store.reading import EVENT_COLUMNS, FACT_COLUMNS
from ledger.store.statements import Connection, said

__all__ = ["Exported", "export"]

_EVENTS = said(f"SELECT {', '.join(EVENT_COLUMNS)} FROM training_events ORDER BY position")
_OF_THE_MAKER = (*FACT_COLUMNS, "digest")
_CONFLICTS = said(f"SELECT {', '.join(_OF_THE_MAKER)} FROM training_conflicts ORDER BY event_id, digest")


@dataclass(frozen=True)
class Exported:
    """The file that was written, None where that was an open one, and how many events and kept conflicts it holds."""

    path: Path | None
    events: int
    conflicts: int = 0


def export(
    database: Database, destination: str | os.PathLike[str] | IO[bytes], watcher: Watcher | None = None
) -> Exported:
    """Write every event as of one moment, one a line, in order of acceptance, while writers go on.

    Behind them comes what is kept of conflicts, so that no merge of an export loses what one of the ledger keeps.

    Raises InvalidValue when *destination* is there already: an export never overwrites another.
    """
    if not isinstance(destination, str | os.PathLike):
        with database.snapshot() as connection:
            return Exported(None, *_write(connection, destination, watcher))
    target = Path(destination).expanduser()
    with database.snapshot() as connection:
        try:
            with finished_file(target, "FILE") as unfinished, unfinished.open("wb") as file:
                counts = _write_into(file, connection, watcher, zipped=target.suffix.lower() == ".gz")
        except OSError as exc:
            raise LedgerUnreachable(f"{target}: {exc.strerror}. Mend the place, then do the same again.") from exc
    return Exported(target, *counts)


def _write_into(file: IO[bytes], connection: Connection, watcher: Watcher | None, *, zipped: bool) -> tuple[int, int]:
    if not zipped:
        return _write(connection, file, watcher)
    # Neither name nor time in it: the same events are the same bytes.
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as out:
        return _write(connection, out, watcher)


def _write(connection: Connection, out: IO[bytes] | gzip.GzipFile, watcher: Watcher | None) -> tuple[int, int]:
    """Write all lines, and return how many tell of events and how many of conflicts."""
    counts = "SELECT (SELECT count(*) FROM training_events), (SELECT count(*) FROM training_conflicts)"
    events, conflicts = connection.execute(counts).fetchone()
    pace = Pace(events + conflicts, watcher)
    for names, asked in ((EVENT_COLUMNS, _EVENTS), (_OF_THE_MAKER, _CONFLICTS)):
        for row in asked.rows(connection):
            out.write(f"{json.dumps(dict(zip(names, row, strict=True)))}\n".encode())
            pace.step()
    pace.finish()
    return events, conflicts
