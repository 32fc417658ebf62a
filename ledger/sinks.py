"""Where what is recorded goes: nowhere, straight into the database, or into a spool, on its way to one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ledger import origin
from ledger.errors import AskedWrongly
from ledger.events import Fact, Recorded
from ledger.events.plain import json_text
from ledger.events.times import parse_moment
from ledger.settings import pasted

if TYPE_CHECKING:
    from ledger.spool.kinds import SpoolWriter
    from ledger.store.database import Database

__all__ = ["Off", "Onward", "Sink", "Straight"]

_log = logging.getLogger("ledger")
_said: set[str] = set()  # the spools that this process has said it records to


class Sink(Protocol):
    """What recording needs of a place."""

    def append(self, facts: Sequence[Fact], expected_version: int | None) -> list[Recorded]:
        """Accept events together or not at all, and return each as it is recorded."""

    def record(self, facts: list[Fact], about: str, *, now: bool) -> None:
        """Accept what one call says of a run, if that may be said; *now* is after all that is known of the run."""

    def create(self) -> None:
        """Make the place, if it is not there."""

    def knows_chain(self, chain_of_custody_id: str) -> bool: ...
    def waits_in(self) -> str | None:
        """Return the spool that holds what was said here and has not come to the ledger, if there is any."""

    def bring_in(self) -> None:
        """Let the ledger know what waits for it here, where that can be done at once; whoever asks next sees it."""

    def close(self) -> None: ...


class Off:
    """Recording is switched off; the first call says so."""

    def __init__(self) -> None:
        self._said = False

    def append(self, facts: Sequence[Fact], expected_version: int | None) -> list[Recorded]:  # noqa: ARG002 -- a Sink
        self._say()
        return [_on_its_way(fact) for fact in facts]

    def record(self, facts: list[Fact], about: str, *, now: bool) -> None:  # noqa: ARG002 -- a Sink
        self._say()

    def create(self) -> None:
        self._say()

    def knows_chain(self, chain_of_custody_id: str) -> bool:  # noqa: ARG002 -- a Sink
        self._say()
        return False

    def waits_in(self) -> None:
        """Nothing waits where nothing is recorded."""

    def bring_in(self) -> None:
        """There is nothing to bring in."""

    def close(self) -> None:
        """There is nothing to close."""

    def _say(self) -> None:
        if not self._said:
            self._said = True
            _log.warning("TRAINING_DB_URL=off: nothing is recorded")


class Straight:
    """A database: what it knows decides what may be said."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def append(self, facts: Sequence[Fact], expected_version: int | None) -> list[Recorded]:
        from ledger.store import documented

        return documented.append(self.database, facts, expected_version)

    def record(self, facts: list[Fact], about: str, *, now: bool) -> None:
        from ledger.store import documented

        documented.record(self.database, facts, about, now=now)

    def create(self) -> None:
        self.database.transact(lambda _: None)

    def knows_chain(self, chain_of_custody_id: str) -> bool:
        from ledger.store.answers import Answers

        return self.database.exists() and Answers(self.database).chain_is_known(chain_of_custody_id)

    def waits_in(self) -> None:
        """Nothing waits: what is recorded is in the ledger."""

    def bring_in(self) -> None:
        """It is there already."""

    def close(self) -> None:
        self.database.close()


class Onward:
    """A spool: nobody there knows anything of a run, so that nothing is checked."""

    def __init__(self, spool: SpoolWriter, *, is_told: bool = False) -> None:
        self._spool = spool
        self._says = not is_told  # else somebody else says that what is recorded goes here

    def append(self, facts: Sequence[Fact], expected_version: int | None) -> list[Recorded]:
        if expected_version is not None:
            raise AskedWrongly(
                f"{self._spool.place} is a spool, which knows no versions; append without expected_version, "
                "or to the ledger itself."
            )
        self._spool.append(facts)
        self._say()
        return [_on_its_way(fact) for fact in facts]

    def record(self, facts: list[Fact], about: str, *, now: bool) -> None:
        if about == "crash":
            facts = _presumed(facts)
        if now:
            for fact in facts:
                fact.occurred_at = facts[0].occurred_at
        self._spool.append(facts)
        self._say()

    def create(self) -> None:
        self._spool.create()

    def knows_chain(self, chain_of_custody_id: str) -> bool:  # noqa: ARG002 -- a Sink
        return False

    def waits_in(self) -> str | None:
        return self._spool.place if self._spool.has_own() else None

    def bring_in(self) -> None:
        """There is no ledger to bring it into."""

    def close(self) -> None:
        self._spool.close()

    def _say(self) -> None:
        """Say once in a process, when the first of it is there, that no ledger has what is recorded."""
        place = self._spool.place
        if self._says and place not in _said:
            _said.add(place)
            _log.warning(
                "recorded in the spool %s; `ledger --db LEDGER sync %s` moves it into its ledger", place, pasted(place)
            )


def _presumed(facts: Sequence[Fact]) -> list[Fact]:
    """The same, of a run that may have ended otherwise: the fold passes over a presumed crash where one did.

    The ids are new, since the ledger may have accepted the old ones, with other content, before it failed.
    """
    crashed, *behind = [replace(fact, event_id=origin.new_event_id()) for fact in facts]
    said = {**(crashed.understood or {}), "presumed": True}
    return [replace(crashed, payload=json_text(said), understood=said), *behind]


def _on_its_way(fact: Fact) -> Recorded:
    """What an append answers where no ledger has accepted the event yet: position and version 0."""
    moment = parse_moment(fact.occurred_at)
    return Recorded(
        0, fact.event_id, fact.run_id, 0, fact.type, fact.schema_version, moment, origin.now(), fact.source,
        fact.payload, fact.digest(), "",
    )  # fmt: skip
