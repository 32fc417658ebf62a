"""One consumer on its way through the ledger: it looks, delivers, and moves its subscription's checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ledger.events.fact import Recorded
from ledger.store import subscriptions
from ledger.store.following import Wanted, look
from ledger.store.own_tables import attempt, attempt_within
from ledger.store.sqlite import Database

__all__ = ["Consumer", "Terms"]

PAUSE_SECONDS_MAX = 30.0
NOTE_SECONDS = 1.0  # so often at most the checkpoint moves over events that nobody wants

_log = logging.getLogger("ledger")


@dataclass(frozen=True)
class Terms:
    """What a subscription is for, and how often and at what distance a failing event is tried."""

    name: str
    wanted: Wanted
    tries: int
    pause_seconds: float


class Consumer:
    """What one caller knows of the checkpoint, and how far behind it he has looked.

    Several of one name may be at work. Each moves the checkpoint only from where he has seen it or later,
    over what he has handled, so that it never goes back and never over an event that nobody handled.
    """

    def __init__(self, database: Database, terms: Terms, handler: Callable[..., object], *, together: bool) -> None:
        self.delivered = 0
        self._database = database
        self._terms = terms
        self._handler = handler
        self._together = together
        self._since = self._seen = -1  # the checkpoint, and what was looked at and is not wanted behind it
        self._noted_at = time.monotonic()

    def step(self) -> bool:
        """Look once and deliver what is there; return whether there was anything new to see."""
        with self._database.read() as connection:
            there = subscriptions.checkpoint(connection, self._terms.name).position
            if there != self._since:
                self._since = self._seen = there
            found = look(connection, self._seen, self._terms.wanted, f"subscription({self._terms.name!r}).rewind(...)")
        for event in found.events:
            if not self._deliver(event):
                return True
        new = found.until > self._seen
        self._seen = found.until
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self.note()
        return new or bool(found.events)

    def note(self) -> None:
        """Move the checkpoint over what was looked at and is not wanted."""
        self._noted_at = time.monotonic()
        if self._seen > self._since:
            with self._database.write() as connection:
                there = subscriptions.advance(connection, self._terms.name, self._since, self._seen)
            self._come_to(there)

    def _deliver(self, event: Recorded) -> bool:
        """Deliver one event; return whether the checkpoint is at it now, so that the next may come."""
        name = self._terms.name
        failure = None if self._together else attempt(lambda: self._handler(event))
        there, failures, parked_with = self._since, 0, None
        with self._database.write() as connection:
            if self._together:
                if subscriptions.checkpoint(connection, name).position != self._since:
                    return False  # another consumer has handled it, or somebody has rewound
                failure = attempt_within(connection, lambda: self._handler(event, connection))
            if failure is not None:
                failures = subscriptions.fail(connection, name, self._since)
                if failures >= self._terms.tries:
                    parked_with = subscriptions.park(connection, name, event.position, failure)
            if failure is None or parked_with is not None:
                there = subscriptions.advance(connection, name, self._since, event.position)
        self._come_to(there)
        if failure is None:
            self.delivered += 1
        elif parked_with is not None:
            self._warn(event, failures, parked_with)
        elif failures:
            time.sleep(min(PAUSE_SECONDS_MAX, self._terms.pause_seconds * 2 ** (failures - 1)))
        return there == event.position

    def _come_to(self, there: int) -> None:
        self._database.checkpoint_after(range(self._since, there))
        self._since = self._seen = there

    def _warn(self, event: Recorded, failures: int, error: str) -> None:
        _log.warning(
            "subscription %r: event %s at position %d is parked, its handler failed %d times (%s). "
            "Mend the handler, then deliver it with Subscription.retry(handler); `ledger subscriptions` lists it.",
            self._terms.name, event.event_id, event.position, failures, " ".join(error.split()),
        )  # fmt: skip
