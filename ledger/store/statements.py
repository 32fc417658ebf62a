"""SQL that is compiled once from Core, for each kind of database, and then run on the driver's own connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any, ClassVar, NamedTuple, Protocol, TypeGuard

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ledger.store.spelling import Texts, postgresql_dialect

__all__ = [
    "Connection",
    "Cursor",
    "Row",
    "Server",
    "Statement",
    "StoredRow",
    "bound",
    "compiled",
    "inserting",
    "is_sqlite",
    "on_server",
    "said",
    "updating",
]

# What the driver gives: a value is whatever its column holds. `Row` has it by column name.
StoredRow = tuple[Any, ...]
Row = dict[str, Any]


class Cursor(Protocol):
    """What a statement found."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchmany(self, size: int = ..., /) -> list[StoredRow]: ...
    def fetchall(self) -> list[StoredRow]: ...
    def __iter__(self) -> Iterator[StoredRow]: ...


class Connection(Protocol):
    """A driver's connection that begins no transaction by itself."""

    def execute(self, sql: str, parameters: Sequence[object] = ..., /) -> Cursor: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[object]], /) -> object: ...


class Server(Connection, Protocol):
    """One to a server, where a whole answer is held in memory, were it not asked for pages."""

    is_lent: bool

    @property
    def is_idle(self) -> bool: ...
    @property
    def is_pipelined(self) -> bool: ...
    def begin(self, *, read_only: bool = ...) -> None: ...
    def load(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None: ...
    def pages(self, statement: str, parameters: Sequence[object], size: int | None) -> Iterator[list[StoredRow]]: ...
    def stream(self, statement: str, types: Sequence[str]) -> Iterator[StoredRow]: ...

    # What the driver raises for a value that the server does not take.
    unfit: ClassVar[type[Exception]]


def is_sqlite(connection: Connection) -> bool:
    return isinstance(connection, sqlite3.Connection)


def on_server(connection: Connection) -> TypeGuard[Server]:
    return not isinstance(connection, sqlite3.Connection)


class _Spelled(NamedTuple):
    """A statement's SQL for one kind of database, its parameters' names in order, and those that are lists of texts.

    *literals* are values that were written into the expression.
    """

    sql: str
    names: tuple[str, ...]
    fixed: Mapping[str, object]
    literals: Mapping[str, object]
    lists: frozenset[str]

    def values(self, given: Mapping[str, object], *, as_json: bool) -> list[object]:
        if self.literals:
            given = {**self.literals, **given}
        if as_json and self.lists:
            return [json.dumps(given[name]) if name in self.lists else given[name] for name in self.names]
        return [given[name] for name in self.names]


class Statement:
    """One statement, and the values of its parameters that it brought along when it was built."""

    __slots__ = ("_element", "_on_postgresql", "_on_sqlite")

    def __init__(self, element: sa.ClauseElement) -> None:
        self._element = element
        self._on_sqlite: _Spelled | None = None
        self._on_postgresql: _Spelled | None = None

    def on(self, connection: Connection) -> _Spelled:
        """Return it as this connection's database has it."""
        if isinstance(connection, sqlite3.Connection):
            if self._on_sqlite is None:
                self._on_sqlite = _spelled(self._element, _sqlite_dialect())
            return self._on_sqlite
        if self._on_postgresql is None:
            self._on_postgresql = _spelled(self._element, postgresql_dialect())
        return self._on_postgresql

    def run(self, connection: Connection, values: Mapping[str, object]) -> Cursor:
        """Run it with *values* by parameter name."""
        spelled = self.on(connection)
        return connection.execute(spelled.sql, spelled.values(values, as_json=is_sqlite(connection)))

    def ask(self, connection: Connection, values: Mapping[str, object] | None = None) -> Cursor:
        """Run a statement that brought values along when it was built; *values* go before those."""
        spelled = self.on(connection)
        given = {**spelled.fixed, **values} if values else spelled.fixed
        return connection.execute(spelled.sql, spelled.values(given, as_json=is_sqlite(connection)))

    def pages(self, connection: Connection, values: Mapping[str, object], size: int) -> Iterator[list[StoredRow]]:
        """Run it, and yield what it finds so many rows at a time, so that memory does not grow with the answer.

        The connection has to be in a transaction.
        """
        spelled = self.on(connection)
        given = spelled.values({**spelled.fixed, **values}, as_json=is_sqlite(connection))
        if on_server(connection):
            yield from connection.pages(spelled.sql, given, size)
        else:
            yield from iter(partial(connection.execute(spelled.sql, given).fetchmany, size), [])

    def rows(self, connection: Connection, values: Mapping[str, object] | None = None) -> Iterator[StoredRow]:
        """Yield the same row by row."""
        if on_server(connection):
            spelled = self.on(connection)
            given = spelled.values({**spelled.fixed, **(values or {})}, as_json=False)
            for page in connection.pages(spelled.sql, given, None):
                yield from page
        else:
            yield from self.ask(connection, values)

    def many(self, connection: Connection, rows: Iterable[Mapping[str, object]]) -> None:
        """Run it once for each of *rows*."""
        spelled = self.on(connection)
        connection.executemany(spelled.sql, ([row[name] for name in spelled.names] for row in rows))


def _spelled(element: sa.ClauseElement, dialect: sa.Dialect) -> _Spelled:
    made = dialect.statement_compiler(dialect, element, compile_kwargs={"render_postcompile": True})
    lists = frozenset(name for name, bind in made.binds.items() if isinstance(bind.type, Texts))
    literals = {name: value for name, value in made.params.items() if value is not None}
    return _Spelled(str(made), tuple(made.positiontup or ()), made.params, literals, lists)


@cache
def _sqlite_dialect() -> sa.Dialect:
    return sqlite.dialect(paramstyle="qmark")


def compiled(element: sa.ClauseElement) -> Statement:
    """Return *element* as a statement, whose SQL is made when it is first run."""
    return Statement(element)


def said(sql: str) -> Statement:
    """Return SQL that all databases spell alike, with its parameters as `:name`."""
    return Statement(sa.text(sql))


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
