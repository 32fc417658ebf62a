"""Texts that are no UTF-8, which only somebody behind the ledger's back can have put there.

The driver raises for them. To have every text read so that it cannot would cost a tenth of a page's time,
so whoever has to read on asks for it once the driver has raised.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["NO_UTF_8", "is_undecodable", "reading_anything"]

NO_UTF_8 = "Could not decode to UTF-8"  # as the driver has it


def is_undecodable(exc: sqlite3.Error) -> bool:
    return NO_UTF_8 in str(exc)


@contextmanager
def reading_anything(connection: sqlite3.Connection) -> Iterator[None]:
    """Let each text that is no UTF-8 be read as one that no event and no row can have."""
    before = connection.text_factory
    connection.text_factory = _text
    try:
        yield
    finally:
        connection.text_factory = before


def _text(stored: bytes) -> str:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return f"\x00no UTF-8: {stored!r}"  # a text with a NUL in it is refused by every fact
