"""What the reference document shows of SQL runs as printed on a server, and the schema's text makes the schema."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from ledger import Ledger
from ledger.schema import server_schema_text
from tests.api.test_reference_document import BLOCKS, METHODS, documented_columns, documented_sql, one_by_one
from tests.places import POSTGRESQL

NEXTJS = "Option A: Next.js API Route (Direct PostgreSQL)"


@pytest.fixture
def runs(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection of a stranger to a ledger with runs of four methods on two hosts."""
    with Ledger(postgres_url) as book:
        for hours, method in enumerate(METHODS, start=1):
            host = "ec2" if hours % 2 else "expanse"
            book.insert_run(f"{method}_1", None, {"reward": {"gradient_method": method}}, host=host)
            book.update_run_status(f"{method}_1", "completed", duration_seconds=hours * 3600)
        book.insert_run("new", None, {"reward": {"gradient_method": "mgda"}}, host="ec2")
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        yield connection


def nextjs_query() -> str:
    """Give the query that the document's Next.js route sends, as printed."""
    (query,) = re.findall(r"pool\.query\(`(.*?)`", BLOCKS[NEXTJS].text, re.DOTALL)
    return str(query)


def test_the_documented_sql_runs_as_printed(runs: psycopg.Connection[Any]) -> None:
    """The statements that are typed into a shell give on a server what they give on a file."""
    listed, statuses, methods = (runs.execute(statement).fetchall() for statement in one_by_one(documented_sql()))

    assert ("imtlg_1", "completed", "imtlg", 3.0) in listed
    assert sorted(statuses) == [("completed", 4), ("launched", 1)]
    assert ("pcgrad", 1, 2.0) in [(method, count, float(hours)) for method, count, hours in methods]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((None, None, None), {*(f"{method}_1" for method in METHODS), "new"}),
        (("completed", None, None), {f"{method}_1" for method in METHODS}),
        (("completed", "ec2", None), {"mgda_1", "imtlg_1"}),
        ((None, None, "mgda"), {"mgda_1", "new"}),
        (("crashed", "ec2", "mgda"), set()),
    ],
)
def test_the_nextjs_query_runs_as_printed(
    runs: psycopg.Connection[Any], given: tuple[str | None, ...], found: set[str]
) -> None:
    """With $1 to $3 it is prepared as printed and asked with any of them NULL, by name and as node's `pg` sends it."""
    texts = ", ".join("NULL" if value is None else f"'{value}'" for value in given)
    runs.execute(f"PREPARE documented AS {nextjs_query()}")
    columns = [column.name for column in runs.execute(f"EXECUTE documented({texts})").description or ()]
    prepared = [row[columns.index("run_id")] for row in runs.execute(f"EXECUTE documented({texts})")]
    sent = psycopg.RawCursor(runs).execute(nextjs_query().encode(), given, prepare=False)

    assert set(documented_columns()) <= set(columns)
    assert set(prepared) == found
    assert [row[columns.index("run_id")] for row in sent] == prepared


def made_of(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a schema consists of: columns, indexes, triggers, functions and the meanings of columns."""
    asked = {
        "columns": "SELECT table_name, column_name, data_type, collation_name, is_nullable, is_identity,"
        " generation_expression, column_default FROM information_schema.columns WHERE table_schema = 'public'",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "triggers": "SELECT pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger WHERE NOT tgisinternal",
        "functions": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "checks": "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "meanings": "SELECT c.relname, d.objsubid, d.description FROM pg_description d JOIN pg_class c"
        " ON c.oid = d.objoid WHERE c.relnamespace = 'public'::regnamespace",
    }
    with closing(psycopg.connect(url)) as connection:
        return {name: sorted(connection.execute(sql).fetchall(), key=repr) for name, sql in asked.items()}


@pytest.mark.places(POSTGRESQL)
def test_the_printed_schema_makes_the_schema(postgres_url: str, bare_place: str) -> None:
    """`ledger schema` of a ledger on a server prints SQL that makes what `ledger init` makes there."""
    one, other = postgres_url, bare_place
    ended = subprocess.run(
        [sys.executable, "-m", "ledger", "--db", one, "schema"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", server_schema_text())
    with closing(psycopg.connect(other, autocommit=True)) as connection:
        connection.execute(ended.stdout.encode())

    assert made_of(other) == made_of(one)
    assert all(made_of(one).values())


def test_the_schema_is_printed_without_asking_the_server() -> None:
    """Where the server is away it is printed all the same; a group that is half set is an error."""
    command = [sys.executable, "-m", "ledger", "schema", "--db", "postgresql://me@nowhere.invalid/runs"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == server_schema_text()
