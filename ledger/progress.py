"""How far a long work has come, told now and then to whoever watches it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pace", "Progress", "Watcher"]

TOLD_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Progress:
    """So many steps *done* of *total* (0 where nobody knows how many), and the time that the rest will take.

    What a step is, an event, a run or a byte, is the work's own business; `seconds_left` is None
    until there is something to judge it by.
    """

    done: int
    total: int
    seconds_left: float | None


Watcher = Callable[[Progress], None]


class Pace:
    """Counts the steps of one work, and tells its watcher a few times a second and at the end."""

    def __init__(self, total: int, watcher: Watcher | None) -> None:
        self._total = total
        self._watcher = watcher
        self._done = 0
        self._began = self._told = time.monotonic()

    def step(self, count: int = 1) -> None:
        self._done += count
        if self._watcher is not None and time.monotonic() - self._told >= TOLD_EVERY_SECONDS:
            self._tell(self._watcher)

    def finish(self) -> None:
        """Tell that all is done, also where the total had only been guessed."""
        self._total = self._done
        if self._watcher is not None:
            self._tell(self._watcher)

    def _tell(self, watcher: Watcher) -> None:
        self._told = time.monotonic()
        left = max(0, self._total - self._done)
        known = self._total and self._done
        watcher(Progress(self._done, self._total, (self._told - self._began) / self._done * left if known else None))
