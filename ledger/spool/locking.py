"""The lock that a spool file's writer holds: further proof that it lives, where the filesystem has such locks."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock

__all__ = ["hold"]


def hold(descriptor: int) -> bool:
    """Lock an open file for as long as it is open. False where another has it, or where there are no locks."""
    if sys.platform == "win32":
        return False
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:
        return False
    return True
