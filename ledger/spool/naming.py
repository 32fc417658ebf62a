"""What the name of a spool file says: who writes it, and whether it is sealed.

    HOST.BOOT.PID.PART.open.jsonl     while its one process may still write to it
    HOST.BOOT.PID.PART.jsonl          sealed: it never changes again

PART makes the name unique for ever, so that a file which was moved in and removed does not come back
as another one. Where what is in it waits for a certain ledger, PART ends in `-` and that ledger's mark: several may
have one folder to fall back to, and nobody brings in what is another's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from ledger import origin

__all__ = ["FileName"]

_NAME = re.compile(r"(?P<host>.+)\.(?P<boot_id>[^.]+)\.(?P<pid>\d+)\.(?P<part>[^.]+)(?P<open>\.open)?\.jsonl")
_HOST_LENGTH_MAX = 120
_UNKNOWN_BOOT = "noboot"


@dataclass(frozen=True)
class FileName:
    """The parts of a spool file's name."""

    host: str
    boot_id: str
    pid: int
    part: str
    sealed: bool

    @classmethod
    def new(cls, mark: str | None = None) -> FileName:
        """Return a name for a file that this process begins, for the ledger of this mark."""
        host, boot_id = _here()
        # Of an event's id it has the order of time and the randomness.
        part = origin.new_event_id().replace("-", "")
        return cls(host, boot_id, os.getpid(), part if mark is None else f"{part}-{mark}", sealed=False)

    @classmethod
    def parsed(cls, text: str) -> FileName | None:
        """Return what a name says, or None where it is not one of ours."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        return cls(found["host"], found["boot_id"], int(found["pid"]), found["part"], sealed=found["open"] is None)

    def __str__(self) -> str:
        return f"{self.host}.{self.boot_id}.{self.pid}.{self.part}{'' if self.sealed else '.open'}.jsonl"

    def seal(self) -> FileName:
        return replace(self, sealed=True)

    @property
    def mark(self) -> str | None:
        """The ledger that it waits for."""
        return self.part.partition("-")[2] or None

    def of_this_host(self) -> bool:
        return self.host == _here()[0]

    def writer_is_gone(self, last_written: float) -> bool:
        """Whether this machine, from which it was written, was started anew since, or has that process no more.

        Machines can share a name, and containers boots and pids, too: what was written, in seconds since 1970, after
        this machine was started is of no former boot of it, and a lock on the file has to confirm the rest.
        """
        host, boot_id = _here()
        if self.host != host:
            return False
        if self.boot_id != boot_id:
            booted_at = origin.booted_at()
            is_known = _UNKNOWN_BOOT not in (self.boot_id, boot_id)
            return is_known and booted_at is not None and last_written < booted_at.timestamp()
        return not origin.is_running(self.pid)


def _here() -> tuple[str, str]:
    host, boot_id = origin.machine()
    return quote(host, safe="")[:_HOST_LENGTH_MAX] or "localhost", boot_id or _UNKNOWN_BOOT
