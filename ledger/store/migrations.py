"""The schema, as named steps that are applied in order, each in one transaction with the record of itself.

The tables of the projection are made from the declarations and can be folded again, so a step that
changes them drops them and calls `create_projected`; only the ledger's own tables are ever altered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from ledger import origin
from ledger.errors import NewerLedger, NotALedger
from ledger.events.times import text_of
from ledger.projections.stamp import fold_stamp
from ledger.store import state, tables
from ledger.store.folding import folded_runs
from ledger.store.guards import GUARDS
from ledger.store.parts import in_parts
from ledger.store.placing import placed
from ledger.store.statements import Connection
from ledger.store.writing import write_details

__all__ = ["CONSUMERS", "DETAILED", "STEPS", "Step", "fill_details", "migrate", "pending", "schema_statements"]

_RUNS_AT_ONCE = 250
DETAILED = "UPDATE training_heads SET detailed = version"  # what the fill of the tables beside has made true

Insist = Callable[[sqlite3.Connection, str], None]


@dataclass(frozen=True)
class Step:
    """A change of the schema. Before one that *rewrites* what is stored, a copy of the file is kept."""

    name: str
    apply: Callable[[sqlite3.Connection], None]
    rewrites: bool = False


def _the_ledger(connection: sqlite3.Connection) -> None:
    """A new file gets the whole schema at once, as of the newest step."""
    for statement in schema_statements():
        connection.execute(statement)


def _many_ledgers(connection: sqlite3.Connection) -> None:
    """Conflicts of merges, subscriptions, the state of the whole ledger, and who stated which W&B id."""
    for table in (tables.conflicts, tables.subscriptions, tables.parked, tables.state):
        for statement in creating(table):
            connection.execute(statement)
    connection.execute(_index(index_named(tables.training_events, "training_events_wandb_run_id")))
    _place_heads(connection)


def _place_heads(connection: sqlite3.Connection) -> None:
    """Heads also say where and when their events were accepted."""
    _remake_heads(connection)
    every = connection.execute("SELECT run_id, position, recorded_at FROM training_events ORDER BY run_id, version")
    for run_id, rows in groupby(every, key=itemgetter(0)):
        checksum = placed((position, recorded_at) for _, position, recorded_at in rows)
        connection.execute("UPDATE training_heads SET placed = ? WHERE run_id = ?", (checksum, run_id))


def _results(connection: sqlite3.Connection) -> None:
    """Objectives, scaffolds and metrics of runs in tables of their own, and the timeline as a view."""
    new = {table.name for _, table in tables.PROJECTION.details()} | {"training_timeline"}
    if taken := sorted(new & _names(connection)):
        raise NotALedger(
            f"the ledger's file has a table {taken[0]} of somebody else, and the ledger now needs that name. "
            f"All was left as it is. Rename it: ALTER TABLE {taken[0]} RENAME TO my_{taken[0]}."
        )
    for _, table in tables.PROJECTION.details():
        for statement in creating(table):
            connection.execute(statement)
    connection.execute(tables.TIMELINE)
    _remake_heads(connection)
    fill_details(connection)
    connection.execute(DETAILED)


def fill_details(connection: Connection) -> None:
    """Fold every run into the tables beside the rows, which are empty."""
    every = folded_runs(lambda: nullcontext(connection))
    for part in in_parts(every, _RUNS_AT_ONCE):
        write_details(connection, tables.PROJECTION, part)


def _remake_heads(connection: sqlite3.Connection) -> None:
    """Heads have all columns of today; a number that is new is 0."""
    connection.execute("ALTER TABLE training_heads RENAME TO former_heads")
    connection.execute(creating(tables.training_heads)[0])
    there = _columns(connection, "former_heads")
    names = tables.training_heads.columns.keys()
    given = ", ".join(name if name in there else "0" for name in names)
    connection.execute(f"INSERT INTO training_heads ({', '.join(names)}) SELECT {given} FROM former_heads")
    connection.execute("DROP TABLE former_heads")


def _consumers(connection: sqlite3.Connection) -> None:
    """Subscriptions know which events they want, and who is at work on the next."""
    there = _columns(connection, tables.subscriptions.name)
    for name in CONSUMERS:
        if name not in there:
            connection.execute(f"ALTER TABLE {tables.subscriptions.name} ADD COLUMN {name} TEXT")


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}


CONSUMERS = ("wanted", "begun_by")
STEPS: tuple[Step, ...] = (
    Step("m001_the_ledger", _the_ledger),
    Step("m002_many_ledgers", _many_ledgers),
    Step("m003_results", _results),
    Step("m004_consumers", _consumers),
)


def schema_statements() -> list[str]:
    """Return the whole schema as SQL statements, in the order in which they are run."""
    made = [statement for table in tables.metadata.sorted_tables for statement in creating(table)]
    return [*made, *GUARDS.values(), tables.TIMELINE]


def creating(table: sa.Table) -> list[str]:
    """Return what creates a table and its indexes."""
    made = str(CreateTable(table).compile(dialect=sqlite.dialect())).strip()
    return [made, *(_index(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))]


def make_what_is_missing(connection: sqlite3.Connection) -> bool:
    """Make anew what somebody dropped of what follows from events, in the open transaction.

    Return whether there were tables among it, which are empty now. Heads are left: that one is missing is evidence.
    """
    connection.execute("SELECT 1 FROM training_heads LIMIT 1")
    there = _names(connection)
    for table in tables.PROJECTION[:-1]:
        names = [table.name, *sorted(str(index.name) for index in table.indexes)]
        for name, statement in zip(names, creating(table), strict=True):
            if name not in there:
                connection.execute(statement)
    if "training_timeline" not in there:
        connection.execute(tables.TIMELINE)
    return any(table.name not in there for table in tables.PROJECTION[:-1])


def _index(index: sa.Index) -> str:
    return str(CreateIndex(index).compile(dialect=sqlite.dialect()))


def index_named(table: sa.Table, name: str) -> sa.Index:
    return next(index for index in table.indexes if index.name == name)


def migrate(connection: sqlite3.Connection, path: str, insist: Insist) -> None:
    """Apply the steps that this database has not seen; safe when many processes do so at once.

    Raises NewerLedger when it knows steps that this code does not, NotALedger when it is something else.
    """
    if not pending(connection, path):
        return
    insist(connection, "BEGIN IMMEDIATE")
    try:
        steps = pending(connection, path)
        if any(step.rewrites for step in steps) and _applied(connection, _table_names(connection)) is not None:
            _keep_copy(path, steps[0].name)
        new = steps == list(STEPS)
        for step in steps:
            if not new or step is STEPS[0]:
                step.apply(connection)
            connection.execute(
                "INSERT INTO ledger_migrations (name, applied_at) VALUES (?, ?)",
                (step.name, text_of(origin.now())),
            )
        if new:
            state.remember(connection, state.FOLDED_BY, fold_stamp())
        insist(connection, "COMMIT")
    except BaseException:  # an interrupt too: a schema is changed as a whole or not at all
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def pending(connection: sqlite3.Connection, path: str) -> list[Step]:
    """Return the steps that this database has not seen; refuse what is no ledger, or a newer one."""
    # Read once: another process may create everything between two looks.
    names = _table_names(connection)
    applied = _applied(connection, names)
    if applied is None:
        _refuse_strangers(names, path)
        return list(STEPS)
    unknown = applied - {step.name for step in STEPS}
    if unknown:
        raise NewerLedger(path, unknown)
    return [step for step in STEPS if step.name not in applied]


def _applied(connection: sqlite3.Connection, names: set[str]) -> set[str] | None:
    if "ledger_migrations" not in names:
        return None
    return {name for (name,) in connection.execute("SELECT name FROM ledger_migrations")}


def _table_names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def _refuse_strangers(names: set[str], path: str) -> None:
    if "training_runs" in names:
        raise NotALedger(
            f"{path} was made by the earlier API and has no events; it was left as it is. "
            f"Choose a new file for the ledger; `ledger --db NEW.db adopt {path}` takes the old rows over into it."
        )
    if names:
        raise NotALedger(
            f"{path} is another SQLite database ({', '.join(sorted(names)[:3])}); it was left as it is. "
            "Choose a new file for the ledger."
        )


def _keep_copy(path: str, name: str) -> None:
    """Copy the database as it is before the step; a write lock is held, so nobody changes it meanwhile."""
    copy = sqlite3.connect(f"{path}.before-{name}")
    source = sqlite3.connect(path)
    try:
        source.backup(copy)
    finally:
        source.close()
        copy.close()
