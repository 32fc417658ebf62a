"""Waiting for events on a server: woken by whoever commits some, and looking from time to time all the same."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg
from psycopg import Notify

from ledger.errors import LedgerError
from ledger.store.forking import keep
from ledger.store.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from ledger.store.postgres.connection import ServerConnection
    from ledger.store.postgres.database import ServerDatabase

__all__ = ["CHANNEL", "TELL_SECONDS", "Listening"]

CHANNEL = "ledger_events"
TELL_SECONDS = 0.05  # so often at most a writer wakes the others
LIVELY_SECONDS = 1.0  # so long after something came they look often by themselves; several times the above
REFUSED_SECONDS = 10.0  # so long nobody tries to listen where that failed
PAUSE_SECONDS_MAX = 0.5  # and so often at least, later on: an event may wait for an older transaction to end

_log = logging.getLogger("ledger")


class Listening:
    """Has a connection of its own, if the server lets it listen (a standby and some poolers do not).

    It listens only while it waits: what is sent to somebody who is busy piles up, first here and then on the server.
    """

    def __init__(self, database: ServerDatabase) -> None:
        self._database = database
        self._connection: ServerConnection | None = None
        self._process = os.getpid()
        self._listens = False
        self._may_listen_at = self._came_at = time.monotonic()
        self._pause_seconds = POLL_SECONDS

    def wait(self) -> None:
        if time.monotonic() - self._came_at < LIVELY_SECONDS:
            time.sleep(POLL_SECONDS)
            return
        self._pause_seconds = min(PAUSE_SECONDS_MAX, 2 * self._pause_seconds)
        if self._was_woken():
            self.came()

    def came(self) -> None:
        self._came_at = time.monotonic()
        self._pause_seconds = POLL_SECONDS
        if self._listens and self._is_ours():
            self._listens = False
            self._attempt(_stop_listening)

    def close(self) -> None:
        if self._connection is not None and self._is_ours():
            self._connection.close()
        self._connection, self._listens = None, False

    def _is_ours(self) -> bool:
        """Whether no fork has made this a copy, whose connection is the parent's."""
        if self._process != os.getpid():
            keep(self._connection)
            self._connection, self._listens, self._process = None, False, os.getpid()
        return self._connection is not None

    def _was_woken(self) -> bool:
        """Wait for one pause at most."""
        if self._is_listening():
            woken = self._attempt(lambda connection: any(True for _ in self._heard(connection)))
            if woken is not None:
                return woken
        time.sleep(self._pause_seconds)
        return False

    def _heard(self, connection: ServerConnection) -> Iterator[Notify]:
        return connection.notifies(timeout=self._pause_seconds, stop_after=1)

    def _is_listening(self) -> bool:
        """Begin to listen, if that is not refused; who was refused asks again later, when it may be another server."""
        self._is_ours()
        if not self._listens and time.monotonic() >= self._may_listen_at:
            self._listens = self._attempt(_listen) or False
        return self._listens

    def _attempt(self, work: Callable[[ServerConnection], bool]) -> bool | None:
        """Do something with the connection; None where that failed, and who follows looks by himself."""
        try:
            self._connection = self._connection or self._database.connect()
            return work(self._connection)
        except (psycopg.Error, LedgerError) as exc:
            _log.debug("looking without being woken: %s", exc)
            self._may_listen_at = time.monotonic() + REFUSED_SECONDS
            self.close()
            return None


def _listen(connection: ServerConnection) -> bool:
    connection.execute(f"LISTEN {CHANNEL}")
    return True


def _stop_listening(connection: ServerConnection) -> bool:
    """Hear no more, and forget what was heard last."""
    connection.execute(f"UNLISTEN {CHANNEL}")
    return any(True for _ in connection.notifies(timeout=0))
