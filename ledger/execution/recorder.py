"""Recording beside the command: a thread writes, so that no wait for a database delays anything else.

What cannot be recorded where it belongs goes into a spool; the thread may even hang.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ledger.errors import LedgerError
from ledger.settings import Settings
from ledger.sinks import Onward

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.events import Event

__all__ = ["Left", "Making", "Recorder"]

BUSY_SECONDS_MAX = 2.0
DRAIN_SECONDS_MAX = 8.0
ASIDE_SECONDS_MAX = 2.0

# Makes the events of something that happened; it may ask the ledger, where there is one.
Making = Callable[["Ledger | None"], Sequence["Event"]]


@dataclass(frozen=True)
class Left:
    """The spool in which something waits for its ledger, and why something was not recorded where it belongs."""

    spool: str | None = None
    trouble: str | None = None


class _Fallback:
    """The spool that the ledger falls back to, for what the ledger refuses to take."""

    def __init__(self, settings: Settings) -> None:
        from ledger.spool.places import spool_writer

        self._redacts = settings.redact
        self._onward = Onward(spool_writer(settings.spool or "", of=settings.url))

    @property
    def spooled(self) -> str | None:
        return self._onward.waits_in()

    def append(self, events: Sequence[Event]) -> None:
        from ledger.events import Fact

        self._onward.append([Fact.of(event, redacting=self._redacts) for event in events], None)

    def close(self) -> None:
        self._onward.close()


P = TypeVar("P", "Ledger", _Fallback)


class Recorder:
    """One thread, which records what it is told in that order, and a beat whenever nothing else was told for long."""

    def __init__(self, place: str | os.PathLike[str] | None, beat: Making, heartbeat_seconds: float) -> None:
        self._place = place
        self._beat = beat
        self._heartbeat_seconds = heartbeat_seconds
        self._told: queue.SimpleQueue[Making | None] = queue.SimpleQueue()
        self._unrecorded: list[Event] = []
        self._turn = threading.Lock()  # for what is not recorded yet: the thread may hang while we set it aside
        self._spool: str | None = None
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="ledger-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, making: Making) -> None:
        self._told.put(making)

    def finish(self) -> Left:
        """Wait, for so long as that may take, until all is recorded; what is not by then goes into a spool."""
        self._told.put(None)
        self._thread.join(DRAIN_SECONDS_MAX)
        if self._thread.is_alive() or self._unrecorded or not self._told.empty():
            aside = threading.Thread(target=self._set_aside, name="ledger-aside", daemon=True)
            aside.start()
            aside.join(ASIDE_SECONDS_MAX)
        lost = len(self._unrecorded)
        return Left(self._spool, f"{lost} event(s) could not be recorded. {self._trouble}" if lost else self._trouble)

    def _work(self) -> None:
        with ExitStack() as stack:
            ledger, beside = self._opened(stack, self._ledger), self._opened(stack, self._fallback)
            places = [place for place in (ledger, beside) if place is not None]
            for making in self._made_next():
                self._make(making, ledger)
                self._record(places)
        self._spool = next((spool for place in places if (spool := place.spooled)), None)  # closing may bring it in

    def _made_next(self) -> Iterator[Making]:
        """Yield what is told, and beats in between, until it is the end."""
        due = time.monotonic() + self._heartbeat_seconds
        while True:
            try:
                making = self._told.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                making = self._beat
                due = time.monotonic() + self._heartbeat_seconds
            if making is None:
                return
            yield making

    def _opened(self, stack: ExitStack, place: Callable[[], P]) -> P | None:
        try:
            return stack.enter_context(closing(place()))
        except (LedgerError, OSError) as exc:
            self._trouble = self._trouble or str(exc)
            return None

    def _ledger(self) -> Ledger:
        from ledger.api import Ledger

        return Ledger(self._place, busy_seconds_max=BUSY_SECONDS_MAX, always_spools=True)

    def _fallback(self) -> _Fallback:
        return _Fallback(Settings.read(self._place).spooling())

    def _make(self, making: Making, ledger: Ledger | None) -> None:
        try:
            events = making(ledger)
        except LedgerError as exc:  # what no event can say; the others can be recorded
            self._trouble = str(exc)
            return
        with self._turn:
            self._unrecorded += events

    def _record(self, places: Sequence[Ledger | _Fallback]) -> None:
        """Record what is not recorded yet in the first place that takes it."""
        with self._turn:
            events = list(self._unrecorded)
        for place in places if events else ():
            try:
                place.append(events)
            except (LedgerError, OSError) as exc:
                self._trouble = str(exc)
            else:
                self._forget(events)
                return

    def _forget(self, events: Sequence[Event]) -> None:
        done = {event.event_id for event in events}
        with self._turn:
            self._unrecorded = [event for event in self._unrecorded if event.event_id not in done]

    def _set_aside(self) -> None:
        """Put into a spool what is left; were it recorded after all, it would be known there by its ids."""
        with suppress(queue.Empty):
            while True:
                making = self._told.get_nowait()
                if making is not None:
                    self._make(making, None)
        self._told.put(None)  # for the thread, should it ever go on
        with ExitStack() as stack:
            spool = self._opened(stack, self._fallback)
            if spool is not None:
                self._record([spool])
                self._spool = spool.spooled
