"""Where and when this ledger accepted a run's events, as one number: what neither digest nor chain covers."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

__all__ = ["placed"]


def placed(accepted: Iterable[tuple[int, str]], before: int = 0) -> int:
    """Return the checksum of (position, recorded_at) of each event in order of acceptance, going on from *before*.

    It finds what somebody changed by the way; who means to deceive can make it anew, and a chain too.
    """
    return crc32("".join([f"{position} {recorded_at}\n" for position, recorded_at in accepted]).encode(), before)
