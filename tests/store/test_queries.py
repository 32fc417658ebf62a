"""query_runs against an evaluator in plain Python: each filter and order gives what its words say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache, cmp_to_key
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.events import Event
from ledger.events.times import text_of
from ledger.projections.columns import Kind
from ledger.projections.run import COLUMNS, STATUSES
from tests.builders import (
    HOUR,
    amended,
    annotated,
    blog_attached,
    clock,
    completed,
    crash_data_attached,
    crashed,
    heartbeat,
    launched,
    moment,
    started,
    voided,
)
from tests.places import SQLITE, InMemory, Ledgers, on_both

pytestmark = on_both
# The runs are only asked.
asked_only = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

Row = dict[str, Any]


def runs() -> Iterable[Event]:
    """Fifty runs that differ in every column that can be asked for, NULLs and odd values among them."""
    for number in range(50):
        run = f"run-{number:02}"
        config: dict[str, Any] = {
            "training": {"batch_size": number % 5 * 8, "lr": f"1e-{number % 4}", "bf16": bool(number % 2)},
            "reward": {"gradient_method": ("mgda", "pcgrad", "MGDA")[number % 3]},
            "seed": (number % 6, str(number % 6), float(number % 6), None, [1], "NaN")[number % 6],
            "a.b": number % 2,
            "a": {"b": number % 3} if number % 4 else "none",
            "täg/1": "ü%_",
            "objectives": [{"name": ("mgda", "Ada")[number % 2], "w": [number, {"0": 8}]}] if number % 3 else [],
            "steps": {"0": number % 3, "1": [True]} if number % 2 else [1, [2.0, "1"]],
        }
        host = ("ec2", "expanse", None)[number % 3]
        yield launched(
            number % 9 * HOUR, run=run, config=config if number % 7 else {}, host=host, run_name=f"n_{number}%"
        )
        if number % 2:
            yield started(number % 9 * HOUR + 60, run=run)
        if number % 4 == 1:
            loss = float("nan") if number % 5 == 0 else number / 10
            metrics = {"train/loss": loss, "deep": {"x": number}, "ok": number % 3 == 0, "best": None}
            yield completed(number % 9 * HOUR + 60 + number * 600, run=run, final_metrics=metrics)
        if number % 8 == 3:
            yield crashed(number % 9 * HOUR + 90, run=run, end_reason="oom", exit_code=-9, presumed=True)
            yield crash_data_attached(40 * HOUR, run=run, crash_analysis_s3_key="a")
        if number % 5 == 0:
            yield annotated(
                41 * HOUR, run=run, tags=[("paper", "bad")[number % 2], "all"], metadata={"who": "Ada", "n": number}
            )
        if number % 6 == 5:
            yield heartbeat(42 * HOUR + number, run=run, duration_seconds=number * 100)
        if number % 10 == 7:
            yield blog_attached(43 * HOUR, run=run, blog_post_url=f"https://b/{number}")
        if number % 9 == 8:
            yield amended(44 * HOUR, run=run, learning_rate=None, note="it's\nodd")
        if number % 13 == 12:
            yield voided(45 * HOUR, run=run, reason="bogus")


class Fleet:
    """A ledger with the runs, and their rows."""

    def __init__(self, book: Ledger) -> None:
        book.append(runs())
        self.book = book
        self.rows = book.query_runs(limit=None, order_by="run_id", include_voided=True)


@pytest.fixture(scope="module")
def fleets(request: pytest.FixtureRequest) -> Iterable[Callable[[str], Fleet]]:
    """Give the same runs on a kind of database, recorded once."""
    with ExitStack() as opened:
        yield cache(
            lambda kind: Fleet(
                opened.enter_context(InMemory()() if kind == SQLITE else request.getfixturevalue("pg_ledgers")())
            )
        )


@pytest.fixture
def fleet(fleets: Callable[[str], Fleet], database_kind: str) -> Fleet:
    return fleets(database_kind)


def holds(row: Row, column: str, operator: str, value: Any) -> bool:
    """Whether a row meets one filter on a column, in the words of the documentation."""
    found = row[column]
    if operator == "has":
        return (found is not None) is value
    if operator == "not":
        return found not in value if isinstance(value, list) else found != value
    if found is None:
        return False
    match operator:
        case "is":
            return found in value if isinstance(value, list) else found == value
        case "min":
            return bool(found >= value)
        case "max":
            return bool(found <= value)
        case "contains":
            return value in found
        case "after":
            return bool(found > value)
        case _:
            return bool(found < value)


SPELLED = {"is": "{}", "not": "not_{}", "min": "min_{}", "max": "max_{}", "has": "has_{}", "contains": "{}_contains", "after": "{}_after", "before": "{}_before"}  # fmt: skip

_BY_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(["mgda", "ec2", "run-07", "n_7%", "oom", "", "zzz", "https://b/7", "ü"]) | st.text("ec2nr-%_", max_size=3),
    "integer": st.integers(-10, 50) | st.sampled_from([-9, 600, 5400, 2**62]),
    "real": st.sampled_from([1.0, 0.1, 0.01, 0.001, 0.5]) | st.floats(0, 2),
    "moment": st.integers(-2, 60).map(lambda hours: clock(hours * HOUR)),
    "json": st.sampled_from(["{}", '["paper","all"]', "[]"]),
}  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A column, how to compare it, and with what; often with a value that some run has."""
    column = COLUMNS[draw(st.sampled_from(sorted(COLUMNS)))]
    operators = ["is", "not", "min", "max", "has"]
    operators += ["contains"] if column.kind == "text" else ["after", "before"] if column.kind == "moment" else []
    operator = draw(st.sampled_from(operators))
    if operator == "has":
        return column.name, operator, draw(st.booleans())
    values = st.sampled_from(STATUSES) if column.choices and column.name == "status" else _BY_KIND[column.kind]
    if column.name == "end_reason" and operator in ("is", "not"):
        values = st.sampled_from(["oom", "unknown"])
    if operator in ("is", "not") and draw(st.booleans()):
        return column.name, operator, draw(st.lists(values, max_size=3))
    return column.name, operator, draw(values)


@asked_only
@given(st.lists(questions(), min_size=1, max_size=3), st.booleans())
def test_filters_give_what_they_say(fleet: Fleet, asked: list[Any], voided_too: bool) -> None:
    """The runs that meet all filters, and no others; counting counts the same."""
    filters = {SPELLED[operator].format(column): (column, operator, value) for column, operator, value in asked}
    spoken = {name: value for name, (_, _, value) in filters.items()}
    wanted = [
        row["run_id"]
        for row in fleet.rows
        if (voided_too or not row["voided"]) and all(holds(row, *question) for question in filters.values())
    ]

    found = fleet.book.query_runs(spoken, order_by="run_id", limit=None, include_voided=voided_too)
    assert [row["run_id"] for row in found] == wanted
    assert fleet.book.count_runs(spoken, include_voided=voided_too) == len(wanted)


def _compare(orders: list[tuple[str, bool]]) -> Any:
    def compare(one: Row, other: Row) -> int:
        for column, descending in [*orders, ("run_id", False)]:
            a, b = one[column], other[column]
            if a == b:
                continue
            if a is None or b is None:
                return 1 if a is None else -1
            return (1 if a > b else -1) * (-1 if descending else 1)
        return 0

    return cmp_to_key(compare)


@asked_only
@given(
    st.lists(st.tuples(st.sampled_from(sorted(COLUMNS)), st.booleans()), min_size=1, max_size=3),
    st.none() | st.integers(0, 60),
    st.integers(0, 60),
    st.booleans(),
)
def test_orders_give_what_they_say(
    fleet: Fleet, orders: list[tuple[str, bool]], limit: int | None, offset: int, voided_too: bool
) -> None:
    """By one column or several, NULLs last in both directions, ties by run_id; and a page of it."""
    wanted = sorted([row for row in fleet.rows if voided_too or not row["voided"]], key=_compare(orders))
    order_by = ", ".join(f"{column} {'DESC' if descending else 'ASC'}" for column, descending in orders)

    found = fleet.book.query_runs(order_by=order_by, limit=limit, offset=offset, include_voided=voided_too)
    end = None if limit is None else offset + limit
    assert [row["run_id"] for row in found] == [row["run_id"] for row in wanted][offset:end]


def at_path(row: Row, column: str, path: str) -> Any:
    """Return what lies at a path into a row's JSON; where the whole path is one key, that is meant as well."""
    value = json.loads(row[column]) if row[column] is not None else {}
    for keys in ([path], path.split(".")):
        found: Any = value
        for key in keys:
            found = below(found, key)
        if found is not None:
            return found
    return None


def below(value: Any, key: str) -> Any:
    """Return what a mapping has under *key*, or a list at the place that it says."""
    if isinstance(value, list):
        return value[int(key)] if key.isdigit() and int(key) < len(value) else None
    return value.get(key) if isinstance(value, dict) else None


def equal(found: Any, value: Any) -> bool:
    """Whether JSON data is what was asked for; text also stands for the number or boolean that it spells."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value or (isinstance(found, bool) and str(value).lower() == json.dumps(found))
    if isinstance(found, str):
        return bool(found == value)
    if isinstance(found, int | float):
        try:
            return found == float(value)
        except ValueError:
            return False
    return False


def json_holds(row: Row, column: str, path: str, operator: str, value: Any) -> bool:
    found = at_path(row, column, path)
    match operator:
        case "is":
            return any(equal(found, v) for v in (value if isinstance(value, list) else [value]))
        case "not":
            return not any(equal(found, v) for v in (value if isinstance(value, list) else [value]))
        case "has":
            return (found is not None) is value
        case "contains":
            return isinstance(found, str) and value in found
        case _:
            if isinstance(found, bool) or not isinstance(found, int | float):
                return False
            return bool(found >= value if operator == "min" else found <= value)


PLACES = [
    "objectives.0.name",
    "objectives.0.w.0",
    "objectives.0.w.1.0",
    "objectives.1",
    "steps.0",
    "steps.1.0",
    "steps.01",
]
PATHS = {
    "config": ("config_json", ["training.batch_size", "training.bf16", "seed", "a.b", "a", "reward.gradient_method", "no.such", "täg/1", "training", *PLACES]),
    "metrics": ("final_metrics_json", ["train/loss", "deep.x", "ok", "best", "deep"]),
    "metadata": ("metadata_json", ["who", "n"]),
}  # fmt: skip
_VALUES = st.sampled_from(
    ["mgda", "1", "2.0", "true", "false", "True", "FALSE", True, False, 0, 1, 2.0, 8, 1.5, "NaN", "ü%_", "Ada", "%", ""]
)


@asked_only
@given(
    st.sampled_from([(root, path) for root, (_, paths) in PATHS.items() for path in paths]),
    st.sampled_from(["is", "not", "min", "max", "has", "contains"]),
    st.data(),
)
def test_paths_into_the_json_give_what_they_say(
    fleet: Fleet, where: tuple[str, str], operator: str, data: st.DataObject
) -> None:
    """Below config., metrics. and metadata. the same comparisons hold, with the types that JSON has."""
    root, path = where
    if operator in ("min", "max"):
        value: Any = data.draw(st.sampled_from([0, 1, 2.5, 8, 16]))
    elif operator == "has":
        value = data.draw(st.booleans())
    elif operator == "contains":
        value = data.draw(st.sampled_from(["m", "%", "ü", ""]))
    else:
        value = data.draw(_VALUES | st.lists(_VALUES, max_size=3))
    name = SPELLED[operator].format(f"{root}.{path}")

    found = fleet.book.query_runs({name: value}, order_by="run_id", limit=None, include_voided=True)
    column = PATHS[root][0]
    assert [row["run_id"] for row in found] == [
        r["run_id"] for r in fleet.rows if json_holds(r, column, path, operator, value)
    ]


def test_a_path_of_many_digits_stays_a_small_question(book: Ledger) -> None:
    """Digits may be keys or places, but of a hundred of them not every mixture is tried."""
    inner: Any = "here"
    for _ in range(6):
        inner = [inner]
    book.insert_run("lists", None, {"deep": inner})
    book.insert_run("keys", None, {"1.2.3.4.5": "here"})

    assert book.count_runs({"config.deep.0.0.0.0.0.0": "here"}) == 1
    assert book.count_runs({"config.1.2.3.4.5": "here"}) == 1
    assert book.count_runs({"config." + ".".join("0" * 100): "here"}) == 0


def test_truth_is_spelled_in_any_case(book: Ledger) -> None:
    """What a query string or Python calls true is true, and text that is no truth value is text."""
    book.insert_run("yes", None, {"bf16": True, "name": "TRUE"})
    book.insert_run("no", None, {"bf16": False})

    for word in ("true", "True", "TRUE"):
        assert [row["run_id"] for row in book.query_runs({"config.bf16": word})] == ["yes"]
    assert book.count_runs({"config.bf16": ["FALSE", "truth"]}) == 1
    assert [book.count_runs({"config.name": word}) for word in ("TRUE", "True", True)] == [1, 0, 0]


@pytest.mark.parametrize("text", ["1_0", "١٠", "0x0a"])
def test_what_is_no_number_stands_for_none(book: Ledger, text: str) -> None:
    """Python reads 1_0 and Arabic digits as 10; a config does not."""
    book.insert_run("ten", None, {"x": 10})
    book.insert_run("text", None, {"x": text})

    assert [row["run_id"] for row in book.query_runs({"config.x": text})] == ["text"]
    assert book.count_runs({"config.x": " 10 "}) == 1


def test_true_is_not_one(ledgers: Ledgers) -> None:
    """Python takes True for 1; what was asked before does not change what a question means."""
    with ledgers() as book:
        said = {"true": True, "one": 1, "text": "1", "false": False, "zero": 0}
        book.append([launched(0, run=run, config={"x": value}) for run, value in said.items()])

        def found(value: Any) -> list[str]:
            return [row["run_id"] for row in book.query_runs({"config.x": value}, order_by="run_id")]

        for _ in range(2):
            assert [found(value) for value in (True, 1, 1.0, "1", "true")] == [
                ["true"],
                ["one"],
                ["one"],
                ["one", "text"],
                ["true"],
            ]
            assert [found(value) for value in (0, False, 0.0, [False], [0])] == [
                ["zero"],
                ["false"],
                ["zero"],
                ["false"],
                ["zero"],
            ]


@asked_only
@given(st.lists(st.sampled_from(["paper", "bad", "all", "pap", "%"]), max_size=2), st.booleans())
def test_tags_go_by_membership(fleet: Fleet, tags: list[str], without: bool) -> None:
    """A run that bears any of the tags; not_tags is every other run."""
    found = fleet.book.query_runs(
        {"not_tags" if without else "tags": tags}, order_by="run_id", limit=None, include_voided=True
    )

    bearing = [row["run_id"] for row in fleet.rows if set(tags) & set(json.loads(row["tags_json"] or "[]"))]
    assert [row["run_id"] for row in found] == [
        r["run_id"] for r in fleet.rows if (r["run_id"] in bearing) is not without
    ]


DOCUMENTED: dict[str, tuple[dict[str, Any], Any]] = {
    "hours": ({"min_duration_hours": 0.5}, lambda r: (r["duration_seconds"] or 0) >= 1800),
    "hours as text": (
        {"max_duration_hours": "1"},
        lambda r: r["duration_seconds"] is not None and r["duration_seconds"] <= 3600,
    ),
    "a post": ({"has_blog_post": True}, lambda r: r["blog_post_url"] is not None),
    "no post": ({"has_blog_post": "false"}, lambda r: r["blog_post_url"] is None),
    "an analysis": ({"has_crash_analysis": 1}, lambda r: r["crash_analysis_s3_key"] is not None),
    "after": ({"created_after": moment(3 * HOUR)}, lambda r: r["created_at"] > clock(3 * HOUR)),
    "before": ({"created_before": "2024-05-01T15:00:00+00:00Z"}, lambda r: r["created_at"] < clock(3 * HOUR)),
    "in between": (
        {"min_created_at": clock(HOUR), "max_created_at": clock(2 * HOUR)},
        lambda r: clock(HOUR) <= r["created_at"] <= clock(2 * HOUR),
    ),
    "all": ({}, lambda r: True),
    "none of nothing": ({"not_status": []}, lambda r: True),
    "any of nothing": ({"status": []}, lambda r: False),
}


@pytest.mark.parametrize(("filters", "meets"), DOCUMENTED.values(), ids=DOCUMENTED)
def test_documented_filters_give_what_they_say(fleet: Fleet, filters: dict[str, Any], meets: Any) -> None:
    """The filters that are not named after their column."""
    found = fleet.book.query_runs(filters, order_by="run_id", limit=None)

    assert [row["run_id"] for row in found] == [row["run_id"] for row in fleet.rows if not row["voided"] and meets(row)]


def test_ages_are_counted_back_from_now(ledgers: Ledgers) -> None:
    """ "7d" and "12h" are so long ago."""
    with ledgers() as book:
        book.insert_run("new", None, {})
        book.insert_run("old", None, {}, at=datetime.fromtimestamp(datetime.now(UTC).timestamp() - 10 * 86400, UTC))

        assert [row["run_id"] for row in book.query_runs({"created_after": "7d"})] == ["new"]
        assert [row["run_id"] for row in book.query_runs({"created_before": "12h"})] == ["old"]
        assert book.count_runs({"created_after": "2w"}) == 2


def test_the_newest_hundred_come_by_default(ledgers: Ledgers) -> None:
    """Newest first, at most a hundred, voided ones left out."""
    with ledgers() as book:
        book.append([launched(number, run=f"run-{number}") for number in range(120)])
        found = book.query_runs()

    assert [row["created_at"] for row in found] == [text_of(moment(119 - n)) for n in range(100)]


def test_voided_runs_are_found_and_not_counted(fleet: Fleet) -> None:
    """get_run says that a run is void, and why; lists, counts and stats leave it out unless they are asked."""
    bogus = [row["run_id"] for row in fleet.rows if row["voided"]]
    row = fleet.book.get_run(bogus[0])

    assert row is not None
    assert (row["voided"], row["reason"], len(bogus)) == (True, "bogus", 3)
    assert set(bogus).isdisjoint(found["run_id"] for found in fleet.book.query_runs(limit=None))
    assert (fleet.book.count_runs(), fleet.book.get_stats()["total_runs"]) == (47, 47)
    assert fleet.book.count_runs(include_voided=True) == 50
