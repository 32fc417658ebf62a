"""A connection to PostgreSQL as the store wants it: the same values as SQLite's, whatever the server's settings are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import ClassVar, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Loader
from psycopg.conninfo import make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus

from ledger.errors import LedgerUnreachable, NotALedger
from ledger.store.statements import StoredRow

__all__ = ["ServerConnection", "connect"]

_MOMENT_LENGTH = 19  # of "2025-11-25 10:30:00"
VERSION_MIN = 140000
_HAS_TRANSACTION_TIMEOUT = 170000
_CURSORS = count(1)
_LOOKS_SECONDS = 0.1
_ROWS_MIN, _ROWS_MAX, _LENGTH_WANTED = 4, 500, 200_000  # held at a time: rows, or characters

T = TypeVar("T")


class ServerConnection(psycopg.Connection[StoredRow]):
    """One that begins no transaction by itself."""

    unfit: ClassVar[type[Exception]] = psycopg.DataError
    is_prepared = False  # the schema is up to date; asked of each, for a dump may be restored between two
    silence_seconds_max: float | None = (
        None  # who says nothing for longer is taken for lost; None for as long as it takes
    )
    is_lost = False  # whether that has happened, or the line broke
    is_lent = False  # to a handler, who does not close it

    def close(self) -> None:
        if self.is_lent:
            raise psycopg.ProgrammingError("this connection is lent, and the ledger's to close")
        super().close()

    def wait(self, gen: PQGen[T], interval: float = _LOOKS_SECONDS, timeout: float | None = None) -> T:
        """Wait for the server's answer, as every use of the connection does."""
        waited = gen if self.silence_seconds_max is None else self._heard_within(self.silence_seconds_max, gen)
        try:
            return super().wait(waited, interval) if timeout is None else super().wait(waited, interval, timeout)
        except psycopg.OperationalError:
            self.is_lost = self.closed
            raise

    def _heard_within(self, seconds_max: float, gen: PQGen[T]) -> PQGen[T]:
        until = time.monotonic() + seconds_max
        try:
            waiting_for = next(gen)
            while True:
                ready = yield waiting_for
                if not ready and time.monotonic() > until:
                    super().close()
                    raise psycopg.OperationalError(f"timeout: the server has said nothing for {seconds_max:.0f} s")
                waiting_for = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def sever(self) -> None:
        """Let nothing that is done with it reach the server: after a fork the line is the parent's."""
        if not self.closed:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        if self.is_pipelined:
            for row in rows:
                self.execute(statement, row)
            return
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

    @property
    def is_pipelined(self) -> bool:
        """Whether statements are sent before the answers to earlier ones have come. Nothing can be loaded then."""
        return self.pgconn.pipeline_status != PipelineStatus.OFF

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Insert many rows at once."""
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with self.cursor() as cursor, cursor.copy(into) as copy:
            for row in rows:
                copy.write_row(row)

    def stream(self, statement: str, types: Sequence[str]) -> Iterator[StoredRow]:
        """Yield what a statement without parameters finds, of these types, as the server sends it."""
        with self.cursor() as cursor, cursor.copy(f"COPY ({statement}) TO STDOUT") as copy:
            copy.set_types(types)
            yield from copy.rows()

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


def connect(
    conninfo: str, *, synchronous: str, lock_seconds_max: float, within_seconds: float | None = None
) -> ServerConnection:
    """Return a new connection with settings that give the same values on every server.

    *within_seconds* is for who waits less for it than usual; two seconds are the least.
    """
    if within_seconds is not None:
        conninfo = make_conninfo(conninfo, connect_timeout=max(2, round(within_seconds)))
    made = ServerConnection.connect(conninfo, autocommit=True)
    try:
        made.adapters.register_loader("timestamptz", _MomentLoader)
        made.adapters.register_loader("float8", _RealLoader)
        _check_version(made)
        _check_encoding(made)
        made.execute(_SETTINGS, (f"{max(1, int(lock_seconds_max * 1000))}ms", synchronous == "FULL"))
        if made.info.server_version >= _HAS_TRANSACTION_TIMEOUT:
            made.execute("SET transaction_timeout = 0")
    except BaseException:  # an interrupt too: nobody else would close it
        made.close()
        raise
    return made


def _check_version(connection: ServerConnection) -> None:
    version = connection.info.server_version
    if version < VERSION_MIN:
        raise LedgerUnreachable(
            f"the server of the database {connection.info.dbname} is PostgreSQL {version // 10000}, and the "
            f"ledger needs {VERSION_MIN // 10000} or newer. Update the server, or keep the ledger in a file."
        )


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
  set_config('idle_session_timeout', '0', false), set_config('default_transaction_read_only', 'off', false),
  set_config('default_transaction_isolation', 'read committed', false),
  set_config('transform_null_equals', 'off', false), set_config('quote_all_identifiers', 'off', false),
  set_config('lock_timeout', %s, false),
  set_config('synchronous_commit', CASE WHEN %s THEN CASE session.commits WHEN 'off' THEN 'on' ELSE session.commits END
    ELSE 'off' END, false)
FROM (SELECT current_setting('synchronous_commit') AS commits) AS session
"""


class _MomentLoader(Loader):
    """A timestamptz as the ledger writes moments; the session's time zone is UTC, its DateStyle ISO.

    What no ledger has written -- infinity, years before 1 and after 9999 -- stays as the server says it.
    """

    def load(self, data: Buffer) -> str:
        text = str(data, "ascii")
        if text[4:5] != "-" or text[-3:] != "+00":
            return text
        return f"{text[:10]}T{text[11:_MOMENT_LENGTH]}.{text[_MOMENT_LENGTH + 1 : -3]:0<6}Z"


class _RealLoader(Loader):
    """A double precision. SQLite keeps no sign of a zero, so there is none here."""

    def load(self, data: Buffer) -> float:
        return float(data) + 0.0
