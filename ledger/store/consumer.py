"""One consumer on its way through the ledger: it looks, delivers, and moves its subscription's checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ledger.errors import LedgerError
from ledger.events.fact import Recorded
from ledger.store import subscriptions
from ledger.store.database import Database
from ledger.store.following import Look, Wanted, look
from ledger.store.own_tables import attempt, attempt_within
from ledger.store.statements import Connection
from ledger.store.waiting import Waiting

__all__ = ["Consumer", "Terms"]

PAUSE_SECONDS_MAX = 30.0
DEATHS_MIN = 3  # before an event is parked for them, for a process may end for a reason of its own
NOTE_SECONDS = 1.0  # so often at most the checkpoint moves over events that nobody wants

_log = logging.getLogger("ledger")


@dataclass(frozen=True)
class Terms:
    """What a subscription is for, and how often and at what distance a failing event is tried."""

    name: str
    wanted: Wanted
    tries: int
    pause_seconds: float


class _Done(NamedTuple):
    """Where the checkpoint is after an event, and with what its handler failed, how often, and if it is parked."""

    there: int
    failure: Exception | None
    failures: int
    parked_with: str | None
    is_ours: bool


class Consumer:
    """What one caller knows of the checkpoint, and how far behind it he has looked.

    Several of one name may be at work. Each moves the checkpoint only from where he has seen it or later,
    over what he has handled, so that it never goes back and never over an event that nobody handled.
    """

    def __init__(
        self, database: Database, terms: Terms, handler: Callable[..., object], *, together: bool, waiting: Waiting
    ) -> None:
        self.delivered = 0
        self._database = database
        self._terms = terms
        self._handler = handler
        self._together = together
        self._waiting = waiting
        self._since = self._seen = -1  # the checkpoint, and what was looked at and is not wanted behind it
        self._has_begun = False
        self._noted_at = time.monotonic()

    def choose(self) -> None:
        """Say what is wanted, and warn who wants more than was wanted so far: the events before are passed over."""
        name, wanted = self._terms.name, self._terms.wanted
        if self._database.ask(lambda connection: subscriptions.checkpoint(connection, name).wanted) == wanted:
            return
        before = self._database.transact(lambda connection: subscriptions.choose(connection, name, wanted))
        if before.wanted is not None and before.position and not wanted.is_within(before.wanted):
            _log.warning(
                "subscription %r wanted %s so far, and now wants %s: what of that lies before position %d does not "
                "come. Subscription.rewind(0) lets it come, with the rest; or take another name, one for each choice.",
                name, before.wanted, wanted, before.position + 1,
            )  # fmt: skip

    def step(self) -> bool:
        """Look once and deliver what is there; return whether there was anything new to see."""
        found = self._database.ask(self._look)
        new = bool(found.events) or found.until != self._seen
        if new:
            self._waiting.came()
        places = {event.position: place for place, event in enumerate(found.events)}
        place = 0
        while place < len(found.events):
            self._deliver(found.events[place])
            if places.get(self._since, -1) < place:
                return True
            place = places[self._since] + 1  # others may be at work, too
        self._seen = found.until
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self.note()
        return new

    def _look(self, connection: Connection) -> Look:
        there = subscriptions.checkpoint(connection, self._terms.name).position
        if there != self._since:
            self._since = self._seen = there
        return look(connection, self._seen, self._terms.wanted, f"subscription({self._terms.name!r}).rewind(...)")

    def note(self) -> None:
        """Move the checkpoint over what was looked at and is not wanted."""
        self._noted_at = time.monotonic()
        if self._seen != self._since:
            name, since, seen = self._terms.name, self._since, self._seen
            self._come_to(self._database.transact(lambda c: subscriptions.advance(c, name, since, seen)))

    def _deliver(self, event: Recorded) -> None:
        """Deliver one event, and know where the checkpoint is then: behind it, if it may be left."""
        done = self._handled(event) if self._has_begun else self._begun(event)
        self._come_to(done.there)
        if done.failure is None and done.is_ours:
            self.delivered += 1
        elif done.parked_with is not None:
            self._warn(event, done.failures, done.parked_with)
        elif done.failures:
            time.sleep(min(PAUSE_SECONDS_MAX, self._terms.pause_seconds * 2 ** (done.failures - 1)))

    def _begun(self, event: Recorded) -> _Done:
        """Deliver the first event: that it was begun stands on disk before, for it may be what ends this process.

        A consumer that dies at any other event has this one as its first when it is started again.
        """
        done = self._database.transact(lambda connection: self._begin(connection, event))
        if done is not None:
            return done
        try:
            done = self._handled(event)
        except BaseException:  # an interrupt is no failure, and neither is the end of the process behind it
            with suppress(LedgerError):
                self._database.transact(lambda c: subscriptions.take_back(c, self._terms.name, self._since))
            raise
        self._has_begun = True
        return done

    def _begin(self, connection: Connection, event: Recorded) -> _Done | None:
        there = subscriptions.begin(connection, self._terms.name, self._since)
        if there.position != self._since:
            return _Done(there.position, None, 0, None, is_ours=False)
        if there.failures < max(self._terms.tries, DEATHS_MIN) or there.begun_by is None:
            return None
        who = f"pid {there.begun_by['pid']} of {there.begun_by['host']}"
        error = f"the process ended while it was in the handler ({who})"
        subscriptions.park(connection, self._terms.name, event.position, error)
        to = subscriptions.advance(connection, self._terms.name, self._since, event.position)
        return _Done(to, None, there.failures, error, is_ours=False)

    def _handled(self, event: Recorded) -> _Done:
        failure = None if self._together else attempt(lambda: self._handler(event))
        return self._database.transact(lambda connection: self._settle(connection, event, failure))

    def _settle(self, connection: Connection, event: Recorded, failure: Exception | None) -> _Done:
        """Write down what became of an event, together with what the handler writes where that is asked for."""
        name, failures, parked_with = self._terms.name, 0, None
        if self._together:
            held = subscriptions.held(connection, name).position
            if held != self._since:  # another consumer has handled it, or somebody has rewound
                return _Done(held, None, 0, None, is_ours=False)
            failure = attempt_within(connection, lambda: self._handler(event, connection))
        if failure is not None:
            failures = subscriptions.fail(connection, name, self._since)
            if failures >= self._terms.tries:
                parked_with = subscriptions.failure_text(failure)
                subscriptions.park(connection, name, event.position, parked_with)
        there = self._since
        if failure is None:
            there = subscriptions.come_through(connection, name, self._since, event.position)
        elif parked_with is not None:
            there = subscriptions.advance(connection, name, self._since, event.position)
        return _Done(there, failure, failures, parked_with, is_ours=True)

    def _come_to(self, there: int) -> None:
        self._database.checkpoint_after(range(self._since, there), tells=False)
        self._since = self._seen = there

    def _warn(self, event: Recorded, failures: int, error: str) -> None:
        _log.warning(
            "subscription %r: event %s at position %d is parked, its handler failed %d times (%s). "
            "Mend the handler, then deliver it with Subscription.retry(handler); `ledger subscriptions` lists it.",
            self._terms.name, event.event_id, event.position, failures, " ".join(error.split()),
        )  # fmt: skip
