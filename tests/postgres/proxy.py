"""A line to a PostgreSQL server that can be cut at the worst moment: a commit's, whose answer then never comes.

with Proxy(url) as proxy:
    proxy.at_commit = Proxy.lose_answer
    with Ledger(proxy.url) as book: ...
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

__all__ = ["Proxy", "black_hole"]

SECONDS_MAX = 30


class Line:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server

    def cut(self, *sides: socket.socket) -> None:
        for side in sides or (self.client, self.server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Passes everything on, until it is told what to do with a commit; it does that once."""

    def __init__(self, url: str) -> None:
        self._to = conninfo_to_dict(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lines: list[Line] = []
        self.at_commit: Callable[[Proxy, Line, bytes], None] | None = None
        self.stalled = threading.Event()
        self.may_commit = threading.Event()
        self.commits = 0
        threading.Thread(target=self._take, daemon=True).start()

    @property
    def database(self) -> str:
        return str(self._to["dbname"])

    @property
    def url(self) -> str:
        login = ":".join(quote(str(self._to[name]), safe="") for name in ("user", "password") if self._to.get(name))
        return f"postgresql://{login}@127.0.0.1:{self._listening.getsockname()[1]}/{self.database}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listening.close()
        self.may_commit.set()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every line, as a router that forgets its connections."""
        for line in self._lines:
            line.cut()

    def lose_commit(self, line: Line, data: bytes) -> None:
        """Cut the line before the commit has reached the server."""
        del data
        line.cut()

    def lose_answer(self, line: Line, data: bytes) -> None:
        """Let the server commit, and cut the line before its answer has come back."""
        line.cut(line.client)
        line.server.sendall(data)

    def lose_answer_and_commit_later(self, line: Line, data: bytes) -> None:
        """Cut the line to the client, and let the server commit when the test says so."""
        line.cut(line.client)
        self.may_commit.wait(SECONDS_MAX)
        line.server.sendall(data)

    def _take(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                line = Line(client, self._connected())
            except OSError:
                return
            self._lines.append(line)
            threading.Thread(target=self._pass_to_server, args=(line,), daemon=True).start()
            threading.Thread(target=self._pass_to_client, args=(line,), daemon=True).start()

    def _connected(self) -> socket.socket:
        host, port = str(self._to["host"]), int(str(self._to.get("port", 5432)))
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        made = socket.socket(socket.AF_UNIX)
        made.connect(f"{host}/.s.PGSQL.{port}")
        return made

    def _pass_to_server(self, line: Line) -> None:
        with suppress(OSError), line.client:
            while data := line.client.recv(65536):
                if self.stalled.is_set():
                    continue
                is_commit = b"COMMIT\0" in data
                self.commits += is_commit
                act, self.at_commit = (self.at_commit, None) if is_commit else (None, self.at_commit)
                act(self, line, data) if act else line.server.sendall(data)
        with suppress(OSError):
            line.server.shutdown(socket.SHUT_WR)

    def _pass_to_client(self, line: Line) -> None:
        with suppress(OSError), line.server:
            while data := line.server.recv(65536):
                if not self.stalled.is_set():
                    line.client.sendall(data)
        line.cut(line.client)


def black_hole() -> socket.socket:
    """Return a socket that takes connections and never says a word."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)
