"""Whether the schema on a server is the ledger's own: its triggers and indexes, and what they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa

from ledger.store.postgres.functions import FUNCTIONS, GUARDS
from ledger.store.postgres.schema import indexes
from ledger.store.statements import Connection, said
from ledger.store.tables import TIMELINE, metadata
from ledger.store.verify import Difference

__all__ = ["schema_differences"]

_TRIGGERS = said(
    "SELECT t.tgname, t.tgenabled = 'A', pg_get_triggerdef(t.oid) FROM pg_trigger t"
    " WHERE t.tgrelid = CAST('training_events' AS regclass) AND NOT t.tgisinternal"
)
_INDEXES = said(
    "SELECT c.relname, pg_get_indexdef(c.oid), i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema()"
)
# The server spells its definition in words of its own.
_HAS_VIEW = said(
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relname = 'training_timeline' AND c.relkind = 'v'"
)
_FUNCTIONS = said(
    "SELECT p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname = current_schema() AND p.proname = ANY(CAST(:ours AS text[]))"
)
_RULES = said(
    "SELECT rulename, definition FROM pg_rules WHERE schemaname = current_schema() AND tablename = :the_table"
)


def schema_differences(connection: Connection) -> Iterator[Difference]:
    """Yield what keeps the ledger append-only, or is looked things up by, and is not as it was made."""
    triggers = {name: (is_always, sql) for name, is_always, sql in _TRIGGERS.ask(connection)}
    for name, (made, _) in GUARDS.items():
        is_always, found = triggers.pop(name, (False, None))
        if found is None or not is_always or _spelled_alike(found) != _spelled_alike(made):
            yield Difference("trigger", None, name, found if is_always else f"not always on: {found}", made)
    for name, (_, found) in triggers.items():
        yield Difference("trigger", None, name, found, None)
    for name, found in _RULES.run(connection, {"the_table": "training_events"}):
        yield Difference("rule", None, name, found, None)
    if not _HAS_VIEW.ask(connection).fetchone()[0]:
        yield Difference("view", None, "training_timeline", None, TIMELINE)
    yield from _functions(connection)
    yield from _indexes(connection)


def _functions(connection: Connection) -> Iterator[Difference]:
    there = {name: str(sql) for name, sql in _FUNCTIONS.run(connection, {"ours": sorted(FUNCTIONS)})}
    for name, made in FUNCTIONS.items():
        found = there.get(name)
        if found is None or found.strip() not in made:
            yield Difference("function", None, name, found, made)


def _indexes(connection: Connection) -> Iterator[Difference]:
    there = {name: (str(sql), is_valid) for name, sql, is_valid in _INDEXES.ask(connection)}
    for name, made in sorted({**indexes(), **_keys()}.items()):
        found, is_valid = there.get(name, ("", False))
        if not is_valid or _words_of_index(found) != _words_of_index(made):
            yield Difference(
                "index", None, name, f"not valid: {found}" if found and not is_valid else found or None, made
            )


def _keys() -> dict[str, str]:
    """The indexes that keep keys unique, as the server names them."""
    made: dict[str, str] = {}
    for table in metadata.sorted_tables:
        for constraint in table.constraints:
            if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint):
                columns = constraint.columns.keys()
                usual = "pkey" if isinstance(constraint, sa.PrimaryKeyConstraint) else f"{'_'.join(columns)}_key"
                name = str(constraint.name or f"{table.name}_{usual}")
                made[name] = f"CREATE UNIQUE INDEX {name} ON {table.name} ({', '.join(columns)})"
    return made


def _words_of_index(sql: str) -> list[str]:
    """The server adds schemas, types and parentheses, and spells a list of values its own way."""
    plain = re.sub(r"::text(\[\])?| USING btree", "", _unqualified(sql))
    return re.findall(r"[^\s()\[\]\",]+", plain.replace("= ANY (ARRAY", "IN (").lower())


def _unqualified(sql: str) -> str:
    return re.sub(r'(?<![\w"\'])(?:"(?:[^"]|"")*"|\w+)\.(?=[a-z_])', "", sql)


def _spelled_alike(sql: str) -> str:
    """The server writes statements its own way: with schemas, and in another order of events."""
    words = _unqualified(sql).replace("(", " (").split()
    return " ".join(words).replace(" ()", "()").lower()
