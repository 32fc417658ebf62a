"""The pure parts of reports: proportions, quantiles, levels, prices, spans, beside other ways to the same numbers."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, f_oneway

from ledger.analytics.configs import differences, flat, group_differences, spelled, varying
from ledger.analytics.cost import cost
from ledger.analytics.effects import effects
from ledger.analytics.groups import grouped, rank, same
from ledger.analytics.levels import WORDS_MAX, levelled
from ledger.analytics.numbers import finite, mean, quantile, wilson
from ledger.analytics.prices import read_prices
from ledger.analytics.spans import DAY, HOUR, Span, by_month, instant, instant_of, span_of
from ledger.analytics.throughput import throughput
from ledger.errors import AskedWrongly, InvalidValue, UnknownKeyword

NUMBERS = st.floats(-1e6, 1e6)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
NOW = instant_of(datetime(2040, 1, 1, tzinfo=UTC))
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", "1", "1e-4"]), NUMBERS)
CONFIGS = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner)
)


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    """The interval is scipy's, also of none and of all, and of nothing there is none."""
    found = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson(*counts) == (pytest.approx(found.low, abs=1e-12), pytest.approx(found.high, abs=1e-12))
    assert wilson(0, 0) == (None, None)


@given(st.lists(NUMBERS, min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    """A quantile is linear between its neighbours; a mean is the mean."""
    assert quantile(sorted(values), share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-6)
    assert mean(values) == pytest.approx(float(np.mean(values)), rel=1e-9, abs=1e-9)
    assert quantile([], share) is mean([]) is None


def test_what_is_no_finite_number() -> None:
    """Truth, text, NaN, infinity and integers beyond a float are no numbers."""
    assert [finite(value) for value in (True, "1", math.nan, math.inf, 10**400, None, [1])] == [None] * 7
    assert (finite(1), finite(0.5)) == (1.0, 0.5)


@given(st.lists(st.tuples(PLAIN, st.integers())))
def test_groups_hold_each_row_once(rows: list[tuple[Any, int]]) -> None:
    """Rows are grouped by what is the same to JSON: true is not 1, 1.0 is; and any values can be put in order."""
    groups = grouped(rows, 1)
    assert sorted(rest[0] for _, rests in groups for rest in rests) == sorted(number for _, number in rows)
    assert len({repr(same(key[0] + 0 if type(key[0]) is int else key[0])) for key, _ in groups}) == len(groups)
    assert [rank(value)[0] for value in sorted((key[0] for key, _ in groups), key=rank)] == sorted(
        rank(key[0])[0] for key, _ in groups
    )


@given(st.lists(PLAIN, max_size=60), st.integers(2, 6))
def test_each_value_has_one_level(values: list[Any], bins: int) -> None:
    """Levels are in order, a number lies within its range, and what is not there has a level of its own."""
    levels, places = levelled(values, bins)

    assert len(places) == len(values)
    assert {*range(len(levels))} == {*places}
    for value, place in zip(values, places, strict=True):
        level = levels[place]
        if level.low is not None and level.high is not None:
            assert level.low <= float(value) <= level.high
        else:
            assert (value is None) == (level.value is None)
    ranges = [(level.low, level.high) for level in levels if level.low is not None]
    assert ranges == sorted(ranges)


def test_rare_words_are_one_level() -> None:
    """Of many words the most frequent are shown, and the others counted as one."""
    values = [f"w{number:02}" for number in range(40) for _ in range(40 - number)]
    levels, places = levelled(values, 5)

    assert len(levels) == WORDS_MAX
    assert [level.value for level in levels[:2]] == ["w00", "w01"]
    assert (levels[-1].value, levels[-1].values) == ("21 others", 21)
    assert places[-1] == WORDS_MAX - 1


@given(st.lists(st.tuples(st.sampled_from("abc"), NUMBERS), min_size=6, max_size=40))
def test_eta_squared_is_that_of_an_analysis_of_variance(drawn: list[tuple[str, float]]) -> None:
    """From eta squared the F of scipy's one-way analysis follows."""
    rows = effects({"x": [word for word, _ in drawn]}, [value for _, value in drawn], 5, constant_too=True)
    groups = [[value for word, value in drawn if word == each] for each in {word for word, _ in drawn}]
    eta, between, within = rows[0]["eta_squared"], len(groups) - 1, len(drawn) - len(groups)
    spread = max(value for _, value in drawn) - min(value for _, value in drawn)
    if isinstance(eta, float) and within and eta < 1 - 1e-6 and spread > 1e-3:
        expected = f_oneway(*groups).statistic
        assert eta / (1 - eta) * within / between == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


@given(CONFIGS.filter(lambda made: isinstance(made, dict)), CONFIGS.filter(lambda made: isinstance(made, dict)))
def test_a_diff_leads_from_the_one_to_the_other(one: Any, other: Any) -> None:
    """Taking out, putting in and changing what the diff says makes the other config of the one."""
    first, second = flat(json.dumps(one)), flat(json.dumps(other))
    made = {spelled(path): value for path, value in first.items()}
    second_spelled = {spelled(path): value for path, value in second.items()}
    for row in differences(first, second):
        made.pop(str(row["path"]), None)
        if row["change"] != "removed":
            made[str(row["path"])] = row["other"]
    assert {path: same(value) for path, value in made.items()} == {
        path: same(value) for path, value in second_spelled.items()
    }
    assert (differences(first, second) == []) == (varying([first, second]) == [])


def test_a_key_with_a_dot_hides_nothing() -> None:
    """Where two keys spell one path, or a key the place in a list, both are there, in whatever order they came."""
    assert flat('{"a.b": 1, "a": {"b": 2}}') == {("a.b",): 1, ("a", "b"): 2}
    assert flat(None) == flat("{}") == {}
    assert differences(flat('{"a.b": 1, "a": {"b": 2}}'), flat('{"a": {"b": 2}, "a.b": 1}')) == []
    for one, other in (('{"a": [1]}', '{"a": {"0": 1}}'), ('{"a.0": 1}', '{"a": {"0": 1}}')):
        rows = differences(flat(one), flat(other))
        assert {(row["path"], row["change"], row["one"], row["other"]) for row in rows} == {
            ("a.0", "removed", 1, None),
            ("a.0", "added", None, 1),
        }
        assert [row["path"] for row in group_differences([flat(one)], [flat(other)], 5)] == ["a.0", "a.0"]


def test_groups_that_are_alike_have_no_difference() -> None:
    """Values that are spread alike tell nothing."""
    assert group_differences([{("a",): n} for n in (1, 2)], [{("a",): n} for n in (2, 1, 1, 2)], 5) == []


@given(st.lists(st.tuples(MOMENTS, MOMENTS), max_size=8), st.lists(MOMENTS, min_size=1, max_size=4, unique=True))
def test_parts_of_runs_add_up(runs: list[tuple[datetime, datetime]], changes: list[datetime]) -> None:
    """Over months and changes of price nothing is lost: parts sum to the whole, in hours and in money."""
    rows = [("g5", "crashed", text(min(run)), text(max(run)), None) for run in runs]
    prices = read_prices([{"instance_type": "g5", "price_per_hour": 1 + n, "from": at} for n, at in enumerate(changes)])
    always = read_prices({"g5": 2})
    whole = sum(((max(run) - min(run)) / timedelta(hours=1) for run in runs), 0.0)

    for table in (prices, always):
        (total,) = cost(rows, [], table, NOW)
        monthly = cost(rows, ["month"], table, NOW)
        assert total["hours"] == pytest.approx(whole)
        for name in ("hours", "unpriced_hours", "money", "crashed_money"):
            of_months = [row[name] for row in monthly if row[name] is not None]
            assert math.fsum(of_months) == pytest.approx(total[name] or 0.0, rel=1e-9, abs=1e-6)
    assert cost(rows, [], always, NOW)[0]["money"] == pytest.approx(2 * whole)


@given(MOMENTS, st.integers(1, 10**12), st.integers(0, 10**12))
def test_a_change_of_price_moves_exactly_the_hours_behind_it(start: datetime, lasted: int, into: int) -> None:
    """With one price up to a moment and another from it, each microsecond has the price of its side."""
    begin = instant_of(start)
    change = begin + into
    table = read_prices([
        {"instance_type": "g5", "price_per_hour": 1},
        {"instance_type": "g5", "price_per_hour": 3, "from": start + timedelta(microseconds=into)},
    ])  # fmt: skip
    charged = table.charged("g5", [Span(begin, begin + lasted)])
    behind = max(begin + lasted - change, 0)
    assert (charged[Decimal(1)], charged[Decimal(3)]) == (lasted - behind, behind)


@given(MOMENTS, MOMENTS)
def test_months_are_those_of_the_calendar(one: datetime, other: datetime) -> None:
    """Each part lies within its month, and the next begins where it ends, at midnight of a first day."""
    begin, end = sorted((instant_of(one), instant_of(other)))
    parts = list(by_month(Span(begin, end)))

    assert (parts[0][1].begin, parts[-1][1].end) == (begin, end)
    for (_, before), (_, after) in zip(parts, parts[1:], strict=False):
        since = after.begin
        assert before.end == since
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since)
        assert (at.day, at.hour, at.minute, at.second, at.microsecond) == (1, 0, 0, 0, 0)
    assert [month for month, _ in parts] == sorted({month for month, _ in parts})


@given(
    st.lists(st.tuples(MOMENTS, st.integers(0, 10**15)), min_size=1, max_size=6),
    st.sampled_from(("day", "week", "month")),
)
def test_hours_of_periods_add_up(runs: list[tuple[datetime, int]], per: str) -> None:
    """Whatever the period, the hours of all of them are those of the runs."""
    rows = []
    for start, lasted in runs:
        near = datetime(2020, 1, 1, tzinfo=UTC) + (start - datetime(1990, 1, 1, tzinfo=UTC)) / 50
        rows.append((text(near), "completed", text(near), text(near + timedelta(microseconds=lasted // 100)), None))
    expected = sum(instant(end) - instant(begin) for _, _, begin, end, _ in rows) / HOUR
    made = throughput(rows, per, NOW)

    assert math.fsum(row["hours"] for row in made) == pytest.approx(expected)
    begins = [date.fromisoformat(str(row["begins"])) for row in made]
    assert begins == sorted(set(begins))


def test_periods_far_apart_are_refused() -> None:
    """A moment far away, somebody's slip, does not make a row for each day since."""
    rows = [(f"{year}-01-01T00:00:00.000000Z", "launched", None, None, None) for year in ("0001", "2026")]
    with pytest.raises(AskedWrongly, match="created_after"):
        throughput(rows, "day", NOW)
    ends = [(f"{day}T00:00:00.000000Z", "launched", None, None, None) for day in ("0001-01-01", "0001-01-02")]
    never_began = [
        (f"{year}-01-01T00:00:00.000000Z", "failed", None, "9999-01-01T00:00:00.000000Z", None)
        for year in ("2026", "9999")
    ]
    with pytest.raises(AskedWrongly, match="9999-01-01"):
        throughput(never_began, "day", NOW)
    assert len(throughput(ends, "week", NOW)) == len(throughput(ends, "month", NOW)) == 1
    assert (
        throughput([("9999-12-30T00:00:00.000000Z", "launched", None, None, None)], "month", NOW)[0]["month"]
        == "9999-12"
    )


def test_centuries_are_not_divided_by_months() -> None:
    """A run that seems to have lasted for centuries is somebody's slip, and is said to be."""
    rows = [("g5", "completed", "0001-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z", None)]
    assert cost(rows, [], read_prices({"g5": 1}), NOW)[0]["hours"] > 10**7
    with pytest.raises(AskedWrongly, match="hundred years"):
        cost(rows, ["month"], read_prices({"g5": 1}), NOW)


def test_spans_of_what_is_half_known() -> None:
    """A start that is not known is the end less the duration; what ends before it began takes no time."""
    start, end = "2026-01-01T00:00:00.000000Z", "2026-01-01T01:00:00.000000Z"
    assert span_of("completed", None, end, 60, now=NOW) == Span(instant(end) - 60_000_000, instant(end))
    assert span_of("completed", start, None, 60, now=NOW) == Span(instant(start), instant(start) + 60_000_000)
    assert span_of("completed", end, start, None, now=NOW) == Span(instant(end), instant(end))
    assert span_of("completed", None, end, 2**62, now=NOW) is span_of("completed", start, None, 2**62, now=NOW) is None
    assert span_of("running", start, None, None, now=NOW) == Span(instant(start), NOW)
    assert span_of("launched", None, None, None, now=NOW) is span_of("completed", None, end, None, now=NOW) is None
    assert span_of("running", None, None, 60, now=NOW) is span_of("running", None, end, 60, now=NOW) is None


def test_what_a_lost_run_did_ends_when_it_was_last_seen() -> None:
    """One that was never seen ends when it began; one that is late, or that has ended, is not cut short."""
    start, seen = "2026-01-01T00:00:00.000000Z", "2026-01-01T01:00:00.000000Z"
    begin = instant(start)
    assert span_of("running", start, None, None, None, seen, "lost", now=NOW) == Span(begin, instant(seen), lost=True)
    assert span_of("running", start, None, None, None, None, "lost", now=NOW) == Span(begin, begin, lost=True)
    assert span_of("running", start, None, None, None, seen, "late", now=NOW) == Span(begin, NOW)
    assert span_of("completed", start, seen, None, None, start, "ended", now=NOW) == Span(begin, instant(seen))


@given(MOMENTS, st.integers(10, 400 * DAY), st.floats(0, 1), st.integers(0, 3))
def test_idle_time_is_in_no_sum(start: datetime, lasted: int, share: float, cuts: int) -> None:
    """What a run that was resumed worked is what it was active, over all months, prices and days together."""
    active = int(lasted * share) // 1_000_000
    end = start + timedelta(microseconds=lasted)
    worked = lasted if lasted - active * 1_000_000 < 1_000_000 else active * 1_000_000
    changes = [start + (end - start) * cut / 4 for cut in range(cuts)]
    prices = read_prices(
        [{"instance_type": "g5", "price_per_hour": n, "from": at} for n, at in enumerate(changes)] or {"g5": 1}
    )
    row = ("completed", text(start), text(end), None, active)

    assert sum(part["hours"] for part in cost([("g5", *row)], ["month"], prices, NOW)) == pytest.approx(worked / HOUR)
    assert cost([("g5", *row)], [], prices, NOW)[0]["hours"] == worked / HOUR
    days = throughput([(text(start), *row)], "day", NOW)
    assert math.fsum(day["hours"] for day in days) == pytest.approx(worked / HOUR)


CSV = "instance_type,price_per_hour,from,currency\ng5,1.5,,EUR\ng5,2.25,2026-01-02,EUR\n"
YAML = "- {instance_type: g5, price_per_hour: 1.5, currency: EUR}\n- {instance_type: g5, price_per_hour: 2.25, from: 2026-01-02, currency: EUR}\n"
JSON = '[{"instance_type": "g5", "price_per_hour": 1.5, "currency": "EUR"}, {"instance_type": "g5", "price_per_hour": 2.25, "from": "2026-01-02T00:00:00Z", "currency": "EUR"}]'


@pytest.mark.parametrize(("name", "content"), [("p.csv", CSV), ("p.yaml", YAML), ("p.yml", YAML), ("p.json", JSON)])
def test_prices_are_read_from_files(tmp_path: Path, name: str, content: str) -> None:
    """CSV, YAML and JSON say the same, a path as text or as a path."""
    (tmp_path / name).write_text(content)
    begin = instant("2026-01-01T23:00:00.000000Z")
    for given_as in (tmp_path / name, str(tmp_path / name)):
        table = read_prices(given_as)
        assert table.charged("g5", [Span(begin, begin + 2 * HOUR)]) == {Decimal("1.5"): HOUR, Decimal("2.25"): HOUR}
        assert table.currency == "EUR"


@pytest.mark.parametrize(
    ("prices", "error", "words"),
    [
        ([{"instance_type": "g5", "price_per_hour": "much"}], InvalidValue, "row 1: price_per_hour"),
        ([{"instance_type": "g5", "price_per_hour": -1}], InvalidValue, "0 or more"),
        ([{"instance_type": "g5", "price_per_hour": float("nan")}], InvalidValue, "0 or more"),
        ([{"instance_type": "g5", "price_per_hour": True}], InvalidValue, "0 or more"),
        ([{"price_per_hour": 1}], InvalidValue, "instance_type"),
        ([{"instance_type": "g5", "price_per_hour": 1, "since": "2026-01-01"}], UnknownKeyword, "row 1"),
        ([{"instance_type": "g5", "price_per_hour": 1, "from": "soon"}], InvalidValue, "date"),
        ([{"instance_type": "g5", "price_per_hour": 1, "currency": 5}], InvalidValue, "currency"),
        ([{"instance_type": "g5", "price_per_hour": n} for n in (1, 2)], AskedWrongly, "second price"),
        ([{"instance_type": "g5", "price_per_hour": 1, "currency": c} for c in ("USD", "EUR")], AskedWrongly, "sum"),
        (["g5"], InvalidValue, "row 1"),
        (5, InvalidValue, "file"),
        ([], InvalidValue, "at least one"),
        ({}, InvalidValue, "at least one"),
        ("prices.txt", InvalidValue, "csv"),
        ("nowhere.csv", AskedWrongly, "cannot be read"),
    ],
)
def test_prices_that_cannot_be_meant_are_refused(prices: Any, error: type[Exception], words: str) -> None:
    """A price that is no price, a word that is not known, two prices at once: an error that says which row."""
    with pytest.raises(error, match=words):
        read_prices(prices)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "a,b\n1\n"),
        ("p.csv", 'instance_type,price_per_hour\n"g5,1\n'),
        ("p.csv", f"instance_type,price_per_hour\n{'g' * 200_000},1\n"),
        ("p.csv", f"instance_type,{'g' * 200_000}\ng5,1\n"),
        ("p.csv", "instance_type,price_per_hour, price_per_hour\ng5,1,2\n"),
        ("p.json", "{"),
        ("p.json", '{"g5": 1, "g5": 2}'),
        ("p.json", '[{"instance_type": "g5", "price_per_hour": 1, "price_per_hour": 2}]'),
        ("p.yaml", "a: ["),
        ("p.yaml", "g5: 1\ng5: 2\n"),
        ("p.yaml", "- {instance_type: g5, price_per_hour: 1, price_per_hour: 2}\n"),
    ],
)
def test_files_of_prices_that_are_none(tmp_path: Path, name: str, content: str) -> None:
    """A file that cannot be parsed, or says one thing twice, is named, with the reason."""
    (tmp_path / name).write_text(content)
    with pytest.raises(AskedWrongly, match=name):
        read_prices(tmp_path / name)


def test_what_crashed_at_unknown_prices_cost_an_unknown_sum() -> None:
    """It is None, and not 0, also where other runs have a price; where nothing failed, that cost nothing."""
    hour = ("2026-01-01T00:00:00.000000Z", "2026-01-01T01:00:00.000000Z", 3600)
    (row,) = cost([("g5", "completed", *hour), ("p4", "crashed", *hour)], [], read_prices({"g5": 2}), NOW)
    assert (row["money"], row["crashed_money"], row["failed_money"]) == (2.0, None, 0.0)
    (row,) = cost([(None, "crashed", *hour)], [], read_prices({"None": 2}), NOW)
    assert (row["money"], row["unpriced_runs"]) == (None, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [("p.csv", ""), ("p.csv", "instance_type,price_per_hour\n"), ("p.json", "[]"), ("p.yaml", "{}"), ("p.yaml", "")],
)
def test_files_without_a_price_are_refused(tmp_path: Path, name: str, content: str) -> None:
    """An empty table would price nothing."""
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidValue, match="wanted"):
        read_prices(tmp_path / name)


def test_money_is_exact() -> None:
    """A tenth is a tenth: ten runs of an hour at 0.1 cost 1, not nearly 1."""
    rows = [
        ("g5", "completed", f"2026-01-{day:02}T00:00:00.000000Z", f"2026-01-{day:02}T01:00:00.000000Z", None)
        for day in range(1, 11)
    ]
    assert cost(rows, [], read_prices({"g5": 0.1}), NOW)[0]["money"] == 1.0
