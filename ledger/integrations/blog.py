"""The blog workflow's step after a post is out: attach its address to every run that it is about."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ledger.api import Ledger
from ledger.default import default_ledger
from ledger.errors import InvalidValue, LedgerError
from ledger.porch import When

__all__ = ["Published", "publish"]

_log = logging.getLogger("ledger")


@dataclass(frozen=True)
class Published:
    """The runs that have the address now, and why the *failed* ones do not."""

    attached: tuple[str, ...]
    failed: Mapping[str, str]


def publish(
    run_ids: str | Iterable[str], url: str, *, ledger: Ledger | None = None, at: When | None = None
) -> Published:
    """Attach *url* to one run or to several, each once; a run that fails keeps none of the others from it.

    Raises InvalidValue, with nothing attached, for an address that is none and where no run is named.
    """
    if not isinstance(url, str) or not url.strip():
        raise InvalidValue("url", url, "the address of the post is wanted")
    listed = [run_ids] if isinstance(run_ids, str) else list(dict.fromkeys(run_ids))
    if not listed:
        raise InvalidValue("run_ids", run_ids, "the id of a run, or several, are wanted")
    book = default_ledger() if ledger is None else ledger
    attached: list[str] = []
    failed: dict[str, str] = {}
    for run_id in listed:
        try:
            book.attach_blog_post(run_id, url.strip(), at=at)
            attached.append(run_id)
        except LedgerError as exc:
            failed[run_id] = str(exc)
            _log.warning("%s was not attached: %s", url, exc)
    return Published(tuple(attached), failed)
