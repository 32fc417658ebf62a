"""Hosts and processes: whose clock, whose randomness and whose name what is recorded bears."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ledger import Ledger
from tests.simulation.audit import Seen

__all__ = ["Clock", "Disk", "Host", "Hub", "Node", "Process"]

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Clock:
    """The time of the world. It goes on by itself a little with every look at it, and while somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.awaited: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        self.seconds += 0.000037
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.awaited()


@dataclass
class Host:
    """A machine: its clock may be hours off, and its boot changes when its power is cut."""

    name: str
    clock: Clock
    skew: timedelta = timedelta(0)
    boots: int = 1

    @property
    def boot_id(self) -> str:
        return f"boot{self.boots}"


@dataclass
class Process:
    """One process of a host, with what an operating system and an interpreter keep of it."""

    host: Host
    pid: int
    chance: random.Random
    book: Ledger | None = None
    dead: bool = False
    newest: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    last_id: int = 0

    @property
    def name(self) -> str:
        return f"{self.host.name}/{self.pid}"

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.host.clock.monotonic()) + self.host.skew

    def random_bits(self, bits: int) -> int:
        return self.chance.getrandbits(bits)

    def source(self) -> dict[str, str | int]:
        return {"host": self.host.name, "pid": self.pid, "user": "sim", "program": "train.py", "version": "0"}


@dataclass
class Hub:
    """A host with a ledger, and the folder that spools are delivered to."""

    host: Host
    path: Path
    inbox: Path
    seen: Seen = field(default_factory=Seen)
    stranger: sqlite3.Connection | None = None
    locked_until: float = 0.0
    written: tuple[int, ...] = ()

    @property
    def is_away(self) -> bool:
        return not self.path.parent.is_dir()

    def go_away(self) -> None:
        """Let something else lie where the ledger's folder was."""
        self.unlock()
        self.path.parent.rename(f"{self.path.parent}.away")
        self.path.parent.touch()

    def come_back(self) -> None:
        if self.is_away:
            self.path.parent.unlink()
            Path(f"{self.path.parent}.away").rename(self.path.parent)

    def lock(self, until: float) -> None:
        """Let a stranger have the write lock."""
        self.locked_until = until
        self.stranger = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        self.stranger.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        if self.stranger is not None:
            self.stranger.execute("ROLLBACK")
            self.stranger.close()
            self.stranger = None


@dataclass
class Node:
    """A place where runs are recorded: straight into a hub, into a spool, or into one where the hub is away."""

    host: Host
    hub: Hub
    spool: Path
    how: str
    processes: list[Process] = field(default_factory=list)


@dataclass
class Disk:
    """A folder as a power cut would leave it: of what was not flushed anything may be there, or nothing.

    A file is known by a number of its own, so that a new name that was not flushed may be the old one again.
    """

    folder: Path
    names: dict[str, int] = field(default_factory=dict)
    flushed_names: dict[str, int] = field(default_factory=dict)
    flushed: dict[int, bytes] = field(default_factory=dict)
    count: int = 0

    def created(self, name: str) -> None:
        self.count += 1
        self.names[name] = self.count

    def renamed(self, old: str, new: str) -> None:
        self.names[new] = self.names.pop(old)

    def removed(self, name: str) -> None:
        del self.names[name]

    def file_flushed(self, name: str) -> None:
        if name in self.names:  # else somebody removed it under its writer's hands
            self.flushed[self.names[name]] = (self.folder / name).read_bytes()

    def folder_flushed(self) -> None:
        self.flushed_names = dict(self.names)

    def cut(self, chance: random.Random) -> None:
        """Lose, or keep, what was not flushed."""
        now = {number: name for name, number in self.names.items()}
        before = {number: name for name, number in self.flushed_names.items()}
        contents = {number: (self.folder / name).read_bytes() for number, name in now.items()}
        left: dict[str, int] = {}
        for number in sorted(now.keys() | before.keys()):
            name = chance.choice([before.get(number), now.get(number)])
            if name is not None:
                left[name] = number
                contents[number] = self._left_of(number, contents.get(number), chance)
        for name in self.names:
            (self.folder / name).unlink()
        for name, number in left.items():
            (self.folder / name).write_bytes(contents[number])
        self.names, self.flushed_names = left, dict(left)
        self.flushed = {number: contents[number] for number in left.values()}

    def _left_of(self, number: int, written: bytes | None, chance: random.Random) -> bytes:
        flushed = self.flushed.get(number, b"")
        if written is None or not written.startswith(flushed):  # removed, or cut back: whole before or whole after
            return flushed
        kept = written[: chance.randint(len(flushed), len(written))]
        # Filesystems may have noted a file's length before its last blocks were written.
        return kept + b"\0" * (len(written) - len(kept)) if chance.random() < 0.2 else kept
