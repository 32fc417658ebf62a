"""On a server, too, the documented queries go by an index, where there are rows enough for it to matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from ledger import Ledger
from ledger.store.postgres.connection import ServerConnection
from tests.builders import (
    completed,
    launched,
    metrics_logged,
    scaffolds_recorded,
    started,
    voided,
    wandb_attached,
)
from tests.places import OnServer
from tests.store.test_plans import ASKED

RUNS = 2000
Plans = dict[str, list[str]]


@pytest.fixture(scope="module")
def filled(pg_ledgers: OnServer) -> Iterator[str]:
    """Give a ledger of some thousand runs, whose statistics the server knows."""
    with pg_ledgers.place() as url:
        with Ledger(url) as book:
            for first in range(0, RUNS, 500):
                book.append([event for number in range(first, first + 500) for event in life(number)])
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("VACUUM ANALYZE")
        yield url


def life(number: int) -> Iterator[Any]:
    run, method = f"run-{number}", ("mgda", "pcgrad", "imtlg", "aligned_mtl")[number % 4]
    host = ("ec2", "expanse", "lab", "laptop")[number % 4]
    config = {"reward": {"gradient_method": method}, "more": "x" * 400, "objectives": ["QED", "tox"]}
    yield launched(number, run=run, config=config, host=host, chain_of_custody_id=f"C{number % 250}")
    yield started(number, run=run)
    yield wandb_attached(number, run=run, wandb_run_id=f"w{number}")
    yield metrics_logged(number, run=run, columns={"step": [1], "loss": [0.5]})
    yield scaffolds_recorded(number, run=run, columns={"scaffold_id": ["s1", "s2"]})
    if number % 3:
        yield completed(number, run=run, final_metrics={"objectives/QED/raw_mean": number / RUNS})
    if number % 5 == 4:
        yield voided(9000, run=run, reason="bogus")


def plans(url: str, ask: Callable[[Ledger], object]) -> Plans:
    """Return the plan of each statement that a question runs."""
    seen: dict[str, object] = {}

    def watched(kind: type) -> Callable[..., Any]:
        execute = kind.execute

        def watching(it: Any, statement: Any, parameters: Any = None, **how: Any) -> Any:
            if isinstance(statement, str):
                seen.setdefault(statement, parameters)
            return execute(it, statement, parameters, **how)

        return watching

    with pytest.MonkeyPatch.context() as patch, Ledger(url) as book:
        for kind in (ServerConnection, psycopg.ServerCursor):
            patch.setattr(kind, "execute", watched(kind))
        ask(book)
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as owner:
        explained = {
            sql: owner.execute(f"EXPLAIN {sql}", values).fetchall()
            for sql, values in seen.items()
            if ("training_" in sql or "voided_runs" in sql)
            and sql.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}
            and "pg_" not in sql
        }
    return {sql: [line.strip() for (line,) in lines] for sql, lines in explained.items()}


def reads_all(step: str) -> bool:
    return "Seq Scan on training" in step or "Seq Scan on voided" in step


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_documented_question_goes_by_an_index(filled: str, ask: Callable[[Ledger], object]) -> None:
    """No documented query and no append reads a whole table."""
    found = plans(filled, ask)

    assert found
    assert {sql: steps for sql, steps in found.items() if any(map(reads_all, steps))} == {}


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "training_runs_newest"),
        ({"status": "running"}, "training_runs_status_newest"),
        ({"host": "ec2"}, "training_runs_host_newest"),
        ({"gradient_method": "mgda"}, "training_runs_gradient_method_newest"),
        ({"gradient_method": "mgda", "status": "running"}, "training_runs_gradient_method_status_newest"),
        ({"chain_of_custody_id": "C7"}, "training_runs_chain_of_custody_id_newest"),
        ({"wandb_run_id": "w7"}, "training_runs_wandb_run_id"),
        ({"run_id": "run-7"}, "training_runs_pkey"),
    ],
)
def test_the_index_that_was_made_for_it_is_taken(filled: str, filters: dict[str, str], index: str) -> None:
    """And gives many rows in the order that is asked for; a handful may be sorted."""
    found = plans(filled, lambda book: book.query_runs(filters, limit=50))

    (steps,) = [steps for sql, steps in found.items() if "FROM training_runs" in sql]
    assert any(f"using {index} on" in step or f"on {index} " in step for step in steps), steps
    handful = {"training_runs_pkey", "training_runs_wandb_run_id", "training_runs_chain_of_custody_id_newest"}
    assert index in handful or not any("Sort" in step for step in steps), steps
