"""A server that does not let a ledger in, or not do what it wants, is one line with the mend, and no password in it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.errors import HalfConfigured, LedgerUnreachable
from ledger.store.postgres import database as ledger_database
from tests.postgres.server import Server

SECRET = "s3cr3t/@:"
Fails = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"max_connections": "12", "superuser_reserved_connections": "3"}
    with Server.start(
        settings, hba=["host all kept-out 127.0.0.1/32 reject", "host all all all scram-sha-256"]
    ) as server:
        for role in ("user", "kept-out", "alone"):
            server.run_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{SECRET}'")
        server.run_sql("ALTER ROLE alone CONNECTION LIMIT 1")
        server.run_sql("CREATE ROLE group_role NOLOGIN PASSWORD 'x'")
        yield server


@pytest.fixture
def database(server: Server) -> str:
    """Name a database with a ledger."""
    name = f"d{random.randrange(10**9)}"
    with Ledger(server.create_database(name)) as book:
        book.insert_run("r", None, {})
    return name


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Give a call that records at a URL, and asks, in vain; it returns the one line that both say, and how soon."""

    def said(url: str, *, seconds_max: float = 4.0) -> str:
        began = time.monotonic()
        with Ledger(url) as book, pytest.raises(LedgerUnreachable) as caught:
            book.insert_run("r", None, {})
        assert time.monotonic() - began < seconds_max
        assert main(["--db", url, "show", "r"]) == 3
        line = capsys.readouterr().err
        for text in (str(caught.value), line):
            assert len(text.splitlines()) == 1
            assert SECRET not in text
            assert "s3cr3t" not in text
        return str(caught.value)

    return said


def test_a_wrong_password(server: Server, database: str, fails: Fails) -> None:
    """It says which variables to check, at once."""
    said = fails(server.url(database, "user", f"{SECRET}!", tcp=True))
    assert "password authentication failed" in said
    assert "TRAINING_DB_PASSWORD" in said


def test_no_password(server: Server, database: str, fails: Fails) -> None:
    """The same where none is given."""
    assert "TRAINING_DB_PASSWORD" in fails(server.url(database, "user", tcp=True))


def test_an_unknown_user(server: Server, fails: Fails) -> None:
    """A role that is not there, and one that may not log in."""
    assert "TRAINING_DB_USER" in fails(server.url("postgres", "nobody-here"))
    assert "LOGIN" in fails(server.url("postgres", "group_role"))


def test_who_is_kept_out(server: Server, database: str, fails: Fails) -> None:
    """Who is refused by the server's rules is told of them."""
    assert "pg_hba.conf" in fails(server.url(database, "kept-out", SECRET, tcp=True))


def test_an_unknown_host(server: Server, fails: Fails) -> None:
    """It says that the host is to be checked, at once."""
    said = fails(
        f"postgresql://user:{SECRET.replace('/', '%2F').replace('@', '%40')}@no-such-host.invalid/d", seconds_max=20
    )
    assert "TRAINING_DB_HOST" in said


def test_an_unknown_database(server: Server, fails: Fails) -> None:
    """It says who creates one."""
    said = fails(server.url("no-such-database", "postgres"))
    assert 'database "no-such-database" does not exist' in said
    assert "createdb" in said


def test_a_database_that_may_not_be_entered(server: Server, database: str, fails: Fails) -> None:
    """A missing right to connect is one that `ledger grants` gives."""
    server.run_sql(f"REVOKE ALL ON DATABASE {database} FROM public")
    assert "ledger grants" in fails(server.url(database, "user"))


def test_no_right_to_create(server: Server, fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no ledger yet and none may be made, its owner is to do so."""
    server.create_database(name := f"d{random.randrange(10**9)}")
    url = server.url(name, "user")
    with Ledger(url) as book, pytest.raises(LedgerUnreachable, match="permission denied for schema .*ledger init"):
        book.insert_run("r", None, {})
    assert main(["--db", url, "init"]) == 3
    assert "permission denied for schema public" in capsys.readouterr().err


def test_no_right_to_insert(server: Server, database: str) -> None:
    """A role that may only read is told of `ledger grants`, and nothing is half written."""
    url = server.url(database, "user")
    with Ledger(server.url(database)) as owner, psycopg.connect(server.url(database), autocommit=True) as granting:
        granting.execute(owner.grants("reader", to="user"))
        with Ledger(url) as book, pytest.raises(LedgerUnreachable, match="training_heads; nothing was .*ledger grants"):
            book.annotate("r", "a note")
        assert owner.verify()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who has not reached the server yet wait for a shorter time than usual."""
    monkeypatch.setattr(ledger_database, "FIRST_SECONDS_MAX", 1.0)


@pytest.mark.usefixtures("impatient")
def test_all_connections_are_taken(server: Server, database: str, fails: Fails) -> None:
    """Who finds no connection free says so after a bounded time, and goes on by himself where one comes free."""
    url = server.url(database, "user")
    with ExitStack() as taken, Ledger(server.url(database)) as owner:
        with psycopg.connect(server.url(database), autocommit=True) as granting:
            granting.execute(owner.grants("writer", to="user"))
        owner.close()
        with pytest.raises(psycopg.OperationalError):
            for _ in range(20):
                taken.enter_context(psycopg.connect(url))
        assert "max_connections" in fails(url, seconds_max=20)
    with Ledger(url) as book:
        book.annotate("r", "a note")


@pytest.mark.usefixtures("impatient")
def test_a_role_has_all_its_connections(server: Server, database: str, fails: Fails) -> None:
    """A role's own limit is told apart from the server's."""
    with psycopg.connect(server.url(database, "alone")):
        assert "CONNECTION LIMIT" in fails(server.url(database, "alone"), seconds_max=20)


@pytest.mark.parametrize("port", ["x", "99999999"])
def test_a_url_that_is_none(port: str) -> None:
    """A port that cannot be is a matter of the URL, which is shown without its password."""
    with pytest.raises((HalfConfigured, LedgerUnreachable)) as caught:
        Ledger(f"postgresql://user:{SECRET.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:{port}/d").init_db()
    assert "s3cr3t" not in str(caught.value)
