"""What a role has to be granted to write to a ledger on a server, or to read it, as SQL made from the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from psycopg import sql

from ledger.errors import AskedWrongly, NoLedger, UnknownName
from ledger.store import tables
from ledger.store.postgres.database import ServerDatabase
from ledger.store.postgres.functions import FUNCTIONS
from ledger.store.statements import Connection, said

__all__ = ["ROLES", "grants"]

ROLES = ("reader", "writer")
_ROLE_BYTES_MAX = 63  # a longer name is cut by the server, and then another's

# Nobody changes or removes an event; what was kept of a conflict stays; and only an owner changes the schema.
_ADDS = ("SELECT", "INSERT")
_KEEPS = (*_ADDS, "UPDATE")
_PROJECTS = (*_KEEPS, "DELETE")
_OF_A_WRITER = {
    tables.training_events: _ADDS,
    tables.conflicts: _ADDS,
    tables.migrations: ("SELECT",),
    tables.state: _KEEPS,
    tables.subscriptions: _KEEPS,
    tables.parked: _PROJECTS,
    **dict.fromkeys(tables.PROJECTION, _PROJECTS),
}
_VIEWS = ("training_timeline",)
_WHERE = said(
    "SELECT current_database(), n.nspname, pg_get_serial_sequence(c.oid::regclass::text, 'position')"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid = to_regclass('training_events')"
)
_FUNCTIONS = said(
    "SELECT p.proname, pg_get_function_identity_arguments(p.oid) FROM pg_proc p JOIN pg_namespace n"
    " ON n.oid = p.pronamespace WHERE n.nspname = :the_schema AND p.proname = ANY(CAST(:ours AS text[]))"
    " ORDER BY p.proname"
)
_INTRODUCED = """\
-- What a {role} may do with the ledger at {place}, and no more of it.
-- Run this as who owns the ledger, and again after an update of it; then say: GRANT {to} TO ...;
"""


class _Lying(NamedTuple):
    """Where the ledger's tables lie, and its sequence of positions as SQL names it."""

    database: str
    schema: str
    sequence: str


def grants(database: ServerDatabase, role: str, to: str | None) -> str:
    """Return the statements that let a role append and read, or read alone; run again, they do nothing."""
    if role not in ROLES:
        raise UnknownName(role, ROLES)
    name = f"ledger_{role}" if to is None else to
    if not name or "\0" in name or len(name.encode()) > _ROLE_BYTES_MAX:
        raise AskedWrongly(f"{name!r} is no name of a role: 1 to {_ROLE_BYTES_MAX} bytes are wanted.")
    with database.read() as connection:
        found = _WHERE.ask(connection).fetchone()
        if found is None:
            raise NoLedger(database.place)
        statements = list(_statements(connection, _Lying(*found), role, name))
    introduced = _INTRODUCED.format(role=role, place=database.place, to=" ".join(_quoted(name).split()))
    return introduced + "".join(f"{statement};\n" for statement in ("BEGIN", *statements, "COMMIT"))


def _statements(connection: Connection, lying: _Lying, role: str, to: str) -> Iterator[str]:
    writes, whom = role == "writer", _quoted(to)
    yield _creating(to)
    # Who replays writes aside what differs, in temporary tables.
    yield f"GRANT {'CONNECT, TEMPORARY' if writes else 'CONNECT'} ON DATABASE {_quoted(lying.database)} TO {whom}"
    yield f"GRANT USAGE ON SCHEMA {_quoted(lying.schema)} TO {whom}"
    for table in tables.metadata.sorted_tables:
        rights = _OF_A_WRITER[table] if writes else ("SELECT",)
        yield f"REVOKE ALL ON TABLE {_quoted(lying.schema, table.name)} FROM {whom}"
        yield f"GRANT {', '.join(rights)} ON TABLE {_quoted(lying.schema, table.name)} TO {whom}"
    for view in _VIEWS:
        yield f"REVOKE ALL ON TABLE {_quoted(lying.schema, view)} FROM {whom}"
        yield f"GRANT SELECT ON TABLE {_quoted(lying.schema, view)} TO {whom}"
    yield f"REVOKE ALL ON SEQUENCE {lying.sequence} FROM {whom}"
    if writes:
        yield f"GRANT USAGE ON SEQUENCE {lying.sequence} TO {whom}"
    for name, takes in _FUNCTIONS.run(connection, {"the_schema": lying.schema, "ours": sorted(FUNCTIONS)}):
        yield f"GRANT EXECUTE ON FUNCTION {_quoted(lying.schema, name)}({takes}) TO {whom}"


def _creating(role: str) -> str:
    named = sql.Literal(role).as_string()
    lacks = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {named})"
    body = f"BEGIN IF {lacks} THEN CREATE ROLE {_quoted(role)}; END IF; END"
    return f"DO {sql.Literal(body).as_string()}"


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string()
