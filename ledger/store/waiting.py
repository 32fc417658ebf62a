"""How who follows waits for more: on a file by looking again, on a server also by being woken."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["POLL_SECONDS", "Looking", "Waiting"]

POLL_SECONDS = 0.01


class Waiting(Protocol):
    """One wait after another, for as long as somebody follows."""

    def wait(self) -> None:
        """Return when it is worth looking again."""

    def came(self) -> None:
        """Take note that something came: more of it may be on its way."""

    def close(self) -> None: ...


class Looking:
    """Looks again after a pause, for ever the same."""

    def wait(self) -> None:
        time.sleep(POLL_SECONDS)

    def came(self) -> None:
        """That changes nothing."""

    def close(self) -> None:
        """There is nothing to close."""
