"""Find the runs of which nobody knows whether they live, with what an end of theirs has to come after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ledger.projections.filters import Condition, Order, parse_filters, parse_order
from ledger.projections.liveness import Present
from ledger.store.reading import FACT_COLUMNS, fact_of
from ledger.store.runs import query_runs
from ledger.store.statements import Connection, Row

__all__ = ["Silent", "silent_runs"]

_HEADS = (
    "SELECT run_id, version, newest_occurred_at FROM training_heads WHERE run_id IN (SELECT value FROM json_each(?))"
)
_STARTS = (
    f"SELECT {', '.join(FACT_COLUMNS)} FROM training_events "
    "WHERE run_id IN (SELECT value FROM json_each(?)) AND type = 'started' ORDER BY occurred_at, event_id"
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
    run_ids = json.dumps([row["run_id"] for row in rows])
    heads = {run_id: (version, newest) for run_id, version, newest in connection.execute(_HEADS, (run_ids,))}
    starts = {
        fact.run_id: (fact.occurred_at, _process(fact.understood))
        for fact in (fact_of(*stored) for stored in connection.execute(_STARTS, (run_ids,)))
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
