"""The schema on a server, made from the same tables; and who creates it when many processes start together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from ledger import origin
from ledger.errors import NewerLedger, NotALedger
from ledger.events.times import text_of
from ledger.projections.stamp import fold_stamp
from ledger.store import state, tables
from ledger.store.migrations import CONSUMERS, DETAILED, STEPS, fill_details
from ledger.store.postgres.connection import ServerConnection
from ledger.store.postgres.functions import FUNCTIONS, GUARDS
from ledger.store.postgres.translation import ELSEWHERE
from ledger.store.spelling import VERBATIM
from ledger.store.statements import said

__all__ = [
    "indexes",
    "is_restored",
    "lock_schema",
    "migrate",
    "missing",
    "pending",
    "schema_statements",
    "take_over_restored",
]

_dialect: Callable[..., sa.Dialect] = postgresql.dialect
_OUR_LOCKS = 0x1ED6E3  # the space of advisory locks under which schemas are made
_REWRITTEN = (*tables.PROJECTION, tables.subscriptions)  # so often that a row's next version has room beside it

_RESULTS = "m003_results"
_CONSUMERS = "m004_consumers"

_NAMES = said(
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
)
_INDEX_NAMES = said(
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relkind = 'i'"
)
_APPLIED = said("SELECT name FROM ledger_migrations")
_LOCK = said(f"SELECT pg_advisory_xact_lock({_OUR_LOCKS}, hashtext(current_schema()))")
# Rows that are here came with a dump where their transactions have ids that this server has yet to give out.
_IS_RESTORED = said(
    "SELECT coalesce(max(transaction_id), 0) >="
    " pg_snapshot_xmax(pg_current_snapshot())::text::bigint + ledger_shift() FROM training_events"
)
_SHIFTED = said(
    "SELECT max(transaction_id) + 1 - pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM training_events"
)


def pending(connection: ServerConnection, place: str) -> list[str]:
    """Return the names of the steps that this database has not seen; refuse an earlier API's, or a newer ledger."""
    names = {name for (name,) in _NAMES.ask(connection)}
    every = [step.name for step in STEPS]
    if "ledger_migrations" not in names:
        if "training_runs" in names:
            raise NotALedger(
                f"{place} has a table training_runs that is not the ledger's; it was left as it is. {ELSEWHERE}"
            )
        return every
    applied = {name for (name,) in _APPLIED.ask(connection)}
    if unknown := applied - set(every):
        raise NewerLedger(place, unknown)
    return [name for name in every if name not in applied]


def migrate(connection: ServerConnection, place: str) -> None:
    """Create what is not there, in the open transaction; who starts at the same time waits, and finds it made."""
    lock_schema(connection)
    steps = pending(connection, place)
    if len(steps) == len(STEPS):
        for statement in schema_statements():
            connection.execute(statement)
        state.remember(connection, state.FOLDED_BY, fold_stamp())
    else:
        _bring_up(connection, steps)
    applied = said("INSERT INTO ledger_migrations (name, applied_at) VALUES (:name, :applied_at)")
    for name in steps:
        applied.run(connection, {"name": name, "applied_at": text_of(origin.now())})


def _bring_up(connection: ServerConnection, steps: Sequence[str]) -> None:
    """Change a ledger of former code; the first two steps are older than any ledger on a server."""
    if _RESULTS in steps:
        connection.execute("LOCK TABLE training_heads IN EXCLUSIVE MODE")  # who appends comes by the heads first
        for statement in _results():
            connection.execute(statement)
        fill_details(connection)
        connection.execute("ALTER TABLE training_heads ADD COLUMN detailed BIGINT DEFAULT '0' NOT NULL")
        connection.execute(DETAILED)
    if _CONSUMERS in steps:
        for name in CONSUMERS:
            connection.execute(f'ALTER TABLE ledger_subscriptions ADD COLUMN {name} TEXT COLLATE "C"')


def lock_schema(connection: ServerConnection) -> None:
    """Be the one who changes this schema, in the open transaction."""
    _LOCK.ask(connection)


def missing(connection: ServerConnection) -> tuple[list[str], bool]:
    """Return what makes anew what somebody dropped of what follows from events, and whether tables are among it.

    Those would be empty. Heads are left: that one is missing is evidence.
    """
    names = {name for (name,) in _NAMES.ask(connection)}
    there = {name for (name,) in _INDEX_NAMES.ask(connection)}
    making: list[str] = []
    for table in tables.PROJECTION[:-1]:
        if table.name not in names:
            making += _creating(table)
        else:
            making += [made for index, made in _indexes_of(table).items() if index not in there]
    if "training_timeline" not in names:
        making.append(tables.TIMELINE)
    return making, any(table.name not in names for table in tables.PROJECTION[:-1])


def take_over_restored(connection: ServerConnection) -> None:
    """Let new events stand behind those that a dump of another server has brought, in the open transaction."""
    lock_schema(connection)
    if is_restored(connection):
        state.remember(connection, state.SHIFT, str(_SHIFTED.ask(connection).fetchone()[0]))


def is_restored(connection: ServerConnection) -> bool:
    """Whether there are events of transactions that this server has not begun yet."""
    return bool(_IS_RESTORED.ask(connection).fetchone()[0])


@cache
def schema_statements() -> list[str]:
    """Return the whole schema as SQL statements, in the order in which they are run."""
    made = [FUNCTIONS["ledger_json"]]
    for table in tables.metadata.sorted_tables:
        made += _creating(table)
    # Functions in SQL are read when they are made: the tables that they ask have to be there.
    made += [sql for name, sql in FUNCTIONS.items() if name != "ledger_json"]
    made.append(
        "ALTER TABLE training_events ALTER COLUMN transaction_id SET DEFAULT ledger_transaction(),"
        " ALTER COLUMN position ADD GENERATED BY DEFAULT AS IDENTITY"
    )
    return [*made, *(sql for guard in GUARDS.values() for sql in guard), tables.TIMELINE]


def _results() -> list[str]:
    """What the step of this name creates."""
    return [*(sql for _, table in tables.PROJECTION.details() for sql in _creating(table)), tables.TIMELINE]


def indexes() -> dict[str, str]:
    """Return the statement of every index that the ledger has, by its name."""
    return {name: made for table in tables.metadata.sorted_tables for name, made in _indexes_of(table).items()}


def _indexes_of(table: sa.Table) -> dict[str, str]:
    every = sorted(_on_server(table).indexes, key=lambda index: str(index.name))
    return {str(index.name): _spelled(CreateIndex(index)) for index in every}


def _creating(table: sa.Table) -> list[str]:
    made = _on_server(table)
    statements = [_spelled(CreateTable(made)), *_indexes_of(table).values()]
    commented = [column for column in made.columns if column.comment]
    return [*statements, *(_spelled(sa.schema.SetColumnComment(column)) for column in commented)]


def _spelled(statement: sa.schema.ExecutableDDLElement) -> str:
    return str(statement.compile(dialect=_dialect())).strip()


@cache
def _on_server(table: sa.Table) -> sa.Table:
    """The table as a server has it: text in the order of code points, documents as jsonb beside their text."""
    made = table.to_metadata(sa.MetaData())
    for column in list(made.columns):
        if column.type.compile(dialect=_dialect()) == "TEXT":
            column.type = sa.Text(collation="C")
        if column.primary_key:
            column.autoincrement = False
    for name, verbatim in VERBATIM.items():
        if name in table.columns:
            derived = sa.Computed(f"ledger_json({verbatim})", persisted=True)
            document = sa.Column(name, postgresql.JSONB(), derived, comment=table.c[name].comment)
            made.append_column(document, replace_existing=True)
            made.append_column(sa.Column(verbatim, sa.Text(collation="C"), nullable=table.c[name].nullable))
    if table is tables.training_events:
        # By what followers go: positions are committed out of their order.
        made.append_column(sa.Column("transaction_id", sa.BigInteger(), nullable=False))
        sa.Index("training_events_followed", made.c.transaction_id, made.c.position)
    if table in _REWRITTEN:
        made.dialect_options["postgresql"]["with"] = {"fillfactor": 80}
    return made
