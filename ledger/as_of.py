"""Looking back: the ledger as it was, and what made each column what it is."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ledger import origin
from ledger.asking import Asking, present_of
from ledger.errors import InvalidValue, RunNotFound
from ledger.events.envelope import storable_text
from ledger.events.times import text_of
from ledger.handle import Handle
from ledger.porch import When
from ledger.projections.filters import parse_moment_or_age, parse_whole_number
from ledger.projections.liveness import Present

if TYPE_CHECKING:
    from ledger.projections.explain import Explanation
    from ledger.store.past import Past

__all__ = ["AsOf", "LookingBack"]


class AsOf(Asking):
    """A ledger as it was: answers as the ledger does, of some of its events, whatever is appended meanwhile.

    Ages such as "7d" in filters, and liveness, count from the moment that the view is of. Threads may share it; as
    a context manager it closes itself.
    """

    def __init__(self, past: Past, present: Present, said: str) -> None:
        self._past = past
        self._then = present
        self._said = said

    @property
    def _answers(self) -> Past:
        return self._past

    def _present(self) -> Present:
        return self._then

    def close(self) -> None:
        """Drop what was prepared for the view. Closing again does nothing; asking it afterwards is an error."""
        self._past.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"AsOf({self._said})"


class LookingBack(Handle):
    """The part of a ledger that tells what was, and why it is as it is."""

    def as_of(self, when: When | None = None, *, known: When | int | None = None) -> AsOf:
        """Return a read-only view of what had happened by *when*, and of what this ledger knew by *known*.

        Either is a moment (a datetime, ISO 8601 text, or an age such as "7d"), inclusive; an int for
        *known* is a position. With neither it is the ledger as of now. Raises NoLedger where there is none.
        """
        from ledger.store.bounds import EVERYTHING, Bounds, newest_position
        from ledger.store.past import Past

        now = origin.utc_now()
        happened = None if when is None else parse_moment_or_age("when", when, now)
        position, accepted = _parse_known(known, now)
        with self._database.read() as connection:
            newest = newest_position(connection)
        bounds = Bounds(
            newest if position is None else min(position, newest),
            EVERYTHING.occurred_at_max if happened is None else text_of(happened),
            EVERYTHING.recorded_at_max if accepted is None else text_of(accepted),
        )
        said = f"{self.url!r}, when={when!r}, known={known!r}"
        return AsOf(Past(self._database, bounds), present_of(self._settings, happened or accepted or now), said)

    def explain(self, run_id: str) -> list[Explanation]:
        """Return which event gave each column of a run its value, and what it replaced, voided or not.

        Columns that nothing was ever said of are left out. Raises RunNotFound for an unknown run.
        """
        from ledger.store.explained import explained

        if not isinstance(run_id, str):
            raise InvalidValue("run_id", run_id, "text is wanted")
        with self._database.snapshot() as connection:
            found = explained(connection, run_id) if storable_text(run_id) else []
        if not found:
            raise RunNotFound(run_id)
        return found


def _parse_known(known: object, now: datetime) -> tuple[int | None, datetime | None]:
    """The position or the moment that is meant; neither where nothing is said."""
    if known is None:
        return None, None
    if isinstance(known, int):
        return parse_whole_number("known", known), None
    try:
        return None, parse_moment_or_age("known", known, now)
    except InvalidValue:
        wanted = 'a position is wanted, or a moment: a datetime, ISO 8601 text, or an age like "7d"'
        raise InvalidValue("known", known, wanted) from None
