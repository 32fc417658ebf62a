"""Steps of which none may keep the ones behind it from being done: what fails is noted, and said on the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import LedgerError

__all__ = ["Problems"]

_log = logging.getLogger("ledger")


class Problems:
    """What went wrong on the way through the steps for one run, in their order."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._noted: list[str] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Do one step; whatever it raises is noted, and the next one follows."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 -- analyzers and notifiers are strangers', and no step undoes another
            self.note(f"{what}: {_said(exc)}", exc if not isinstance(exc, LedgerError | OSError) else None)

    def note(self, problem: str, exc: Exception | None = None) -> None:
        self._noted.append(problem)
        _log.warning("run %s: %s", self._run_id, problem, exc_info=exc)

    def all(self) -> tuple[str, ...]:
        return tuple(self._noted)


def _said(exc: Exception) -> str:
    return str(exc) if isinstance(exc, LedgerError) else f"{type(exc).__name__}: {exc}"
