"""The schema as a person reads it and the sqlite3 shell runs it: each column with its meaning behind it."""

from __future__ import annotations

import re

from ledger.store import tables
from ledger.store.migrations import schema_statements

__all__ = ["schema_text"]

_COLUMN = re.compile(r"    (\w+) ")


def schema_text() -> str:
    """Return all statements of the schema, with an empty line between them."""
    return "\n\n".join(f"{_readable(statement)};" for statement in schema_statements()) + "\n"


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
