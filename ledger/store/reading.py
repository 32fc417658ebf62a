"""Read events back, whole or as facts, a page at a time so that memory does not grow with the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache

import sqlalchemy as sa

from ledger.errors import LedgerDamaged, shortened
from ledger.events.fact import Fact, Recorded, loaded
from ledger.events.upcast import understood
from ledger.store.statements import Connection, Statement, StoredRow, compiled, said
from ledger.store.tables import training_events, training_runs, voided_runs

__all__ = [
    "EVENT_COLUMNS",
    "FACT_COLUMNS",
    "event_page",
    "fact_of",
    "facts_of_run",
    "recorded",
    "run_is_known",
    "run_page",
    "runs_of_chain",
    "type_is_known",
]

EVENT_COLUMNS = tuple(column.name for column in training_events.columns)
FACT_COLUMNS = ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload")
_THE_RUN = sa.bindparam("the_run", type_=sa.Text())
_UP_TO = sa.bindparam("up_to", type_=sa.BigInteger())
_RUN_KNOWN = said("SELECT 1 FROM training_heads WHERE run_id = :run_id")
_TYPE_KNOWN = said("SELECT 1 FROM training_events WHERE type = :type LIMIT 1")


def fact_of(  # noqa: PLR0917 -- a stored row, spread
    event_id: str, run_id: str, type: str, version: int, occurred_at: str, source: str, payload: str
) -> Fact:
    """Return the fact that the stored columns make."""
    said = understood(type, version, loaded(payload))
    return Fact(event_id, run_id, type, version, occurred_at, source, payload, said)


@cache
def _facts() -> Statement:
    events = training_events.c
    chosen = sa.select(*(events[name] for name in FACT_COLUMNS)).where(
        events.run_id == _THE_RUN, events.version <= _UP_TO
    )
    return compiled(chosen.order_by(events.version))


def facts_of_run(connection: Connection, run_id: str, up_to_version: int) -> list[Fact]:
    """Return the facts of a run up to a version, in the order in which they were accepted."""
    key = {"the_run": run_id, "up_to": up_to_version}
    return [fact_of(*row) for row in _facts().run(connection, key)]


def recorded(row: StoredRow) -> Recorded:
    """Return the event that a row of `training_events` holds. Raises LedgerDamaged where a time is none."""
    values = list(row)
    try:
        values[6] = datetime.fromisoformat(values[6])
        values[7] = datetime.fromisoformat(values[7])
    except (TypeError, ValueError) as exc:
        raise LedgerDamaged(
            f"event {shortened(row[1])}, at position {row[0]} of run {shortened(row[2])}, has a time that is none "
            f"({exc}): somebody changed it behind the ledger's back. See what else with `ledger verify`; "
            "put a backup in its place, or keep the evidence."
        ) from exc
    return Recorded(*values)


def event_page(connection: Connection, after: int, types: Sequence[str] | None, size: int) -> list[Recorded]:
    """Return the next *size* events of all runs behind the position *after*."""
    events = training_events.c
    chosen = _of_types(types).where(events.position > after).order_by(events.position).limit(size)
    return [recorded(row) for row in compiled(chosen).ask(connection)]


def run_page(  # noqa: PLR0917 -- called in one place
    connection: Connection, run_id: str, after: int, after_version: int, types: Sequence[str] | None, size: int
) -> list[Recorded]:
    """Return the next *size* events of one run: those behind both a position and a version."""
    events = training_events.c
    chosen = _of_types(types).where(events.run_id == run_id, events.version > after_version, events.position > after)
    return [recorded(row) for row in compiled(chosen.order_by(events.version).limit(size)).ask(connection)]


def _of_types(types: Sequence[str] | None) -> sa.Select[tuple[object, ...]]:
    chosen = sa.select(*training_events.columns)
    return chosen if types is None else chosen.where(training_events.c.type.in_(types))


def runs_of_chain(connection: Connection, chain_of_custody_id: str) -> list[str]:
    """Return the runs of a chain, voided ones too."""
    found: list[str] = []
    for table in (training_runs, voided_runs):
        chosen = sa.select(table.c.run_id).where(table.c.chain_of_custody_id == chain_of_custody_id)
        found += [run_id for (run_id,) in compiled(chosen).ask(connection)]
    return sorted(found)


def run_is_known(connection: Connection, run_id: str) -> bool:
    """Whether any event of the run was accepted, understood or not."""
    return _RUN_KNOWN.run(connection, {"run_id": run_id}).fetchone() is not None


def type_is_known(connection: Connection, type: str) -> bool:
    """Whether any event of this type was accepted, understood or not."""
    return _TYPE_KNOWN.run(connection, {"type": type}).fetchone() is not None
