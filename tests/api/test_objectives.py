"""What runs reached, through the documented functions: recorded, asked for, corrected, and never changed by bad input."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import ledger
from ledger import Ledger
from ledger.errors import InvalidFact, InvalidValue, LedgerError, RunNotFound, UnknownFilter, UnknownOrder
from tests.behind import behind
from tests.builders import (
    completed,
    launched,
    metrics_logged,
    objective_stated,
    scaffolds_recorded,
    shown,
    told,
    voided,
)
from tests.places import on_both

pytestmark = on_both

TEN = ["run_id", "objective_name", "objective_alias", "uniprot", "weight", "direction",
       "raw_mean", "normalized_mean", "raw_std", "normalized_std"]  # fmt: skip
SIGNATURES = {
    "insert_objective": "run_id, objective_name, objective_alias=None, uniprot=None, weight=None, direction=None, *, at=None",
    "update_objective_metric": "run_id, objective_name, metric_type, value, *, at=None",
    "record_scaffolds": "run_id, scaffolds, *, at=None",
    "get_run_objectives": "run_id",
    "get_run_scaffolds": "run_id",
    "get_run_metrics": "run_id",
    "query_runs_by_objectives": "objective_filters, gradient_method=None, status=None, host=None, order_by='created_at DESC', limit=100",
    "get_objective_statistics": "name, gradient_method=None, status='completed'",
    "compare_gradient_methods": "name, status='completed'",
    "pareto_front": "objectives, filters=None, *, metric_type='raw_mean'",
}
CONFIG = {
    "objectives": [
        {"name": "COMT_activity", "weight": 2, "params": {"uniprot": "P21964"}},
        {"name": "tox", "direction": "minimize"},
    ]
}


def complete(
    book: Ledger, run_id: str, method: str | None = "mgda", status: str = "completed", **reached: float
) -> None:
    """Record a run that ended with these values of its objectives."""
    config: dict[str, Any] = {**CONFIG, **({} if method is None else {"gradient_method": method})}
    book.insert_run(run_id, None, config, host="ec2")
    metrics = {f"objectives/{name}/raw_mean": value for name, value in reached.items()}
    metrics |= {f"objectives/{name}/raw_std": 0.5 for name in reached}
    book.update_run_status(run_id, status, final_metrics_json=metrics)


@pytest.fixture
def compared(book: Ledger) -> Ledger:
    """Give a ledger with runs of two methods, some that reached nothing, and some that do not count."""
    complete(book, "a", "mgda", COMT_activity=0.5, tox=0.25)
    complete(book, "b", "mgda", COMT_activity=0.75, tox=0.75)
    complete(book, "c", "pcgrad", COMT_activity=1.0, tox=0.5)
    complete(book, "d", "pcgrad", COMT_activity=float("nan"), tox=float("inf"))
    complete(book, "e", None, COMT_activity=9.0, tox=-9)
    complete(book, "f", "mgda", status="failed", COMT_activity=2.0, tox=0.0)
    complete(book, "void", "mgda", COMT_activity=99.0, tox=-99)
    book.void("void", reason="bogus")
    book.insert_run("plain", None, {"gradient_method": "mgda"})
    return book


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["run_id"] for row in rows]


@pytest.mark.parametrize(("name", "wanted"), SIGNATURES.items())
def test_the_signatures_are_those_that_scripts_call(name: str, wanted: str) -> None:
    """Names, order and defaults of the arguments, on a ledger and on the module."""
    said = inspect.signature(getattr(Ledger, name)).parameters.values()
    plain = inspect.Signature([argument.replace(annotation=inspect.Parameter.empty) for argument in list(said)[1:]])
    assert str(plain) == f"({wanted})"
    assert name in ledger.__all__


def test_rows_have_the_documented_keys(compared: Ledger) -> None:
    """Exactly these, in this order, as plain values."""
    compared.update_objective_metric("a", "tox", "normalized_std", 1)
    rows = compared.get_run_objectives("a")
    assert [list(row) for row in rows] == [TEN, TEN]
    assert [list(row.values()) for row in rows] == [
        ["a", "COMT_activity", "COMT_activity", "P21964", 2.0, None, 0.5, None, 0.5, None],
        ["a", "tox", "tox", None, None, "minimize", 0.25, None, 0.5, 1.0],
    ]
    assert compared.get_run_objectives("plain") == []
    assert list(compared.compare_gradient_methods("tox")[0]) == ["gradient_method", "count", "avg", "best"]
    assert list(compared.get_objective_statistics("tox")) == ["count", "mean", "min", "max", "avg_std"]


def test_stating_what_the_config_says_is_no_error(book: Ledger) -> None:
    """Nor stating it again: the row stays as it is, and what is said besides is added to it."""
    complete(book, "r", COMT_activity=0.5)
    before = book.get_run_objectives("r")
    for _ in range(2):
        book.insert_objective("r", "COMT_activity", uniprot="P21964", weight=2)
    assert book.get_run_objectives("r") == before
    book.insert_objective("r", "COMT_activity", "COMT_activity_maximize", None, 3, "maximize")
    (row, _) = book.get_run_objectives("r")
    assert (row["objective_alias"], row["uniprot"], row["weight"], row["direction"]) == (
        "COMT_activity_maximize",
        "P21964",
        3.0,
        "maximize",
    )
    assert row["raw_mean"] == 0.5
    assert book.verify()


def test_values_by_hand(book: Ledger) -> None:
    """Each of the four values, also before the run has metrics; one that is not finite is None."""
    book.insert_run("r", None, {})
    for number, name in enumerate(TEN[6:]):
        book.update_objective_metric("r", "QED_maximize", name, number)
    (row,) = book.get_run_objectives("r")
    assert [row[name] for name in TEN[6:]] == [0.0, 1.0, 2.0, 3.0]
    assert row["direction"] == "maximize"
    book.update_objective_metric("r", "QED", "raw_mean", float("nan"))
    book.update_run_status(
        "r", "completed", final_metrics_json={"objectives/QED/raw_mean": 1, "objectives/QED/raw_std": 9}
    )
    (row,) = book.get_run_objectives("r")
    assert (row["raw_mean"], row["raw_std"]) == (None, 2.0)
    assert book.verify()


def test_the_last_word_counts_whatever_the_objective_is_called(book: Ledger) -> None:
    """Stated under one name, then under the other, then the first again with what it said before."""
    book.insert_run("r", None, {})
    for name, weight in (("tox", 1), ("tox_minimize", 2), ("tox", 1)):
        book.insert_objective("r", name, weight=weight)
        (row,) = book.get_run_objectives("r")
        assert row["weight"] == weight
        assert book.verify()


def test_runs_by_their_objectives(compared: Ledger) -> None:
    """Within bounds on all of them; without bounds where there is a value; with or without the name's end."""
    ask = compared.query_runs_by_objectives
    assert ids(ask({"COMT_activity": {"min": 0.75, "max": 1.0}}, order_by="run_id")) == ["b", "c"]
    assert ids(
        ask({"COMT_activity_maximize": {"min": 0.75}, "tox": {"max": 0.5}}, order_by="COMT_activity_maximize DESC")
    ) == ["e", "f", "c"]
    assert ids(ask({"tox": {}}, "mgda", "completed", "ec2", "tox DESC", None)) == ["b", "a"]
    assert ids(ask({"tox": {}}, host="expanse")) == []
    assert ids(ask({"tox": {}}, limit=1, order_by="tox")) == ["e"]
    assert ids(ask({"tox_maximize": {}})) == []  # all of them are to be minimized
    assert len(ask({})) == 7
    assert ask({"tox": {"min": 0.5}}, status="completed", limit=1) == compared.query_runs(
        {"min_objectives.tox": 0.5, "status": "completed"}, limit=1
    )
    assert ids(compared.query_runs({"has_objectives.tox": False}, "run_id")) == ["d", "plain"]
    assert ids(compared.query_runs({"not_objectives.tox": 0.5}, "objectives.tox DESC, run_id"))[-2:] == ["d", "plain"]


def test_of_two_directions_the_first_by_the_order_counts(book: Ledger) -> None:
    """A name without its end is both: a run stands by its largest value downwards, and by its smallest upwards."""
    for run_id, more, less in (("a", 1, 9), ("b", 5, 6)):
        book.insert_run(run_id, None, {"objectives": ["x_maximize", "x_minimize"]})
        book.update_objective_metric(run_id, "x_maximize", "raw_mean", more)
        book.update_objective_metric(run_id, "x_minimize", "raw_mean", less)
    assert (
        ids(book.query_runs(order_by="objectives.x DESC"))
        == ids(book.query_runs(order_by="objectives.x"))
        == ["a", "b"]
    )
    assert ids(book.query_runs(order_by="objectives.x_maximize DESC")) == ["b", "a"]
    assert ids(book.query_runs({"min_objectives.x": 9})) == ids(book.query_runs({"max_objectives.x": 1})) == ["a"]


def test_statistics_of_an_objective(compared: Ledger) -> None:
    """Of runs of a status and a method, voided ones and those without a finite value apart."""
    assert compared.get_objective_statistics("COMT_activity") == {
        "count": 4, "mean": fmean([0.5, 0.75, 1.0, 9.0]), "min": 0.5, "max": 9.0, "avg_std": 0.5,
    }  # fmt: skip
    assert compared.get_objective_statistics("tox_minimize", "mgda", None)["count"] == 3
    assert compared.get_objective_statistics("tox", gradient_method="none") == {
        "count": 0, "mean": None, "min": None, "max": None, "avg_std": None,
    }  # fmt: skip
    assert compared.get_objective_statistics("unheard of")["count"] == 0


def test_methods_are_compared_by_the_objectives_direction(compared: Ledger) -> None:
    """The best is the largest, or the smallest of what is to be minimized, and the best method comes first."""
    assert compared.compare_gradient_methods("COMT_activity") == [
        {"gradient_method": "pcgrad", "count": 1, "avg": 1.0, "best": 1.0},
        {"gradient_method": "mgda", "count": 2, "avg": 0.625, "best": 0.75},
    ]
    assert compared.compare_gradient_methods("tox") == [
        {"gradient_method": "mgda", "count": 2, "avg": 0.5, "best": 0.25},
        {"gradient_method": "pcgrad", "count": 1, "avg": 0.5, "best": 0.5},
    ]
    assert compared.compare_gradient_methods("COMT_activity", status=None)[0] == {
        "gradient_method": "mgda", "count": 3, "avg": fmean([0.5, 0.75, 2.0]), "best": 2.0,
    }  # fmt: skip
    assert [row["best"] for row in compared.compare_gradient_methods("COMT_activity_minimize")] == [0.5, 1.0]
    assert compared.compare_gradient_methods("unheard of") == []


def test_the_pareto_front_of_runs(compared: Ledger) -> None:
    """Directions are the objectives' own, or those that are asked for; who lacks a value takes no part."""
    completed_only = {"status": "completed", "has_gradient_method": True}
    front = compared.pareto_front(["COMT_activity", "tox"], completed_only)
    assert front == [
        {"run_id": "c", "run_name": None, "COMT_activity": 1.0, "tox": 0.5},
        {"run_id": "a", "run_name": None, "COMT_activity": 0.5, "tox": 0.25},
    ]
    assert ids(compared.pareto_front({"COMT_activity": "minimize", "tox": "maximize"}, completed_only)) == ["a", "b"]
    assert ids(compared.pareto_front("tox")) == ["e"]
    assert ids(compared.pareto_front("tox", {"run_id": "d"})) == []
    assert ids(compared.pareto_front("tox", metric_type="raw_std", filters={"run_id": ["a", "b"]})) == ["a", "b"]


def test_an_empty_ledger_answers(book: Ledger) -> None:
    """Zero runs are no error."""
    assert book.query_runs_by_objectives({"tox": {"min": 1}}) == book.compare_gradient_methods("tox") == []
    assert book.pareto_front(["tox", "QED"]) == []
    assert book.get_objective_statistics("tox")["count"] == 0


RECORDED: dict[str, tuple[Callable[[Ledger], object], type[LedgerError], str]] = {
    "an objective of an unknown run": (lambda book: book.insert_objective("nobody", "tox"), RunNotFound, "insert_run"),
    "a value of an unknown run": (lambda book: book.update_objective_metric("nobody", "tox", "raw_mean", 1), RunNotFound, "nobody"),
    "scaffolds of an unknown run": (lambda book: book.record_scaffolds("nobody", [{"scaffold_id": "s"}]), RunNotFound, "nobody"),
    "no name": (lambda book: book.insert_objective("r", ""), InvalidFact, "objective_name"),
    "NUL in a name": (lambda book: book.insert_objective("r", "a\x00"), InvalidFact, "objective_name"),
    "a number for a name": (lambda book: book.insert_objective("r", 7), InvalidFact, "objective_name"),  # type: ignore[arg-type]
    "a misspelt direction": (lambda book: book.insert_objective("r", "tox", direction="up"), InvalidFact, "maximize"),
    "words for a weight": (lambda book: book.insert_objective("r", "tox", weight="heavy"), InvalidFact, "number"),  # type: ignore[arg-type]
    "a misspelt value": (lambda book: book.update_objective_metric("r", "tox", "raw_maen", 1), InvalidValue, "'raw_mean'"),
    "None for a value": (lambda book: book.update_objective_metric("r", "tox", "raw_mean", None), InvalidValue, "not finite"),  # type: ignore[arg-type]
    "words for a value": (lambda book: book.update_objective_metric("r", "tox", "raw_mean", "high"), InvalidFact, "number"),  # type: ignore[arg-type]
    "a boolean for a value": (lambda book: book.update_objective_metric("r", "tox", "raw_mean", True), InvalidFact, "number"),
    "no scaffolds": (lambda book: book.record_scaffolds("r", []), InvalidValue, "scaffold_id"),
    "a scaffold that is none": (lambda book: book.record_scaffolds("r", [7]), InvalidValue, "mapping"),  # type: ignore[list-item]
    "scaffolds that are none": (lambda book: book.record_scaffolds("r", 7), InvalidValue, "mappings"),  # type: ignore[arg-type]
    "a scaffold without an id": (lambda book: book.record_scaffolds("r", [{"scaffold_id": "s"}, {"name": "a"}]), InvalidValue, "scaffold_id"),
    "a misspelt field": (lambda book: book.record_scaffolds("r", [{"scaffold_id": "s", "smile": "C"}]), InvalidValue, "'smiles'"),
    "a rank that is none": (lambda book: book.record_scaffolds("r", [{"scaffold_id": "s", "pareto_rank": 1.5}]), InvalidValue, "pareto_rank"),
    "a score that is none": (lambda book: book.record_scaffolds("r", [{"scaffold_id": "s", "scores": {"tox": "high"}}]), InvalidValue, "tox"),
    "scores that are none": (lambda book: book.record_scaffolds("r", [{"scaffold_id": "s", "scores": 7}]), LedgerError, "mapping"),
    "an id that is empty": (lambda book: book.record_scaffolds("r", [{"scaffold_id": " "}]), LedgerError, "scaffold_id"),
}  # fmt: skip


@pytest.mark.parametrize(("record", "error", "words"), RECORDED.values(), ids=RECORDED)
def test_bad_input_changes_nothing(book: Ledger, record: Any, error: type[LedgerError], words: str) -> None:
    """What was said wrongly is named with its mend, and neither an event nor a row is there of it."""
    complete(book, "r", tox=0.5)
    before, count = shown(book), len(list(book.events()))
    with pytest.raises(error) as refused:
        record(book)
    assert words in str(refused.value)
    assert (shown(book), len(list(book.events()))) == (before, count)
    assert book.verify()


ASKED: dict[str, tuple[Callable[[Ledger], object], type[LedgerError], str]] = {
    "objectives of an unknown run": (lambda book: book.get_run_objectives("nobody"), RunNotFound, "nobody"),
    "scaffolds of an unknown run": (lambda book: book.get_run_scaffolds("a\x00"), LedgerError, "a"),
    "metrics of no run": (lambda book: book.get_run_metrics(None), InvalidValue, "text is wanted"),  # type: ignore[arg-type]
    "a bound that is none": (lambda book: book.query_runs_by_objectives({"tox": {"mn": 1}}), InvalidValue, "'min'"),
    "no bounds": (lambda book: book.query_runs_by_objectives({"tox": 1}), InvalidValue, "{'min'"),  # type: ignore[dict-item]
    "a list of objectives": (lambda book: book.query_runs_by_objectives(["tox"]), InvalidValue, "mapping"),  # type: ignore[arg-type]
    "words for a bound": (lambda book: book.query_runs_by_objectives({"tox": {"min": "low"}}), InvalidValue, "number"),  # type: ignore[dict-item]
    "an empty name": (lambda book: book.query_runs_by_objectives({"": {}}), UnknownFilter, "objectives."),
    "an unknown order": (lambda book: book.query_runs_by_objectives({"tox": {}}, order_by="toxx"), UnknownOrder, "toxx"),
    "no order": (lambda book: book.query_runs_by_objectives({"tox": {}}, order_by=None), UnknownOrder, "None"),  # type: ignore[arg-type]
    "an unknown status": (lambda book: book.get_objective_statistics("tox", status="done"), InvalidValue, "completed"),
    "a name that is none": (lambda book: book.compare_gradient_methods(7), InvalidValue, "text is wanted"),  # type: ignore[arg-type]
    "no objectives": (lambda book: book.pareto_front([]), InvalidValue, "1 to 16"),
    "the same objective twice": (lambda book: book.pareto_front(["tox", "tox"]), InvalidValue, "different"),
    "a direction that is none": (lambda book: book.pareto_front({"tox": "down"}), InvalidValue, "minimize"),
    "a value that is none": (lambda book: book.pareto_front("tox", metric_type="mean"), InvalidValue, "raw_mean"),
    "a filter that is none": (lambda book: book.pareto_front("tox", {"statuss": "x"}), UnknownFilter, "'status'"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "error", "words"), ASKED.values(), ids=ASKED)
def test_a_question_that_cannot_be_meant_is_an_error(
    book: Ledger, ask: Any, error: type[LedgerError], words: str
) -> None:
    """It names the mend, also where no run has any objective."""
    with pytest.raises(error) as refused:
        ask(book)
    assert words in str(refused.value)


def test_a_voided_run_leaves_the_tables_and_comes_back_whole(book: Ledger, place: str) -> None:
    """Without rows while it is void, still answered, and afterwards with all that was said meanwhile."""
    complete(book, "r", tox=0.5)
    book.record_scaffolds("r", [{"scaffold_id": "s1", "name": "a"}])
    book.append(metrics_logged(run="r", columns={"step": [1], "loss": [0.5]}))
    book.void("r", reason="bogus")
    book.insert_objective("r", "QED", weight=3)
    book.record_scaffolds("r", [{"scaffold_id": "s2"}, {"scaffold_id": "s1", "pareto_rank": 1}])
    book.append(metrics_logged(90, run="r", columns={"step": [2], "loss": [0.25]}))
    answers = [book.get_run_objectives("r"), book.get_run_scaffolds("r"), book.get_run_metrics("r")]
    with behind(place, guarded=True) as db:
        for table in ("training_objectives", "training_scaffolds", "training_metrics"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
    assert [[row.get("objective_name") or row.get("scaffold_id") or row["count"] for row in rows] for rows in answers] == [
        ["COMT_activity", "QED", "tox"], ["s1", "s2"], [2],
    ]  # fmt: skip
    assert book.query_runs_by_objectives({"tox": {}}) == []
    assert book.verify()

    book.unvoid("r", reason="it was not")
    assert [book.get_run_objectives("r"), book.get_run_scaffolds("r"), book.get_run_metrics("r")] == answers
    assert ids(book.query_runs_by_objectives({"tox": {}})) == ["r"]
    assert book.verify()


def test_the_past_is_asked_alike(book: Ledger) -> None:
    """A view as of then gives the rows and the answers of then."""
    book.append([launched(0, config=CONFIG), objective_stated(10, objective_name="tox", raw_mean=0.5)])
    book.append(
        [
            objective_stated(20, objective_name="tox", raw_mean=0.25),
            scaffolds_recorded(20, columns={"scaffold_id": ["s"]}),
        ]
    )
    book.append([metrics_logged(20, columns={"step": [1], "loss": [1.0]}), voided(30, reason="bogus")])
    with book.as_of("2024-05-01T12:00:15Z") as past:
        assert [row["raw_mean"] for row in past.get_run_objectives("r")] == [None, 0.5]
        assert past.get_run_scaffolds("r") == past.get_run_metrics("r") == []
        assert ids(past.query_runs_by_objectives({"tox": {"min": 0.5}}, order_by="tox")) == ["r"]
        assert past.get_objective_statistics("tox", status=None)["max"] == 0.5
        assert past.pareto_front("tox") == [{"run_id": "r", "run_name": None, "tox": 0.5}]
    with book.as_of("2024-05-01T12:00:25Z") as past:
        assert [row["raw_mean"] for row in past.get_run_objectives("r")] == [None, 0.25]
        assert [row["scaffold_id"] for row in past.get_run_scaffolds("r")] == ["s"]
        assert [row["last"] for row in past.get_run_metrics("r")] == [1.0]
        assert ids(past.query_runs({"max_metrics.loss:min": 1}, "metrics.loss:min")) == ["r"]
    with book.as_of("2024-05-01T11:00:00Z") as past, pytest.raises(RunNotFound):
        past.get_run_objectives("r")
    assert book.query_runs_by_objectives({"tox": {}}) == []


def test_a_spool_brings_them_later(book: Ledger, tmp_path: Path) -> None:
    """What a machine without a database recorded is in the tables once it is synced, and once only."""
    complete(book, "r", tox=0.5)
    with Ledger(f"spool://{tmp_path / 'spool'}") as spool:
        spool.insert_objective("r", "QED", weight=2)
        spool.update_objective_metric("r", "QED", "raw_mean", 0.75)
        spool.record_scaffolds(
            "r", [{"scaffold_id": f"s{number}", "scores": {"QED": number}} for number in range(1500)]
        )
    assert book.sync(tmp_path / "spool").new == 4
    assert [row["raw_mean"] for row in book.get_run_objectives("r")] == [None, 0.75, 0.5]
    assert len(book.get_run_scaffolds("r")) == 1500
    assert book.verify()


def test_another_order_of_arrival_gives_the_same(book: Ledger, tmp_path: Path) -> None:
    """A ledger that learns it by a merge, the newest first, shows what the one shows that was there."""
    events = [
        launched(0, config=CONFIG), objective_stated(1, objective_name="tox", weight=1), objective_stated(2, objective_name="tox", weight=2),
        scaffolds_recorded(3, columns={"scaffold_id": ["s"], "name": ["old"], "cluster": [1]}, scores={"tox": [1]}),
        scaffolds_recorded(4, columns={"scaffold_id": ["s"], "name": ["new"]}, scores={"QED": [2]}),
        metrics_logged(5, columns={"step": [1, 2], "loss": [0.5, 0.25]}), metrics_logged(6, columns={"step": [3], "loss": [float("nan")]}),
        completed(9, final_metrics={"objectives/tox/raw_mean": 0.5}),
    ]  # fmt: skip
    with Ledger(tmp_path / "other.db") as other:
        for event in reversed(events):
            other.append(event)
            assert other.verify()
        book.append(events[4:6])
        book.merge(tmp_path / "other.db")
        assert shown(book) == shown(other) == told(events)
    assert book.verify()
    (scaffold,) = book.get_run_scaffolds("r")
    assert (scaffold["name"], scaffold["cluster"], json.loads(scaffold["scores_json"])) == (
        "new",
        1,
        {"QED": 2, "tox": 1},
    )
    (metric,) = book.get_run_metrics("r")
    assert (metric["last"], metric["last_step"], metric["best"], metric["best_step"]) == (None, 3, 0.25, 2)
    assert (metric["count"], metric["non_finite"]) == (3, 1)


def test_what_is_new_is_put_to_what_is_stored(book: Ledger, place: str) -> None:
    """One after the other, each by another process: what was said before of a scaffold, a metric, an objective stays."""
    events = [
        launched(0, config=CONFIG),
        scaffolds_recorded(1, columns={"scaffold_id": ["s", "t"], "name": ["a", "b"], "cluster": [1, 2]}, scores={"tox": [1, 2]}),
        scaffolds_recorded(2, columns={"scaffold_id": ["s"], "pareto_rank": [3]}),
        scaffolds_recorded(3, columns={"scaffold_id": ["s"], "cluster": [7]}, scores={"QED": [5]}),
        metrics_logged(4, columns={"step": [1, 2], "loss": [0.5, 0.25], "acc": [0.5, None]}),
        metrics_logged(5, columns={"step": [3], "loss": [0.75]}),
        metrics_logged(6, columns={"step": [4], "loss": [float("nan")], "acc": [0.5]}),
        objective_stated(7, objective_name="tox", weight=1, raw_mean=0.5),
        objective_stated(8, objective_name="tox", weight=2),
        completed(9, final_metrics={"objectives/tox/raw_mean": 0.75, "objectives/tox/raw_std": 0.5}),
    ]  # fmt: skip
    for number, event in enumerate(events, 1):
        with Ledger(place) as other:
            other.append(event)
        assert shown(book) == told(events[:number])
    assert book.verify()
    assert [(row["name"], row["pareto_rank"], row["cluster"]) for row in book.get_run_scaffolds("r")] == [
        ("a", 3, 7),
        ("b", None, 2),
    ]
    assert [(row["name"], row["count"], row["last"], row["min"], row["max_step"]) for row in book.get_run_metrics("r")] == [
        ("acc", 2, 0.5, 0.5, 1), ("loss", 4, None, 0.25, 3),
    ]  # fmt: skip
    with Ledger(place) as same:
        for number, event in enumerate(events, 1):
            same.append(
                event.model_copy(update={"run_id": "again", "event_id": f"00000000-0000-0000-0000-{number:012}"})
            )
        assert [row["count"] for row in same.get_run_metrics("again")] == [2, 4]
        assert same.verify()


def test_thousands_of_scaffolds_at_once(book: Ledger) -> None:
    """One call, together or not at all; the best rank first, and again is no error."""
    book.insert_run("r", None, {})
    listed = [{"scaffold_id": f"s{n}", "smiles": "C" * (n % 9), "pareto_rank": n % 7 + 1 if n % 5 else None,
               "scores": {"QED": n / 4000, "tox": math.nan if n % 3 else 1}} for n in range(4000)]  # fmt: skip
    with pytest.raises(InvalidValue):
        book.record_scaffolds("r", [*listed, {"scaffold_id": "x", "cluster": "none"}])
    assert book.get_run_scaffolds("r") == []
    book.record_scaffolds("r", iter(listed))
    rows = book.get_run_scaffolds("r")
    assert [(row["pareto_rank"], row["scaffold_id"]) for row in rows] == sorted(
        ((said["pareto_rank"], said["scaffold_id"]) for said in listed), key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1])
    )  # fmt: skip
    assert {row["scaffold_id"]: json.loads(row["scores_json"]) for row in rows} == {
        said["scaffold_id"]: {"QED": n / 4000, "tox": None if n % 3 else 1} for n, said in enumerate(listed)
    }
    assert len(list(book.events(types=["scaffolds_recorded"]))) == 4
    book.record_scaffolds("r", listed)
    assert book.get_run_scaffolds("r") == rows
    assert book.verify()


def test_the_tables_are_asked_by_sql(compared: Ledger, place: str) -> None:
    """Joined with the runs, without the voided; and the timeline has every event with its run and chain, also replayed."""
    compared.insert_run("chained", None, CONFIG, "ABC123", run_name="named")
    compared.void("chained", reason="bogus")
    with behind(place) as db:
        db.execute("UPDATE voided_runs SET run_name = 'another' WHERE run_id = 'chained'")
    compared.replay()
    with behind(place, guarded=True) as db:
        best = db.execute(
            "SELECT r.run_id, o.raw_mean FROM training_objectives o JOIN training_runs r ON r.run_id = o.run_id"
            " WHERE o.objective_name = 'tox' AND o.raw_mean IS NOT NULL AND r.status = 'completed' ORDER BY o.raw_mean LIMIT 2"
        ).fetchall()
        story = db.execute(
            "SELECT type, run_name, chain_of_custody_id, status, void_reason FROM training_timeline"
            " WHERE run_id = 'chained' ORDER BY occurred_at, event_id"
        ).fetchall()
        (all_events,) = db.execute("SELECT count(*) FROM training_timeline").fetchone()
    assert [tuple(row) for row in best] == [("e", -9.0), ("a", 0.25)]
    assert [tuple(row) for row in story] == [
        ("launched", "named", "ABC123", "launched", "bogus"),
        ("voided", "named", "ABC123", "launched", "bogus"),
    ]
    assert all_events == len(list(compared.events()))


def test_metrics_are_asked_by_their_numbers(book: Ledger) -> None:
    """Filters and orders by last, smallest, largest, best and count; who never logged it comes last."""
    for run_id, losses in {"a": [3.0, 1.0, 2.0], "b": [5.0], "c": [float("nan")], "d": []}.items():
        book.insert_run(run_id, None, {})
        if losses:
            book.append(metrics_logged(run=run_id, columns={"step": list(range(len(losses))), "train/loss": losses}))
    assert ids(book.query_runs(order_by="metrics.train/loss:min DESC, run_id")) == ["b", "a", "c", "d"]
    assert ids(book.query_runs(order_by="metrics.train/loss:count DESC, run_id DESC")) == ["a", "c", "b", "d"]
    assert ids(book.query_runs({"metrics.train/loss:best": {"min": 1, "max": 1}})) == ["a"]
    assert ids(book.query_runs({"min_metrics.train/loss:non_finite": 1})) == ["c"]
    assert ids(book.query_runs({"has_metrics.train/loss:last": False}, "run_id")) == ["c", "d"]
    (row,) = book.get_run_metrics("a")
    assert list(row) == [
        "run_id",
        "name",
        "last",
        "last_step",
        "min",
        "min_step",
        "max",
        "max_step",
        "best",
        "best_step",
        "count",
        "non_finite",
    ]
    assert list(row.values()) == ["a", "train/loss", 2.0, 2, 1.0, 1, 3.0, 0, 1.0, 1, 3, 0]


def test_statistics_bear_whatever_was_reached(book: Ledger) -> None:
    """Values whose square, or whose sum, is beyond a float are averaged all the same, on every database."""
    for number, value in enumerate([0.5, 1e200, 0.7, 1.5e308, 1.5e308]):
        run_id = f"r{number}"
        book.insert_run(run_id, None, {"gradient_method": "mgda", "objectives": ["QED"]})
        reached = {"objectives/QED/raw_mean": value, "objectives/QED/raw_std": value}
        book.update_run_status(run_id, "completed", final_metrics_json=reached)
    found = book.get_objective_statistics("QED")
    (row,) = book.compare_gradient_methods("QED")

    assert (found["count"], found["min"], found["max"]) == (5, 0.5, 1.5e308)
    assert [found["mean"], found["avg_std"], row["avg"]] == [pytest.approx(6e307)] * 3
    assert row["best"] == 1.5e308


def test_an_objective_is_found_by_its_own_name(book: Ledger) -> None:
    """Also where the name ends in one direction and the config says the other."""
    book.insert_run("r", None, {"objectives": [{"name": "IC50_maximize", "direction": "minimize"}]})
    book.update_run_status("r", "completed", final_metrics_json={"objectives/IC50_maximize/raw_mean": 2})

    assert [book.get_objective_statistics(name)["count"] for name in ("IC50_maximize", "IC50", "IC50_minimize")] == [
        1
    ] * 3
    assert [run["run_id"] for run in book.query_runs_by_objectives({"IC50_maximize": {"min": 1}})] == ["r"]


def test_one_objective_keeps_both_bounds(book: Ledger) -> None:
    """Of two directions of one name neither keeps the bound that the other breaks; None is no bound."""
    book.insert_run("r", None, {})
    both = {"objectives/A_maximize/raw_mean": 0.2, "objectives/A_minimize/raw_mean": 5.0}
    book.update_run_status("r", "completed", final_metrics_json=both)

    assert book.query_runs_by_objectives({"A": {"min": 0.8, "max": 1}}) == []
    assert book.query_runs({"objectives.A": {"min": 0.8, "max": 1}}) == []
    assert [run["run_id"] for run in book.query_runs_by_objectives({"A": {"min": 0.1, "max": None}})] == ["r"]
    assert book.count_runs({"min_objectives.A": 0.1, "max_objectives.A": 0.3}) == 1


@pytest.mark.parametrize("method", [["mgda"], "a\x00", "\ud800", 3, b"x"], ids=repr)
def test_a_method_is_text(book: Ledger, method: Any) -> None:
    """Anything else is asked wrongly, and no driver is bothered with it."""
    with pytest.raises(InvalidValue, match="gradient_method"):
        book.get_objective_statistics("QED", gradient_method=method)


def test_a_name_that_could_have_no_row_is_refused_by_hand(book: Ledger) -> None:
    """What is recorded by hand is there to be asked for; an event of elsewhere with such a name is kept without a row."""
    book.insert_run("r", None, {})
    before, long = len(list(book.events())), "n" * 2_100
    for call in (
        lambda: book.insert_objective("r", long),
        lambda: book.update_objective_metric("r", long, "raw_mean", 1),
        lambda: book.record_scaffolds("r", [{"scaffold_id": long}]),
    ):
        with pytest.raises(InvalidValue, match="2,000 bytes"):
            call()
    assert len(list(book.events())) == before

    book.append([objective_stated(1, objective_name=long), scaffolds_recorded(2, columns={"scaffold_id": [long]})])
    assert (book.get_run_objectives("r"), book.get_run_scaffolds("r"), len(list(book.events()))) == ([], [], before + 2)
    assert book.verify()
