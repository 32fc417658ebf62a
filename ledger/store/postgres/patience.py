"""How long what passes by itself is waited for: a server that starts anew, a standby that takes over, a lost race."""

from __future__ import annotations

import random
import time

import psycopg

from ledger.store.postgres.translation import cause_of, is_passing

__all__ = ["Patience"]

_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.01, 0.5


class Patience:
    """One call's. Its time begins when something fails: what went well before may have taken long."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._began = time.monotonic()
        self._until: float | None = None
        self._pause_seconds = _PAUSE_SECONDS

    def may_try_again(self, exc: Exception) -> bool:
        """Wait a little, and return True, if the same may go well now; False where it is no use, or long enough."""
        cause = cause_of(exc)
        if not is_passing(cause) or isinstance(cause, psycopg.errors.LockNotAvailable):
            return False  # the time that one may wait for a lock is over already
        now = time.monotonic()
        if self._until is None:  # to wait for an answer in vain was a part of it
            since = self._began if isinstance(cause, psycopg.errors.ConnectionTimeout) else now
            self._until = since + self._seconds_max
        if now >= self._until:
            return False
        time.sleep(self._pause_seconds * random.uniform(0.5, 1.5))  # noqa: S311 -- only so that not all come at once
        self._pause_seconds = min(_PAUSE_SECONDS_MAX, 1.6 * self._pause_seconds)
        return True
