"""Where a ledger may lie: a contract holds in every place, so its test runs in each.

A test, or a whole module by its `pytestmark`, says `on_both`, and takes `place`, `book` or `ledgers`. A law that is tried
on any life takes `ledgers`, and says `tried`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from ledger import Ledger
from tests.builders import trials

__all__ = [
    "PLACES",
    "POSTGRESQL",
    "SQLITE",
    "InMemory",
    "Ledgers",
    "OnServer",
    "in_a_file",
    "on_both",
    "on_server",
    "tried",
]

SQLITE, POSTGRESQL = PLACES = ("sqlite", "postgresql")
MEMORY = "memory"  # of SQLite, too

on_both = pytest.mark.places(*PLACES)
anywhere = pytest.mark.places(*PLACES, MEMORY)
in_a_file = pytest.mark.places(SQLITE)  # what is about files, in a module of contracts
on_server = pytest.mark.places(POSTGRESQL)

GUARDS = ("training_events_no_update", "training_events_no_delete", "training_events_no_truncate")


class Ledgers(Protocol):
    """Ledgers that are fresh and empty, one after the other and several at a time."""

    kind: str

    def __call__(self) -> Any:
        """Give an open one, as a context."""


class InMemory:
    """Those of SQLite."""

    kind = SQLITE

    @contextmanager
    def __call__(self) -> Iterator[Ledger]:
        with Ledger(":memory:") as book:
            yield book


class OnServer:
    """Those of PostgreSQL: some databases, which are emptied instead of being made anew."""

    kind = POSTGRESQL

    def __init__(self, new_url: Callable[[], str]) -> None:
        self._new_url = new_url
        self._free: list[str] = []
        self._owners: dict[str, psycopg.Connection[Any]] = {}

    @contextmanager
    def place(self) -> Iterator[str]:
        url = self._free.pop() if self._free else self._new_url()
        yield url
        if url not in self._owners:
            self._owners[url] = psycopg.connect(url, autocommit=True)
        empty(self._owners[url])
        self._free.append(url)

    def close(self) -> None:
        """Let go of the databases."""
        for owner in self._owners.values():
            owner.close()

    @contextmanager
    def __call__(self) -> Iterator[Ledger]:
        with self.place() as url, Ledger(url) as book:
            yield book


def empty(owner: psycopg.Connection[Any]) -> None:
    """Make a ledger what a new one is."""
    with owner.transaction():
        owner.execute("ALTER TABLE training_events DISABLE TRIGGER USER")
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'ledger_migrations'"
        for (table,) in owner.execute(tables).fetchall():
            owner.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        owner.execute("ALTER TABLE training_events ALTER COLUMN position RESTART")
        for guard in GUARDS:
            owner.execute(sql.SQL("ALTER TABLE training_events ENABLE ALWAYS TRIGGER {}").format(sql.Identifier(guard)))


def tried(
    *strategies: st.SearchStrategy[Any], usual: int | None = None, on_server: int = 12, **named: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try a law, which takes `ledgers` and what the strategies give, so often; on a server fewer times."""

    def trying(law: Callable[..., None]) -> Callable[..., None]:
        def test(ledgers: Ledgers) -> None:
            def once(drawn: tuple[Any, ...], by_name: dict[str, Any]) -> None:
                law(ledgers, *drawn, **by_name)

            once.__name__ = law.__name__  # by which hypothesis knows what it has tried
            number = usual if ledgers.kind == SQLITE else trials(on_server, 300)
            how_often = settings() if number is None else settings(max_examples=number)
            how_often(given(st.tuples(*strategies), st.fixed_dictionaries(named))(once))()

        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(test, name, getattr(law, name))
        return test

    return trying
