"""Waiting for events on a server: woken by whoever commits some, and looking from time to time all the same."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import psycopg

from ledger.errors import LedgerError
from ledger.store.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from ledger.store.postgres.connection import ServerConnection
    from ledger.store.postgres.database import ServerDatabase

__all__ = ["CHANNEL", "TELL_SECONDS", "Listening"]

CHANNEL = "ledger_events"
TELL_SECONDS = 0.05  # so often at most a writer wakes the others
LIVELY_SECONDS = 1.0  # so long after something came they look often by themselves; several times the above
PAUSE_SECONDS_MAX = 0.5  # and so often at least, later on: an event may wait for an older transaction to end

_log = logging.getLogger("ledger")


class Listening:
    """Has a connection of its own, if the server lets it listen (a standby and some poolers do not)."""

    def __init__(self, database: ServerDatabase) -> None:
        self._database = database
        self._connection: ServerConnection | None = None
        self._may_listen = True
        self._pause_seconds = POLL_SECONDS
        self._came_at = time.monotonic()

    def wait(self) -> None:
        if time.monotonic() - self._came_at < LIVELY_SECONDS:
            time.sleep(POLL_SECONDS)
            return
        self._pause_seconds = min(PAUSE_SECONDS_MAX, 2 * self._pause_seconds)
        if not self._was_woken():
            return
        self.came()

    def came(self) -> None:
        self._came_at = time.monotonic()
        self._pause_seconds = POLL_SECONDS

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _was_woken(self) -> bool:
        """Wait for one pause at most."""
        try:
            connection = self._listening()
            if connection is not None:
                return any(True for _ in connection.notifies(timeout=self._pause_seconds, stop_after=1))
        except (psycopg.Error, LedgerError) as exc:
            _log.debug("looking without being woken: %s", exc)
            self.close()
        time.sleep(self._pause_seconds)
        return False

    def _listening(self) -> ServerConnection | None:
        if self._connection is None and self._may_listen:
            self._connection = self._database.connect()
            try:
                self._connection.execute(f"LISTEN {CHANNEL}")
            except psycopg.Error:
                self._may_listen = False
                raise
        return self._connection
