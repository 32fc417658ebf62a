"""What the driver raises, as what the ledger raises: once, at the store's edge, with its cause."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ledger.errors import (
    AppendOnly,
    LedgerBusy,
    LedgerClosed,
    LedgerDamaged,
    LedgerError,
    LedgerUnreachable,
    NotALedger,
)
from ledger.store.tables import DERIVED_NAMES
from ledger.store.undecodable import NO_UTF_8

__all__ = ["forked_meanwhile", "is_busy", "translating"]

_MEND = "Mend the place, then do the same again; or let TRAINING_DB_SPOOL name a folder to record to meanwhile."


@contextmanager
def translating(place: str) -> Iterator[None]:
    """Turn what the driver raises into what the ledger raises, with its cause."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        made = translated(exc, place)
        if made is None:  # a bug of ours: let it be seen
            raise
        raise made from exc


def translated(exc: sqlite3.Error | OSError, place: str) -> LedgerError | None:
    text = str(exc)
    if isinstance(exc, BrokenPipeError):  # of who reads what we write: nothing is wrong with the ledger
        return None
    if isinstance(exc, OSError):
        return LedgerUnreachable(f"{place}: {exc.strerror or text}. {_MEND}")
    for words, make in _TRANSLATIONS:
        if words in text:
            return make(place, text)
    return None


def forked_meanwhile(place: str, _: str = "") -> LedgerError:
    """What a child is told that was forked while its parent had the file in use."""
    return LedgerUnreachable(
        f"this process was forked while the ledger at {place} was being read or written, and cannot use it; nothing "
        "was read or written. Fork before or after that, or start the process anew (subprocess, or multiprocessing's "
        "'spawn'). Or let TRAINING_DB_SPOOL name a folder to record to meanwhile."
    )


def is_busy(exc: sqlite3.Error) -> bool:
    return "locked" in str(exc) or "busy" in str(exc)


def _unreachable(place: str, text: str) -> LedgerError:
    return LedgerUnreachable(
        f"the ledger at {place} cannot be used ({text}); nothing was written. "
        f"Check the disk's space and the rights on the file and its folder. {_MEND}"
    )


def _lacks_what_is_derived(place: str, text: str) -> LedgerError:
    return LedgerDamaged(f"{place} lacks a projected table ({text}). `ledger replay` makes it anew of the events.")


_TRANSLATIONS: tuple[tuple[str, Callable[[str, str], LedgerError]], ...] = (
    ("closed database", lambda place, text: LedgerClosed()),  # by another thread, or a signal handler
    ("append-only", lambda place, text: AppendOnly()),
    ("locked", lambda place, text: LedgerBusy(place)),
    (
        "not a database",
        lambda place, text: NotALedger(
            f"{place} is no SQLite file; it was left as it is. Choose a new file for the ledger."
        ),
    ),
    (
        "malformed",
        lambda place, text: LedgerDamaged(
            f"the file {place} is damaged ({text}). Put a backup in its place with `ledger restore-backup`."
        ),
    ),
    ("no such table: replaying_", lambda place, text: LedgerBusy(place, by="another replay, which overtook this one")),
    *((f"no such table: {name}", _lacks_what_is_derived) for name in DERIVED_NAMES),
    (
        "no such table",
        lambda place, text: LedgerDamaged(
            f"{place} lacks a part of the ledger ({text}). Put a backup in its place with `ledger restore-backup`."
        ),
    ),
    (
        NO_UTF_8,
        lambda place, text: LedgerDamaged(
            f"{place} has a text that is no UTF-8 ({text}): somebody changed it behind the ledger's back. "
            "Find where with `ledger verify`, and put a backup in its place with `ledger restore-backup`."
        ),
    ),
    ("not authorized", forked_meanwhile),  # by us alone, to what a child inherited (ledger/store/forking.py)
    ("prohibited", forked_meanwhile),
    ("interrupted", forked_meanwhile),
    ("full", _unreachable),
    ("readonly", _unreachable),
    ("unable to open", _unreachable),
    ("disk I/O", _unreachable),
)
