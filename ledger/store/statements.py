"""SQL that is compiled once from Core and then run on the driver's own connection: the hot paths' way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from sqlite3 import Connection, Cursor
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

__all__ = ["Connection", "Row", "Statement", "StoredRow", "bound", "compiled", "inserting", "updating"]

# What the driver gives: a value is whatever its column holds. `Row` has it by column name.
StoredRow = tuple[Any, ...]
Row = dict[str, Any]


class Statement:
    """One statement's SQL, and the values of its parameters by position or, yet to be given, by name."""

    __slots__ = ("fixed", "names", "sql")

    def __init__(self, sql: str, names: Sequence[str], fixed: Mapping[str, object]) -> None:
        self.sql = sql
        self.names = tuple(names)
        self.fixed = fixed

    def run(self, connection: Connection, values: Mapping[str, object]) -> Cursor:
        """Run it with *values* by parameter name."""
        return connection.execute(self.sql, [values[name] for name in self.names])

    def ask(self, connection: Connection, values: Mapping[str, object] | None = None) -> Cursor:
        """Run a statement that brought values along when it was built; *values* go before those."""
        given = {**self.fixed, **values} if values else self.fixed
        return connection.execute(self.sql, [given[name] for name in self.names])


@cache
def _dialect() -> sa.Dialect:
    return sqlite.dialect(paramstyle="qmark")


def compiled(statement: sa.ClauseElement) -> Statement:
    """Return *statement* as SQL text with positional parameters."""
    dialect = _dialect()
    made = dialect.statement_compiler(dialect, statement, compile_kwargs={"render_postcompile": True})
    return Statement(str(made), made.positiontup or (), made.params)


def bound(table: sa.Table, names: Iterable[str]) -> dict[str, sa.BindParameter[object]]:
    """Return a parameter for each named column, which bears the column's name."""
    return {name: sa.bindparam(name, type_=table.c[name].type) for name in names}


@lru_cache(maxsize=64)
def inserting(table: sa.Table) -> Statement:
    """Return the insertion of one whole row, but for a column that numbers itself."""
    numbered = table.autoincrement_column
    names = [column.name for column in table.columns if column is not numbered]
    return compiled(sa.insert(table).values(bound(table, names)))


@lru_cache(maxsize=1024)
def updating(table: sa.Table, names: tuple[str, ...]) -> Statement:
    """Return the update of the named columns in the row of one run, given as `the_run`."""
    key = sa.bindparam("the_run", type_=sa.Text())
    return compiled(sa.update(table).where(table.c.run_id == key).values(bound(table, names)))
