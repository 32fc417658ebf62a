"""Configs that differ and hyperparameters that matter, beside pandas and by hand, on each kind of database."""

from __future__ import annotations

import math
import sys

import pytest

from ledger import Ledger
from ledger.analytics.levels import levelled
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra
from tests.builders import completed, crashed, launched, started
from tests.places import in_a_file, on_both
from tests.reporting.fleet import METRIC, fill, frame, grouped

pytestmark = on_both


@pytest.fixture
def fleet(book: Ledger) -> Ledger:
    """Give a ledger of many runs."""
    fill(book)
    return book


def test_best_runs_are_those_with_the_highest_numbers(fleet: Ledger) -> None:
    """Text, truth and NaN are no numbers; the lowest come first where they are the best."""
    runs = frame(fleet)
    values = {
        run: metrics[METRIC]
        for run, status, metrics in zip(runs["run_id"], runs["status"], runs["metrics"], strict=True)
        if status == "completed" and isinstance(metrics.get(METRIC), float)
    }
    highest = sorted(values, key=lambda run: (-values[run], run))

    assert [(row["run_id"], row[METRIC]) for row in fleet.best_runs(METRIC, limit=5)] == [
        (run, values[run]) for run in highest[:5]
    ]
    assert [row["run_id"] for row in fleet.best_runs(METRIC, limit=None, minimize=True)] == highest[::-1]
    assert {*fleet.best_runs("eval.loss", status=None)[0]} >= {"eval.loss", "run_id", "run_name", "status"}


def test_effects_are_what_pandas_groups(fleet: Ledger) -> None:
    """Each value of a parameter has the count, mean, deviation and median of its runs, and those that lack the metric."""
    runs = frame(fleet)
    done = runs[runs["status"] == "completed"].copy()
    done["value"] = [m[METRIC] if isinstance(m.get(METRIC), float) else None for m in done["metrics"]]
    done["value"] = done["value"].astype(float)
    rows = fleet.effects(METRIC, ["gradient_method", "config.objectives.0.weight"])
    parts = grouped(done, "gradient_method")

    for row in rows:
        if row["parameter"] == "gradient_method":
            values = parts[row["value"]]["value"]
            assert (row["count"], row["left_out"]) == (values.notna().sum(), values.isna().sum())
            assert row["mean"] == pytest.approx(values.mean())
            assert row["std"] == (pytest.approx(values.std()) if row["count"] > 1 else None)
            assert row["median"] == pytest.approx(values.median())
    known = done.dropna(subset=["value"])
    means = known.groupby("gradient_method", dropna=False)["value"].transform("mean")
    eta = ((means - known["value"].mean()) ** 2).sum() / ((known["value"] - known["value"].mean()) ** 2).sum()
    assert [row["eta_squared"] for row in rows if row["parameter"] == "gradient_method"] == [pytest.approx(eta)] * 4
    assert [row["epsilon_squared"] for row in rows] == sorted((row["epsilon_squared"] for row in rows), reverse=True)


def test_parameters_are_found_where_none_are_named(fleet: Ledger) -> None:
    """Columns and paths that vary are there; those that do not, and paths that a column is read from, are not."""
    found = {row["parameter"] for row in fleet.effects(METRIC)}

    assert found >= {"gradient_method", "learning_rate", "host", "config.training.bf16", "config.dotted.key"}
    assert not found & {
        "num_objectives",
        "config.objectives.0.name",
        "config.training.lr",
        "config.reward.gradient_method",
    }


def test_a_number_spelled_as_text_is_that_number(fleet: Ledger) -> None:
    """PyYAML reads 1e-4 as text; in effects it is the same value as 0.0001."""
    rows = fleet.effects(METRIC, "config.training.lr")
    assert [float(row["value"]) for row in rows] == [1e-4, 3e-4]


def test_two_configs_differ_in_these_paths(book: Ledger) -> None:
    """What is only in one is added or removed, also where the other has null; 1 and 1.0 do not differ, 1 and true do."""
    one = {"a": 1, "b": {"c": 1, "d": None}, "same": [1, {"x": 2}], "f": 1, "g": []}
    other = {"a": 1.0, "b": {"c": 2}, "same": [1, {"x": 2}, 3], "e": None, "f": True, "g": {}}
    book.append([launched(run="one", config=one), launched(run="other", config=other)])
    rows = {row["path"]: (row["change"], row["one"], row["other"]) for row in book.config_diff("one", "other")}

    assert rows == {
        "b.c": ("changed", 1, 2),
        "b.d": ("removed", None, None),
        "e": ("added", None, None),
        "f": ("changed", 1, True),
        "g": ("changed", [], {}),
        "same.2": ("added", None, 3),
    }
    assert book.config_diff("one", "one") == []


def test_groups_differ_most_where_their_values_are_spread_most_apart(book: Ledger) -> None:
    """A path that tells the groups apart comes first, with its values; what is spread alike is left out."""
    for number in range(20):
        end = completed if number % 2 else crashed
        config = {"lr": 0.1 if number % 2 else 1.0, "seed": number, "same": 1, "extra": 1} | (
            {} if number else {"x": 1}
        )
        book.append([launched(run=f"r{number}", config=config), end(10, run=f"r{number}")])
    rows = book.config_diff({"status": "completed"}, {"status": "crashed"})

    assert rows[0] == {
        "path": "lr",
        "distance": 1.0,
        "one": [{"value": 0.1, "runs": 10}],
        "other": [{"value": 1.0, "runs": 10}],
    }
    assert {row["path"] for row in rows} <= {"lr", "seed", "x"}
    (added,) = [row for row in rows if row["path"] == "x"]
    assert added["one"] == [{"absent": True, "runs": 10}]


def test_last_good_and_first_crashed(book: Ledger) -> None:
    """Of good, crashed, good, crashed, crashed, good: the second good one and the crash right behind it."""
    ends = (completed, crashed, completed, crashed, crashed, completed)
    for number, end in enumerate(ends):
        run = f"r{number}"
        book.append([launched(number * 100, run=run, config={"lr": number}), end(number * 100 + 50, run=run)])
    found = book.last_good_first_crashed()

    assert found is not None
    assert (found["good"], found["crashed"]) == ("r2", "r3")
    assert found["diff"] == [{"path": "lr", "change": "changed", "one": 2, "other": 3}]
    assert book.last_good_first_crashed({"run_id": ["r0", "r5"]}) is None
    assert book.last_good_first_crashed({"run_id": ["r1", "r5"]}) is None


def test_a_crash_without_a_config_is_found_without_a_diff(book: Ledger) -> None:
    """Of a run that was heard of before its launch the config is not known; the pair is found all the same."""
    book.append([launched(run="good", config={"lr": 1}), completed(1, run="good"), crashed(100, run="bad")])
    found = book.last_good_first_crashed()
    assert found is not None
    assert (found["good"], found["crashed"], found["diff"]) == ("good", "bad", None)
    with pytest.raises(AskedWrongly, match="status"):
        book.last_good_first_crashed({"status": "crashed"})


def test_a_status_among_the_filters_takes_the_place_of_completed(book: Ledger) -> None:
    """It does not contradict it; one that is said beside it does."""
    of_values(book, [1, 2], [0.5, 0.6])
    book.append([launched(run="bad", config={"x": 1}), crashed(9, run="bad", final_metrics={"loss": 9.0})])
    assert [row["run_id"] for row in book.best_runs("loss", {"status": "crashed"})] == ["bad"]
    assert book.best_runs("loss", {"status": "crashed"}, status="failed") == []
    assert [row["count"] for row in book.effects("loss", "config.x", {"status": ["crashed", "completed"]})] == [2, 1]


def test_a_metric_named_as_a_column_does_not_overwrite_it(book: Ledger) -> None:
    """It stands beside the column, under its whole name."""
    book.append([launched(run="a", config={}), completed(1, run="a", final_metrics={"run_id": 7, "status": 0.5})])
    (row,), (other,) = book.best_runs("run_id"), book.best_runs("metrics.status")
    assert (row["run_id"], row["metrics.run_id"]) == ("a", 7)
    assert (other["status"], other["metrics.status"]) == ("completed", 0.5)


def test_a_metric_that_is_nowhere_finite_is_said_to_be(book: Ledger) -> None:
    """Its own name is not offered in its place."""
    of_values(book, [1, 2], [math.nan, math.inf])
    for ask in (book.best_runs, book.effects):
        with pytest.raises(InvalidValue, match="finite") as refused:
            ask("loss")
        assert "Did you mean" not in str(refused.value)


def test_a_run_heard_of_before_its_launch_has_no_config_to_compare(book: Ledger) -> None:
    """That its config is not known yet is said, not taken for an empty one."""
    book.append([started(run="early"), launched(run="late", config={})])
    with pytest.raises(AskedWrongly, match="no config"):
        book.config_diff("early", "late")


def of_values(book: Ledger, values: list[object], metrics: list[object]) -> None:
    """Record a completed run with each value in its config and each final metric."""
    for number, (value, metric) in enumerate(zip(values, metrics, strict=True)):
        book.append([launched(run=f"r{number}", config={"x": value})])
        book.append([completed(1, run=f"r{number}", final_metrics={"loss": metric})])


def test_what_no_float_holds_is_not_the_best(book: Ledger) -> None:
    """It is left out, on each side; and as a value that runs are grouped by it is itself, not infinite."""
    of_values(book, [10**400, 10**400, 1e300, None], [10**400, -(10**400), sys.float_info.max, -sys.float_info.max])

    for minimize, order in ((False, ["r2", "r3"]), (True, ["r3", "r2"])):
        rows = book.best_runs("loss", minimize=minimize)
        assert [row["run_id"] for row in rows] == order
        assert abs(rows[0]["loss"]) == sys.float_info.max
    assert {repr(row["config.x"]) for row in book.outcomes("config.x")} == {repr(10**400), "1e+300", "None"}


def test_long_whole_numbers_stay_apart(book: Ledger) -> None:
    """Seeds of nineteen digits are as many groups as there are seeds; what 64 bits do not hold is a float."""
    seeds: list[object] = [2**62, 2**62 + 1, -(2**63), 1234567890123456789, 1e17, 10**17, 10**25]
    of_values(book, seeds, [1.0] * len(seeds))
    found = {repr(row["config.x"]): row["runs"] for row in book.outcomes("config.x")}

    assert found == {**{str(seed): 1 for seed in seeds[:4]}, "100000000000000000": 2, "1e+25": 1}
    assert [row["value"] for row in book.effects("loss", "config.x", bins=9)] == [
        -(2**63),
        10**17,
        *sorted(seeds[:2] + [seeds[3]]),
        1e25,
    ]  # type: ignore[type-var]


@pytest.mark.parametrize("turned", [False, True])
def test_a_value_is_shown_alike_in_whatever_order_it_came(book: Ledger, turned: bool) -> None:
    """1 and 1.0 are 1, and -0.0 is 0, also within lists; a huge whole float stays one."""
    values: list[object] = [1, 1.0, 0.0, -0.0, 0, [1.0], [1], 1e300]
    of_values(book, values[::-1] if turned else values, [1.0] * len(values))
    shown = ["0", "1", "1e+300", "[1]"]

    assert sorted(repr(row["config.x"]) for row in book.outcomes("config.x")) == shown
    assert sorted(repr(row["value"]) for row in book.effects("loss", "config.x")) == shown


def test_ranges_are_told_apart(book: Ledger) -> None:
    """As many digits are shown as their ends differ in."""
    of_values(book, [100000 + number for number in range(20)], [float(number) for number in range(20)])
    assert [row["value"] for row in book.effects("loss", "config.x", bins=2)] == [
        "100000 to 100009",
        "100010 to 100019",
    ]
    levels, _ = levelled([1 + number / 1e7 for number in range(20)], 2)
    assert levels[0].value == "1 to 1.000001"
    levels, _ = levelled([2**62 + number for number in range(20)], 2)
    assert levels[0].value == f"{2**62} to {2**62 + 19}"


def test_metrics_at_the_ends_of_what_a_float_holds(book: Ledger) -> None:
    """Their median lies between them, and a deviation that no float holds is not known."""
    of_values(book, [1, 1, 2, 2], [-1.7e308, 1.7e308, 1.7e308, 1.7e308])
    first, second = book.effects("loss", "config.x")
    assert (first["median"], first["std"], first["mean"]) == (0, None, pytest.approx(0, abs=1e300))
    assert (second["median"], second["std"]) == (1.7e308, 0)


def sweep(book: Ledger, runs: int) -> None:
    """Record runs whose loss is the square of their lr, and one that lacks it."""
    for number in range(runs):
        run, lr = f"r{number:03}", number / runs
        config = {"lr": lr, "method": "abc"[number % 3], "seed": number * 7919 % runs, "note": None}
        loss = {} if number == 0 else {"loss": lr**2}
        book.append([launched(run=run, config=config), completed(10, run=run, final_metrics=loss)])


def test_what_matters_is_the_most_important(book: Ledger) -> None:
    """A forest finds the parameter that the metric is made of, says its spread, and says the same each time."""
    sweep(book, 60)
    rows = book.importance("loss", ["config.lr", "config.method", "config.note"])

    assert [row["parameter"] for row in rows] == ["config.lr", "config.method"]
    assert rows[0]["importance"] > 0.5 > abs(rows[1]["importance"])
    assert all(row["std"] >= 0 and row["runs"] == 59 and row["r_squared"] > 0.8 for row in rows)
    assert book.importance("loss", ["config.lr", "config.method", "config.note"]) == rows
    assert book.importance("loss", at_most=40, repeats=2)[0]["parameter"] in ("learning_rate", "config.lr")


def test_too_few_runs_are_refused(book: Ledger) -> None:
    """Of a handful of runs, of one value, and of a metric that never changes, a forest would say nothing true."""
    sweep(book, 20)
    with pytest.raises(AskedWrongly, match="at least 30 runs"):
        book.importance("loss")
    for number in range(40):
        book.append([launched(run=f"c{number}", config={"x": 1, "y": number}, host="flat")])
        book.append([completed(10, run=f"c{number}", final_metrics={"loss": 1.0})])
    with pytest.raises(AskedWrongly, match="varies"):
        book.importance("loss", ["config.x"], {"host": "flat"})
    with pytest.raises(AskedWrongly, match="the same"):
        book.importance("loss", ["config.y"], {"host": "flat"})
    with pytest.raises(InvalidValue, match="repeats"):
        book.importance("loss", repeats=0)
    with pytest.raises(InvalidValue, match="bins"):
        book.effects("loss", bins=1)


@in_a_file
def test_without_scikit_learn_the_extra_is_named(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is missing, the error is the line that installs it."""
    sweep(book, 40)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[importance\]"):
        book.importance("loss")


def test_huge_and_tiny_metrics_have_effects(book: Ledger) -> None:
    """Squares beyond what a float holds are not needed; a constant metric has no share that lies anywhere."""
    for number in range(8):
        metrics = {"huge": (number % 2) * 1e300, "tiny": (number % 2) * 1e-300, "flat": 3}
        book.append(
            [
                launched(run=f"r{number}", config={"x": number % 2}),
                completed(1, run=f"r{number}", final_metrics=metrics),
            ]
        )

    for name, value in (("huge", 1e300), ("tiny", 1e-300)):
        rows = book.effects(name, "config.x")
        assert [row["mean"] for row in rows] == [0, pytest.approx(value, rel=1e-12)]
        assert [row["std"] for row in rows] == [0, 0]
        assert rows[0]["eta_squared"] == pytest.approx(1)
    flat = book.effects("flat", "config.x")
    assert [(row["eta_squared"], row["mean"]) for row in flat] == [(None, 3)] * 2
    assert math.isclose(book.best_runs("huge", limit=1)[0]["huge"], 1e300)
