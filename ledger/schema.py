"""The schema as a person reads it and a shell runs it, for each kind of database: columns with their meaning."""

from __future__ import annotations

import re
from itertools import pairwise

from ledger.errors import MissingExtra
from ledger.store import tables
from ledger.store.migrations import schema_statements

__all__ = ["schema_text", "server_schema_text"]

_COLUMN = re.compile(r"    (\w+) ")
_LISTED = ("COMMENT ON COLUMN", "CREATE INDEX", "CREATE UNIQUE INDEX")  # one a line, without an empty one between


def schema_text() -> str:
    """Return all statements of the schema in a file, with an empty line between them."""
    return "\n\n".join(f"{_readable(statement)};" for statement in schema_statements()) + "\n"


def server_schema_text() -> str:
    """Return the same of the schema on PostgreSQL. Raises MissingExtra where its driver is not installed."""
    try:
        from ledger.store.postgres.schema import schema_statements as on_server
    except ImportError as exc:
        raise MissingExtra("postgres") from exc
    made = [f"{_tidy(statement)};\n" for statement in on_server()]
    return made[0] + "".join(("" if _are_listed(*pair) else "\n") + pair[1] for pair in pairwise(made))


def _are_listed(one: str, other: str) -> bool:
    return any(one.startswith(words) and other.startswith(words) for words in _LISTED)


def _tidy(statement: str) -> str:
    return "\n".join(line.rstrip() for line in statement.expandtabs(4).splitlines()).replace("\n)\n WITH", "\n) WITH")


def _readable(statement: str) -> str:
    if not statement.startswith("CREATE TABLE "):
        return re.sub(r" (WHEN EXISTS|OR EXISTS|BEGIN SELECT|END$)", r"\n  \1", statement)
    table = tables.metadata.tables[statement.split()[2]]
    meanings = {column.name: column.comment for column in table.columns if column.comment}
    # SQLAlchemy puts each option of a table on a line of its own.
    body, end = statement.expandtabs(4).rsplit("\n)\n", 1)
    lines = [_with_meaning(line.rstrip(), meanings) for line in body.splitlines()]
    return "\n".join([*lines, f") {' '.join(end.split())}"])


def _with_meaning(line: str, meanings: dict[str, str]) -> str:
    found = _COLUMN.match(line)
    meaning = meanings.get(found[1]) if found else None
    return f"{line}  -- {meaning}" if meaning else line
