"""What query_runs understands: each documented name, and an error with the nearest name for everything else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AskedWrongly, InvalidValue, UnknownFilter, UnknownOrder
from ledger.projections.filters import (
    FILTERS,
    FILTERS_MAX,
    VALUES_MAX,
    Condition,
    Order,
    parse_filters,
    parse_order,
    parse_whole_number,
)
from ledger.projections.run import COLUMNS
from ledger.projections.stats import stats
from tests.builders import NOON, clock
from tests.strategies import strangers, texts


def condition(name: str, value: object) -> Condition:
    (made,) = parse_filters({name: value}, NOON)
    return made


def generic_names() -> set[str]:
    """Return the filter names that the issue gives to every column, by its kind."""
    names = {f"{prefix}{name}" for name in COLUMNS for prefix in ("", "not_", "min_", "max_", "has_")}
    names |= {f"{name}_contains" for name, column in COLUMNS.items() if column.kind == "text"}
    moments = [name for name, column in COLUMNS.items() if column.kind == "moment"]
    return names | {f"{name}_{suffix}" for name in moments for suffix in ("after", "before")}


DOCUMENTED = {
    "created_after", "created_before", "started_after", "started_before", "ended_after", "ended_before",
    "min_duration_hours", "max_duration_hours", "has_blog_post", "has_crash_analysis",
    "status", "gradient_method", "host", "chain_of_custody_id",
}  # fmt: skip


def test_every_column_has_its_filters() -> None:
    """Each column can be filtered in every way that its kind allows, and the documented names are there."""
    assert generic_names() | DOCUMENTED <= set(FILTERS)


MEANT: dict[str, tuple[str, object, Condition]] = {
    "text": ("host", "ec2", Condition("host", "is", ("ec2",))),
    "several": ("host", ["ec2", "expanse"], Condition("host", "is", ("ec2", "expanse"), several=True)),
    "none of several": ("not_host", ("ec2",), Condition("host", "is_not", ("ec2",), several=True)),
    "nothing of nothing": ("status", [], Condition("status", "is", (), several=True)),
    "number as text": ("min_batch_size", "128", Condition("batch_size", "min", (128,))),
    "fraction as text": ("max_beta", "1.5", Condition("beta", "max", (1.5,))),
    "hours": ("min_duration_hours", 2, Condition("duration_seconds", "min", (7200,))),
    "half hours as text": ("max_duration_hours", "0.5", Condition("duration_seconds", "max", (1800,))),
    "boolean as text": ("has_blog_post", "false", Condition("blog_post_url", "has", (False,))),
    "boolean as number": ("has_crash_analysis", 1, Condition("crash_analysis_s3_key", "has", (True,))),
    "part of a text": ("run_name_contains", "4gpu", Condition("run_name", "contains", ("4gpu",))),
    "time": ("created_after", "2024-05-01", Condition("created_at", "after", ("2024-05-01T00:00:00.000000Z",))),
    "time with a zone": (
        "ended_before",
        datetime(2024, 5, 1, 19, tzinfo=timezone(timedelta(hours=7))),
        Condition("ended_at", "before", (clock(0),)),
    ),
    "date": ("started_at_after", date(2024, 5, 1), Condition("started_at", "after", ("2024-05-01T00:00:00.000000Z",))),
    "age in days": ("created_after", "7d", Condition("created_at", "after", (clock(-7 * 86400),))),
    "age in hours": ("min_created_at", "12h", Condition("created_at", "min", (clock(-12 * 3600),))),
    "half a week": ("created_before", "0.5 w", Condition("created_at", "before", (clock(-3.5 * 86400),))),
    "tags": ("tags", "paper", Condition("tags", "is", ("paper",), several=True)),
    "no tags": ("has_tags", False, Condition("tags", "has", (False,))),
    "not tagged": ("not_tags", ["a", "b"], Condition("tags", "is_not", ("a", "b"), several=True)),
    "config": ("config.a.b", 8, Condition("config_json", "is", (8,), keys=("a", "b"))),
    "metrics": ("min_metrics.train/loss", "0.5", Condition("final_metrics_json", "min", (0.5,), keys=("train/loss",))),
    "metadata": ("has_metadata.reviewer", True, Condition("metadata_json", "has", (True,), keys=("reviewer",))),
    "part of a config": ("config.name_contains", "x", Condition("config_json", "contains", ("x",), keys=("name",))),
    "not in the config": (
        "not_config.a",
        [1, "b"],
        Condition("config_json", "is_not", (1, "b"), several=True, keys=("a",)),
    ),
    "beyond 64 bits": ("max_batch_size", 2**70, Condition("batch_size", "max", (2.0**70,))),
    "hours beyond 64 bits": ("min_duration_hours", 2**62, Condition("duration_seconds", "min", (float(2**62 * 3600),))),
    "boolean in JSON": ("config.bf16", True, Condition("config_json", "is", (True,), keys=("bf16",))),
    "bound of choices": ("min_status", "failed", Condition("status", "min", ("failed",))),
    "number with spaces": ("batch_size", " +8 ", Condition("batch_size", "is", (8,))),
    "more digits than a number has": ("max_beta", "9" * 350, Condition("beta", "max", (float("inf"),))),
    "endlessly negative": ("min_beta", "-Infinity", Condition("beta", "min", (float("-inf"),))),
    "endless": ("max_learning_rate", "inf", Condition("learning_rate", "max", (float("inf"),))),
}


@pytest.mark.parametrize(("name", "value", "wanted"), MEANT.values(), ids=MEANT)
def test_a_filter_means_what_it_says(name: str, value: object, wanted: Condition) -> None:
    """Names and values, also as they come in a query string, become the condition that is meant."""
    assert condition(name, value) == wanted


WRONG: dict[str, tuple[object, object, type[AskedWrongly], str]] = {
    "misspelt": ("gradient_metod", "mgda", UnknownFilter, "'gradient_method'"),
    "misspelt status": ("status", "complete", InvalidValue, "'completed'"),
    "banana": ("status", "banana", InvalidValue, "one of launched, running, completed, failed, crashed"),
    "one banana among several": ("status", ["running", "banana"], InvalidValue, "banana"),
    "None": ("host", None, InvalidValue, "has_...=False"),
    "None among several": ("host", ["ec2", None], InvalidValue, "text is wanted"),
    "no name": (7, "x", UnknownFilter, "7"),
    "number for text": ("host", 7, InvalidValue, "text is wanted"),
    "words for a number": ("min_batch_size", "many", InvalidValue, "a number is wanted"),
    "boolean for a number": ("batch_size", True, InvalidValue, "a number is wanted"),
    "NaN": ("max_beta", "nan", InvalidValue, "a number is wanted"),
    "list for a bound": ("min_beta", [1], InvalidValue, "a number is wanted"),
    "words for a boolean": ("has_blog_post", "maybe", InvalidValue, "true or false is wanted"),
    "words for a time": ("created_after", "yesterday", InvalidValue, "a moment is wanted"),
    "age before time": ("created_after", "99999999999d", InvalidValue, "a moment is wanted"),
    "NUL": ("host", "a\x00", InvalidValue, "text is wanted"),
    "surrogate": ("host_contains", "\ud800", InvalidValue, "text is wanted"),
    "nothing below the root": ("config.", 1, UnknownFilter, "config"),
    "another root": (
        "secrets.a",
        1,
        UnknownFilter,
        "config., metrics., metadata., what a run reached with objectives.",
    ),
    "an empty key": ("config..x", 1, UnknownFilter, "one dot between"),
    "an empty last key": ("config.deep.", 1, UnknownFilter, "one dot between"),
    "an empty key before a word": ("config.deep._contains", "x", UnknownFilter, "one dot between"),
    "bound that is no choice": ("min_status", "banana", InvalidValue, "one of launched, running"),
    "misspelt bound": ("max_end_reason", "preemptd", InvalidValue, "'preempted'"),
    "underscores in a number": ("min_batch_size", "1_0", InvalidValue, "a number is wanted"),
    "digits of another script": ("batch_size", "٣", InvalidValue, "a number is wanted"),
    "underscores in a bound in JSON": ("max_config.x", "1_0", InvalidValue, "a number is wanted"),
    "quotes in a path": ('config.a"b', 1, UnknownFilter, "without quotes"),
    "mapping for a path": ("config.a", {"b": 1}, InvalidValue, "bounds are said as"),
    "text for a bound in JSON": ("min_metrics.loss", "low", InvalidValue, "a number is wanted"),
    "number for a tag": ("tags", 1, InvalidValue, "text is wanted"),
    "too many": ("host", ["h"] * (VALUES_MAX + 1), InvalidValue, "at most"),
}


@pytest.mark.parametrize(("name", "value", "error", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_an_error(name: Any, value: object, error: type[AskedWrongly], words: str) -> None:
    """It names the mend, it is a ValueError too, and nothing is ever ignored."""
    with pytest.raises(error, match=".") as refused:
        parse_filters({name: value}, NOON)

    assert words in str(refused.value)
    assert isinstance(refused.value, ValueError)


def test_no_filters_are_none() -> None:
    """None and an empty mapping ask for everything; what is no mapping is an error."""
    assert parse_filters(None, NOON) == parse_filters({}, NOON) == []
    with pytest.raises(InvalidValue, match="filters"):
        parse_filters([("host", "ec2")], NOON)  # type: ignore[arg-type]


@given(st.dictionaries(texts | st.sampled_from(sorted(FILTERS)), strangers | st.sampled_from(["7d", "true", "1.5"])))
def test_any_filters_are_understood_or_refused(filters: dict[str, Any]) -> None:
    """Whatever is asked, it becomes conditions, one for each filter, or an error raised on purpose."""
    try:
        made = parse_filters(filters, datetime.now(UTC))
    except AskedWrongly as refused:
        assert str(refused)
    else:
        assert len(made) == len(filters)


def test_filters_have_a_limit() -> None:
    """More than anybody means are refused before the database has to refuse them."""
    with pytest.raises(InvalidValue, match="at most"):
        parse_filters({f"config.k{number}": 1 for number in range(FILTERS_MAX + 1)}, NOON)


ORDERS: dict[str, tuple[str, list[Order]]] = {
    "plain": ("created_at", [Order("created_at", descending=False)]),
    "documented": ("created_at DESC", [Order("created_at", descending=True)]),
    "any case": ("created_at dEsC", [Order("created_at", descending=True)]),
    "several": ("status, beta DESC", [Order("status", descending=False), Order("beta", descending=True)]),
    "spaces": ("  status   ASC ,run_id", [Order("status", descending=False), Order("run_id", descending=False)]),
}


@pytest.mark.parametrize(("text", "wanted"), ORDERS.values(), ids=ORDERS)
def test_orders_are_columns_and_directions(text: str, wanted: list[Order]) -> None:
    """One column or several, each with ASC or DESC or neither."""
    assert parse_order(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", ",", "creatd_at", "created_at DOWN", "created_at DESC DESC", "created_at; DROP TABLE training_runs", "1", "created_at,", "beta+1", None, 7],
    ids=repr,
)  # fmt: skip
def test_an_order_that_cannot_be_meant_is_an_error(text: Any) -> None:
    """A caller's text never becomes SQL: what is no column with a direction is refused."""
    with pytest.raises(UnknownOrder):
        parse_order(text)


def test_a_misspelt_order_names_the_nearest() -> None:
    """The mend is in the message."""
    with pytest.raises(UnknownOrder, match="'created_at'"):
        parse_order("creatd_at DESC")


@pytest.mark.parametrize("value", [0, 7, "7", " 7 ", 2**63 - 1])
def test_whole_numbers_come_as_text_too(value: Any) -> None:
    """Limits and offsets come from query strings."""
    assert parse_whole_number("limit", value) == int(value)


@pytest.mark.parametrize("value", [-1, 1.5, "-1", "many", True, 2**63, "9" * 30, None, "٣"], ids=repr)
def test_what_is_no_whole_number_is_an_error(value: Any) -> None:
    """A limit that cannot be meant is refused."""
    with pytest.raises(InvalidValue, match="whole number"):
        parse_whole_number("limit", value)


def test_stats_name_every_status() -> None:
    """Statuses that no run has are counted as 0."""
    assert stats([("running", 3, 1, 0), ("crashed", 2, 0, 2)]) == {
        "total_runs": 5, "launched": 0, "running": 3, "completed": 0, "failed": 0, "crashed": 2,
        "with_blog_posts": 1, "with_crash_analysis": 2,
    }  # fmt: skip
