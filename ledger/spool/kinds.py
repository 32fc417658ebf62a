"""What a spool is to who reads it and to who writes it, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ledger.events import Fact

__all__ = ["CUT_OFF", "Holds", "Spool", "SpoolWriter", "Spooled"]

CUT_OFF = (
    "%s ends in the middle of a line, though it is sealed: a copy that is not done. Copy it again, and take it in again"
)
# Whether the ledger has every one of these lines.
Holds = Callable[[Iterable[str]], bool]


class Spooled(Protocol):
    """A file or an object of a spool."""

    @property
    def name(self) -> str: ...
    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield each complete line with its number; nothing where somebody else has moved it in and removed it."""

    def is_cut_off(self) -> bool:
        """Whether an event is missing at its end that had been there: a copy that is not done."""

    def clear(self, holds: Holds) -> bool:
        """Remove it, if nobody writes to it any more and the ledger holds all of it; return whether it is gone."""


class Spool(Protocol):
    """A spool as `ledger sync` reads it."""

    @property
    def place(self) -> str: ...
    def files(self) -> Iterator[Spooled]: ...


class SpoolWriter(Protocol):
    """A spool as one process writes to it."""

    @property
    def place(self) -> str: ...
    def create(self) -> None:
        """Make the place, if it is not there."""

    def append(self, facts: Sequence[Fact]) -> None:
        """Put the events where they stay before returning. Raises LedgerUnreachable, with nothing acknowledged."""

    def own(self) -> list[Spooled]:
        """Return what this process has put there and was not told to forget; none of it changes any more."""

    def has_own(self) -> bool:
        """Whether there is any of it."""

    def forget(self, files: Iterable[Spooled]) -> None: ...
    def left_on_this_host(self, *, bytes_max: int | None = None) -> Sequence[Spooled]:
        """Return what writers of this host that are done, or gone, have left there for the same ledger.

        Nothing of it, where it is more than *bytes_max* in all.
        """

    def close(self) -> None: ...
