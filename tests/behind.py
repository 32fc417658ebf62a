"""What somebody does to a ledger's tables without the ledger, whatever database they lie in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from ledger.store.postgres.address import conninfo
from ledger.store.postgres.connection import connect
from tests.places import GUARDS

__all__ = ["REFUSED", "Stranger", "behind", "is_url"]

# What the databases raise for what their schema refuses.
REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError, psycopg.DataError)


def is_url(place: str | Path) -> bool:
    """Whether a place is on a server."""
    return str(place).startswith("postgres")


class Stranger:
    """A connection of nobody's; `?` stands for a value."""

    def __init__(self, driver: Any, place: str | Path) -> None:
        self.driver = driver
        self.on_server = is_url(place)

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        if not self.on_server:
            return self.driver.execute(statement, values)
        return self.driver.execute(
            statement.replace("%", "%%").replace("?", "%s") if values else statement, values or None
        )

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        asked = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if not self.on_server:
            asked = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return [name for (name,) in self.driver.execute(asked)]

    def columns(self, table: str) -> list[str]:
        """Return the columns that can be written, in their order; not what only orders a server's transactions."""
        if not self.on_server:
            return [name for _, name, *_ in self.driver.execute(f"PRAGMA table_info({table})")]
        found = self.driver.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
            " AND is_generated = 'NEVER' AND column_name <> 'transaction_id' ORDER BY ordinal_position",
            (table,),
        )
        return [name for (name,) in found]


@contextmanager
def behind(place: str | Path, *, guarded: bool = False) -> Iterator[Stranger]:
    """Let somebody tamper with a ledger, past its guards unless it stays *guarded*; afterwards they are as before."""
    if is_url(place):
        with closing(connect(conninfo(str(place)), synchronous="OFF", lock_seconds_max=10)) as driver:
            if not guarded:
                driver.execute("ALTER TABLE training_events DISABLE TRIGGER USER")
            try:
                yield Stranger(driver, place)
            finally:
                for guard in () if guarded else GUARDS:
                    driver.execute(f"ALTER TABLE training_events ENABLE ALWAYS TRIGGER {guard}")
        return
    with closing(sqlite3.connect(str(place))) as db:
        guards = [] if guarded else db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f"DROP TRIGGER {name}")
        yield Stranger(db, place)
        for name, made in guards:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone():
                db.execute(made)
        db.commit()
