"""Where a ledger may lie: a contract holds in every place, so its test runs in each.

A test, or a whole module by its `pytestmark`, says `on_both`, and takes `place`, `book` or `ledgers`. A law that is tried
on any life takes `ledgers`, and says `tried`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from ledger import Ledger
from tests.builders import trials

if TYPE_CHECKING:
    from tests.postgres.cluster import Cluster
    from tests.postgres.sharing import Session

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

    def __init__(self, cluster: Cluster, session: Session) -> None:
        self._cluster = cluster
        self._session = session
        self._free: list[_Database] = []

    @contextmanager
    def place(self) -> Iterator[str]:
        """Give the URL of one, with the schema and nothing else in it."""
        database = self._free.pop() if self._free else _Database(self._cluster, self._session)
        try:
            yield database.url
        except BaseException:
            database.drop()
            raise
        if database.empties():
            self._free.append(database)
        else:
            database.drop()

    @contextmanager
    def __call__(self) -> Iterator[Ledger]:
        with self.place() as url, Ledger(url) as book:
            yield book

    def close(self) -> None:
        """Remove the databases."""
        for database in self._free:
            database.drop()


# What a test may have changed beside the rows: then its database is not used again.
_SHAPE = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_rewrite),
  (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_attribute WHERE NOT attisdropped),
  (SELECT string_agg(tgname::text || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger),
  (SELECT string_agg(indexdef, ' ' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'public'),
  (SELECT string_agg(prosrc, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
  (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend')
"""


class _Database:
    """A database of this process, and its owner's connection."""

    def __init__(self, cluster: Cluster, session: Session) -> None:
        self._cluster = cluster
        self._name = session.database()
        self.url = cluster.create_database(self._name, session.template)
        self._owner = psycopg.connect(self.url, autocommit=True)
        self._shape = self._owner.execute(_SHAPE).fetchone()
        self._state = self._owner.execute("SELECT name, value FROM ledger_state").fetchall()
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'ledger_migrations'"
        self._tables = [sql.Identifier(table) for (table,) in self._owner.execute(tables)]

    def empties(self) -> bool:
        """Make the ledger what a new one is; False where that cannot be."""
        if self._owner.execute(_SHAPE).fetchone() != self._shape:
            return False
        with self._owner.transaction():
            self._owner.execute("ALTER TABLE training_events DISABLE TRIGGER USER")
            for table in self._tables:
                self._owner.execute(sql.SQL("DELETE FROM {}").format(table))
            self._owner.execute("ALTER TABLE training_events ALTER COLUMN position RESTART")
            for guard in map(sql.Identifier, GUARDS):
                self._owner.execute(sql.SQL("ALTER TABLE training_events ENABLE ALWAYS TRIGGER {}").format(guard))
            for row in self._state:
                self._owner.execute("INSERT INTO ledger_state VALUES (%s, %s)", row)
        return True

    def drop(self) -> None:
        self._owner.close()
        self._cluster.drop_database(self._name)


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
