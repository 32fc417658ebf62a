"""A ledger that the code before results had tables goes on writing, or whose new names somebody else has taken."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import pytest

from ledger import Ledger
from ledger.errors import NotALedger
from tests.builders import completed, launched, metrics_logged, objective_stated, scaffolds_recorded, shown
from tests.places import in_a_file, on_both

pytestmark = on_both

FORMER = (
    "DROP VIEW training_timeline",
    "DROP TABLE training_objectives",
    "DROP TABLE training_scaffolds",
    "DROP TABLE training_metrics",
    "ALTER TABLE training_heads DROP COLUMN detailed",
    "DELETE FROM ledger_migrations WHERE name = 'm003_results'",
)
LIFE = [
    launched(0, config={"objectives": ["QED"]}),
    metrics_logged(1, columns={"step": [1, 2], "loss": [2.0, 1.0]}),
    objective_stated(2, objective_name="QED", weight=2),
    scaffolds_recorded(3, columns={"scaffold_id": ["s1"]}),
    completed(4, final_metrics={"objectives/QED/raw_mean": 0.5}),
]


def run_sql(place: str, *statements: str) -> None:
    """Do it behind the ledger's back, as code does that knows nothing of this one."""
    if place.startswith("postgresql"):
        with psycopg.connect(place, autocommit=True) as server:
            for statement in statements:
                server.execute(statement)
        return
    db = sqlite3.connect(place, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def loss_of(book: Ledger) -> tuple[Any, ...]:
    (row,) = book.get_run_metrics("r")
    return row["count"], row["min"], row["last"]


def test_what_a_former_process_wrote_is_made_good(place: str) -> None:
    """It leaves a run without its new rows: that is named, and the next event of the run brings them, as a replay does."""
    for mend in (lambda book: book.append(metrics_logged(9, columns={"loss": [0.25]})), lambda book: book.replay()):
        with Ledger(place) as book:
            book.append(LIFE)
        run_sql(place, "DELETE FROM training_metrics", "UPDATE training_heads SET detailed = detailed - 1")
        with Ledger(place) as book:
            found = {(difference.kind, difference.column) for difference in book.verify().differences}
            assert {("head", "detailed"), ("row of training_metrics", "training_metrics 'loss'")} <= found
            mend(book)
            assert loss_of(book)[1:] == (0.25, 0.25)
            assert book.verify()


@in_a_file
def test_a_stranger_with_a_name_that_is_needed_is_left_alone(path: Any) -> None:
    """Somebody's own table of a new name is not touched; the error says how to rename it, and after that all is well."""
    with Ledger(path) as book:
        book.append(LIFE)
        before = shown(book)
    run_sql(str(path), *FORMER, "CREATE TABLE training_metrics (mine)", "INSERT INTO training_metrics VALUES (7)")

    with Ledger(path) as book, pytest.raises(NotALedger, match="ALTER TABLE training_metrics RENAME TO"):
        book.get_run("r")
    run_sql(str(path), "ALTER TABLE training_metrics RENAME TO my_training_metrics")
    with Ledger(path) as book:
        assert shown(book) == before
