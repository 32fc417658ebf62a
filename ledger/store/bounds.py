"""The events that a question about the past sees, and what they fold to, run by run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import sqlalchemy as sa

from ledger.events.fact import Fact, Recorded
from ledger.events.times import text_of
from ledger.projections.fold import fold_facts
from ledger.projections.life import Life, Row
from ledger.projections.shown import shown
from ledger.store.reading import fact_of, recorded
from ledger.store.statements import Connection, Statement, StoredRow, compiled
from ledger.store.tables import stated_wandb_id, states_wandb_id, training_events

__all__ = [
    "EVERYTHING",
    "Bounds",
    "Folded",
    "accepted",
    "event_page",
    "every_fold",
    "fold_of",
    "is_known",
    "newest_position",
    "stating",
    "type_is_known",
]

Clause = sa.ColumnElement[bool]

_END = text_of(datetime.max.replace(tzinfo=UTC))
_FACT = ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload")
_RUN_ID, _FACT_LENGTH = _FACT.index("run_id"), len(_FACT)


@dataclass(frozen=True)
class Bounds:
    """The last position, and the last moments at which an event may have occurred and been accepted."""

    position_max: int
    occurred_at_max: str = _END
    recorded_at_max: str = _END

    def values(self, **more: object) -> dict[str, object]:
        """Return the values of the parameters that statements have for the bounds, and *more*."""
        return {**vars(self), **more}


EVERYTHING = Bounds(2**63 - 1)


class Folded(NamedTuple):
    """What one run's events fold to, and when the ledger accepted the first and the latest of them."""

    run_id: str
    life: Life | None
    first_recorded_at: str
    latest_recorded_at: str

    def row(self, life: Life) -> Row:
        """Return the whole row of the run's *life*, with the W&B id that it claims."""
        local = {"created_at_db": self.first_recorded_at, "updated_at_db": self.latest_recorded_at}
        return {**shown(life), **local}


def newest_position(connection: Connection) -> int:
    """Return the position of the newest event, 0 where there is none."""
    newest: int = connection.execute("SELECT coalesce(max(position), 0) FROM training_events").fetchone()[0]
    return newest


def accepted(connection: Connection, run_id: str, bounds: Bounds) -> list[tuple[Fact, str]]:
    """Return a run's facts within the bounds, each with its `recorded_at`, in order of acceptance."""
    return [_read(row) for row in _of_run().ask(connection, bounds.values(the_run=run_id))]


def fold_of(connection: Connection, run_id: str, bounds: Bounds) -> Folded | None:
    """Return the fold of one run, None where it has no event within the bounds."""
    found = accepted(connection, run_id, bounds)
    return _folded(run_id, found) if found else None


def every_fold(connection: Connection, bounds: Bounds) -> Iterator[Folded]:
    """Fold every run that has an event within the bounds, one at a time: memory holds the events of one run."""
    for run_id, rows in groupby(_by_run().ask(connection, bounds.values()), key=itemgetter(_RUN_ID)):
        yield _folded(run_id, [_read(row) for row in rows])


def stating(connection: Connection, wandb_run_id: str, bounds: Bounds) -> list[str]:
    """Return the runs that ever stated a W&B id, whether or not they stand by it."""
    return sorted({run for (run,) in _stating().ask(connection, bounds.values(the_id=wandb_run_id))})


def event_page(  # noqa: PLR0917 -- called in one place
    connection: Connection, bounds: Bounds, run_id: str | None, after: int, types: Sequence[str] | None, size: int
) -> list[Recorded]:
    """Return the next *size* events within the bounds, of one run or of all, behind the position *after*."""
    events = training_events.c
    chosen = sa.select(*training_events.columns).where(*_within(), events.position > after)
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
    asked = sa.exists().where(column == value, *_within())
    return bool(compiled(sa.select(asked)).ask(connection, bounds.values()).fetchone()[0])


def _within() -> list[Clause]:
    events = training_events.c
    return [
        events.position <= sa.bindparam("position_max", None, type_=sa.Integer()),
        events.occurred_at <= sa.bindparam("occurred_at_max", None, type_=sa.Text()),
        events.recorded_at <= sa.bindparam("recorded_at_max", None, type_=sa.Text()),
    ]


def _facts() -> sa.Select[tuple[object, ...]]:
    events = training_events.c
    return sa.select(*(events[name] for name in _FACT), events.recorded_at).where(*_within())


@cache
def _of_run() -> Statement:
    events = training_events.c
    return compiled(_facts().where(events.run_id == sa.bindparam("the_run", type_=sa.Text())).order_by(events.version))


@cache
def _by_run() -> Statement:
    events = training_events.c
    return compiled(_facts().order_by(events.run_id, events.version))


@cache
def _stating() -> Statement:
    stated = stated_wandb_id == sa.bindparam("the_id", type_=sa.Text())
    return compiled(sa.select(training_events.c.run_id).where(states_wandb_id, stated, *_within()))


def _read(row: StoredRow) -> tuple[Fact, str]:
    return fact_of(*row[:_FACT_LENGTH]), row[_FACT_LENGTH]


def _folded(run_id: str, found: Sequence[tuple[Fact, str]]) -> Folded:
    return Folded(run_id, fold_facts(fact for fact, _ in found), found[0][1], found[-1][1])
