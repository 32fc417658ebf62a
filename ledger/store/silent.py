"""Find the runs of which nobody knows whether they live, with what an end of theirs has to come after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import JsonValue

from ledger.projections.filters import Condition, Order, parse_filters, parse_order
from ledger.projections.liveness import Present
from ledger.store.reading import FACT_COLUMNS, fact_of
from ledger.store.runs import query_runs
from ledger.store.spelling import among
from ledger.store.statements import Connection, Row, compiled
from ledger.store.tables import training_events, training_heads

__all__ = ["Silent", "silent_runs"]

_EVENT, _HEAD = training_events.c, training_heads.c
_HEADS = compiled(
    sa.select(_HEAD.run_id, _HEAD.version, _HEAD.newest_occurred_at).where(among(_HEAD.run_id, "the_runs"))
)
_STARTS = compiled(
    sa.select(*(_EVENT[name] for name in FACT_COLUMNS))
    .where(among(_EVENT.run_id, "the_runs"), _EVENT.type == sa.literal_column("'started'"))
    .order_by(_EVENT.occurred_at, _EVENT.event_id)
)


@dataclass(frozen=True)
class Silent:
    """A run that is lost, or unknown: its row, at which version it was read, and when it was last started.

    *process* is in which process, if that start said so.
    """

    row: Row
    version: int
    newest_occurred_at: str
    started_last_at: str
    process: Mapping[str, JsonValue] | None

    @property
    def run_id(self) -> str:
        return str(self.row["run_id"])

    @property
    def last_sign(self) -> str:
        """The last sign of life of a run whose lease has run out, or the launch of one that gave none."""
        return str(self.row["last_seen_at"] or self.row["started_at"] or self.row["created_at"])

    @property
    def known_to_live_at(self) -> str:
        """The same of any run: one that never beat since it was started was alive then."""
        return max(self.last_sign, self.started_last_at)


def silent_runs(connection: Connection, present: Present) -> list[Silent]:
    """Return them, the lost first. To be read in one snapshot: a version is of the row that it comes with."""
    rows = query_runs(connection, _conditions(present), _order(), present, limit=None)
    named = {"the_runs": [row["run_id"] for row in rows]}
    heads = {run_id: (version, newest) for run_id, version, newest in _HEADS.run(connection, named)}
    starts = {
        fact.run_id: (fact.occurred_at, _process(fact.understood))
        for fact in (fact_of(*stored) for stored in _STARTS.run(connection, named))
        if fact.understood is not None
    }
    return [Silent(row, *heads[row["run_id"]], *starts.get(row["run_id"], ("", None))) for row in rows]


def _process(said: Mapping[str, JsonValue]) -> Mapping[str, JsonValue] | None:
    process = said.get("process")
    return process if isinstance(process, dict) else None


def _conditions(present: Present) -> Sequence[Condition]:
    return parse_filters({"liveness": ["lost", "unknown"]}, present.moment)


def _order() -> Sequence[Order]:
    return parse_order("liveness, created_at DESC")
