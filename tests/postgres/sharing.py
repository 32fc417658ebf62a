"""One server for one session of tests, and a template whose copies its tests get, over all processes of pytest-xdist.

Whoever needs the server first starts it. It ends with the session, and however pytest ends.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.postgres import keeper

if TYPE_CHECKING:
    from tests.postgres.cluster import Cluster
    from tests.postgres.server import Server

__all__ = ["Session", "prepare_template"]

# A server that is there already, whose user may create databases. Read here, for no test sees such variables.
EXISTING = os.environ.get("TRAINING_DB_TEST_URL")


def prepare_template(url: str) -> None:
    """Make in the database at *url*, once a session, what every test's database has; keep no connection open."""
    from ledger import Ledger

    with Ledger(url) as book:
        book.init_db()


@dataclass
class Session:
    """What the processes of one session know of each other: a name, and whose end is the end of all."""

    name: str = field(default_factory=lambda: secrets.token_hex(6))
    owner: int = field(default_factory=os.getpid)
    started: Server | None = None  # by this process
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def folder(self) -> Path:
        return Path(tempfile.gettempdir()) / f"ledger-tests-{self.name}"

    @property
    def template(self) -> str:
        return f"template_{self.name}"

    def database(self) -> str:
        """Return a name that no other database of the session has."""
        return f"test_{self.name}_{os.getpid()}_{next(self.numbers)}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process of the session do something, in a folder that is gone when the session is."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / "kept").exists():
                keeper.keep(self.folder, self.owner)
                (self.folder / "kept").touch()
            yield

    def cluster(self) -> Cluster:
        """Return the session's server; start it if no process of the session has."""
        from tests.postgres.cluster import Cluster
        from tests.postgres.server import Server

        if EXISTING:
            return Cluster(EXISTING)
        with self.locked():
            said = self.folder / "server"
            if not said.exists():
                self.started = Server.start(owner=self.owner)
                said.write_text(f"{self.started.folder}\n{self.started.admin_url}")
            return Cluster(said.read_text().splitlines()[1])

    def prepared(self, cluster: Cluster) -> str:
        """Return the name of the template; make it if no process of the session has."""
        with self.locked():
            said = self.folder / "template"
            if not said.exists():
                cluster.drop_database(self.template)
                prepare_template(cluster.create_database(self.template))
                said.touch()
        return self.template

    def end(self) -> None:
        """Stop what was started; only the owner may."""
        from tests.postgres.cluster import Cluster

        if EXISTING and (self.folder / "template").exists():
            with Cluster(EXISTING) as cluster:
                cluster.drop_database(self.template)
        if self.started is not None:
            self.started.close()
        elif (self.folder / "server").exists():
            keeper.clear(Path((self.folder / "server").read_text().splitlines()[0]))
        if self.folder.exists():
            keeper.clear(self.folder)
