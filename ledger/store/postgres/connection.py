"""A connection to PostgreSQL as the store wants it: the same values as SQLite's, whatever the server's settings are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import psycopg
from psycopg import sql
from psycopg.adapt import Buffer, Loader
from psycopg.pq import TransactionStatus

from ledger.errors import NotALedger
from ledger.store.statements import StoredRow

__all__ = ["ServerConnection", "connect"]

_MOMENT_LENGTH = 19  # of "2025-11-25 10:30:00"
_CURSORS = count(1)
_ROWS_MIN, _ROWS_MAX, _LENGTH_WANTED = 4, 500, 200_000  # held at a time: rows, or characters


class ServerConnection(psycopg.Connection[StoredRow]):
    """One that begins no transaction by itself."""

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        with self.cursor() as cursor:
            cursor.executemany(statement, rows)

    def begin(self, *, read_only: bool = False) -> None:
        """Begin a transaction; one that only reads sees one state of the database."""
        how = "REPEATABLE READ READ ONLY" if read_only else "READ COMMITTED READ WRITE"
        self.execute(f"BEGIN ISOLATION LEVEL {how}")

    @property
    def is_idle(self) -> bool:
        """Whether it is in no transaction."""
        return self.info.transaction_status == TransactionStatus.IDLE

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Insert many rows at once."""
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with self.cursor() as cursor, cursor.copy(into) as copy:
            for row in rows:
                copy.write_row(row)

    def pages(self, statement: str, parameters: Sequence[object], size: int | None) -> Iterator[list[StoredRow]]:
        """Yield what a statement finds, so many rows at a time or as many as are short, of one state."""
        begun = self.is_idle
        if begun:
            self.begin(read_only=True)
        try:
            with self.cursor(name=f"ledger_{next(_CURSORS)}") as cursor:
                cursor.execute(statement, parameters)
                wanted = size or _ROWS_MIN
                while rows := cursor.fetchmany(wanted):
                    yield rows
                    if size is None:
                        wanted = max(_ROWS_MIN, min(_ROWS_MAX, 2 * wanted, _LENGTH_WANTED * len(rows) // _length(rows)))
        finally:
            if begun and not self.closed:
                self.execute("ROLLBACK")


def _length(rows: Sequence[StoredRow]) -> int:
    return sum(len(value) for row in rows for value in row if isinstance(value, str)) or 1


def connect(conninfo: str, *, synchronous: str, lock_seconds_max: float) -> ServerConnection:
    """Return a new connection with settings that give the same values on every server."""
    made = ServerConnection.connect(conninfo, autocommit=True)
    try:
        made.adapters.register_loader("timestamptz", _MomentLoader)
        _check_encoding(made)
        made.execute(_SETTINGS, (f"{max(1, int(lock_seconds_max * 1000))}ms", synchronous == "FULL"))
    except BaseException:
        made.close()
        raise
    return made


def _check_encoding(connection: ServerConnection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise NotALedger(
            f"the database {connection.info.dbname} has the encoding {encoding}, which lacks characters. "
            "Create one with `createdb --encoding=UTF8 --template=template0`."
        )


# For the whole session. Whoever cuts our statements short would cut a replay short, too; what waits for a lock
# waits for so long at most. A commit is on the disk before it returns, whatever the server's default is.
_SETTINGS = """
SELECT set_config('timezone', 'UTC', false), set_config('datestyle', 'ISO', false),
  set_config('intervalstyle', 'postgres', false), set_config('extra_float_digits', '1', false),
  set_config('client_encoding', 'UTF8', false), set_config('standard_conforming_strings', 'on', false),
  set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
  set_config('default_transaction_read_only', 'off', false),
  set_config('lock_timeout', %s, false),
  set_config('synchronous_commit', CASE WHEN %s THEN CASE session.commits WHEN 'off' THEN 'on' ELSE session.commits END
    ELSE 'off' END, false)
FROM (SELECT current_setting('synchronous_commit') AS commits) AS session
"""


class _MomentLoader(Loader):
    """A timestamptz as the ledger writes moments; the session's time zone is UTC, its DateStyle ISO."""

    def load(self, data: Buffer) -> str:
        text = str(data, "ascii")
        fraction = text[_MOMENT_LENGTH + 1 : text.index("+", _MOMENT_LENGTH)]
        return f"{text[:10]}T{text[11:_MOMENT_LENGTH]}.{fraction:0<6}Z"
