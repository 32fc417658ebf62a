"""A file's runs by what they reached: whether they are walked to or looked up, the answer is the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from ledger import Ledger
from ledger.projections.filters import parse_filters, parse_order
from ledger.store import results, runs
from tests.builders import NOON, completed, launched

QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({"objectives.a": {"min": 0.2}}, "created_at DESC"),
    ({"objectives.a": {"min": 0.2, "max": 0.9}, "objectives.b": {"min": 0.1}}, "created_at"),
    ({"min_objectives.a": 0.2}, "objectives.a DESC"),
    ({"max_objectives.a": 0.8}, "objectives.a"),
    ({"min_objectives.a": 0.5}, "objectives.a"),
    ({"has_objectives.b": True}, "objectives.b DESC, run_name"),
    ({"min_objectives.a": 0.2, "status": "completed", "min_objectives.b": 0.3}, "objectives.b_minimize"),
    ({"min_objectives.a_maximize": 0.1}, "objectives.a_maximize DESC"),
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Give a ledger whose runs lack objectives, share values, and have one name in two directions."""
    draw = random.Random(7)
    with Ledger(tmp_path_factory.mktemp("walks") / "runs.db") as book:
        for number in range(240):
            run = f"r{draw.randrange(10**6):06}"
            spelled = ("a_maximize", "a_minimize") if number % 7 == 0 else ("a_maximize",)
            reached = {f"objectives/{name}/raw_mean": round(draw.random(), 1) for name in (*spelled, "b_minimize")}
            kept = {name: value for name, value in reached.items() if draw.random() < 0.9}
            book.append([launched(number // 3, run=run), completed(number + 1, run=run, final_metrics=kept)])
        yield book


@pytest.mark.parametrize(("filters", "order_by"), QUESTIONS, ids=str)
@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (20, 5), (500, 0)])
def test_a_walk_answers_what_a_look_up_does(
    full: Ledger, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any], order_by: str, limit: int, offset: int
) -> None:
    """So few rows are looked up; told that they are many, the ledger walks, and gives the same rows in the same order."""
    looked_up = full.query_runs(filters, order_by, limit, offset)
    monkeypatch.setattr(runs, "_walks", lambda *_: True)
    walked = full.query_runs(filters, order_by, limit, offset)

    assert looked_up or limit == 1
    assert [run["run_id"] for run in walked] == [run["run_id"] for run in looked_up]


def test_many_are_walked_to(full: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the count of rows within the bounds that decides, and the order."""
    decided: list[bool] = []
    decide = runs._walks
    monkeypatch.setattr(runs, "_walks", lambda *asked: decided.append(decide(*asked)) or decided[-1])
    for frequent in (results.FREQUENT, 50):
        monkeypatch.setattr(results, "FREQUENT", frequent)
        monkeypatch.setattr(runs, "FREQUENT", frequent)
        runs._counting.cache_clear()
        for filters, order_by in (
            (QUESTIONS[0][0], "created_at DESC"),
            (QUESTIONS[0][0], "run_name"),
            ({}, "created_at"),
        ):
            full.query_runs(filters, order_by)
    runs._counting.cache_clear()

    assert decided == [False, False, False, True, False, False]


def test_the_file_is_walked_by_its_indexes(full: Ledger) -> None:
    """The best first come out of the index of values, and no row is sorted but where values are equal."""
    shapes, values = runs.taken_apart(parse_filters({"min_objectives.a": 0.2}, NOON))
    orders = tuple(parse_order("objectives.a DESC"))
    statement = runs._query(shapes, orders, include_voided=False, walks=True)
    with full._database.read() as connection:
        spelled = statement.on(connection)
        given = {**spelled.fixed, **values, "at_most": 10, "skipped": 0}
        every = [given.get(name) for name in spelled.names]
        plan = connection.execute(f"EXPLAIN QUERY PLAN {spelled.sql}", every).fetchall()
    lines = [line for *_, line in plan]
    assert any("first" in line and "training_objectives_by_name" in line for line in lines), lines
    assert not any(line == "USE TEMP B-TREE FOR ORDER BY" for line in lines), lines
