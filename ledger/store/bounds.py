"""The events that a question about the past sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import sqlalchemy as sa

from ledger.events.fact import Fact, Recorded
from ledger.events.times import text_of
from ledger.store.reading import fact_of, recorded
from ledger.store.statements import Connection, Statement, StoredRow, compiled, said
from ledger.store.tables import stated_wandb_id, states_wandb_id, training_events

__all__ = [
    "EVERYTHING",
    "Bounds",
    "accepted",
    "conditions",
    "event_page",
    "is_known",
    "newest_position",
    "stating",
    "type_is_known",
]

Clause = sa.ColumnElement[bool]
Shape = tuple[str, ...]

_END = text_of(datetime.max.replace(tzinfo=UTC))  # what bounds nothing
_FACT = ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload")
_FACT_LENGTH = len(_FACT)
_MOMENTS = ("occurred_at_max", "recorded_at_max")


@dataclass(frozen=True)
class Bounds:
    """The last position, and the last moments at which an event may have occurred and been accepted."""

    position_max: int
    occurred_at_max: str = _END
    recorded_at_max: str = _END

    def shape(self) -> Shape:
        """Return the names of the bounds that leave something out; an index may serve where those are few."""
        return ("position_max", *(name for name in _MOMENTS if getattr(self, name) != _END))

    def values(self, **more: object) -> dict[str, object]:
        """Return the values of the parameters that statements have for the bounds, and *more*."""
        return {**vars(self), **more}


EVERYTHING = Bounds(2**63 - 1)
_NEWEST = said("SELECT coalesce(max(position), 0) FROM training_events")


def newest_position(connection: Connection) -> int:
    """Return the position of the newest event, 0 where there is none."""
    newest: int = _NEWEST.ask(connection).fetchone()[0]
    return newest


def accepted(connection: Connection, run_id: str, bounds: Bounds) -> list[tuple[Fact, str]]:
    """Return a run's facts within the bounds, each with its `recorded_at`, in order of acceptance."""
    return [_read(row) for row in _of_run().ask(connection, bounds.values(the_run=run_id))]


def stating(connection: Connection, wandb_run_id: str, bounds: Bounds) -> list[str]:
    """Return the runs that ever stated a W&B id, whether or not they stand by it."""
    return sorted({run for (run,) in _stating().ask(connection, bounds.values(the_id=wandb_run_id))})


def event_page(  # noqa: PLR0917 -- called in one place
    connection: Connection, bounds: Bounds, run_id: str | None, after: int, types: Sequence[str] | None, size: int
) -> list[Recorded]:
    """Return the next *size* events within the bounds, of one run or of all, behind the position *after*."""
    events = training_events.c
    chosen = sa.select(*training_events.columns).where(*conditions(), events.position > after)
    if types is not None:
        chosen = chosen.where(events.type.in_(types))
    if run_id is None:
        chosen = chosen.order_by(events.position)
    else:  # a run's versions ascend as its positions do, and for them there is an index
        chosen = chosen.where(events.run_id == run_id).order_by(events.version)
    return [recorded(row) for row in compiled(chosen.limit(size)).ask(connection, bounds.values())]


def is_known(connection: Connection, run_id: str, bounds: Bounds) -> bool:
    """Whether any event of the run lies within the bounds, understood or not."""
    return _any(training_events.c.run_id, run_id, connection, bounds)


def type_is_known(connection: Connection, type: str, bounds: Bounds) -> bool:
    """Whether any event of this type lies within the bounds, understood or not."""
    return _any(training_events.c.type, type, connection, bounds)


def _any(column: sa.Column[object], value: str, connection: Connection, bounds: Bounds) -> bool:
    asked = sa.exists().where(column == value, *conditions())
    return bool(compiled(sa.select(asked)).ask(connection, bounds.values()).fetchone()[0])


def conditions(shape: Shape = ("position_max", *_MOMENTS)) -> list[Clause]:
    """Return what an event has to meet to lie within bounds of this shape; the parameters are their values."""
    columns = [(training_events.c[name.removesuffix("_max")], name) for name in shape]
    return [column <= sa.bindparam(name, None, type_=column.type) for column, name in columns]


def _facts() -> sa.Select[tuple[object, ...]]:
    events = training_events.c
    return sa.select(*(events[name] for name in _FACT), events.recorded_at).where(*conditions())


@cache
def _of_run() -> Statement:
    events = training_events.c
    return compiled(_facts().where(events.run_id == sa.bindparam("the_run", type_=sa.Text())).order_by(events.version))


@cache
def _stating() -> Statement:
    stated = stated_wandb_id == sa.bindparam("the_id", type_=sa.Text())
    return compiled(sa.select(training_events.c.run_id).where(states_wandb_id, stated, *conditions()))


def _read(row: StoredRow) -> tuple[Fact, str]:
    return fact_of(*row[:_FACT_LENGTH]), row[_FACT_LENGTH]
