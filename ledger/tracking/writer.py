"""The background writer: what training says waits here, bounded, until it is on disk, in the ledger or in a spool.

Training only ever appends to a queue. One thread takes what waits, makes events of the rows that were
logged, and hands them on; the ledger's own fallback writes to a spool where the database is slow, locked
or away. Where even that fails, as on a full disk, events wait in memory, and of the oldest metrics and
heartbeats some are given up, counted and said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from ledger.errors import AppendRefused, AskedWrongly, LedgerError
from ledger.events import Event
from ledger.tracking.batching import ROWS_MAX, Logged, batches
from ledger.tracking.entry import Keeps
from ledger.tracking.harmless import harmless

__all__ = ["Counted", "Writer"]

WAITING_ROWS_MAX = 200_000  # logged, and not yet made into events
PENDING_MAX = 2_000  # events that could not be written
FLUSH_SECONDS = 2.0  # how long what was logged may wait
RETRY_SECONDS_MAX = 30.0
_IMPATIENT_SECONDS_MAX = 1.0
_AT_ONCE = 50  # events in one append
_GIVEN_UP = frozenset({"metrics_logged", "heartbeat"})  # of what cannot be written, first
_KEPT = frozenset({"launched", "started", "resumed", "wandb_attached"})  # and the end, which comes last

_log = logging.getLogger("ledger")


@dataclass
class Counted:
    """How many events were written (also to a spool), refused, and given up, and how many rows were never taken."""

    written: int = 0
    refused: int = 0
    given_up: int = 0
    rows_lost: int = 0


class Writer:
    """The thread that writes for one run. Nothing but `close` and `settle` ever waits, and these for a bounded time."""

    def __init__(self, book: Keeps, run_id: str, beat: Callable[[], Event], beat_seconds: float) -> None:
        self._book = book
        self._run_id = run_id
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._beats_next = time.monotonic() + beat_seconds
        self._flushes_next = 0.0
        self._retry_seconds = 0.0
        self.rows: deque[Logged] = deque()
        self._events: deque[Event] = deque()
        self._pending: list[Event] = []
        # A queue that a signal handler may use in the middle of its own thread's use of it.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._settling: deque[threading.Event] = deque()
        self._last: Callable[[], Sequence[Event]] | None = None
        self._abandoned = False
        self.counted = Counted()
        self.interrupted: BaseException | None = None  # what the wait for the end was interrupted by
        self.waits_in: str | None = None  # once it is closed: the spool in which something waits for the ledger
        self._thread = threading.Thread(target=self._work, name=f"ledger {run_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event) -> None:
        """Let *event* be written next, behind what was logged before it."""
        self._events.append(event)
        self._wake.put(None)

    def log(self, row: Logged) -> None:
        """Take a row; it may wait for others."""
        waiting = len(self.rows)
        if waiting >= WAITING_ROWS_MAX:
            self.counted.rows_lost += 1
            return
        self.rows.append(row)
        if waiting % ROWS_MAX == 0:
            self._wake.put(None)

    def settle(self, seconds_max: float) -> bool:
        """Wait until what was put so far is written; return whether it is."""
        settled = threading.Event()
        self._settling.append(settled)
        self._wake.put(None)
        return settled.wait(seconds_max)

    def close(self, last: Callable[[], Sequence[Event]], seconds_max: float) -> list[Event]:
        """Write all that waits, then *last*, and end the thread.

        Returns what is not written after *seconds_max*, the last among it; the thread then writes no more.
        """
        self._last = last
        self._wake.put(None)
        self._join(seconds_max)
        self._abandoned = self._thread.is_alive()
        return [*self._pending, *self._taken(), *(self._last() if self._last is not None else ())]

    def _join(self, seconds_max: float) -> None:
        """Wait for the thread; what interrupts the wait is kept for later, since the end is worth another moment."""
        until = time.monotonic() + seconds_max
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            try:
                self._thread.join(left)
            except BaseException as exc:  # noqa: BLE001 -- Ctrl-C again, or what another signal's handler raises
                self.interrupted = exc
                until = min(until, time.monotonic() + _IMPATIENT_SECONDS_MAX)

    def _work(self) -> None:
        while not self._abandoned:
            self._wait()
            self.write()
            if self._last is not None:
                self.end()
                return

    def _wait(self) -> None:
        now = time.monotonic()
        due = min(self._beats_next, self._flushes_next if self.rows else self._beats_next)
        if self._pending:
            due = min(due, now + self._retry_seconds)
        try:
            if self._last is None:
                self._wake.get(timeout=max(0.0, due - now))
            while True:  # several wakes are one
                self._wake.get_nowait()
        except Empty:
            pass

    @harmless
    def write(self) -> None:
        """Write what is due; called by the thread alone."""
        now = time.monotonic()
        if self._last is None and now >= self._beats_next:
            self._beats_next = now + self._beat_seconds
            self._events.append(self._beat())
        settling = list(self._settling)  # who asks from now on may have said more
        if settling:
            self._flushes_next = 0.0
        self._pending += self._taken()
        if self._append():
            for settled in settling:
                self._settling.popleft()
                settled.set()

    def _taken(self) -> list[Event]:
        """What waits, as events in the order in which it was said."""
        now = time.monotonic()
        rows: list[Logged] = []
        if self._last is not None or self._events or len(self.rows) >= ROWS_MAX or now >= self._flushes_next:
            self._flushes_next = now + FLUSH_SECONDS
            rows = [self.rows.popleft() for _ in range(len(self.rows))]
        made: list[Event] = [*batches(self._run_id, rows)]
        made += [self._events.popleft() for _ in range(len(self._events))]
        return sorted(made, key=lambda event: event.occurred_at)

    def _append(self) -> bool:
        """Write what is pending; return whether nothing is left of it."""
        while self._pending and not self._abandoned:
            some = self._pending[:_AT_ONCE]
            try:
                self._book.append(some)
            except (AskedWrongly, AppendRefused):
                self._append_singly(some)
            except (LedgerError, OSError) as exc:
                self._hold_back(exc)
                return False
            else:
                self.counted.written += len(some)
            del self._pending[: len(some)]
            self._retry_seconds = 0.0
        return not self._pending

    def _append_singly(self, events: Sequence[Event]) -> None:
        """One that is refused must not keep the others from being written."""
        for event in events:
            try:
                self._book.append(event)
            except (AskedWrongly, AppendRefused) as exc:
                self.counted.refused += 1
                _log.warning("run %s: a %s event was refused: %s", self._run_id, event.type, exc)
            else:
                self.counted.written += 1

    def _hold_back(self, exc: Exception) -> None:
        """Neither ledger nor spool takes it: keep it, and ask again later and later."""
        if not self._retry_seconds:
            _log.warning("run %s: neither the ledger nor a spool takes what is recorded: %s", self._run_id, exc)
        self._retry_seconds = min(RETRY_SECONDS_MAX, 2 * self._retry_seconds or 1.0)
        excess = len(self._pending) - PENDING_MAX
        if excess > 0:
            old = [event for event in self._pending if event.type in _GIVEN_UP][:excess]
            if len(old) < excess:
                more = [event for event in self._pending if event.type not in _GIVEN_UP and event.type not in _KEPT]
                old += more[: excess - len(old)]
            gone = set(map(id, old))
            self._pending = [event for event in self._pending if id(event) not in gone]
            self.counted.given_up += len(old)

    @harmless
    def end(self) -> None:
        """Write what is to be the last; called by the thread alone."""
        self._pending += self._taken()  # which was said while the thread was writing
        if self._last is None or self._abandoned:
            return
        self._pending += self._last()
        self._last = None
        self._append()
        self._book.close()
        self.waits_in = self._book.spooled
