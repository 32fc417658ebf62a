"""Tables beside the projected ones, and the moment in which the two are exchanged.

SQLite can rename a table but no index, and to build indexes anew would keep writers waiting. So the
exchange leaves every name where it is and gives it the other's pages: what the schema says of tables,
indexes, views and triggers stays as it was, and only `rootpage` changes, in one transaction.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

from ledger import origin
from ledger.errors import LedgerBusy
from ledger.events.times import parse_moment, text_of
from ledger.store import state
from ledger.store.sqlite import SQLiteDatabase
from ledger.store.tables import PROJECTION, Projection, projection_named

__all__ = ["Beside", "Copied", "Unexchangeable", "exchange", "exchangeable", "still_at_work"]

_UNDER_WAY = "replaying_"  # before the names of the tables, and of what the ledger's state says of them
_MARK = "abcdefghijklmnopqrstuvwxyz"
_ABANDONED = timedelta(minutes=15)  # a replay on another machine that said nothing for so long is none any more
_ROWS_AT_ONCE = 1000
_DROPPED_AT_ONCE = 80_000_000  # characters
_SECURE = ("OFF", "ON", "FAST")  # as PRAGMA secure_delete answers and is told
_NAME = r"""([\w$]+|"(?:[^"]|"")+"|'(?:[^']|'')+'|`(?:[^`]|``)+`|\[[^]]+\])"""
_TABLE = re.compile(rf"CREATE\s+TABLE\s+{_NAME}(.*)", re.DOTALL | re.IGNORECASE)
_INDEX = re.compile(rf"CREATE\s+(UNIQUE\s+)?INDEX\s+{_NAME}\s*ON\s*{_NAME}(.*)", re.DOTALL | re.IGNORECASE)

_log = logging.getLogger("ledger")
_at_work: set[str] = set()  # the prefixes of this process's own replays


class Unexchangeable(Exception):
    """The tables have to be rebuilt where they are: here the schema cannot be changed so."""


@dataclass(frozen=True)
class Copied:
    """The statements that create the tables and indexes again under other names."""

    tables: Projection
    statements: tuple[str, ...]


def exchangeable(connection: sqlite3.Connection) -> Copied | None:
    """Return how the projected tables are made again, with whatever indexes somebody gave them.

    None where that cannot be told.
    """
    prefix = f"{_UNDER_WAY}{origin.random_text(_MARK, 8)}_"
    names = [table.name for table in PROJECTION]
    places = ", ".join("?" * len(names))
    asked = (
        f"SELECT sql FROM sqlite_master WHERE tbl_name IN ({places}) AND type IN ('table', 'index') AND sql NOT NULL"
    )
    every = connection.execute(f"{asked} ORDER BY type DESC, name", names).fetchall()
    statements: list[str] = []
    for (sql,) in every:
        statement = _under_another_name(sql, prefix)
        if statement is None:
            _tell_in_place(f"it cannot read {sql!r}")
            return None
        statements.append(statement)
    return Copied(projection_named(prefix), tuple(statements))


def _tell_in_place(why: str) -> None:
    _log.warning("a replay rebuilds the tables where they are, and writers wait for it: %s", why)


def _under_another_name(sql: str, prefix: str) -> str | None:
    """The statement with *prefix* before each name; None where it is written as we do not expect it."""
    if found := _TABLE.fullmatch(sql):
        return f"CREATE TABLE {_renamed(found[1], prefix)}{found[2]}"
    if found := _INDEX.fullmatch(sql):
        unique, index, table, rest = found.groups("")
        return f"CREATE {unique}INDEX {_renamed(index, prefix)} ON {_renamed(table, prefix)}{rest}"
    return None


def _renamed(name: str, prefix: str) -> str:
    mark = name[0] if name[0] in "\"'`" else ""
    bare = name[1:-1] if mark or name[0] == "[" else name
    return _quoted(prefix + (bare.replace(2 * mark, mark) if mark else bare))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Beside:
    """New, empty tables beside the projected ones for as long as the block lasts."""

    def __init__(self, database: SQLiteDatabase, copied: Copied) -> None:
        self._database = database
        self._copied = copied
        self._prefix = _prefix_of(copied.tables)

    def __enter__(self) -> Projection:
        remove_abandoned(self._database)
        _at_work.add(self._prefix)  # before it is written that there is one: another thread may look at once
        with self._database.write() as connection:
            state.remember(connection, self._prefix, _whose())
            for statement in self._copied.statements:
                _create(connection, statement)
        return self._copied.tables

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        _at_work.discard(self._prefix)
        if isinstance(exc, Unexchangeable):
            _tell_in_place(str(exc))
        with suppress(LedgerBusy):  # the next replay removes them
            remove(self._database, self._prefix)


def _create(connection: sqlite3.Connection, statement: str) -> None:
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as exc:
        if "no such column" not in str(exc):  # an index may name a column together with its table
            raise
        _tell_in_place(f"{exc} in {statement!r}")
        raise Unexchangeable(str(exc)) from exc


def still_at_work(connection: sqlite3.Connection, tables: Projection) -> None:
    """Say, in the open transaction, that the replay into *tables* goes on."""
    state.remember(connection, _prefix_of(tables), _whose())


def _prefix_of(tables: Projection) -> str:
    return tables.runs.name.removesuffix(PROJECTION.runs.name)


def exchange(connection: sqlite3.Connection, tables: Projection) -> None:
    """Let each projected table, with its indexes, have the pages of the one beside it, and the other way round.

    Raises Unexchangeable, with nothing changed, where that cannot be done.
    """
    prefix = _prefix_of(tables)
    names = {table.name for table in PROJECTION}
    found = connection.execute("SELECT name, tbl_name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall()
    roots = {name: root for name, _, root in found}
    pairs = [(name, _beside(name, of, prefix)) for name, of, _ in found if of in names]
    if any(other not in roots for _, other in pairs):
        raise Unexchangeable("somebody gave a projected table another index meanwhile")
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    try:
        for name, other in pairs:
            moved = [(roots[other], name), (roots[name], other)]
            connection.executemany("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", moved)
        connection.execute(f"PRAGMA schema_version = {version + 1}")  # everybody reads the schema again
    except sqlite3.OperationalError as exc:
        if "may not be modified" in str(exc):
            raise Unexchangeable(str(exc)) from exc
        raise
    finally:
        connection.execute("PRAGMA writable_schema = RESET")  # and so do we


def _beside(name: str, of: str, prefix: str) -> str:
    automatic = f"sqlite_autoindex_{of}_"
    return (
        f"sqlite_autoindex_{prefix}{of}_{name.removeprefix(automatic)}" if name.startswith(automatic) else prefix + name
    )


def remove_abandoned(database: SQLiteDatabase) -> None:
    """Remove what replays left that were killed."""
    with database.read() as connection:
        left = [name for name, value in state.named(connection, _UNDER_WAY).items() if _is_abandoned(name, value)]
    for prefix in left:
        remove(database, prefix)


def remove(database: SQLiteDatabase, prefix: str) -> None:
    """Remove the tables with this prefix, large ones a part at a time: while one goes, nobody can write."""
    with database.read() as connection:
        asked = "SELECT type, name FROM sqlite_master WHERE name LIKE ? ESCAPE '!' AND sql NOT NULL ORDER BY type"
        found = connection.execute(asked, (f"{prefix.replace('_', '!_')}%",)).fetchall()
    for kind, name in found:
        if kind == "table":
            _remove_rows_until_small(database, name)
        with _freeing(database) as connection:
            connection.execute(f"DROP {kind} IF EXISTS {_quoted(name)}")
    with database.write() as connection:
        state.forget(connection, prefix)
    database.checkpoint()


def _remove_rows_until_small(database: SQLiteDatabase, table: str) -> None:
    """Remove rows, a part at a time, until the rest can go at once.

    That takes a tenth of the time, two microseconds for each page that a long text lies on. Nobody waits for
    the look at the rows where there is a WAL; where there is none every row goes so.
    """
    with database.read() as connection:
        length = _length_of(connection, table) if _has_wal(connection) else None
    while length is None or length > _DROPPED_AT_ONCE:
        removed, freed = _remove_some(database, table)
        if removed == 0:
            return
        database.checkpoint()
        length = None if length is None else length - freed


def _has_wal(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA journal_mode").fetchone() == ("wal",))


def _length_of(connection: sqlite3.Connection, table: str) -> int:
    asked = f"SELECT coalesce(sum({_row_length(connection, table)}), 0) FROM {_quoted(table)}"
    return int(connection.execute(asked).fetchone()[0])


def _row_length(connection: sqlite3.Connection, table: str) -> str:
    """The characters of a row's texts, and as many as there are bytes in its numbers at most, as SQL."""
    found = connection.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
    names = [name for _, name, kind, *_ in found if kind.upper() not in {"INTEGER", "REAL"}]
    return " + ".join(
        [str(8 * (len(found) - len(names))), *(f"coalesce(length({_quoted(name)}), 0)" for name in names)]
    )


def _remove_some(database: SQLiteDatabase, table: str) -> tuple[int, int]:
    """Return how many rows went, and their characters."""
    with _freeing(database) as connection:
        some = f"SELECT run_id FROM {_quoted(table)} LIMIT {_ROWS_AT_ONCE}"
        length = _row_length(connection, table)
        removing = f"DELETE FROM {_quoted(table)} WHERE run_id IN ({some}) RETURNING {length}"
        lengths = [freed for (freed,) in connection.execute(removing)]
    return len(lengths), sum(lengths)


@contextmanager
def _freeing(database: SQLiteDatabase) -> Iterator[sqlite3.Connection]:
    """Write, without overwriting what is freed: all that is removed here stands elsewhere too."""
    with database.write() as connection:
        secure = _SECURE[connection.execute("PRAGMA secure_delete").fetchone()[0]]
        connection.execute("PRAGMA secure_delete = OFF")
        try:
            yield connection
        finally:
            connection.execute(f"PRAGMA secure_delete = {secure}")


def _whose() -> str:
    host, boot = origin.machine()
    return json.dumps({"host": host, "boot": boot, "pid": os.getpid(), "since": text_of(origin.utc_now())})


def _is_abandoned(prefix: str, whose: str) -> bool:
    """Whether the replay that left this is gone: its process, if that was on this machine, or else for long."""
    said = json.loads(whose)
    host, boot = origin.machine()
    if said["host"] != host:
        return origin.utc_now() - parse_moment(said["since"]) > _ABANDONED
    if said["pid"] == os.getpid():
        return prefix not in _at_work
    return said["boot"] != boot or not origin.is_running(int(said["pid"]))
