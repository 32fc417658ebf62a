"""What is known of a crash: the run's row and timeline, its config, and what it said last."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ledger.errors import NotConfigured, OnlyASpool
from ledger.events.plain import plain_mapping, strict_object
from ledger.events.redaction import redact
from ledger.integrations.redacting import redacted_text
from ledger.projections.timeline import Entry

if TYPE_CHECKING:
    from ledger.api import Ledger

__all__ = ["Analyzer", "CrashEvidence", "ErrorLog", "gathered", "log_text"]

ErrorLog = str | bytes | os.PathLike[str]

LOG_BYTES_MAX = 16 * 2**20  # of a longer file, the end is taken
ENTRIES_MAX = 200


@dataclass(frozen=True)
class CrashEvidence:
    """What an analyzer is given. Secrets that can be told for such are taken out of all of it.

    *run* and *timeline* are empty where the ledger could not be asked; *error_log* is all that is there of it, so an
    analyzer takes from its end what it can use.
    """

    run_id: str
    run: Mapping[str, object] = field(default_factory=dict)
    timeline: tuple[Entry, ...] = ()
    config: Mapping[str, JsonValue] = field(default_factory=dict)
    error_log: str = ""
    exit_code: int | None = None
    end_reason: str | None = None

    def with_config(self, config: object) -> CrashEvidence:
        """Return the same with another config than the one of the launch."""
        made, _ = redact(plain_mapping(config))
        return replace(self, config=made if isinstance(made, dict) else {})


Analyzer = Callable[[CrashEvidence], str]


def log_text(error_log: ErrorLog) -> str:
    """Return the log, without secrets that can be told for such; of a long one the end. Raises OSError for a path."""
    if isinstance(error_log, os.PathLike):
        data, length = _end_of(Path(error_log))
    else:
        whole = error_log.encode("utf-8", "backslashreplace") if isinstance(error_log, str) else error_log
        data, length = whole[-LOG_BYTES_MAX:], len(whole)
    if len(data) < length:
        data = data.partition(b"\n")[2] or data  # whole lines
        data = b"[the first %d bytes of this log are left out]\n" % (length - len(data)) + data
    return redacted_text(data.decode("utf-8", "backslashreplace"))


def _end_of(path: Path) -> tuple[bytes, int]:
    """The end of a file, and how long the file is. A pipe, which may never end, is none."""
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no file, and a log is read from one")
        file.seek(max(0, found.st_size - LOG_BYTES_MAX))
        return file.read(LOG_BYTES_MAX), found.st_size


def gathered(ledger: Ledger, known: CrashEvidence) -> CrashEvidence:
    """Return what is *known* and what the ledger can add to it; a spool, or `off`, adds nothing."""
    try:
        row = ledger.get_run(known.run_id) or {}
        timeline = ledger.timeline(run_id=known.run_id)[-ENTRIES_MAX:]
    except (OnlyASpool, NotConfigured):
        return known
    config = strict_object(row["config_json"]) if row.get("config_json") else {}
    return replace(known, run=row, timeline=tuple(timeline), config=config)
