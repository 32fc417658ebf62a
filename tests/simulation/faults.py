"""What stands between the ledger's code and the system: it kills a process between any two writes, or in one.

To a process that was killed nothing happens any more: what its `finally` and `except` would still do is
refused, and its locks are gone. What lies on its disks stays as it is then; of a spool, a power cut also
takes what was not flushed.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import ledger.fallback
import ledger.spool.locking
import ledger.spool.places
from ledger import origin
from ledger.store import forking, merging, replay, sources, sqlite
from tests.simulation.machines import Clock, Disk, Process

__all__ = ["Fault", "Kernel", "Killed"]

_DESCRIPTORS = 1_000_000  # ours begin here, so that one that was closed is never somebody else's
_WRITES = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "BEGIN", "COMMIT", "ROLLBACK", "PRAGMA wal_checkpoint")
_CALLS = ("open", "write", "fsync", "ftruncate", "fstat", "close", "rename", "unlink", "mkdir", "getpid", "kill")

Kind = Literal["kill", "full", "lost answer", "meanwhile"]


def _mark_of(url: str) -> str:
    """The same in every world of a seed, whose folder is another one each time."""
    return sha256("/".join(Path(url).parts[-2:]).encode()).hexdigest()[:12]


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Fault:
    """What happens to a process, after how many more writes, and whether it stays so for the rest of the call.

    A lost answer is a commit that was carried out, and of which the process is told that it was not. Meanwhile is
    no fault: another process does something then.
    """

    kind: Kind
    writes_before: int
    lasts: bool = False
    short: bool = False

    def concerns(self, what: str) -> bool:
        """Whether it may befall this write. Nobody else gets a turn while a transaction is open."""
        if self.kind == "lost answer":
            return what == "COMMIT"
        if self.kind == "meanwhile":
            return what == "COMMIT" or what.split(maxsplit=1)[0].islower()
        return not self.short or what.startswith("write")

    def __str__(self) -> str:
        return f"{self.kind} after {self.writes_before} writes"


@dataclass
class _Open:
    """A descriptor of a process."""

    real: int
    owner: Process
    path: Path


class Wired(forking.Lendable):
    """A connection of a process."""

    kernel: Kernel
    owner: Process | None = None
    path = ""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self.kernel.statement(self, sql, lambda: super(Wired, self).execute(sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self.kernel.statement(self, sql, lambda: super(Wired, self).executemany(sql, parameters))

    def close(self) -> None:
        if self.owner is None or not self.owner.dead:
            self.kernel.connections.discard(self)
            super().close()

    def __hash__(self) -> int:
        return id(self)


class Kernel:
    """The system as the processes of one world see it. One of them runs at a time."""

    def __init__(self, root: Path, chance: random.Random, tell: Callable[[str], None]) -> None:
        self.spools = f"{root / 'spools'}/"
        self.clock = Clock()
        self.disks: dict[Path, Disk] = {}
        self.process: Process | None = None
        self.alive: list[Process] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.cut_off: set[tuple[str, str]] = set()  # a host, and the database that it cannot reach
        self.connections: set[Wired] = set()
        self._chance = chance
        self._tell = tell
        self._fault: Fault | None = None
        self._descriptors: dict[int, _Open] = {}
        self._opened = _DESCRIPTORS
        self._thread = threading.get_ident()
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _CALLS}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand between for as long as the block lasts; and let work be divided so that faults fall between its parts."""
        quiet = logging.getLogger("ledger")
        with ExitStack() as stack:
            for name in _CALLS:
                stack.enter_context(mock.patch.object(os, name, getattr(self, f"_{name}")))
            for owner, name, value in (
                (ledger.spool.locking, "flock", self._flock),
                (origin, "machine", self._machine),
                (sqlite, "connect", self._connect),
                (sqlite, "time", self.clock),
                (ledger.fallback, "time", self.clock),
                (ledger.spool.places, "mark_of", _mark_of),
                (sqlite, "CHECKPOINT_EVERY", 16),
                (merging, "BATCH_EVENTS_MAX", 4),
                (sources, "PAGE_EVENTS_MAX", 7),
                (replay, "_RUNS_AT_ONCE", 1),
                (replay, "_RUNS_HELD", 2),
                (replay, "_LAST_EVENTS_MAX", 1),
                (replay, "_AFTER", re.sub(r"LIMIT \d+", "LIMIT 2", replay._AFTER)),
                (quiet, "disabled", True),
            ):
                stack.enter_context(mock.patch.object(owner, name, value))
            try:
                yield
            finally:
                for process in list(self.alive):
                    self.bury(process)

    @contextmanager
    def running(self, process: Process, fault: Fault | None = None) -> Iterator[None]:
        """Let what is called in the block be done by *process*."""
        before = self.process, self._fault
        self.process, self._fault = process, fault
        with origin.replaced(process):
            origin._state.newest, origin._state.last_id = process.newest, process.last_id
            try:
                yield
            finally:
                process.newest, process.last_id = origin._state.newest, origin._state.last_id
                self.process, self._fault = before

    def bury(self, process: Process) -> None:
        """Take back what the system gave a process that is no more, and leave the files as they are."""
        if process.book is not None and process.book._opened is not None:
            forking._fork.every.discard(process.book._opened)  # a real fork, later on, has nothing to do with it
        process.dead, process.book = True, None
        self.alive.remove(process)
        for number in [number for number, held in self._descriptors.items() if held.owner is process]:
            self._close(number)
        mine = [connection for connection in self.connections if connection.owner is process]
        self.connections -= set(mine)
        for path in sorted({connection.path for connection in mine}):
            with self._kept_as_it_is(path):
                for connection in mine:
                    if connection.path == path:
                        sqlite3.Connection.close(connection)

    @contextmanager
    def _kept_as_it_is(self, path: str) -> Iterator[None]:
        """Who closes a database last tidies it up; who is killed does not."""
        last = all(connection.path != path for connection in self.connections)
        kept = [Path(path + end) for end in ("", "-wal") if last and path and os.path.exists(path + end)]
        for file in kept:
            shutil.copyfile(file, f"{file}.kept")
        yield
        for file in kept:
            os.replace(f"{file}.kept", file)
        if kept:
            Path(f"{path}-shm").unlink(missing_ok=True)

    def _verdict(self, what: str) -> str:
        """What becomes of a write: "go", or what goes wrong with it."""
        assert self.process is not None
        if self.process.dead:
            raise Killed
        self._tell(f"    {self.process.name} {what}")
        fault = self._fault
        if fault is None or not fault.concerns(what):
            return "go"
        if fault.writes_before > 0:
            fault.writes_before -= 1
            return "go"
        if fault.kind == "kill":
            self.process.dead = True
            return self._said(self._chance.choice(("before", "within", "after")))
        if fault.kind == "meanwhile" or (not fault.lasts and not fault.short):
            self._fault = None
        if fault.kind != "meanwhile":
            return self._said(fault.kind)
        if what == "COMMIT":
            return fault.kind
        self._let_others()
        return "go"

    def _let_others(self) -> None:
        self._tell("    -- meanwhile")
        self.meanwhile()
        self._tell("    -- and on")

    def _said(self, verdict: str) -> str:
        self._tell(f"    -- {verdict}")
        return verdict

    def _done(self, what: str, do: Callable[[], Any], error: int = errno.ENOSPC) -> Any:
        """Do one write that is done wholly or not at all."""
        verdict = self._verdict(what)
        if verdict == "full":
            raise OSError(error, os.strerror(error))
        if verdict in ("before", "within"):
            raise Killed
        answer = do()
        if verdict == "after":
            raise Killed
        return answer

    # SQLite

    def _connect(self, path: str, *, timeout_seconds: float = 30.0) -> sqlite3.Connection:
        self._reach(self.process, path)
        made = sqlite3.connect(
            path, timeout=0.05, isolation_level=None, check_same_thread=False, cached_statements=256, factory=Wired
        )
        made.kernel, made.owner, made.path = self, self.process, path
        if self.process is not None:
            self.connections.add(made)
        return made

    def _reach(self, process: Process | None, path: str) -> None:
        if process is not None and (process.host.name, path) in self.cut_off:
            raise sqlite3.OperationalError("unable to open database file")

    def statement(self, connection: Wired, sql: str, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        if connection.owner is None or self.process is None:
            return run()
        if connection.owner.dead:
            raise Killed
        self._reach(connection.owner, connection.path)
        if not sql.startswith(_WRITES):
            return run()
        verdict = self._verdict(" ".join(sql.split()[:3]))
        if verdict in ("before", "within"):
            raise Killed
        if verdict == "full" and not sql.startswith(("BEGIN", "ROLLBACK", "PRAGMA")):
            if connection.in_transaction and self._chance.random() < 0.5:  # SQLite does so, or does not
                sqlite3.Connection.execute(connection, "ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        cursor = run()
        if verdict == "after":
            raise Killed
        if verdict == "meanwhile":
            self._let_others()
        if verdict == "lost answer":
            raise sqlite3.OperationalError("disk I/O error")
        return cursor

    # Files

    def _is_ours(self, path: object) -> bool:
        return self.process is not None and threading.get_ident() == self._thread and str(path).startswith(self.spools)

    def _disk(self, folder: Path) -> Disk:
        return self.disks.setdefault(folder, Disk(folder))

    def _open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if not self._is_ours(path):
            return int(self._real["open"](path, flags, mode, **more))
        file = Path(path)
        if not flags & os.O_CREAT:
            return self._numbered(self._real["open"](path, flags, mode), file)

        def create() -> int:
            number = self._numbered(self._real["open"](path, flags, mode), file)
            self._disk(file.parent).created(file.name)
            return number

        return int(self._done(f"create {file.name}", create))

    def _numbered(self, real: int, path: Path) -> int:
        assert self.process is not None
        self._opened += 1
        self._descriptors[self._opened] = _Open(real, self.process, path)
        return self._opened

    def _held(self, number: int) -> _Open | None:
        if number > _DESCRIPTORS and number not in self._descriptors:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptors.get(number)

    def _write(self, number: int, data: Any) -> int:
        held = self._held(number)
        if held is None:
            return int(self._real["write"](number, data))
        verdict = self._verdict(f"write {len(data)}")
        if verdict == "before":
            raise Killed
        if verdict == "within":
            self._real["write"](held.real, data[: self._chance.randrange(len(data))])
            raise Killed
        if verdict == "full":
            return self._write_what_fits(held, data)
        written = int(self._real["write"](held.real, data))
        if verdict == "after":
            raise Killed
        return written

    def _write_what_fits(self, held: _Open, data: Any) -> int:
        """A full disk takes a part first, and says so only then."""
        fault = self._fault
        fits = 0 if fault is not None and fault.short else self._chance.randrange(len(data))
        if not fits:
            self._fault = fault if fault is not None and fault.lasts else None
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fault = Fault("full", 0, lasts=fault is not None and fault.lasts, short=True)
        return int(self._real["write"](held.real, data[:fits]))

    def _fsync(self, number: int) -> None:
        held = self._held(number)
        if held is None:
            self._real["fsync"](number)
        elif held.path.is_dir():
            self._done("flush the folder", self._disk(held.path).folder_flushed, errno.EIO)
        else:
            disk, name = self._disk(held.path.parent), held.path.name
            self._done("flush", lambda: disk.file_flushed(name), errno.EIO)

    def _ftruncate(self, number: int, length: int) -> None:
        held = self._held(number)
        if held is None:
            self._real["ftruncate"](number, length)
            return
        real = held.real
        self._done(f"cut back to {length}", lambda: self._real["ftruncate"](real, length), errno.EIO)

    def _fstat(self, number: int) -> os.stat_result:
        held = self._held(number)
        answer: os.stat_result = self._real["fstat"](number if held is None else held.real)
        return answer

    def _close(self, number: int) -> None:
        held = self._held(number)
        if held is not None:
            del self._descriptors[number]
        self._real["close"](number if held is None else held.real)

    def _flock(self, number: int, operation: int) -> None:
        held = self._held(number)
        fcntl.flock(number if held is None else held.real, operation)

    def _rename(self, old: Any, new: Any, **more: Any) -> None:
        if not self._is_ours(old):
            self._real["rename"](old, new, **more)
            return

        def rename() -> None:
            self._real["rename"](old, new)
            self._disk(Path(old).parent).renamed(Path(old).name, Path(new).name)

        self._done(f"rename {Path(old).name}", rename, errno.EIO)

    def _unlink(self, path: Any, **more: Any) -> None:
        if not self._is_ours(path):
            self._real["unlink"](path, **more)
            return

        def unlink() -> None:
            self._real["unlink"](path)
            if Path(path).parent in self.disks:
                self._disk(Path(path).parent).removed(Path(path).name)

        self._done(f"unlink {Path(path).name}", unlink, errno.EIO)

    def _mkdir(self, path: Any, *args: Any, **more: Any) -> None:
        if self._is_ours(path):
            self._done(f"mkdir {Path(path).name}", lambda: self._real["mkdir"](path, *args, **more))
        else:
            self._real["mkdir"](path, *args, **more)

    # Who

    def _getpid(self) -> int:
        return int(self._real["getpid"]()) if self.process is None else self.process.pid

    def _kill(self, pid: int, signal: int) -> None:
        if self.process is None:
            self._real["kill"](pid, signal)
        elif not any(one.pid == pid and one.host is self.process.host and not one.dead for one in self.alive):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    def _machine(self) -> tuple[str, str]:
        assert self.process is not None
        return self.process.host.name, self.process.host.boot_id
