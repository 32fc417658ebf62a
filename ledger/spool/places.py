"""Where a spool lies decides how it is written and read: a folder, or a prefix of a bucket."""

from __future__ import annotations

import os

from ledger.settings import is_spool, mark_of, shown, spool_location
from ledger.spool.folder import FolderWriter
from ledger.spool.kinds import Spool, SpoolWriter
from ledger.spool.reading import SpoolFolder

__all__ = ["open_spool", "require_spools", "spool_writer"]


def open_spool(place: str | os.PathLike[str]) -> Spool:
    """Return the spool at a path or URL, for reading. Raises LedgerUnreachable where there is none."""
    url = spool_location(place)
    if url.startswith("s3:"):
        from ledger.spool.s3 import SpoolBucket

        return SpoolBucket(url)
    return SpoolFolder(url.removeprefix("spool://"))


def require_spools(*places: str | os.PathLike[str]) -> None:
    """Raise LedgerUnreachable where one of these is no spool, before anything is moved out of another."""
    for place in places:
        next(iter(open_spool(place).files()), None)


def spool_writer(url: str, *, of: str | None = None) -> SpoolWriter:
    """Return the spool at a URL, for writing; *of* is the URL of the ledger that what it takes will wait for.

    Raises MissingExtra where S3 is meant and boto3 is missing.
    """
    if url.startswith("s3:"):
        from ledger.spool.s3 import BucketWriter

        return BucketWriter(shown(url))
    return FolderWriter(url.removeprefix("spool://"), None if of is None or is_spool(of) else mark_of(of))
