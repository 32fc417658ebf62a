"""A run's rows in every projected table, as plain values: what is written, compared, and sent between processes."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple, cast

import sqlalchemy as sa

from ledger.projections.claims import Claim
from ledger.projections.details import DETAILS
from ledger.projections.life import Life, Row
from ledger.store.statements import StoredRow
from ledger.store.tables import training_claims, training_heads, training_runs, voided_runs

__all__ = ["HELD", "RunRows", "StoredRows", "rows_of", "unsettled"]

StoredRows = dict[str, StoredRow]  # of a table that has several rows a run, by key


class RunRows(NamedTuple):
    """What one run's events fold to. A row has the values of its table's columns, in their order.

    Where nothing of the run is understood, it has a head alone. Who holds a W&B id is settled among runs, so that
    column is NULL here. `details` are the rows of each of the DETAILS, and `length` is what all of it weighs: about
    as many characters as there are in its events or in its rows, whichever are more.
    """

    run_id: str
    row: StoredRow | None
    voided: bool
    claim: Claim | None
    details: tuple[StoredRows, ...]
    head: StoredRow
    events: int
    length: int

    def home(self) -> sa.Table | None:
        """Return the table that the row belongs in."""
        if self.row is None:
            return None
        return voided_runs if self.voided else training_runs

    def claim_row(self) -> StoredRow | None:
        claim = self.claim
        return None if claim is None else tuple([getattr(claim, name) for name in _CLAIM])

    def head_by_name(self) -> Row:
        return dict(zip(_HEAD, self.head, strict=True))


def rows_of(run_id: str, life: Life | None, head: Row, row: Row, *, events: int, payloads_length: int) -> RunRows:
    """Return the rows of a run with this fold, this head, and this row but for its W&B id.

    What they say was said in its events, whose payloads have so many characters.
    """
    if life is None:
        return RunRows(run_id, None, False, None, _NO_DETAILS, _head(head), events, payloads_length)
    voided = life.void_reason is not None
    made = (_voided if voided else _live)({"wandb_run_id": None, **row})
    details = _NO_DETAILS if voided else _details(life)
    length = payloads_length + _BESIDE_LENGTH * sum(map(len, details))
    return RunRows(run_id, made, voided, life.claimed(), details, _head(head), events, length)


def unsettled(row: StoredRow) -> StoredRow:
    """Return a stored row without the W&B id that its run holds."""
    return *row[:HELD], None, *row[HELD + 1 :]


def _details(life: Life) -> tuple[StoredRows, ...]:
    every = ((values, detail.rows(life)) for detail, values in _DETAIL_VALUES)
    return tuple({key: values(row) for key, row in rows.items()} if rows else {} for values, rows in every)


def _values_of(table: sa.Table) -> Callable[[Row], StoredRow]:
    return cast("Callable[[Row], StoredRow]", itemgetter(*table.columns.keys()))


_BESIDE_LENGTH = 300  # what a row beside takes besides what was said: as many values, each an object
HELD = training_runs.columns.keys().index("wandb_run_id")
_live, _voided, _head = map(_values_of, (training_runs, voided_runs, training_heads))
_DETAIL_VALUES = [(detail, cast("Callable[[Row], StoredRow]", itemgetter(*detail.columns))) for detail in DETAILS]
_CLAIM, _HEAD = training_claims.columns.keys(), training_heads.columns.keys()
_NO_DETAILS: tuple[StoredRows, ...] = ({},) * len(DETAILS)
