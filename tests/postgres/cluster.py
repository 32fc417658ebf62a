"""The databases of a server that runs, whoever started it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

__all__ = ["Cluster"]


class Cluster:
    """A server known by the URL of a database of it, from which databases can be made.

    One connection is kept for such work, and made anew after the server was away.
    """

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._admin: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def url(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """Return the URL of a database, for the administrator or for *user*."""
        parts = urlsplit(self.admin_url)
        mine, _, place = parts.netloc.rpartition("@")
        if user is not None:
            mine = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        netloc = f"{mine}@{place}" if mine else place
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{quote(database, safe='')}"))

    def run_sql(self, statement: str | sql.Composable, *values: object, database: str | None = None) -> list[Any]:
        """Run one statement in a transaction of its own, and return its rows; placeholders are %s."""
        if database is None:
            return _rows(self._connection(), statement, values)
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            return _rows(connection, statement, values)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, as a copy of *template* if one is named, and return its URL."""
        copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        self.run_sql(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), copied))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self.run_sql(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _connection(self) -> psycopg.Connection[Any]:
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self.admin_url, autocommit=True)
        return self._admin


def _rows(
    connection: psycopg.Connection[Any], statement: str | sql.Composable, values: tuple[object, ...]
) -> list[Any]:
    cursor = connection.execute(statement, values or None)
    return cursor.fetchall() if cursor.description else []
