"""What a subscription's handler may do in the ledger's transaction: write to tables of its own, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import cast

from ledger.errors import AskedWrongly
from ledger.store.forking import Lendable
from ledger.store.statements import Connection, on_server
from ledger.store.tables import metadata

__all__ = ["OURS", "REFUSED", "SAVEPOINT", "attempt", "attempt_within"]

SAVEPOINT = "ledger_delivery"
OURS = frozenset(metadata.tables) | {"sqlite_sequence", "training_timeline"}
# Which of the two names that SQLite gives with an action is the table's.
_FIRST = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_VIEW,
    }
)
_SECOND = frozenset(
    {
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_TRIGGER,
    }
)
# What else outlasts the handler, on the ledger's own connection. A PRAGMA with a value sets something, but for these.
_LASTING = frozenset({sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_LOOKING = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
REFUSED = (
    "A handler in the ledger's transaction writes to tables of its own only, and leaves BEGIN, COMMIT and ROLLBACK "
    "to the subscription (`with connection:` and executescript commit), and the connection as it is (PRAGMA, ATTACH)."
)


def attempt(handler: Callable[[], object]) -> Exception | None:
    """Return what a handler raised, None where it came through. An interrupt is no failure, and goes on its way."""
    try:
        handler()
    except Exception as exc:  # noqa: BLE001 -- a handler is a stranger's: whatever it raises, the other events go on
        return exc
    return None


def attempt_within(connection: Connection, handler: Callable[[], object]) -> Exception | None:
    """Do the same inside the open transaction: what a handler that failed has written is taken back."""
    if not on_server(connection):
        return _attempt_on_file(cast("Lendable", connection), handler)
    from ledger.store.postgres.own_tables import attempt_on_server

    return attempt_on_server(connection, handler)


def _attempt_on_file(connection: Lendable, handler: Callable[[], object]) -> Exception | None:
    refused: list[int] = []

    def allows(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        table = first if action in _FIRST else second if action in _SECOND else None
        own = action == sqlite3.SQLITE_SAVEPOINT and second == SAVEPOINT
        lost = not connection.in_transaction
        sets = action == sqlite3.SQLITE_PRAGMA and second is not None and str(first).casefold() not in _LOOKING
        if lost or own or sets or str(table).casefold() in OURS or action in _LASTING:
            refused.append(action)
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    connection.execute(f"SAVEPOINT {SAVEPOINT}")
    kept = connection.row_factory, connection.text_factory
    connection.set_authorizer(allows)
    connection.is_lent = True
    try:
        failure = attempt(handler)
    finally:
        connection.is_lent = False
        connection.set_authorizer(None)
        connection.row_factory, connection.text_factory = kept
    return _ended(connection, failure, refused=bool(refused))


def _hides_ours(connection: sqlite3.Connection) -> bool:
    """Whether something temporary has a name of ours: it would be taken for ours, for as long as this is open."""
    made = connection.execute("SELECT name, tbl_name FROM temp.sqlite_master").fetchall()
    return any(name.casefold() in OURS for names in made for name in names)


def _ended(connection: sqlite3.Connection, failure: Exception | None, *, refused: bool) -> Exception | None:
    """End what the savepoint began; what the handler failed with may be recorded in the transaction afterwards."""
    lost = not connection.in_transaction
    if lost:  # INSERT OR ROLLBACK and RAISE(ROLLBACK) end a transaction, and no authorizer is asked
        connection.execute("BEGIN IMMEDIATE")
        failure = failure or sqlite3.IntegrityError("a statement of the handler rolled the transaction back")
    if failure is None and _hides_ours(connection):
        failure = AskedWrongly(REFUSED)
    elif failure is not None and (refused or lost):
        failure.add_note(REFUSED)
    if not lost:
        if failure is not None:
            connection.execute(f"ROLLBACK TO {SAVEPOINT}")
        connection.execute(f"RELEASE {SAVEPOINT}")
    return failure
