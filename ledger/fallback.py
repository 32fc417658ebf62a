"""A database, and the spool that takes what is recorded while it is away.

What this process has spooled goes into the database before the next call is carried out there, so
that the call's checks see it. While the database is away it is only asked now and then, and shortly.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from ledger import origin
from ledger.errors import LedgerError, LedgerUnreachable, NoLedger, Unreachable
from ledger.events import Fact, Recorded
from ledger.events.times import parse_moment, text_of
from ledger.settings import pasted
from ledger.sinks import Onward, Straight
from ledger.syncing import sync_files

if TYPE_CHECKING:
    from ledger.spool.kinds import Spooled, SpoolWriter

__all__ = ["Fallback"]

PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 1.0, 16.0  # how long the database is not asked again
PROBE_SECONDS_MAX = 0.1  # and how long it may then take
GLANCE_SECONDS_MAX = 0.02  # and how long whoever asks waits with a question of its own
TAKEN_OVER_BYTES_MAX = 500_000  # by who asks and waits for it: a few tenths of a second

T = TypeVar("T")

_log = logging.getLogger("ledger")
# What the spool is there for; all else is the caller's to mend.
_AWAY = (LedgerUnreachable, NoLedger)
_MICROSECOND = timedelta(microseconds=1)


class Fallback:
    """A Sink that loses nothing to a database which is away, and has the database know it all when it is back."""

    def __init__(self, straight: Straight, spool: SpoolWriter) -> None:
        self._straight = straight
        self._spool = spool
        self._onward = Onward(spool, is_told=True)
        self._outage = _Outage()
        self._was_there = False  # the database; if it is not any more, nobody makes a new one in its place
        self._took_over = self._has_looked = False
        self._ahead: dict[str, str] = {}  # runs that our last word on lies in the future, by another clock than ours

    def append(self, facts: Sequence[Fact], expected_version: int | None) -> list[Recorded]:
        def onto_ledger() -> list[Recorded]:
            return self._straight.append(facts, expected_version)

        if expected_version is None:
            return self._either(onto_ledger, lambda: self._onward.append(facts, None), creating=not self._was_there)
        self._prepare(creating=not self._was_there)  # only the ledger knows versions
        return onto_ledger()

    def record(self, facts: list[Fact], about: str, *, now: bool) -> None:
        def onto_ledger() -> None:
            self._straight.record(facts, about, now=now)
            if now and facts[0].occurred_at > text_of(origin.now()):
                self._ahead[facts[0].run_id] = facts[0].occurred_at

        def onto_spool() -> None:
            if now:
                self._happen_after_our_last_word(facts[0])
            self._onward.record(facts, about, now=now)

        self._either(onto_ledger, onto_spool, creating=about == "launch" and not self._was_there)

    def create(self) -> None:
        self._either(self._straight.create, self._onward.create, creating=True)

    def knows_chain(self, chain_of_custody_id: str) -> bool:
        with suppress(*_AWAY):
            return self._straight.knows_chain(chain_of_custody_id)
        return False

    def waits_in(self) -> str | None:
        return self._onward.waits_in()

    def bring_in(self) -> None:
        """Bring in what was spooled, and once what others left; who only asks is answered where that cannot be done.

        In an outage too: what is asked goes to the database anyway, and shows whether that is back.
        """
        if not self._spool.has_own():
            self._take_over_at_once()
            return
        try:
            self._prepare(
                creating=False, seconds_max=PROBE_SECONDS_MAX if self._outage.may_be_over() else GLANCE_SECONDS_MAX
            )
        except _AWAY as exc:
            if not self._outage.lasts():
                self._begin_outage(exc)
        except LedgerError as exc:
            _log.warning("%s. %s", _first_sentence(exc), self._where_it_lies())
        else:
            self._outage.end()

    def close(self) -> None:
        """Bring in what was spooled, if that is possible at once, and close both."""
        try:
            if self._spool.has_own():
                self._prepare(creating=False)
        except LedgerError as exc:
            if not self._outage.lasts():  # else it was said when it began
                _log.warning("%s. %s", _first_sentence(exc), self._where_it_lies())
        finally:
            self._straight.close()
            self._spool.close()

    def _either(self, onto_ledger: Callable[[], T], onto_spool: Callable[[], T], *, creating: bool) -> T:
        if self._outage.may_be_over():
            try:
                self._prepare(creating=creating)
                self._take_over()
                answer = onto_ledger()
            except _AWAY as exc:
                self._begin_outage(exc)
            else:
                self._outage.end()
                self._was_there = True
                return answer
        return onto_spool()

    def _prepare(self, *, creating: bool, seconds_max: float = PROBE_SECONDS_MAX) -> None:
        """See that the database is there, and let it know what we have spooled."""
        database = self._straight.database
        if not creating:
            database.require(seconds_max=PROBE_SECONDS_MAX if self._outage.lasts() else None)
        if not self._outage.lasts() and not self._spool.has_own():
            return
        with database.write(seconds_max=seconds_max):
            pass
        if files := self._spool.own():
            count = sync_files(database, files, self._spool.place)
            self._spool.forget(files)
            _log.info("%s is back: %d event(s) brought in from %s", database.place, count, self._spool.place)

    def _happen_after_our_last_word(self, fact: Fact) -> None:
        """The times of one process never go back, though the ledger may have moved one of them into the future."""
        newest = self._ahead.get(fact.run_id, "")
        if fact.occurred_at <= newest:
            fact.occurred_at = self._ahead[fact.run_id] = text_of(parse_moment(newest) + _MICROSECOND)

    def _begin_outage(self, exc: Unreachable) -> None:
        if self._outage.begin():
            _log.warning("%s. %s", _first_sentence(exc), self._where_it_lies())

    def _where_it_lies(self) -> str:
        place = self._straight.database.place
        named = "URL" if "://" in place else pasted(place)  # as it may be shown, a URL lacks what it takes to get in
        return (
            f"What is recorded meanwhile goes to {self._spool.place}, and from there into the ledger when it is back; "
            f"by hand: ledger --db {named} sync {pasted(self._spool.place)}"
        )

    def _take_over(self) -> None:
        """Once, bring in what others of this host have left in the spool and cannot bring in any more.

        That comes before the call: its checks see it, and what the call says happens after all of it.
        """
        if self._took_over:
            return
        try:
            files = self._spool.left_on_this_host()
        except (LedgerError, OSError) as exc:
            files = self._left_there(exc)
        if files:
            with self._straight.database.write():  # a wait in vain is an outage, and the call need not wait again
                pass
        self._took_over = True
        self._bring_in_of_others(files)

    def _take_over_at_once(self) -> None:
        """Do the same for who only asks, and may have no right to write: where it cannot be done, nothing is said.

        What is more than a question should wait for is left to who records, or to `ledger sync`.
        """
        if self._took_over or self._has_looked:
            return
        self._has_looked = True
        database, place = self._straight.database, self._spool.place
        try:
            if files := self._spool.left_on_this_host(bytes_max=TAKEN_OVER_BYTES_MAX):
                database.require(seconds_max=PROBE_SECONDS_MAX)
                with database.write(seconds_max=PROBE_SECONDS_MAX):
                    pass
                sync_files(database, files, place, told_at=logging.INFO)
        except (LedgerError, OSError) as exc:
            _log.info("%s. What others left in %s stays there.", _first_sentence(exc), place)

    def _bring_in_of_others(self, files: Sequence[Spooled]) -> None:
        database, place = self._straight.database, self._spool.place
        try:
            if files:
                _log.info("%d event(s) brought in that others left in %s", sync_files(database, files, place), place)
        except (LedgerError, OSError) as exc:  # the call itself may do better, and is what this process is there for
            self._left_there(exc)

    def _left_there(self, exc: Exception) -> Sequence[Spooled]:
        _log.warning("%s. What others left in %s stays there.", _first_sentence(exc), self._spool.place)
        return ()


def _first_sentence(exc: Exception) -> str:
    """What has happened; the mend that follows is for who has no spool."""
    return str(exc).partition(". ")[0]


class _Outage:
    """Whether the database is away, and when to ask it next. Nothing here waits for another thread."""

    def __init__(self) -> None:
        self._flag = threading.Lock()  # of which only whether it is taken matters: taking it tells who was first
        self._pause_seconds = PAUSE_SECONDS_MIN
        self._asked_next = 0.0

    def lasts(self) -> bool:
        return self._flag.locked()

    def may_be_over(self) -> bool:
        return not self.lasts() or time.monotonic() >= self._asked_next

    def begin(self) -> bool:
        """Note that the database is away; return whether that is news."""
        news = self._flag.acquire(blocking=False)
        self._pause_seconds = PAUSE_SECONDS_MIN if news else min(PAUSE_SECONDS_MAX, 2 * self._pause_seconds)
        self._asked_next = time.monotonic() + self._pause_seconds
        return news

    def end(self) -> None:
        with suppress(RuntimeError):  # it is over already
            self._flag.release()
