"""Real training runs: MLPerf's reference convergence points, through what every user has, beside plain Python over the JSON.

Each of the 591 references is a run that logged its results as a metric, and each of the 13,633 results is a run that
reached its benchmark's objective.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import count, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from ledger import Ledger
from ledger.events import Completed, Event, Launched, MetricsLogged
from tests.builders import moment, shown
from tests.places import on_server

# Two words for what is counted until a model is good enough; the later benchmarks count samples under either.
COUNTED = ("Epochs to converge", "samples to converge")


@dataclass(frozen=True)
class Reference:
    """One reference of a file: a benchmark at one batch size, trained until it converged, many times."""

    name: str
    said: dict[str, Any]

    @property
    def benchmark(self) -> str:
        return self.said["Benchmark"]

    @property
    def batch_size(self) -> int:
        return self.said["BS"]

    @property
    def results(self) -> list[float]:
        return [result for counted in COUNTED for result in self.said.get(counted, [])]

    @property
    def optimizer(self) -> str | None:
        stated = self.said["Hyperparams"]
        return stated.get("opt_name") or stated.get("optimizer")


def references(part: str = "") -> list[Reference]:
    """Those of all files, or of the rounds whose name begins so, as the installed package has them."""
    folder = files("mlperf_logging.rcp_checker")
    rounds = sorted((each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.name)
    listed = [
        (f"{of.name}/{file.name}", file)
        for of in rounds
        if of.name.startswith(part)
        for file in sorted(of.iterdir(), key=lambda each: each.name)
        if file.name.endswith(".json")
    ]
    return [
        Reference(f"{name}/{called}", said)
        for name, file in listed
        for called, said in json.loads(file.read_text()).items()
    ]


def objective_of(benchmark: str) -> str:
    return f"{benchmark}_to_converge"


def events_of(reference: Reference, seconds: Iterator[int]) -> Iterator[Event]:
    """The run that is the reference, and a run for each of its results."""
    objectives = [
        {"name": objective_of(reference.benchmark), "direction": "minimize", "alias": reference.benchmark},
        {"name": "batch_size", "alias": "batch_size_maximize"},
    ]
    config = {
        "benchmark": reference.benchmark,
        "training": {"batch_size": reference.batch_size, "gradient_method": reference.optimizer},
        "hyperparameters": reference.said["Hyperparams"],
    }
    where = {"host": reference.said.get("Platform"), "chain_of_custody_id": reference.name}
    for place, result in enumerate(reference.results):
        said = {"run_id": f"{reference.name}/{place}", "occurred_at": moment(next(seconds))}
        reached = {
            f"objectives/{reference.benchmark}/raw_mean": result,
            "objectives/batch_size_maximize/raw_mean": reference.batch_size,
        }
        yield Launched(**said, config={**config, "objectives": objectives}, **where)
        yield Completed(**said, final_metrics=reached)
    said = {"run_id": reference.name, "occurred_at": moment(next(seconds))}
    yield Launched(**said, config=config, run_name="reference", **where)
    columns = {"step": list(range(len(reference.results))), "to_converge": reference.results}
    yield MetricsLogged(**said, columns=columns)
    yield Completed(**said)


def fill(book: Ledger, known: Iterable[Reference]) -> None:
    seconds = count()
    every = (event for reference in known for event in events_of(reference, seconds))
    while some := list(islice(every, 2000)):
        book.append(some)


@pytest.fixture(scope="module")
def known() -> list[Reference]:
    return references()


@pytest.fixture(scope="module")
def filled(known: list[Reference], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger of them all, which no test changes."""
    path: Path = tmp_path_factory.mktemp("real") / "runs.db"
    with Ledger(path) as book:
        fill(book, known)
        yield book


def by_benchmark(known: Iterable[Reference]) -> dict[str, list[float]]:
    made: dict[str, list[float]] = defaultdict(list)
    for reference in known:
        made[reference.benchmark] += reference.results
    return made


def summed_up(values: list[float]) -> dict[str, Any]:
    made = {"count": len(values), "mean": pytest.approx(fmean(values)), "min": min(values), "max": max(values)}
    return {**made, "avg_std": None}


def check_statistics(book: Ledger, known: list[Reference]) -> None:
    for benchmark, results in by_benchmark(known).items():
        assert book.get_objective_statistics(objective_of(benchmark)) == summed_up(results)
        assert book.get_objective_statistics(f"{objective_of(benchmark)}_minimize")["count"] == len(results)


def check_batch_sizes(book: Ledger, known: list[Reference]) -> None:
    """Of each benchmark and batch size: the count, and the least and the most, as query_runs has them."""
    groups: dict[tuple[str, int], list[float]] = defaultdict(list)
    for reference in known:
        groups[reference.benchmark, reference.batch_size] += reference.results
    for (benchmark, batch_size), results in groups.items():
        name, alone = objective_of(benchmark), {"batch_size": batch_size}
        asked = {**alone, f"has_objectives.{name}": True}
        assert book.count_runs(asked) == len(results)
        assert book.count_runs({**alone, "config.benchmark": benchmark, "has_run_name": False}) == len(results)
        for order, extreme in (("ASC", min(results)), ("DESC", max(results))):
            [row] = book.query_runs(asked, order_by=f"objectives.{name} {order}", limit=1)
            assert json.loads(row["final_metrics_json"])[f"objectives/{benchmark}/raw_mean"] == extreme


def check_bounds(book: Ledger, known: list[Reference]) -> None:
    """Within bounds on one objective and on two are those that plain Python finds; the least come first."""
    for benchmark, results in by_benchmark(known).items():
        name, middle = objective_of(benchmark), sorted(results)[len(results) // 2]
        found = book.query_runs_by_objectives({name: {"max": middle}}, order_by=f"{name} ASC", limit=None)
        reached = [json.loads(row["final_metrics_json"])[f"objectives/{benchmark}/raw_mean"] for row in found]
        assert reached == sorted(result for result in results if result <= middle)
        sizes = sorted({reference.batch_size for reference in known if reference.benchmark == benchmark})
        least = sizes[len(sizes) // 2]
        both = book.query_runs_by_objectives({name: {"min": middle}, "batch_size": {"min": least}}, limit=None)
        assert {row["run_id"] for row in both} == {
            f"{reference.name}/{place}"
            for reference in known
            if reference.benchmark == benchmark and reference.batch_size >= least
            for place, result in enumerate(reference.results)
            if result >= middle
        }


def check_methods(book: Ledger, known: list[Reference]) -> None:
    """The optimizers of a benchmark, the one that ever needed least first."""
    for benchmark in by_benchmark(known):
        groups: dict[str, list[float]] = defaultdict(list)
        for reference in known:
            if reference.benchmark == benchmark and reference.optimizer:
                groups[reference.optimizer] += reference.results
        rows = [(min(of), fmean(of), method, len(of)) for method, of in groups.items()]
        assert book.compare_gradient_methods(objective_of(benchmark)) == [
            {"gradient_method": method, "count": number, "avg": pytest.approx(mean), "best": best}
            for best, mean, method, number in sorted(rows)
        ]


def check_metrics(book: Ledger, known: list[Reference]) -> None:
    """What the references logged is summed up; they are found and ordered by it."""
    for reference in known:
        [row], results = book.get_run_metrics(reference.name), reference.results
        said = [row[key] for key in ("count", "non_finite", "last", "last_step", "min", "min_step", "max", "max_step")]
        least, most = min(results), max(results)
        ends = [least, results.index(least), most, results.index(most)]
        assert said == [len(results), 0, results[-1], len(results) - 1, *ends]
    needed = sorted(min(reference.results) for reference in known)
    some = book.query_runs({"max_metrics.to_converge:min": needed[9]}, order_by="metrics.to_converge:min", limit=None)
    reached = [book.get_run_metrics(row["run_id"])[0]["min"] for row in some]
    assert reached == [least for least in needed if least <= needed[9]]
    assert book.count_runs({"min_metrics.to_converge:count": 20}) == sum(len(each.results) >= 20 for each in known)


def check_fronts(book: Ledger, known: list[Reference]) -> None:
    """The largest batches in the least that is to be counted: no other run has both."""
    for benchmark in by_benchmark(known):
        points = {
            f"{reference.name}/{place}": (reference.batch_size, result)
            for reference in known
            if reference.benchmark == benchmark
            for place, result in enumerate(reference.results)
        }
        distinct = set(points.values())
        best = {
            point
            for point in distinct
            if not any(other[0] >= point[0] and other[1] <= point[1] for other in distinct - {point})
        }
        front = book.pareto_front(["batch_size", objective_of(benchmark)])
        assert {row["run_id"] for row in front} == {run_id for run_id, point in points.items() if point in best}
        assert [row["batch_size"] for row in front] == sorted((row["batch_size"] for row in front), reverse=True)


CHECKS = (check_statistics, check_batch_sizes, check_bounds, check_methods, check_metrics, check_fronts)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_real_runs_are_summed_up(filled: Ledger, known: list[Reference], check: Any) -> None:
    """Statistics, filters, orders, comparisons and fronts of all real runs are what plain Python finds in the JSON."""
    check(filled, known)


def test_known_answers(filled: Ledger) -> None:
    """The counts, and some of the answers, are those that the package is known for."""
    assert filled.count_runs({"has_objectives.batch_size": True}) == 13_633
    assert filled.count_runs({"run_name": "reference"}) == 591
    assert filled.get_objective_statistics("bert_to_converge") == {
        "count": 2481, "mean": pytest.approx(3_520_433.825070536), "min": 1_981_952, "max": 5_770_240, "avg_std": None,
    }  # fmt: skip
    assert filled.get_objective_statistics("resnet_to_converge")["min"] == 33
    assert filled.get_objective_statistics("rgat_to_converge")["mean"] == pytest.approx(1.248)


def test_real_runs_replay(filled: Ledger) -> None:
    """The tables of all real runs are their fold: verify finds nothing, and a replay changes nothing."""
    before = shown(filled)
    assert filled.verify()
    filled.replay()
    assert shown(filled) == before


@on_server
def test_real_runs_on_a_server(book: Ledger) -> None:
    """Of the runs of one round a server says the same."""
    known = references("hpc")
    fill(book, known)
    for check in CHECKS:
        check(book, known)
    assert book.verify()
