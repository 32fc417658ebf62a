"""Hubs with ledgers, nodes that record, spools that are carried around, and what goes wrong: all out of one seed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from unittest import mock

from ledger import Ledger
from ledger.errors import LedgerError
from tests.simulation.acts import ACTS, MEANWHILE
from tests.simulation.audit import Broken, Promises, look_at
from tests.simulation.faults import Fault, Kernel, Killed
from tests.simulation.machines import Host, Hub, Node, Process

__all__ = ["STEPS", "Failed", "World", "simulate"]

STEPS = 50
BUSY_SECONDS = 0.4
_SHARED_MEMORY = Path("/dev/shm")


class Failed(AssertionError):
    """A law was broken; the message says by which seed and after which steps."""


class World:
    """All that a seed stands for. `run` lives it and raises Failed where a law is broken."""

    def __init__(self, seed: int, root: Path, say: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.root = root
        self.chance = random.Random(seed)
        self.trace: list[str] = []
        self.kernel = Kernel(root, self.chance, self.tell)
        self.clock = self.kernel.clock
        self.clock.awaited = self._free_locks
        self.kernel.meanwhile = self._meanwhile
        self.promises = Promises()
        self.hubs = [self._hub("hub-a"), self._hub("hub-b")]
        self.nodes = self._make_nodes()
        self.late: list[tuple[Path, bytes]] = []
        self._say = say
        self._pids = 5_000_000

    def _hub(self, name: str) -> Hub:
        folder = self.root / name
        folder.mkdir()
        return Hub(Host(name, self.clock), folder / "runs.db", self.root / "spools" / f"inbox-{name}")

    def _make_nodes(self) -> list[Node]:
        a, b = self.hubs
        spools = self.root / "spools"
        spools.mkdir()
        hosts = [Host(f"node-{number}", self.clock) for number in range(2)]
        for host in (*hosts, a.host, b.host):
            host.skew = self._skew()
        return [
            Node(a.host, a, spools / "at-a", "fallback"),
            Node(b.host, b, spools / "at-b", self.chance.choice(["straight", "fallback"])),
            Node(hosts[0], a, spools / "node-0", "spool"),
            Node(hosts[1], self.chance.choice(self.hubs), spools / "node-1", "fallback"),
        ]

    def _skew(self) -> timedelta:
        return timedelta(seconds=self.chance.choice([0, 0, 0.5, -3, 7200, -18000, 86400]))

    def tell(self, line: str) -> None:
        line = line.replace(str(self.root), "~")
        self.trace.append(line)
        if self._say is not None:
            self._say(line)

    @property
    def digest(self) -> str:
        """What two runs of one seed have in common: every step, write and answer."""
        return sha256("\n".join(self.trace).encode()).hexdigest()

    # The life of the world

    def run(self, steps: int = STEPS) -> None:
        """Live. Raises Failed."""
        with self.kernel.installed():
            try:
                for hub in self.hubs:
                    for fault in (self.fault(20), None):
                        self.at_hub(hub, "init", lambda book: book.init_db(), fault)
                self._audit()
                for number in range(steps):
                    self._step(number)
                self._heal()
            except (Broken, LedgerError, OSError, sqlite3.Error, AssertionError) as exc:
                raise Failed(self._report(exc)) from exc
            finally:
                for hub in self.hubs:
                    hub.unlock()

    def _report(self, exc: BaseException) -> str:
        last = "\n".join(self.trace[-40:])
        return (
            f"seed {self.seed}: {type(exc).__name__}: {exc}\n"
            f"Again: python -m tests.simulation --seed {self.seed} --verbose\nThe last of it:\n{last}"
        )

    def _step(self, number: int) -> None:
        act = self.chance.choices([act for _, act in ACTS], [weight for weight, _ in ACTS])[0]
        self.tell(f"{number} {act.__name__}")
        self.clock.seconds += self.chance.choice([0.001, 1, 20, 600])
        act(self)
        self._free_locks()
        self._audit()

    def _meanwhile(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            act = self.chance.choice(MEANWHILE)
            self.tell(f"  meanwhile {act.__name__}")
            act(self)

    def _audit(self) -> None:
        for hub in self.hubs:
            if not hub.is_away and (written := _written(hub.path)) != hub.written:
                hub.seen, hub.written = look_at(hub.path, hub.seen), written
        self.promises.check([hub.seen for hub in self.hubs], self._spools())

    def _spools(self) -> list[Path]:
        return [*(node.spool for node in self.nodes), *(hub.inbox for hub in self.hubs)]

    def _free_locks(self) -> None:
        """Whoever waits for a lock may see its holder go."""
        for hub in self.hubs:
            if self.clock.seconds >= hub.locked_until:
                hub.unlock()

    def fault(self, writes: int) -> Fault | None:
        """Sometimes something goes wrong with a write: with one of the first few, or with any of about so many."""
        if self.kernel.process is not None:  # one thing at a time
            return None
        kind = self.chance.choices([None, "kill", "full", "lost answer", "meanwhile"], [35, 26, 18, 9, 18])[0]
        if kind is None:
            return None
        means = {"kill": [1, 3, writes / 2], "full": [1, 3, writes / 2], "lost answer": [1], "meanwhile": [0.5, 2, 5]}
        mean = self.chance.choice(means[kind])
        count = int(self.chance.expovariate(1 / mean))
        return Fault(kind, count, lasts=self.chance.random() < 0.5)

    def do(self, process: Process, what: str, fault: Fault | None, do: Callable[[Ledger], object]) -> bool:
        """Let a process do something; return whether it came back and said that it is done."""
        self.tell(f"  {process.name} {what} [{fault or 'no fault'}]")
        assert process.book is not None
        try:
            with self.kernel.running(process, fault):
                answer = do(process.book)
        except Killed:
            self.tell("  killed")
            self.kernel.bury(process)
            return False
        except LedgerError as exc:
            self.tell(f"  {type(exc).__name__}: {exc}")
            return False
        self.tell(f"  done: {answer}")
        return True

    def spawn(self, host: Host, url: str, spool: Path | None) -> Process:
        self._pids += 1
        process = Process(host, self._pids, random.Random(self.chance.getrandbits(64)))
        self.kernel.alive.append(process)
        said = {} if spool is None else {"TRAINING_DB_SPOOL": str(spool)}
        with mock.patch.dict(os.environ, said):
            process.book = Ledger(url, busy_seconds_max=BUSY_SECONDS)
        return process

    def end(self, process: Process, fault: Fault | None) -> None:
        """Let a process come to its end, and the system clean up behind it."""
        self.do(process, "closes", fault, lambda book: book.close())
        if not process.dead:
            self.kernel.bury(process)

    def at_hub(self, hub: Hub, what: str, do: Callable[[Ledger], object], fault: Fault | None) -> bool:
        """Let a process of the hub do something, and end."""
        process = self.spawn(hub.host, str(hub.path), None)
        done = self.do(process, what, fault, do)
        if not process.dead:
            self.end(process, self.fault(2) if done and fault else None)
        return done

    # The end

    def _heal(self) -> None:
        """All is mended, delivered, synced and merged; then all know all, and show the same."""
        self.tell("at the end")
        self.kernel.cut_off.clear()
        for hub in self.hubs:
            hub.come_back()
            hub.unlock()
        for process in list(self.kernel.alive):
            self.end(process, None)
        self._audit()
        a, b = self.hubs
        homes = [place for place in self._spools() if place.is_dir()]
        self.chance.shuffle(homes)
        for place in homes:
            self._must(self.chance.choice(self.hubs), "sync", lambda book, place=place: book.sync(place, clear=True))
        for hub, other in self.chance.choice([[(a, b), (b, a)], [(b, a), (a, b)]]):
            self._must(hub, "merge", lambda book, other=other: book.merge(other.path))
        self._audit()
        self.promises.check([a.seen], [])
        self.promises.check([b.seen], [])
        if a.seen.digests != b.seen.digests or a.seen.window != b.seen.window:
            raise Broken("two ledgers with the same events show different rows")

    def _must(self, hub: Hub, what: str, do: Callable[[Ledger], object]) -> None:
        if not self.at_hub(hub, what, do, None):
            raise Broken(f"{what} failed though nothing was in its way")


def _written(path: Path) -> tuple[int, ...]:
    """What tells whether somebody has written to a ledger; empty where there is none."""
    files = [file for file in (path, path.with_name(f"{path.name}-wal")) if file.exists() and file.stat().st_size]
    return tuple(value for file in files for value in (file.stat().st_mtime_ns, file.stat().st_size))


def simulate(seed: int, steps: int = STEPS, say: Callable[[str], None] | None = None) -> str:
    """Live the world of a seed and return the digest of its trace. Raises Failed."""
    folder = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix=f"ledger-world-{seed}-", dir=folder))
    try:
        world = World(seed, root, say)
        world.run(steps)
        return world.digest
    finally:
        shutil.rmtree(root, ignore_errors=True)
