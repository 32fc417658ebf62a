"""A file that nobody has open, and that this process may not write to, or beside: it is read as it rests.

SQLite's WAL needs a file beside the database for readers too. While somebody writes, that is there; while nobody does,
a reader who cannot make it can read all the same, for as long as nobody begins.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ledger.errors import LedgerUnreachable
from ledger.store.filesystem import is_mounted
from ledger.store.forking import Lendable, connect
from ledger.store.migrations import Step, pending
from ledger.store.translation import is_busy

__all__ = ["Resting", "Unmixed", "looked_at"]


@dataclass(frozen=True)
class Resting:
    """The file as it was found: its time and its size."""

    path: str
    real: str
    changed_at: int
    size: int

    @classmethod
    def found(cls, path: str) -> Resting | None:
        """Return how the file rests; None where somebody has it open, or this process could open it to write."""
        real = Path(path).resolve()  # what lies beside it lies beside the file, not beside a link to it
        effective = os.access in os.supports_effective_ids
        if all(os.access(place, os.W_OK, effective_ids=effective) for place in (real, real.parent)):
            return None
        try:
            there = real.stat()
        except FileNotFoundError:
            return None
        if there.st_nlink > 1 or is_mounted(real):  # it may be open under another name, beside which its WAL lies
            return None
        made = cls(path, str(real), there.st_mtime_ns, there.st_size)
        return None if made.is_open() else made

    def is_open(self) -> bool:
        """Whether something lies beside it that belongs to it."""
        return os.path.exists(f"{self.real}-wal") or os.path.exists(f"{self.real}-journal")  # noqa: PTH110 -- on every read

    def stirs(self) -> bool:
        """Whether somebody has opened the file since, so that it is to be read with what lies beside it."""
        return self.is_open() or self.is_changed()

    def is_changed(self) -> bool:
        """Whether what was read of it since may be a mixture."""
        try:
            there = os.stat(self.path)  # noqa: PTH116 -- on every read
        except FileNotFoundError:
            return False  # whoever had it open has read on
        return (there.st_mtime_ns, there.st_size) != (self.changed_at, self.size)

    def connect(self) -> Lendable:
        made = connect(self.path, at_rest=True)
        made.may_mix = self.is_changed
        return made


class Unmixed:
    """A block that reads, and raises LedgerUnreachable where what it has read may be of several states."""

    __slots__ = ("_connection", "_place")

    def __init__(self, connection: Lendable, place: str) -> None:
        self._connection = connection
        self._place = place

    def __enter__(self) -> None:
        """What is read is judged at the end."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (kind is None or issubclass(kind, sqlite3.Error)) and self._connection.may_mix():
            raise LedgerUnreachable(f"somebody began to write to {self._place} in the middle of a question. Ask again.")


def looked_at(path: str, connecting: Callable[[], sqlite3.Connection]) -> tuple[list[Step], Resting | None]:
    """Return what steps a file has not seen, and how it rests, where that is the only way to read it."""
    try:
        with closing(connecting()) as probe:
            return pending(probe, path), None
    except sqlite3.OperationalError as exc:
        resting = None if is_busy(exc) else Resting.found(path)
        if resting is None:
            raise
    with closing(resting.connect()) as probe:
        if not pending(probe, path):
            return [], resting
    raise LedgerUnreachable(
        f"{path} was made by a former version, and this process may not write to it. "
        "Let somebody who may open it once with this version: `ledger init`."
    )
