"""Following: events as they come, and named consumers whose place the ledger keeps."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from ledger.asking import listed_types
from ledger.errors import InvalidValue
from ledger.events import Recorded
from ledger.events.envelope import storable_text
from ledger.handle import Handle
from ledger.projections.filters import parse_whole_number

if TYPE_CHECKING:
    from ledger.store.following import Wanted
    from ledger.subscription import Progress, Subscription

__all__ = ["Following"]

_NAME_LENGTH_MAX = 200


class Following(Handle):
    """What goes on for ever, or goes on where it was."""

    def follow(
        self, after: int | None = None, types: str | Iterable[str] | None = None, run_id: str | None = None
    ) -> Generator[Recorded, None, None]:
        """Yield events in order of position, from the first or behind *after*, and then each as it is committed.

        It ends when the caller stops. The run may be one that is yet to come. Raises LedgerClosed once
        this Ledger is closed, PositionUnknown where an earlier state of the ledger was put in its place.
        """
        from ledger.store import following

        position = parse_whole_number("after", 0 if after is None else after)
        return following.follow(self._database, position, self._wanted(types, run_id))

    def subscription(
        self,
        name: str,
        *,
        types: str | Iterable[str] | None = None,
        run_id: str | None = None,
        tries: int = 3,
        pause_seconds: float = 0.5,
    ) -> Subscription:
        """Return the consumer of this name, whose checkpoint the ledger keeps; it begins at the first event.

        An event whose handler raises is tried so often, after pauses that double, and then parked. One name stands
        for one choice of events: who consumes under it with a wider one is warned that it goes on from where it was.
        """
        from ledger.store.consumer import Terms
        from ledger.subscription import Subscription

        name = _stored_text("name", name)
        if not name.strip() or len(name) > _NAME_LENGTH_MAX:
            raise InvalidValue("name", name, f"text of 1 to {_NAME_LENGTH_MAX} characters is wanted")
        if type(tries) is not int or tries < 1:
            raise InvalidValue("tries", tries, "a whole number of 1 or more is wanted")
        if not isinstance(pause_seconds, int | float) or not pause_seconds >= 0:
            raise InvalidValue("pause_seconds", pause_seconds, "a number of 0 or more is wanted")
        return Subscription(self._database, Terms(name, self._wanted(types, run_id), tries, pause_seconds))

    def subscriptions(self) -> list[Progress]:
        """Return how far each subscription has come: `Progress`, in the order of their names."""
        from ledger.store import subscriptions

        with self._database.snapshot() as connection:
            return subscriptions.listed(connection)

    def _wanted(self, types: str | Iterable[str] | None, run_id: str | None) -> Wanted:
        """What is asked for, checked at the call and not when the first event is fetched."""
        from ledger.store.answers import check_types
        from ledger.store.following import Wanted

        listed = listed_types(types)
        if listed == []:
            raise InvalidValue("types", listed, "at least one type of event is wanted, or None for all")
        with self._database.read() as connection:
            check_types(connection, listed or ())
        return Wanted(
            None if listed is None else tuple(sorted(set(listed))),
            None if run_id is None else _stored_text("run_id", run_id),
        )


def _stored_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not storable_text(value):
        raise InvalidValue(name, value, "text without NUL and lone surrogates is wanted")
    return value
