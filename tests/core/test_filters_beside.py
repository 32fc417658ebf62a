"""Filters and orders on what has rows of its own: objectives and metrics, and numbers below JSON as an order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AskedWrongly, InvalidValue, UnknownFilter, UnknownOrder
from ledger.projections.filters import Condition, Order, parse_filters, parse_order
from ledger.projections.metrics import STATISTICS
from ledger.projections.objectives import VALUES
from tests.builders import NOON
from tests.strategies import strangers, texts

OBJECTIVES, METRICS = "training_objectives", "training_metrics"

MEANT: dict[str, tuple[str, object, list[Condition]]] = {
    "an objective": ("objectives.QED", 0.5, [Condition(OBJECTIVES, "is", (0.5,), keys=("QED", "raw_mean"))]),
    "at least": ("min_objectives.QED", "0.5", [Condition(OBJECTIVES, "min", (0.5,), keys=("QED", "raw_mean"))]),
    "one of its values": ("max_objectives.QED:raw_std", 1, [Condition(OBJECTIVES, "max", (1,), keys=("QED", "raw_std"))]),
    "one of several": ("not_objectives.a", [1, "2"], [Condition(OBJECTIVES, "is_not", (1, 2), several=True, keys=("a", "raw_mean"))]),
    "whether it is there": ("has_objectives.a", "no", [Condition(OBJECTIVES, "has", (False,), keys=("a", "raw_mean"))]),
    "a name with a colon": ("objectives.a:b:raw_std", 1, [Condition(OBJECTIVES, "is", (1,), keys=("a:b", "raw_std"))]),
    "a name with dots": ("objectives.a.b", 1, [Condition(OBJECTIVES, "is", (1,), keys=("a.b", "raw_mean"))]),
    "a metric": ("metrics.train/loss:min", 0.5, [Condition(METRICS, "is", (0.5,), keys=("train/loss", "min"))]),
    "its count": ("min_metrics.loss:count", 10, [Condition(METRICS, "min", (10,), keys=("loss", "count"))]),
    "a metric with a colon": ("metrics.a:b:last", 1, [Condition(METRICS, "is", (1,), keys=("a:b", "last"))]),
    "a final metric": ("metrics.a:b", 1, [Condition("final_metrics_json", "is", (1,), keys=("a:b",))]),
    "a final metric with a name of that kind": ("metrics.best", "x", [Condition("final_metrics_json", "is", ("x",), keys=("best",))]),
    "an objective with a name of that kind": ("objectives.raw_std", 1, [Condition(OBJECTIVES, "is", (1,), keys=("raw_std", "raw_mean"))]),
    "bounds of an objective": (
        "objectives.QED", {"min": 0.5, "max": "1"},
        [Condition(OBJECTIVES, "min", (0.5,), keys=("QED", "raw_mean")), Condition(OBJECTIVES, "max", (1,), keys=("QED", "raw_mean"))],
    ),
    "bounds of a metric": ("metrics.loss:best", {"max": 1}, [Condition(METRICS, "max", (1,), keys=("loss", "best"))]),
    "bounds of a final metric": ("metrics.loss", {"min": 0.1}, [Condition("final_metrics_json", "min", (0.1,), keys=("loss",))]),
    "bounds in the config": ("config.a.b", {"min": 1}, [Condition("config_json", "min", (1,), keys=("a", "b"))]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "wanted"), MEANT.values(), ids=MEANT)
def test_a_filter_means_what_it_says(name: str, value: object, wanted: list[Condition]) -> None:
    """A name, behind a colon which of its values, and bounds also as a mapping."""
    assert parse_filters({name: value}, NOON) == wanted


WRONG: dict[str, tuple[str, object, type[AskedWrongly], str]] = {
    "a value that is none": ("objectives.QED:raw_maen", 1, UnknownFilter, "'raw_mean'"),
    "a value far from any": ("objectives.QED:x", 1, UnknownFilter, "raw_mean, normalized_mean, raw_std, normalized_std"),
    "no name": ("objectives.", 1, UnknownFilter, "objectives."),
    "no name before the colon": ("objectives.:raw_std", 1, UnknownFilter, "A name stands behind"),
    "no metric before the colon": ("metrics.:min", 1, UnknownFilter, "A name stands behind"),
    "NUL in a name": ("objectives.a\x00", 1, UnknownFilter, "A name stands behind"),
    "a part of it": ("objectives.QED_contains", "x", InvalidValue, "a number is wanted"),
    "words": ("min_objectives.QED", "high", InvalidValue, "a number is wanted"),
    "NaN": ("min_metrics.loss:min", float("nan"), InvalidValue, "a number is wanted"),
    "None": ("objectives.QED", None, InvalidValue, "has_...=False"),
    "words for a boolean": ("has_objectives.QED", "maybe", InvalidValue, "true or false"),
    "an empty mapping": ("objectives.QED", {}, InvalidValue, "a number is wanted"),
    "another bound": ("objectives.QED", {"mni": 1}, InvalidValue, "'min'"),
    "bounds of a bound": ("min_objectives.QED", {"min": 1}, InvalidValue, "bounds are said as"),
    "bounds of a column": ("beta", {"min": 1}, InvalidValue, "a number is wanted"),
    "no bound": ("objectives.QED", {"min": None}, InvalidValue, "has_...=False"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_an_error(name: str, value: object, error: type[AskedWrongly], words: str) -> None:
    """It names the mend."""
    with pytest.raises(error) as refused:
        parse_filters({name: value}, NOON)
    assert words in str(refused.value)


ORDERS: dict[str, tuple[str, list[Order]]] = {
    "an objective": ("objectives.QED DESC", [Order(OBJECTIVES, True, ("QED", "raw_mean"))]),
    "one of its values": ("objectives.QED:raw_std", [Order(OBJECTIVES, False, ("QED", "raw_std"))]),
    "a metric": ("metrics.train/loss:min asc", [Order(METRICS, False, ("train/loss", "min"))]),
    "a final metric": ("metrics.train/loss desc", [Order("final_metrics_json", True, ("train/loss",))]),
    "a config": ("config.a.b", [Order("config_json", False, ("a", "b"))]),
    "a final metric with a name of that kind": ("metrics.best", [Order("final_metrics_json", False, ("best",))]),
    "several": (
        "objectives.a, objectives.b DESC, status, objectives.a DESC",
        [Order(OBJECTIVES, False, ("a", "raw_mean")), Order(OBJECTIVES, True, ("b", "raw_mean")), Order("status", False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), ORDERS.values(), ids=ORDERS)
def test_an_order_means_what_it_says(text: str, wanted: list[Order]) -> None:
    """By a name and which of its values, or by what lies at a path; what is named again decides nothing more."""
    assert parse_order(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [("objectives.QED:x", "raw_mean, normalized_mean"), ("objectives.QED:raw_mea", "'raw_mean'"), ("objectives.:raw_std", "A name stands behind"), ("min_objectives.QED", "min_objectives.QED"), ("objectives.QED DOWN", "objectives.QED"),
     ("not_metrics.a", "not_metrics.a"), ("metrics.a_contains", "metrics.a_contains"), ("config..a", "config..a"), ('config.a"', "config.a"),
     ("secrets.a", "secrets.a"), ("metadata.", "metadata.")],
)  # fmt: skip
def test_an_order_that_cannot_be_meant_is_an_error(text: str, words: str) -> None:
    """What is no name with a direction is refused."""
    with pytest.raises(UnknownOrder) as refused:
        parse_order(text)
    assert words in str(refused.value)


@given(
    st.builds(
        "{}{}.{}{}".format,
        st.sampled_from(["", "min_", "not_", "has_"]),
        st.sampled_from(["objectives", "metrics", "config"]),
        texts,
        st.sampled_from(["", ":", *(f":{name}" for name in (*VALUES, *STATISTICS))]),
    ),
    strangers | st.dictionaries(st.sampled_from(["min", "max"]), strangers, max_size=2),
)
def test_anything_is_understood_or_refused(name: str, value: Any) -> None:
    """Whatever is asked becomes conditions or an order, or an error raised on purpose."""
    for ask in (lambda: parse_filters({name: value}, NOON), lambda: parse_order(f"{name} DESC")):
        try:
            made = ask()
        except AskedWrongly as refused:
            assert str(refused)
        else:
            assert made
