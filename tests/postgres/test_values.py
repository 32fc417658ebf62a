"""The same events give the same Python values from a file and from a server, however the server is set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.errors import LedgerUnreachable, NotALedger
from ledger.events import Event, Launched
from ledger.store.postgres.database import ServerDatabase
from tests.builders import NOON, amended, annotated, completed, heartbeat, launched, metrics_logged, started, trials
from tests.postgres.cluster import Cluster
from tests.postgres.server import Server
from tests.strategies import batched, histories

New = Callable[[], str]

HOSTILE = {
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "extra_float_digits": "-10",
    "statement_timeout": "50ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "50ms",
    "idle_session_timeout": "50ms",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "synchronous_commit": "off",
    "client_encoding": "LATIN1",
    "search_path": "another, public",
    "xmlbinary": "hex",
    "lc_numeric": "C.utf8",
    "row_security": "on",
    "quote_all_identifiers": "on",
    "escape_string_warning": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}

ODD: dict[str, Any] = {
    "z": 1,
    "a": {"NUL\x00": "a\x00b", "half": "\ud800", "pair": "\U0001f600", "line": "\u2028"},
    "numbers": [10**4000, -(10**4000), 1e308, 5e-324, -0.0, 1e22, 2**63, 0.1, 1e-7, 123456789012345678],
    "key": 1,
    "key ": 2,
    "KEY": 3,
    "kéy": 4,
    "ke\u0301y": 5,
    "nothing": [float("nan"), float("inf"), -float("inf"), None, True, "", {}, []],
    "large": "ä" * 1_000_000,
}


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if depth % 2 else {"k": value}
    return value


LIVES: list[Event] = [
    launched(0, run="odd", config=ODD),
    launched(0, run="deep", config={"deep": deep(90), "odd": deep(61)}),
    heartbeat(1, run="odd", step=2**63 - 1, metrics={"b": -0.0, "a": 1e22, "nan": float("nan"), "0": "\x00\ud800"}),
    metrics_logged(2, run="odd", columns={"loss": [1e308, 5e-324], "text": ["\x00", "😀"]}),
    amended(3, run="odd", learning_rate=-0.0, batch_size=2**63 - 1, created_at="0001-01-01T00:00:00Z", beta=5e-324),
    amended(3, run="deep", learning_rate=1e308, ended_at="9999-12-30T23:59:59.999999Z", batch_size=-(2**63)),
    annotated(4, run="odd", note="it's \\ \\\\ %s $1 :name \u2028", tags=["a", "b"]),
    Launched(run_id="first", occurred_at=datetime(1, 1, 1, tzinfo=UTC), host="\\'; --", config={"lr": "1e-4"}),
    Launched(run_id="last", occurred_at=datetime(9999, 12, 29, 23, 59, 59, 999999, tzinfo=UTC)),
    started(5, run="😀 \\ ' \" %"),
    completed(6, run="😀 \\ ' \" %", exit_code=0, duration_seconds=2**63 - 1),
]  # fmt: skip


class Ticking:
    """A clock that gives the same moments again."""

    def __init__(self) -> None:
        self._count = 0

    def now(self) -> datetime:
        self._count += 1
        return NOON + timedelta(days=3, microseconds=self._count)

    def random_bits(self, bits: int) -> int:
        self._count += 1
        return self._count % int(2**bits)

    def source(self) -> dict[str, str | int]:
        return {"host": "hub", "pid": 7}


def answers(book: Ledger, batches: list[list[Event]]) -> dict[str, Any]:
    """Record events by a clock of its own, and return all that the ledger then answers, as it is spelled."""
    book.init_db()
    with origin.replaced(Ticking()):
        for batch in batches:
            book.append(batch)
        runs = sorted({event.run_id for batch in batches for event in batch})
        said = {
            "rows": {run: book.get_run(run) for run in runs},
            "listed": book.query_runs(order_by="created_at DESC", limit=None),
            "by number": [row["run_id"] for row in book.query_runs(order_by="learning_rate ASC", limit=None)],
            "by text": [row["run_id"] for row in book.query_runs(order_by="run_id DESC", limit=None)],
            "stats": book.get_stats(),
            "events": list(book.events()),
            "explained": {run: list(book.explain(run)) for run in runs if book.get_run(run)},
        }
    assert book.verify().differences == ()
    return {name: repr(answer) for name, answer in said.items()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return where two sets of answers part: what is large would take pytest minutes to compare."""
    found: list[tuple[str, str, str]] = []
    for name, said in one.items():
        if said != other[name]:
            at = len(os.path.commonprefix([said, other[name]]))
            found.append((name, said[at - 40 : at + 40], other[name][at - 40 : at + 40]))
    return found


@contextmanager
def hostile(url: str) -> Iterator[str]:
    """Set a database against its users."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("CREATE SCHEMA another")
        name = connection.info.dbname
        for setting, value in HOSTILE.items():
            wanted = value if setting == "search_path" else f"'{value}'"
            connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {wanted}')
        if connection.info.server_version >= 170000:
            connection.execute(f"ALTER DATABASE \"{name}\" SET transaction_timeout = '50ms'")
    yield url


@pytest.mark.parametrize("is_hostile", [False, True])
def test_odd_values_come_back_alike(postgres_url: str, path: Path, *, is_hostile: bool) -> None:
    """Years 1 and 9999, NUL, halves of pairs, numbers of any size, deep and large configs: each as SQLite gives it."""
    batches = [LIVES[:3], LIVES[3:4], LIVES[4:]]
    with Ledger(path) as file:
        expected = answers(file, batches)
    if is_hostile:
        with hostile(postgres_url):
            pass
    with Ledger(postgres_url) as server:
        assert differences(expected, answers(server, batches)) == []
        assert server.replay() == len({event.run_id for event in LIVES})
        assert server.verify().differences == ()


@settings(max_examples=trials(12, 200), suppress_health_check=[*HealthCheck])
@given(histories().flatmap(batched), st.booleans())
def test_any_history_gives_the_same_values(new_postgres_url: New, batches: list[list[Event]], is_hostile: bool) -> None:
    """Rows, orders, statistics, events and explanations are spelled alike, whatever the server's settings."""
    url = new_postgres_url()
    if is_hostile:
        with hostile(url):
            pass
    with Ledger(":memory:") as file, Ledger(url) as server:
        assert differences(answers(file, batches), answers(server, batches)) == []


def test_the_schema_lies_where_the_search_path_says(postgres_url: str) -> None:
    """Another first schema is where a ledger is made and found; two ledgers lie in one database so."""
    with hostile(postgres_url), Ledger(postgres_url) as book:
        book.append(launched(0))
    with Ledger(f"{postgres_url}&options=-csearch_path%3Dpublic") as other:
        other.append(started(0, run="other"))
        assert [event.run_id for event in other.events()] == ["other"]
    with Ledger(postgres_url) as book:
        assert [event.run_id for event in book.events()] == ["r"]
        assert book.verify().differences == ()


def setting(url: str, name: str, synchronous: str = "FULL") -> str:
    """Return what a setting is in a session of the ledger's."""
    with closing(ServerDatabase(url, synchronous=synchronous)) as database, closing(database.connect()) as session:
        (value,) = session.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
        return str(value)


@pytest.mark.parametrize(
    ("of_database", "synchronous", "of_session"),
    [("off", "FULL", "on"), ("on", "FULL", "on"), ("remote_apply", "FULL", "remote_apply"), ("local", "FULL", "local"),
     ("on", "NORMAL", "off")],
)  # fmt: skip
def test_a_commit_is_on_the_disk_whatever_the_server_says(
    postgres_url: str, of_database: str, synchronous: str, of_session: str
) -> None:
    """FULL never waits for less than the disk, and for no less than the server wants; NORMAL does not wait."""
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = {of_database}')

    assert setting(postgres_url, "synchronous_commit", synchronous) == of_session


def test_every_text_is_in_the_order_of_code_points(postgres_url: str) -> None:
    """Whatever a database's own collation is, none of the ledger's columns follows it."""
    with Ledger(postgres_url) as book:
        book.init_db()
    asked = (
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    with closing(psycopg.connect(postgres_url)) as connection:
        assert connection.execute(asked).fetchall() == []


def test_a_server_that_is_too_old_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which version it is, and which is wanted."""
    monkeypatch.setattr("ledger.store.postgres.connection.VERSION_MIN", 990000)
    with Ledger(postgres_url) as book, pytest.raises(LedgerUnreachable, match=r"is PostgreSQL \d+.*needs 99 or newer"):
        book.append(launched(0))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_lacks_characters_is_refused(pg_cluster: Cluster, encoding: str) -> None:
    """One that is not in UTF-8 is named with the command that makes a better one, and nothing is made in it."""
    name = f"narrow_{os.getpid()}_{encoding.lower()}"
    pg_cluster.run_sql(f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        url = pg_cluster.url(name)
        with Ledger(url) as book, pytest.raises(NotALedger, match=f"{encoding}.*createdb --encoding=UTF8"):
            book.append(launched(0))
        tables = pg_cluster.run_sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=name)
        assert tables == [(0,)]
    finally:
        pg_cluster.drop_database(name)


def test_the_documented_variables_take_any_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRAINING_DB_HOST, PORT, NAME, USER and PASSWORD lead to the ledger, and no character has to be escaped."""
    password = "p@ss:w/o%20r?d#&=[é] '\"\\😀"
    with Server.start(hba=["host all ana 127.0.0.1/32 scram-sha-256"]) as server:
        server.create_database("training runs/1")
        quoted = password.replace("'", "''")
        server.run_sql(f"CREATE ROLE ana LOGIN PASSWORD E'{quoted.replace(chr(92), chr(92) * 2)}'")
        server.run_sql('ALTER DATABASE "training runs/1" OWNER TO ana')
        for name, value in {
            "HOST": "127.0.0.1", "PORT": str(server.port), "NAME": "training runs/1", "USER": "ana",
            "PASSWORD": password,
        }.items():  # fmt: skip
            monkeypatch.setenv(f"TRAINING_DB_{name}", value)
        with Ledger() as book:
            book.insert_run("r1", None, {"batch_size": 8})
            assert password not in book.url + repr(book)
            assert [row["run_id"] for row in book.query_runs()] == ["r1"]
