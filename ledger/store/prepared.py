"""The projected tables as some of the events make them, in a temporary database of their own.

It lies in a file without a name that SQLite removes by itself, so that memory does not grow with it;
nothing in it has to survive, so it has no journal and waits for no disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext

from ledger.store.bounds import Bounds
from ledger.store.forking import connect
from ledger.store.migrations import creating
from ledger.store.parts import Part
from ledger.store.sharing import folded_in_parts
from ledger.store.statements import Connection
from ledger.store.tables import PROJECTION
from ledger.store.writing import write_details, write_heads, write_runs

__all__ = ["prepared"]

_TABLES = PROJECTION
_CHUNK = 100


def prepared(ledger: Connection, bounds: Bounds) -> sqlite3.Connection:
    """Return a database with the rows, claims and heads that the events within *bounds* fold to.

    The ledger's connection has to be in a transaction, so that all of it is of one moment.
    """
    made = connect("")
    try:
        made.execute("PRAGMA journal_mode = OFF")
        made.execute("PRAGMA synchronous = OFF")
        made.execute("BEGIN")
        with closing(folded_in_parts(lambda: nullcontext(ledger), bounds, runs_max=_CHUNK)) as parts:
            _fill(made, parts)
        made.execute("COMMIT")
        made.execute("PRAGMA query_only = ON")
    except BaseException:  # an interrupt too: nobody else would close it
        made.close()
        raise
    return made


def _fill(made: Connection, folded: Iterator[Part]) -> None:
    statements = [statement for table in _TABLES for statement in creating(table)]
    # What settling W&B ids looks things up by is there from the start; an index is made faster of all rows at once.
    at_once = [text for text in statements if text.startswith("CREATE TABLE") or "(wandb_run_id)" in text]
    for statement in at_once:
        made.execute(statement)
    for part in folded:
        write_runs(made, PROJECTION, part.runs)
        write_heads(made, PROJECTION, part.runs)
        write_details(made, PROJECTION, part.runs)
    for statement in statements:
        if statement not in at_once:
            made.execute(statement)
