"""What a handler may do in the ledger's transaction, on a server: it asks nobody, but counts what was done."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from ledger.errors import AskedWrongly
from ledger.store.own_tables import OURS, REFUSED, SAVEPOINT, attempt
from ledger.store.statements import Server, said

__all__ = ["attempt_on_server"]

# What the ledger itself never does in a delivery, but a TRUNCATE or a change of the schema does.
_LOCKED = said(
    "SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " WHERE l.pid = pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')"
    " AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
    " AND (c.relname = ANY(CAST(:ours AS text[])) OR c.oid IN ("
    " SELECT i.indexrelid FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid"
    " WHERE t.relname = ANY(CAST(:ours AS text[])))) LIMIT 1"
)
# Something temporary of a name of ours would be taken for ours, for as long as this connection is open.
_HIDDEN = said(
    "SELECT 1 FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relname = ANY(CAST(:ours AS text[])) LIMIT 1"
)
_WRITTEN = said(
    "SELECT (SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_xact_user_tables"
    "  WHERE schemaname = current_schema() AND relname = ANY(CAST(:ours AS text[]))),"
    " (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    "  WHERE n.nspname = current_schema() AND c.relname = ANY(CAST(:ours AS text[])))"
)


def attempt_on_server(connection: Server, handler: Callable[[], object]) -> Exception | None:
    """Return what a handler raised, or did that is not its own; what it has written is then taken back."""
    before = _written(connection)
    connection.execute(f"SAVEPOINT {SAVEPOINT}")
    connection.is_lent = True
    try:
        failure = attempt(handler)
    finally:
        connection.is_lent = False
    if connection.is_idle:
        return _begun_again(connection, failure)
    try:
        if failure is None and _written(connection) == before and not _is_touched(connection):
            connection.execute(f"RELEASE SAVEPOINT {SAVEPOINT}")
            return None
        connection.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
    except psycopg.Error as exc:  # the handler ended our transaction and began its own
        connection.execute("ROLLBACK")
        return _begun_again(connection, failure or exc)
    return failure or AskedWrongly(REFUSED)


def _begun_again(connection: Server, failure: Exception | None) -> Exception:
    """Begin anew for who writes down the failure."""
    connection.begin()
    if failure is None:
        return AskedWrongly(REFUSED)
    failure.add_note(REFUSED)
    return failure


def _is_touched(connection: Server) -> bool:
    """Whether one of the ledger's own tables or indexes is hidden, or held as only a stranger holds it."""
    return any(asked.run(connection, {"ours": sorted(OURS)}).fetchone() for asked in (_LOCKED, _HIDDEN))


def _written(connection: Server) -> tuple[int, int]:
    """How many rows of the ledger's own tables this transaction has written, and how many of those are there."""
    rows, there = _WRITTEN.run(connection, {"ours": sorted(OURS)}).fetchone()
    return int(rows), int(there)
