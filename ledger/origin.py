"""Clock, identity and randomness: the only module that reads them, so that a simulation can replace them.

Times never go back within one process, and ids increase strictly, so that what one process
records keeps the order in which it was recorded, whatever the machine's clock does meanwhile.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

__all__ = [
    "Origin",
    "booted_at",
    "has_ended",
    "is_hidden",
    "machine",
    "new_event_id",
    "now",
    "process",
    "random_text",
    "replaced",
    "source",
    "utc_now",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Origin(Protocol):
    """What a simulation provides in place of the machine: `now`, `random_bits`, `source`."""

    def now(self) -> datetime: ...
    def random_bits(self, bits: int) -> int: ...
    def source(self) -> dict[str, str | int]: ...


class _Machine:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def random_bits(self, bits: int) -> int:
        return secrets.randbits(bits)

    def source(self) -> dict[str, str | int]:
        return _process_identity(os.getpid())


@cache
def _process_identity(pid: int) -> dict[str, str | int]:
    from ledger.version import __version__

    return {
        "host": socket.gethostname(),
        "pid": pid,
        "user": _user(),
        "program": Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python",
        "version": __version__,
    }


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a passwd entry
        return str(os.getuid())


class _State:
    """The newest time and id given out by this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may record while its own thread is in here
        self.origin: Origin = _Machine()
        self.newest = _EPOCH
        self.last_id = 0


_state = _State()


def _after_fork_in_child() -> None:
    _state.lock = threading.RLock()  # another thread may have held it while we forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def utc_now() -> datetime:
    """Return the clock's time as it is; for "7d ago" and `recorded_at`."""
    return _state.origin.now()


def now() -> datetime:
    """Return the time, aware and in UTC, never earlier than what an earlier call here returned."""
    with _state.lock:
        return _advance()


def _advance() -> datetime:
    moment = _state.origin.now()
    _state.newest = max(_state.newest, moment)
    return _state.newest


def new_event_id() -> str:
    """Return a UUIDv7 (RFC 9562) greater than every earlier one of this process.

    48 bits of milliseconds, 12 bits of the fraction of the millisecond, 62 random bits; where two
    fall into the same fraction, the later one counts up from the earlier.
    """
    with _state.lock:
        since = _advance() - _EPOCH
        milliseconds, rest = divmod(since // _MICROSECOND, 1000)
        candidate = (
            (milliseconds & 0xFFFF_FFFF_FFFF) << 80
            | 0x7 << 76
            | (rest << 12) // 1000 << 64
            | 0x2 << 62
            | _state.origin.random_bits(62)
        )
        if candidate <= _state.last_id:
            candidate = _following(_state.last_id)
        _state.last_id = candidate
    text = f"{candidate:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _following(last: int) -> int:
    """Count up the 74 free bits of an id and leave its version and variant bits in place."""
    free = (last >> 80) << 74 | (last >> 64 & 0xFFF) << 62 | last & (1 << 62) - 1
    free += 1
    return (free >> 74) << 80 | 0x7 << 76 | (free >> 62 & 0xFFF) << 64 | 0x2 << 62 | free & (1 << 62) - 1


def source() -> dict[str, str | int]:
    """Return who says so: host, pid, user, program and version of this process."""
    return _state.origin.source()


def booted_at() -> datetime | None:
    """Return when this machine was started; None where the system does not say."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    seconds = next((line.split()[1] for line in lines if line.startswith("btime ")), None)
    return None if seconds is None else datetime.fromtimestamp(int(seconds), UTC)


@cache
def machine() -> tuple[str, str]:
    """Return this machine's name and what tells one boot of it from the next ("" where the system does not say)."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return socket.gethostname(), boot_id


def process(pid: int | None = None) -> dict[str, str | int] | None:
    """Return what tells a process (ours, if no *pid* is given) from all others, ever; None where it is gone.

    `host`, `boot_id`, `pid`, and, where the system says them, `started`: ticks since the boot, and `namespace`: within
    which the pid counts.
    """
    host, boot_id = machine()
    made: dict[str, str | int] = {"host": host, "boot_id": boot_id, "pid": os.getpid() if pid is None else pid}
    if not Path("/proc/self/stat").exists():
        return made if pid is None or is_running(pid) else None
    try:
        stat = Path(f"/proc/{made['pid']}/stat").read_bytes().rpartition(b") ")[2].split()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat[0] in b"ZX":  # dead, and not fetched by its parent yet
        return None
    return {**made, "started": int(stat[19]), "namespace": namespace}


def has_ended(process_: Mapping[str, object]) -> bool | None:
    """Return whether a process of which `process` once told is gone.

    None where that cannot be looked for: on another machine, in another container, or of somebody who hides it.
    """
    here = process() or {}
    if any(process_.get(name) != here.get(name) for name in ("host", "boot_id", "namespace")):
        return None
    pid = int(str(process_["pid"]))
    try:
        there = process(pid)
    except PermissionError:
        return None
    return there != process_ if there is not None or not is_hidden(pid) else None


def is_hidden(pid: int) -> bool:
    """Return whether it is there, but /proc does not show other users' processes (the mount option hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False  # our own is never hidden: this one is dead, and not fetched by its parent yet


def is_running(pid: int) -> bool:
    """Return whether this machine has a process of that number, whoever's and since whenever."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def random_text(alphabet: str, length: int) -> str:
    """Return *length* characters drawn from *alphabet*, whose size needs to be far below 2**32."""
    return "".join(alphabet[_state.origin.random_bits(64) % len(alphabet)] for _ in range(length))


def replaced(origin: Origin) -> AbstractContextManager[None]:
    """Use *origin* inside a `with` block: the time may go back at its start and at its end."""
    from contextlib import contextmanager

    @contextmanager
    def swap() -> Iterator[None]:
        before = (_state.origin, _state.newest, _state.last_id)
        _state.origin, _state.newest, _state.last_id = origin, _EPOCH, 0
        try:
            yield
        finally:
            _state.origin, _state.newest, _state.last_id = before

    return swap()
