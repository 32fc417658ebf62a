"""What is read of a run by name: a column, or a path below JSON; and an error with its mend for everything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AskedWrongly, InvalidValue, UnknownColumn
from ledger.projections.picks import Pick, listed_names, metric_pick, parse_pick, parse_picks
from tests.strategies import texts


def test_a_name_is_a_column_or_a_path() -> None:
    """What it was asked for by stays its name."""
    assert parse_pick("host") == Pick("host", "host")
    assert parse_pick("config.training.lr") == Pick("config.training.lr", "config_json", ("training", "lr"))
    assert parse_pick("metadata.who") == Pick("metadata.who", "metadata_json", ("who",))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [("hosst", UnknownColumn, "'host'"), ("secrets.a", UnknownColumn, "config., metrics., metadata."), (7, UnknownColumn, "7"),
     ("config", UnknownColumn, "'config_json'"), ("config.", InvalidValue, "one dot"), ("config.a..b", InvalidValue, "one dot"),
     ('config.a"', InvalidValue, "without quotes"), ("config.a\\b", InvalidValue, "without quotes"), ("config.a\n", InvalidValue, "without quotes"),
     ("montth", UnknownColumn, "'month'")],
)  # fmt: skip
def test_a_name_that_cannot_be_meant_is_an_error(name: Any, error: type[AskedWrongly], words: str) -> None:
    """It names the nearest, further names that are offered among them."""
    with pytest.raises(error) as refused:
        parse_pick(name, ["month"])
    assert words in str(refused.value)


def test_names_are_one_several_or_none() -> None:
    """A single one needs no list; twice the same, and what is no list, is an error."""
    assert listed_names(None) == []
    assert listed_names("host") == ["host"]
    assert [pick.column for pick in parse_picks(("host", "status"))] == ["host", "status"]
    with pytest.raises(InvalidValue, match="several of them"):
        listed_names(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="once"):
        listed_names(["host", "host"])


def test_a_metric_is_a_final_metric() -> None:
    """With or without its root before it; no name is an error."""
    assert (
        metric_pick("metrics.eval/loss")
        == metric_pick("eval/loss")
        == Pick("eval/loss", "final_metrics_json", ("eval/loss",))
    )
    for wrong in ("", None, 7):
        with pytest.raises(InvalidValue, match="eval/loss"):
            metric_pick(wrong)


@given(texts | st.builds("config.{}".format, texts))
def test_any_name_is_understood_or_refused(name: str) -> None:
    """It becomes a pick that says what it was asked for by, or an error raised on purpose."""
    try:
        made = parse_pick(name)
    except AskedWrongly as refused:
        assert str(refused)
    else:
        assert made.name == name
