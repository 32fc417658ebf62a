"""Read events back, whole or as facts, a page at a time so that memory does not grow with the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from ledger.events.fact import Fact, Recorded, loaded
from ledger.events.upcast import understood
from ledger.store.statements import Connection, Statement, compiled
from ledger.store.tables import training_events, training_runs, voided_runs

__all__ = ["EVENT_COLUMNS", "event_page", "fact_of", "facts_of_run", "recorded"]

EVENT_COLUMNS = tuple(column.name for column in training_events.columns)
_FACT = ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload")
_THE_RUN = sa.bindparam("the_run", type_=sa.Text())


def fact_of(  # noqa: PLR0917 -- a stored row, spread
    event_id: str, run_id: str, type: str, version: int, occurred_at: str, source: str, payload: str
) -> Fact:
    """Return the fact that the stored columns make."""
    said = understood(type, version, loaded(payload))
    return Fact(event_id, run_id, type, version, occurred_at, source, payload, said)


@cache
def _of_run(columns: Sequence[str], type: str | None = None) -> Statement:
    chosen = sa.select(*(training_events.c[name] for name in columns)).where(training_events.c.run_id == _THE_RUN)
    if type is not None:
        chosen = chosen.where(training_events.c.type == sa.literal_column(f"'{type}'"))
    return compiled(chosen.order_by(training_events.c.version))


def facts_of_run(connection: Connection, run_id: str) -> list[Fact]:
    """Return all facts of a run, in the order in which they were accepted."""
    return [fact_of(*row) for row in _of_run(_FACT).run(connection, {"the_run": run_id})]


def recorded(row: Sequence[Any]) -> Recorded:
    """Return the event that a row of `training_events` holds."""
    values = list(row)
    values[6] = datetime.fromisoformat(values[6])
    values[7] = datetime.fromisoformat(values[7])
    return Recorded(*values)


def event_page(
    connection: Connection,
    *,
    after: int,
    run_id: str | None,
    chain_of_custody_id: str | None,
    types: Iterable[str] | None,
    size: int,
) -> list[Recorded]:
    """Return the next *size* events behind the position *after* that are of the run, the chain and the types."""
    events = training_events
    chosen = sa.select(*events.columns).where(events.c.position > after)
    if run_id is not None:
        chosen = chosen.where(events.c.run_id == run_id)
    if chain_of_custody_id is not None:
        chosen = chosen.where(events.c.run_id.in_(of_chain(chain_of_custody_id)))
    if types is not None:
        chosen = chosen.where(events.c.type.in_(list(types)))
    statement = compiled(chosen.order_by(events.c.position).limit(size))
    return [recorded(row) for row in statement.ask(connection)]


def of_chain(chain_of_custody_id: str) -> sa.CompoundSelect[tuple[str]]:
    """Return the query for the runs of a chain, voided ones too."""
    return sa.union_all(
        *(
            sa.select(table.c.run_id).where(table.c.chain_of_custody_id == chain_of_custody_id)
            for table in (training_runs, voided_runs)
        )
    )


def run_is_known(connection: Connection, run_id: str) -> bool:
    """Whether any event of the run was accepted, understood or not."""
    return connection.execute("SELECT 1 FROM training_heads WHERE run_id = ?", (run_id,)).fetchone() is not None


def type_is_known(connection: Connection, type: str) -> bool:
    """Whether any event of this type was accepted, understood or not."""
    asked = "SELECT 1 FROM training_events WHERE type = ? LIMIT 1"
    return connection.execute(asked, (type,)).fetchone() is not None
