"""A PostgreSQL server of one's own: started, stopped, killed, restarted, followed by a standby.

with Server.start(DURABLE) as server:
    url = server.create_database("ledger")
    server.kill()
    server.restart()
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from tests.postgres import installed, keeper
from tests.postgres.cluster import Cluster

__all__ = ["DURABLE", "Server"]

USER = "postgres"
SECONDS_MAX = 60
TRIES = 5

# Where servers lie that need not be durable, if there is room: on a busy disk a database takes ten times as long.
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 2**30

# What every server is told. The machine under the tests does not lose its power, so nothing waits for a disk.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
    "listen_addresses": "127.0.0.1",
    "dynamic_shared_memory_type": "mmap",  # in the data's folder, so that a killed server leaves nothing elsewhere
    "wal_level": "replica",
    "wal_log_hints": "on",  # for pg_rewind
    "wal_retrieve_retry_interval": "100ms",  # else a promotion sometimes takes five seconds
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %d ",
}
DURABLE = {"fsync": "on", "full_page_writes": "on"}

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server(Cluster):
    """A server with its data, its socket and its log in one folder, which is gone when it is closed."""

    def __init__(self, folder: Path, programs: Path, *, name: str = "primary", owner: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.programs = programs
        self.name = name
        self.owner = owner
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        super().__init__(f"postgresql://{USER}@/postgres?host={folder}&port={self.port}")

    @classmethod
    def start(
        cls,
        settings: Mapping[str, str] | None = None,
        *,
        hba: Sequence[str] = (),
        owner: int | None = None,
        programs: Path | None = None,
    ) -> Self:
        """Make a server and start it: with these settings over SETTINGS, and these lines first in pg_hba.conf.

        It ends with the process *owner*, or with this one.
        """
        told, programs = {**SETTINGS, **(settings or {})}, programs or installed.programs()
        in_reach = installed.in_reach(programs)
        folder = own_folder(owner, in_memory=told["fsync"] == "off" and in_reach)
        try:
            server = cls(folder, programs if in_reach else installed.copy(programs, folder), owner=owner)
            server._make(told, hba)
            server._begin()
        except BaseException:
            keeper.clear(folder)
            raise
        return server

    def url(
        self, database: str, user: str | None = None, password: str | None = None, *, tcp: bool = False
    ) -> str:  # fmt: skip
        """Return the URL of a database by the server's socket, or by TCP."""
        url = super().url(database, user, password)
        return url.partition("?")[0].replace("@", f"@127.0.0.1:{self.port}", 1) if tcp else url

    @property
    def log(self) -> str:
        """Return what the server has said since it was made."""
        file = self.folder / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Shut down, and wait for the end; *smart* waits for those who are connected."""
        self._forget()
        if self.process is not None:
            self.process.send_signal(SIGNALS[mode])
            self.process.wait(SECONDS_MAX)
            self.process = None

    def kill(self) -> None:
        """Kill the postmaster and all its children at one moment, as when the machine goes."""
        assert self.process is not None, "the server does not run"
        self.process.send_signal(signal.SIGSTOP)  # so that no child is born meanwhile
        everybody = keeper.family([self.process.pid])
        keeper.tell(everybody, signal.SIGKILL)
        self.process.wait(SECONDS_MAX)
        assert keeper.gone(everybody, SECONDS_MAX), f"of {sorted(everybody)} not all are gone"
        self.process = None
        self._forget()

    def restart(self) -> None:
        """Start again, on the same data and the same port; stop before that if it runs."""
        self.stop()
        self._run()

    def close(self) -> None:
        """End the server, if it runs, and remove all that it had."""
        self.stop("immediate")
        keeper.clear(self.folder)

    def set(self, name: str, value: str) -> None:
        """Change a setting of the server that runs."""
        assert "'" not in value, value  # ALTER SYSTEM takes no placeholder
        self.run_sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.run_sql("SELECT pg_reload_conf()")

    def basebackup(self, to: Path, *options: str) -> None:
        """Copy the data of the server that runs into the folder *to*, which its user can write."""
        place = ["-h", str(self.folder), "-p", str(self.port), "-U", USER]
        self._run_program("pg_basebackup", *place, "-D", str(to), "-X", "stream", "-c", "fast", "--no-sync", *options)

    def standby(self, name: str = "standby") -> Self:
        """Return a server that follows this one and can be asked; its slot, here, is called *name*, too."""
        folder = own_folder(self.owner, in_memory=self.folder.parent == MEMORY)
        try:
            server = type(self)(folder, self.programs, name=name, owner=self.owner)
            self.basebackup(server.data, "-R", "-C", "-S", name)
            server._begin()
        except BaseException:
            keeper.clear(folder)
            raise
        return server

    def wait_for(self, *standbys: Server) -> None:
        """Let no commit be acknowledged before each of *standbys* has it; with none, before this server has it."""
        names = {standby.name for standby in standbys}
        quorum = ", ".join(sorted(f'"{name}"' for name in names))
        self.set("synchronous_standby_names", f"{len(names)} ({quorum})" if names else "")
        until = time.monotonic() + SECONDS_MAX
        while {name for (name,) in self.run_sql(
            "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'"
        )} != names:  # fmt: skip
            assert time.monotonic() < until, self.log
            time.sleep(0.02)

    def promote(self) -> None:
        """Make a primary of a standby, and return when it takes writes."""
        assert self.run_sql("SELECT pg_promote(true, %s)", SECONDS_MAX) == [(True,)], self.log

    def _make(self, settings: Mapping[str, str], hba: Sequence[str]) -> None:
        options = ("-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "--no-instructions")
        self._run_program("initdb", "-D", str(self.data), *options)
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        rules = self.data / "pg_hba.conf"
        rules.write_text("\n".join([*hba, rules.read_text()]))

    def _begin(self) -> None:
        """Run for the first time, on another port if somebody took ours meanwhile."""
        for _ in range(TRIES):
            try:
                self._run()
            except RuntimeError:
                if "could not create any TCP/IP sockets" not in self.log:
                    raise
                taken, self.port = self.port, free_port()
                self.admin_url = self.admin_url.replace(f"port={taken}", f"port={self.port}")
            else:
                return
        raise RuntimeError(f"no port was free for the server:\n{self.log}")

    def _run(self) -> None:
        place = ["-p", str(self.port), "-k", str(self.folder), "-c", f"cluster_name={self.name}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, *place],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=installed.environment(self.folder), start_new_session=True, **installed.as_its_user(),
            )  # fmt: skip
        until = time.monotonic() + SECONDS_MAX
        while not self._takes_connections(self.process.pid):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop("immediate")
                raise RuntimeError(f"the PostgreSQL server in {self.folder} did not start:\n{self.log[-4000:]}")
            time.sleep(0.01)

    def _takes_connections(self, pid: int) -> bool:
        """Read what the postmaster says of itself: its process on the first line, how far it is on the eighth."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _run_program(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments], cwd=self.folder, capture_output=True, text=True,
            env=installed.environment(self.folder), timeout=SECONDS_MAX, **installed.as_its_user(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stderr}{done.stdout}")

    def _forget(self) -> None:
        """Close the kept connection: it does not reach beyond an end of the server."""
        super().close()


def own_folder(owner: int | None, *, in_memory: bool) -> Path:
    """Make a folder whose path is short enough for a socket, and which ends with its owner."""
    roomy = in_memory and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=MEMORY if roomy else None))
    installed.give(folder)
    keeper.keep(folder, owner or os.getpid())
    return folder


def free_port() -> int:
    """Return a port that is free now, and that the kernel gives to nobody of its own accord."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
