"""A consumer of events whose place the ledger keeps: who dies goes on where he was.

The checkpoint moves after the handler has returned, so an event comes at least once; with the handler's
writes in the transaction that moves it, exactly once. An event that fails too often is parked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal, overload

from ledger.errors import InvalidValue
from ledger.events import Recorded
from ledger.store import subscriptions
from ledger.store.consumer import Consumer, Terms
from ledger.store.database import Database
from ledger.store.following import behind, standing_at
from ledger.store.own_tables import attempt, attempt_within
from ledger.store.statements import Connection
from ledger.store.subscriptions import Parked, Progress

__all__ = ["Parked", "Progress", "Subscription"]

Handler = Callable[[Recorded], object]
# With a connection of the ledger's database: sqlite3's, or psycopg's.
WritingHandler = Callable[[Recorded, Any], object]


class Subscription:
    """One named consumer: what is behind its checkpoint was not handled yet. Made by `Ledger.subscription`."""

    def __init__(self, database: Database, terms: Terms) -> None:
        self.name = terms.name
        self._database = database
        self._terms = terms

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def position(self) -> int:
        """Where the checkpoint is: every wanted event up to there was handled, or is parked."""
        with self._database.read() as connection:
            return subscriptions.checkpoint(connection, self.name).position

    @property
    def lag(self) -> int:
        """How many wanted events lie behind the checkpoint."""
        with self._database.read() as connection:
            return behind(connection, subscriptions.checkpoint(connection, self.name).position, self._terms.wanted)

    @overload
    def for_each(self, handler: Handler, *, follow: bool = False, together: Literal[False] = False) -> int: ...
    @overload
    def for_each(self, handler: WritingHandler, *, follow: bool = False, together: Literal[True]) -> int: ...
    def for_each(self, handler: Callable[..., object], *, follow: bool = False, together: bool = False) -> int:
        """Deliver each event behind the checkpoint, which moves on, on disk, after each; return how many came through.

        With *follow* it goes on for ever. With *together* the handler also gets the ledger's connection, and
        what it writes there, into tables of its own, is committed with the checkpoint or not at all. One that
        raises is called again after a pause, *tries* times in all; then the event is parked. So is one whose handler
        ends the process as often, by a crash or as the machine runs out of memory.
        """
        _check_handler(handler, together=together)
        with closing(self._database.waiting()) as waiting:
            consumer = Consumer(self._database, self._terms, handler, together=together, waiting=waiting)
            consumer.choose()
            while consumer.step():
                pass
            consumer.note()
            while follow:
                if not consumer.step():
                    waiting.wait()
        return consumer.delivered

    def parked(self) -> list[Parked]:
        """Return the events that failed too often: position, event, error, parked_at."""
        with self._database.read() as connection:
            return subscriptions.parked(connection, self.name)

    @overload
    def retry(self, handler: Handler, *, together: Literal[False] = False) -> int: ...
    @overload
    def retry(self, handler: WritingHandler, *, together: Literal[True]) -> int: ...
    def retry(self, handler: Callable[..., object], *, together: bool = False) -> int:
        """Deliver each parked event once more; return how many came through, which are parked no more."""
        _check_handler(handler, together=together)
        return sum(self._again(kept.event, handler, together=together) for kept in self.parked())

    def rewind(self, position: int) -> None:
        """Set the checkpoint, back or on; what lies behind it comes again, parked or not.

        Raises PositionUnknown for one that the ledger has not given out.
        """
        if type(position) is not int or position < 0:
            raise InvalidValue("position", position, "a whole number of 0 or more is wanted")
        self._database.require()
        self._database.transact(lambda connection: self._rewind(connection, position))

    def _rewind(self, connection: Connection, position: int) -> None:
        subscriptions.rewind(connection, self.name, standing_at(connection, position, "rewind(...)"))

    def _again(self, event: Recorded, handler: Callable[..., object], *, together: bool) -> bool:
        failure = None if together else attempt(lambda: handler(event))

        def settle(connection: Connection) -> bool:
            if not subscriptions.unpark(connection, self.name, event.position):
                return not together and failure is None  # another has delivered it meanwhile
            failed = attempt_within(connection, lambda: handler(event, connection)) if together else failure
            if failed is not None:
                subscriptions.park(connection, self.name, event.position, subscriptions.failure_text(failed))
            return failed is None

        return self._database.transact(settle)


def _check_handler(handler: object, *, together: bool) -> None:
    """Refuse at once what cannot handle any event: it would fail at each, and have them all parked."""
    said = "(event, connection)" if together else "(event)"
    wanted = f"a function of {said} is wanted, and not an async one"
    if not callable(handler) or inspect.iscoroutinefunction(handler):
        raise InvalidValue("handler", handler, wanted)
    try:
        inspect.signature(handler).bind(*said.split())
    except TypeError as exc:
        raise InvalidValue("handler", handler, wanted) from exc
    except ValueError:  # one in C, which does not say what it takes
        return
