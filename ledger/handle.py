"""A ledger's place, opened on first use: what recording, asking and upkeep share.

What lies in the store is imported when a database is opened, so that a process which records
without one loads no SQLAlchemy.
"""

from __future__ import annotations

import logging
import os
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ledger.errors import LedgerUnreachable, NotConfigured
from ledger.settings import OFF, Settings, shown

if TYPE_CHECKING:
    from ledger.store.answers import Answers
    from ledger.store.sqlite import Database

__all__ = ["Handle"]

_log = logging.getLogger("ledger")


class Handle:
    """One ledger, by URL or path; without either, by the environment's variables."""

    def __init__(self, url: str | os.PathLike[str] | None = None, *, busy_seconds_max: float = 30.0) -> None:
        self._settings = Settings.read(url)
        self._busy_seconds_max = busy_seconds_max
        self._said_off = False
        self._opened = None if self._settings.url == OFF else self._database_of(self._settings)

    @property
    def url(self) -> str:
        """The ledger's place as it may be shown: a path, or a URL without its password."""
        return shown(self._settings.url)

    def close(self) -> None:
        """Close the connections. Closing again does nothing; using the ledger afterwards is an error."""
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _database_of(self, settings: Settings) -> Database:
        if not settings.url.startswith("sqlite:"):
            raise LedgerUnreachable(
                f"{shown(settings.url)}: this version keeps ledgers in SQLite files only. "
                "Give a path, or set TRAINING_DB_PATH and unset TRAINING_DB_URL and the TRAINING_DB_HOST group."
            )
        from ledger.store.sqlite import MEMORY, Database

        path = settings.url.removeprefix("sqlite://").removeprefix("/") or MEMORY
        return Database(path, synchronous=settings.synchronous, busy_seconds_max=self._busy_seconds_max)

    @property
    def _off(self) -> bool:
        """Whether recording is switched off; says so the first time."""
        if self._opened is None and not self._said_off:
            self._said_off = True
            _log.warning("TRAINING_DB_URL=off: nothing is recorded")
        return self._opened is None

    @property
    def _database(self) -> Database:
        if self._opened is None:
            raise NotConfigured(
                "TRAINING_DB_URL=off: nothing is recorded, so nothing can be asked. Set it to a ledger."
            )
        return self._opened

    @cached_property
    def _answers(self) -> Answers:
        """What this ledger answers, whatever was asked before."""
        from ledger.store.answers import Answers

        return Answers(self._database)
