"""Where a spool lies decides how it is written and read: a folder, or a prefix of a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ledger.events import Fact
from ledger.settings import shown, spool_location
from ledger.spool.folder import FolderWriter
from ledger.spool.reading import SpoolFolder

__all__ = ["Holds", "Spool", "SpoolWriter", "Spooled", "open_spool", "spool_writer"]

# Whether the ledger has every one of these lines.
Holds = Callable[[Iterable[str]], bool]


class Spooled(Protocol):
    """A file or an object of a spool."""

    @property
    def name(self) -> str: ...
    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield each complete line with its number; nothing where somebody else has moved it in and removed it."""

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
    def left_on_this_host(self) -> Sequence[Spooled]:
        """Return what writers of this host that are done, or gone, have left there."""

    def close(self) -> None: ...


def open_spool(place: str | os.PathLike[str]) -> Spool:
    """Return the spool at a path or URL, for reading. Raises LedgerUnreachable where there is none."""
    url = spool_location(place)
    if url.startswith("s3:"):
        from ledger.spool.s3 import SpoolBucket

        return SpoolBucket(url)
    return SpoolFolder(url.removeprefix("spool://"))


def spool_writer(url: str) -> SpoolWriter:
    """Return the spool at a URL, for writing. Raises MissingExtra where S3 is meant and boto3 is missing."""
    if url.startswith("s3:"):
        from ledger.spool.s3 import BucketWriter

        return BucketWriter(shown(url))
    return FolderWriter(url.removeprefix("spool://"))
