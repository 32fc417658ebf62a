"""Whole tables, row by row in the order of their keys, from any database and into any.

On a server they stream: memory grows neither with the rows nor with how large one of them is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from functools import cache, lru_cache

import sqlalchemy as sa

from ledger.store.spelling import VERBATIM, postgresql_dialect
from ledger.store.statements import Connection, Statement, StoredRow, bound, compiled, on_server

__all__ = ["TRANSACTION", "read_whole", "write_whole"]

# By what followers go on a server, beside the position; a file has no such column (ledger/store/following.py).
TRANSACTION = sa.Column("transaction_id", sa.BigInteger())


def read_whole(
    connection: Connection, table: sa.Table, further: Sequence[sa.Column[int]] = ()
) -> Generator[StoredRow, None, None]:
    """Yield every row of a table, with its columns and behind them the *further* ones.

    A server's connection has to be in a transaction, and is at work until the last row was taken.
    """
    statement = _reading(table, tuple(further))
    if on_server(connection):
        types = [_type(column) for column in (*table.columns, *further)]
        yield from connection.stream(statement.on(connection).sql, types)
    else:
        yield from statement.ask(connection)


def write_whole(
    connection: Connection, table: sa.Table, rows: Iterable[StoredRow], further: Sequence[sa.Column[int]] = ()
) -> None:
    """Insert such rows."""
    if on_server(connection):
        names = [*table.columns.keys(), *(column.name for column in further)]
        connection.load(table.name, [VERBATIM.get(name, name) for name in names], rows)
    else:
        connection.executemany(_inserting(table).on(connection).sql, rows)


@cache
def _reading(table: sa.Table, further: tuple[sa.Column[int], ...]) -> Statement:
    return compiled(sa.select(*table.columns, *further).select_from(table).order_by(*table.primary_key.columns))


@lru_cache(maxsize=64)  # the tables of a replay come and go
def _inserting(table: sa.Table) -> Statement:
    return compiled(sa.insert(table).values(bound(table, table.columns.keys())))


@cache
def _type(column: sa.Column[object]) -> str:
    return column.type.compile(dialect=postgresql_dialect()).lower()
