"""The documented queries go by an index: their plans are read, so that a new column or filter cannot lose one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.store import forking
from tests.builders import completed, launched, metrics_logged, started, wandb_attached


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a ledger of some hundred runs."""
    path = tmp_path_factory.mktemp("plans") / "runs.db"
    with Ledger(path) as book:
        for number in range(400):
            run = f"run-{number}"
            config = {"reward": {"gradient_method": ("mgda", "pcgrad")[number % 2]}, "objectives": ["QED", "tox"]}
            reached = {"objectives/QED/raw_mean": number / 400}
            chain = f"C{number % 50}"
            book.append(
                [
                    launched(
                        number, run=run, config=config, host=("ec2", "expanse")[number % 2], chain_of_custody_id=chain
                    ),
                    started(number, run=run),
                    wandb_attached(number, run=run, wandb_run_id=f"w{number}"),
                    metrics_logged(number, run=run, columns={"step": [1], "loss": [0.5]}),
                    *([completed(number, run=run, final_metrics=reached)] if number % 3 else []),
                ]
            )
    return path


ASKED: dict[str, Callable[[Ledger], object]] = {
    "the newest": lambda book: book.query_runs(limit=50),
    "by status": lambda book: book.query_runs({"status": "completed"}, limit=50),
    "by host": lambda book: book.query_runs({"host": "ec2"}, limit=50),
    "by method": lambda book: book.query_runs({"gradient_method": "mgda"}, limit=50),
    "by method and status": lambda book: book.query_runs({"gradient_method": "mgda", "status": "completed"}, limit=50),
    "by chain": lambda book: book.query_runs({"chain_of_custody_id": "C7"}),
    "by W&B id": lambda book: book.query_runs({"wandb_run_id": "w7"}),
    "since when": lambda book: book.query_runs({"created_after": "2024-05-01T12:05:00Z"}, limit=50),
    "the lost": lambda book: book.count_runs({"liveness": "lost"}),
    "one run": lambda book: book.get_run("run-7"),
    "a run's events": lambda book: list(book.events("run-7")),
    "a chain's events": lambda book: list(book.events(chain_of_custody_id="C7")),
    "what came since": lambda book: list(book.events(after=1500)),
    "a run's timeline": lambda book: book.timeline(run_id="run-7"),
    "a chain's timeline": lambda book: book.timeline(chain_of_custody_id="C7"),
    "a run as it was": lambda book: book.as_of(known=1500).get_run("run-7"),
    "a run's timeline as it was": lambda book: book.as_of(known=1500).timeline(run_id="run-7"),
    "what came since, as it was": lambda book: list(book.as_of("2024-05-01T12:05:00Z").events(after=1500)),
    "a run's history": lambda book: book.get_history("run-7"),
    "a run's history as it was": lambda book: book.as_of("2024-05-01T12:05:00Z").get_history("run-7"),
    "a run's objectives": lambda book: book.get_run_objectives("run-7"),
    "a run's metrics": lambda book: book.get_run_metrics("run-7"),
    "by an objective": lambda book: book.query_runs_by_objectives({"QED": {"min": 0.995}}, order_by="run_id"),
    "an objective stated": lambda book: book.insert_objective("run-7", "QED", weight=2),
    "scaffolds recorded": lambda book: book.record_scaffolds("run-7", [{"scaffold_id": "s1"}]),
    "why a row is as it is": lambda book: book.explain("run-7"),
    "a status call": lambda book: book.update_run_status("run-7", "running"),
    "a contested W&B id": lambda book: book.append(wandb_attached(900, run="run-9", wandb_run_id="w7")),
    "an old event": lambda book: book.append(started(-5, run="run-11")),
}


def plans(book: Ledger, ask: Callable[[Ledger], object], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the plan of each statement that a question runs."""
    seen: dict[str, None] = {}

    def watching(path: str, **how: Any) -> forking.Lendable:
        connection = forking.connect(path, **how)
        connection.set_trace_callback(lambda sql: seen.setdefault(sql, None))
        return connection

    monkeypatch.setattr("ledger.store.sqlite.connect", watching)
    ask(book)
    monkeypatch.undo()
    with closing(sqlite3.connect(book.url)) as db:
        explained = {sql: db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in seen if _explainable(sql)}
    return {sql: [step for *_, step in rows] for sql, rows in explained.items()}


def _explainable(sql: str) -> bool:
    about_training = "training_" in sql or "voided_runs" in sql
    return about_training and sql.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}


def by_an_index(step: str) -> bool:
    """Whether a step of a plan looks up what it wants; walking along an index in its order is as good, with a limit."""
    return "SCAN training" not in step and "SCAN voided" not in step and "TEMP B-TREE" not in step


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_documented_question_goes_by_an_index(
    place: Path, ask: Callable[[Ledger], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No documented query and no append reads a whole table or sorts what an index could give in order."""
    with Ledger(place) as book:
        found = plans(book, ask, monkeypatch)

    assert found
    walked = {
        sql: [step for step in steps if not by_an_index(step) and "_newest" not in step] for sql, steps in found.items()
    }
    assert {sql: steps for sql, steps in walked.items() if steps} == {}


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "training_runs_newest"),
        ({"status": "completed"}, "training_runs_status_newest"),
        ({"host": "ec2"}, "training_runs_host_newest"),
        ({"gradient_method": "mgda", "status": "completed"}, "training_runs_gradient_method_status_newest"),
        ({"chain_of_custody_id": "C7"}, "training_runs_chain_of_custody_id_newest"),
        ({"wandb_run_id": "w7"}, "training_runs_wandb_run_id"),
        ({"run_id": "run-7"}, "sqlite_autoindex_training_runs_1"),
    ],
)
def test_the_index_that_was_made_for_it_is_taken(
    place: Path, filters: dict[str, str], index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each index earns its place: there is a documented query that takes it."""
    with Ledger(place) as book:
        found = plans(book, lambda book: book.query_runs(filters, limit=50), monkeypatch)

    (steps,) = [steps for sql, steps in found.items() if "FROM training_runs" in sql]
    assert any(f"USING INDEX {index}" in step for step in steps), steps


def test_an_order_by_an_objective_reads_the_own_rows_of_each_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all rows of that objective for each run would take the square of the runs."""
    with Ledger(place) as book:
        found = plans(book, lambda book: book.query_runs(order_by="objectives.speed DESC"), monkeypatch)

    (steps,) = [steps for sql, steps in found.items() if "FROM training_runs" in sql]
    assert any("training_objectives USING PRIMARY KEY (run_id=?)" in step for step in steps), steps


def test_a_metrics_runs_are_found_by_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter on one metric does not read what all runs logged of all others."""
    with Ledger(place) as book:
        found = plans(book, lambda book: book.query_runs({"min_metrics.train/loss:min": 0.5}), monkeypatch)

    (steps,) = [steps for sql, steps in found.items() if "FROM training_runs" in sql]
    assert any("USING" in step and "training_metrics_by_name" in step for step in steps), steps
