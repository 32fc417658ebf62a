"""What a run's events say in tables of their own, of several rows a run: objectives, scaffolds, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ledger.projections.columns import Declared
from ledger.projections.fits import Plain, is_key
from ledger.projections.life import Life
from ledger.projections.metrics import METRIC_COLUMNS
from ledger.projections.objectives import OBJECTIVE_COLUMNS, objective_rows
from ledger.projections.scaffolds import SCAFFOLD_COLUMNS, scaffold_row

__all__ = ["DETAILS", "Detail", "Rows", "objectives_of"]

Row = dict[str, Plain]
Rows = dict[str, Row]


@dataclass(frozen=True)
class Detail:
    """A table of which a run has a row for each *key*; what its columns are, and how they follow from the fold."""

    name: str
    key: str
    columns: Mapping[str, Declared]
    rows: Callable[[Life], Rows]


def objectives_of(life: Life) -> Rows:
    row = life.sealed().row
    return objective_rows(str(row["run_id"]), row["config_json"], row["final_metrics_json"], life.objectives)


def _scaffolds_of(life: Life) -> Rows:
    run_id = str(life.row["run_id"])
    return {
        scaffold_id: scaffold_row(run_id, scaffold_id, said)
        for scaffold_id, said in life.scaffolds.items()
        if is_key(run_id, scaffold_id)
    }


def _metrics_of(life: Life) -> Rows:
    run_id = str(life.row["run_id"])
    return {name: metric.row() for name, metric in life.metrics.items() if is_key(run_id, name)}


# A voided run has none of these rows.
DETAILS = (
    Detail("training_objectives", "objective_name", OBJECTIVE_COLUMNS, objectives_of),
    Detail("training_scaffolds", "scaffold_id", SCAFFOLD_COLUMNS, _scaffolds_of),
    Detail("training_metrics", "name", METRIC_COLUMNS, _metrics_of),
)
