"""A ledger's place, opened on first use: what recording, asking and upkeep share.

What lies in the store is imported when a database is opened, so that a process which records
without one loads no SQLAlchemy.
"""

from __future__ import annotations

import os
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ledger.errors import HalfConfigured, MissingExtra, NotConfigured, OnlyASpool
from ledger.settings import IN_MEMORY, OFF, Settings, is_spool, shown
from ledger.sinks import Off, Onward, Sink, Straight

if TYPE_CHECKING:
    from ledger.store.answers import Answers
    from ledger.store.database import Database

__all__ = ["Handle"]

SPOOLED_AFTER_SECONDS = 3.0  # so long a server is waited for where a spool takes what is recorded meanwhile


class Handle:
    """One ledger, by URL or path; without either, by the environment's variables."""

    def __init__(
        self, url: str | os.PathLike[str] | None = None, *, busy_seconds_max: float = 30.0, always_spools: bool = False
    ) -> None:
        """*busy_seconds_max* is how long a writer waits for others.

        With *always_spools* recording falls back to a spool of this user where TRAINING_DB_SPOOL names none.
        """
        settings = Settings.read(url)
        self._settings = settings.spooling() if always_spools else settings
        self._busy_seconds_max = busy_seconds_max
        in_a_database = self._settings.url != OFF and not is_spool(self._settings.url)
        self._opened = self._database_of(self._settings) if in_a_database else None
        self._sink = self._sink_of(self._settings)

    @property
    def url(self) -> str:
        """The ledger's place as it may be shown: a path, or a URL without its password."""
        return shown(self._settings.url)

    @property
    def spooled(self) -> str | None:
        """The spool in which something recorded here still waits for its ledger; None where nothing does."""
        return self._sink.waits_in()

    def close(self) -> None:
        """Close the connections. Closing again does nothing; using the ledger afterwards is an error."""
        self._sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _database_of(self, settings: Settings) -> Database:
        if settings.url.startswith("postgres"):
            try:
                from ledger.store.postgres.database import ServerDatabase
            except ImportError as exc:
                raise MissingExtra("postgres") from exc
            return ServerDatabase(
                settings.url,
                synchronous=settings.synchronous,
                busy_seconds_max=self._busy_seconds_max,
                away_seconds_max=None if settings.spool is None else SPOOLED_AFTER_SECONDS,
            )
        if not settings.url.startswith("sqlite:"):
            raise HalfConfigured(
                f"{shown(settings.url)}: a ledger lies in a SQLite file or on PostgreSQL. "
                "Give a path, or postgresql://user@host/name."
            )
        from ledger.store.sqlite import MEMORY, SQLiteDatabase

        path = settings.url.removeprefix("sqlite://").removeprefix("/") or MEMORY
        return SQLiteDatabase(path, synchronous=settings.synchronous, busy_seconds_max=self._busy_seconds_max)

    def _sink_of(self, settings: Settings) -> Sink:
        """Where what is recorded goes: decided once."""
        if settings.url == OFF:
            return Off()
        if is_spool(settings.url):
            from ledger.spool.places import spool_writer

            return Onward(spool_writer(settings.url))
        straight = Straight(self._database)
        if settings.spool is None or settings.url == IN_MEMORY:
            return straight
        from ledger.fallback import Fallback
        from ledger.spool.places import spool_writer

        return Fallback(straight, spool_writer(settings.spool, of=settings.url))

    @property
    def _database(self) -> Database:
        if self._opened is None:
            if is_spool(self._settings.url):
                raise OnlyASpool(self.url)
            raise NotConfigured(
                "TRAINING_DB_URL=off: nothing is recorded, so nothing can be asked. Set it to a ledger."
            )
        return self._opened

    @property
    def _answers(self) -> Answers:
        """What this ledger answers, whatever was asked before: also of what this process had spooled."""
        self._sink.bring_in()
        return self._of_the_ledger

    @cached_property
    def _of_the_ledger(self) -> Answers:
        database = self._database  # a spool has none, and needs no store to say so
        from ledger.store.answers import Answers

        return Answers(database)
