"""Reports of runs, beside pandas over the same runs, on each kind of database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from ledger import Ledger, origin
from ledger.errors import AskedWrongly, InvalidValue, RunNotFound, UnknownColumn, UnknownFilter
from tests.builders import NOON, annotated, completed, crashed, failed, heartbeat, launched, moment, started
from tests.places import on_both
from tests.reporting.fleet import METRIC, fill, frame, grouped, plain, spans

pytestmark = on_both

NOW = NOON + timedelta(days=200)
BROKEN = ("crashed", "failed")


@pytest.fixture(autouse=True)
def _at_a_known_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be the same time throughout a report and its proof."""
    monkeypatch.setattr(origin, "utc_now", lambda: NOW)


@pytest.fixture
def fleet(book: Ledger) -> Ledger:
    """Give a ledger of many runs."""
    fill(book)
    return book


@pytest.mark.parametrize("by", ["gradient_method", "instance_type", "host", "end_reason"])
def test_outcomes_are_what_pandas_counts(fleet: Ledger, by: str) -> None:
    """Each value has its runs by status, None among the values; what has most runs comes first."""
    rows, parts = fleet.outcomes(by), grouped(frame(fleet), by)

    assert {row[by] for row in rows} == set(parts)
    assert [row["runs"] for row in rows] == sorted((len(part) for part in parts.values()), reverse=True)
    for row in rows:
        counts = parts[row[by]]["status"].value_counts()
        ended = sum(int(counts.get(status, 0)) for status in ("completed", *BROKEN))
        assert {status: row[status] for status in counts.index} == counts.to_dict()
        assert row["ended"] == ended
        assert row["success_rate"] == (pytest.approx(counts.get("completed", 0) / ended) if ended else None)


def test_outcomes_by_a_path_and_by_several_names(fleet: Ledger) -> None:
    """A path into the config groups as a column does; true is another value than 1."""
    runs = frame(fleet)
    flags = [repr(config["training"]["bf16"]) for config in runs["config"]]
    rows = fleet.outcomes("config.training.bf16")
    both = fleet.outcomes(["host", "config.dotted.key"], {"status": "completed"})

    assert {repr(row["config.training.bf16"]): row["runs"] for row in rows} == pd.Series(flags).value_counts().to_dict()
    assert sum(row["runs"] for row in both) == (runs["status"] == "completed").sum()
    assert {(row["host"], row["config.dotted.key"]) for row in both} == {(h, k) for h in ("ec2", "hpc") for k in "ab"}
    assert [row["runs"] for row in fleet.outcomes(None)] == [len(runs)]


@pytest.mark.parametrize("by", [None, "gradient_method"])
def test_durations_are_what_pandas_computes(fleet: Ledger, by: str | None) -> None:
    """Quantiles are linear, as numpy's; a running run counts from its start up to now."""
    runs = frame(fleet)
    so_far = (NOW - runs["started_at"]).dt.total_seconds().where(runs["status"] == "running")
    runs["seconds"] = so_far.fillna(runs["duration_seconds"].astype(float))
    for row in fleet.durations(by):
        part = runs if by is None else grouped(runs, by)[row[by]]
        seconds = part["seconds"].dropna()
        assert (row["runs"], row["count"]) == (len(part), len(seconds))
        assert row["unknown"] == len(part) - len(seconds)
        assert row["running"] == (part["status"] == "running").sum()
        assert row["mean_seconds"] == pytest.approx(seconds.mean())
        assert row["median_seconds"] == pytest.approx(seconds.median())
        assert row["p90_seconds"] == pytest.approx(np.quantile(seconds, 0.9))
        found = (row["min_seconds"], row["max_seconds"], row["total_seconds"])
        assert found == pytest.approx((seconds.min(), seconds.max(), seconds.sum()))


def test_crashes_are_what_pandas_counts(fleet: Ledger) -> None:
    """Crashed and failed are counted apart, with those that were analysed, and how long they ran."""
    runs = frame(fleet)
    broken = runs[runs["status"].isin(BROKEN)]
    rows, parts = fleet.crashes(), grouped(broken, "end_reason")

    assert {row["end_reason"] for row in rows} == set(parts)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    for row in rows:
        part = parts[row["end_reason"]]
        assert [row[status] for status in BROKEN] == [(part["status"] == status).sum() for status in BROKEN]
        assert row["with_analysis"] == part["crash_analysis_s3_key"].notna().sum()
        seconds = part["duration_seconds"].dropna().astype(float)
        assert row["unknown"] == len(part) - len(seconds)
        assert row["p90_seconds"] == (pytest.approx(seconds.quantile(0.9)) if len(seconds) else None)


def test_time_to_crash_is_what_pandas_cuts(fleet: Ledger) -> None:
    """Each span holds the runs that it should, its lower bound included; those of which nothing is known come last."""
    runs = frame(fleet)
    seconds = runs[runs["status"].isin(BROKEN)]["duration_seconds"].astype(float)
    cut = pd.cut(seconds, [0, 60, 600, 3600, 6 * 3600, 24 * 3600, np.inf], right=False).value_counts(sort=False)
    rows = fleet.time_to_crash()

    assert [row["crashed"] + row["failed"] for row in rows] == [*cut, seconds.isna().sum()]
    assert len(fleet.time_to_crash("host")) == 2 * 7


@pytest.mark.parametrize(("per", "rule"), [("day", "D"), ("week", "W-MON"), ("month", "MS")])
def test_throughput_is_what_pandas_resamples(fleet: Ledger, per: str, rule: str) -> None:
    """Each period between the first and the last has a row; hours are those that lie within it."""
    runs = spans(frame(fleet), NOW)
    rows = {row["begins"]: row for row in fleet.throughput(per)}
    begins = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in rows]
    offset = {"day": timedelta(1), "week": timedelta(7), "month": pd.offsets.MonthBegin(1)}[per]
    known = runs.dropna(subset=["begin", "end"])

    assert list(rows) == [f"{at:%Y-%m-%d}" for at in pd.date_range(begins[0], begins[-1], freq=rule)]
    assert sum(row["launched"] for row in rows.values()) == len(runs)
    for at, row in zip(begins, rows.values(), strict=True):
        after = at + offset
        within = lambda moments: (moments >= at) & (moments < after)  # noqa: B023, E731
        assert row["launched"] == within(runs["created_at"]).sum()
        for status in ("completed", *BROKEN):
            assert row[status] == within(runs[runs["status"] == status]["ended_at"]).sum()
        inside = known["end"].clip(upper=after) - known["begin"].clip(lower=at)
        hours = inside[inside > timedelta(0)].sum() / timedelta(hours=1)
        assert row["hours"] == pytest.approx(hours, abs=1e-6)


def test_weeks_are_those_of_iso_8601(book: Ledger) -> None:
    """The first days of January belong to the last week of the year before; empty weeks are rows with zeros."""
    book.append([launched(run="a", config={}), launched(14 * 24 * 3600, run="b", config={})])
    book.append([launched((datetime(2027, 1, 1, tzinfo=UTC) - NOON).total_seconds(), run="c", config={})])
    rows = book.throughput()

    assert [rows[0]["week"], rows[-1]["week"]] == ["2024-W18", "2026-W53"]
    assert [row["launched"] for row in rows[:4]] == [1, 0, 1, 0]


PRICES = [
    {"instance_type": "g5.12xlarge", "price_per_hour": "5.672", "currency": "USD"},
    {"instance_type": "p4d.24xlarge", "price_per_hour": 32.7726, "from": "2024-05-01", "currency": "USD"},
    {"instance_type": "p4d.24xlarge", "price_per_hour": 21.96, "from": datetime(2024, 7, 15, 6, tzinfo=UTC), "currency": "USD"},
    {"instance_type": "trn1.32xlarge", "price_per_hour": 21.5, "from": "2024-08-01T12:30:00Z", "currency": "USD"},
]  # fmt: skip


def price_of(kind: str | None, at: pd.Timestamp) -> float | None:
    found = [
        row
        for row in PRICES
        if row["instance_type"] == kind and pd.Timestamp(row.get("from", 0)).tz_localize(None) <= at.tz_localize(None)
    ]
    return float(found[-1]["price_per_hour"]) if found else None


def minutes(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs cut at each midnight, and each price's change: by pieces with one price in one month."""
    changes = [pd.Timestamp(row["from"]).tz_localize(None).tz_localize("UTC") for row in PRICES if "from" in row]
    made = []
    for run in runs.dropna(subset=["begin", "end"]).to_dict("records"):
        inner = [*pd.date_range(run["begin"].ceil("D"), run["end"], freq="D"), *changes]
        edges = sorted({run["begin"], run["end"], *(at for at in inner if run["begin"] < at < run["end"])})
        for begin, end in zip(edges, edges[1:]):
            price = price_of(plain(run["instance_type"]), begin)
            hours = (end - begin) / timedelta(hours=1)
            made.append(
                {**run, "month": f"{begin:%Y-%m}", "hours": hours, "money": None if price is None else hours * price}
            )
    return pd.DataFrame(made)


@pytest.mark.parametrize("by", ["instance_type", "gradient_method", "month", ["month", "host"]])
def test_cost_is_what_pieces_of_days_add_up_to(fleet: Ledger, by: str | list[str]) -> None:
    """Hours and money are those of all pieces, each at the price that held when it began."""
    runs = spans(frame(fleet), NOW)
    pieces = minutes(runs)
    names = [by] if isinstance(by, str) else by
    known = [row for row in fleet.cost(PRICES, by) if row["runs"] > row["unknown"]]
    parts = {tuple(map(plain, key)): part for key, part in pieces.groupby(names, dropna=False)}

    assert {tuple(row[name] for name in names) for row in known} == set(parts)
    for row in known:
        part = parts[tuple(row[name] for name in names)]
        unpriced = part[part["money"].isna()]
        assert row["hours"] == pytest.approx(part["hours"].sum())
        assert row["unpriced_hours"] == pytest.approx(unpriced["hours"].sum())
        assert row["unpriced_runs"] == unpriced["run_id"].nunique()
        assert row["runs"] - row["unknown"] == part["run_id"].nunique()
        money = part["money"].astype(float).sum()
        assert row["money"] == (pytest.approx(money) if len(unpriced) < len(part) else None)
        for status in BROKEN if row["money"] is not None else ():
            lost = part[part["status"] == status]["money"].astype(float)
            known_of_lost = lost.notna().any() or not len(lost)
            assert row[f"{status}_money"] == (pytest.approx(lost.sum()) if known_of_lost else None)
        assert row["currency"] == "USD"


def test_runs_that_never_ran_cost_nothing_and_are_counted(fleet: Ledger) -> None:
    """A run without a start is in no hour and no sum, but is counted as unknown."""
    runs = spans(frame(fleet), NOW)
    (row,) = fleet.cost(PRICES, by=None)

    assert row["runs"] == len(runs)
    assert row["unknown"] == (runs["begin"].isna() | runs["end"].isna()).sum() > 0


def test_a_run_over_a_change_of_price_is_charged_by_parts(book: Ledger) -> None:
    """Six hours at the old price and six at the new one are charged as such."""
    book.append([launched(run="a", instance_type="g5", config={}), started(run="a"), completed(12 * 3600, run="a")])
    prices = [
        {"instance_type": "g5", "price_per_hour": 1},
        {"instance_type": "g5", "price_per_hour": 3, "from": moment(6 * 3600)},
    ]
    (row,) = book.cost(prices)
    assert (row["hours"], row["money"], row["unpriced_hours"]) == (12.0, 24.0, 0.0)


def test_a_resumed_run_is_charged_for_the_hours_in_which_it_ran(book: Ledger) -> None:
    """The month between its crash and its second start is in no hours and no money, but in how long it took."""
    later = 30 * 24 * 3600
    book.append([launched(run="a", config={}, instance_type="g5"), started(run="a"), crashed(3600, run="a")])
    book.append([started(later, run="a"), completed(later + 3600, run="a")])
    (row,) = book.cost({"g5": 3})
    assert (row["hours"], row["money"]) == (2.0, 6.0)
    assert sum(week["hours"] for week in book.throughput()) == pytest.approx(2)
    assert book.durations()[0]["max_seconds"] == later + 3600


def test_a_resumed_run_that_still_runs_is_charged_for_both(book: Ledger) -> None:
    """What it had done before, and what has passed since it was started again; in a view as of then, up to then."""
    later = 30 * 24 * 3600
    book.append([launched(run="a", config={}, instance_type="g5"), started(run="a"), crashed(3600, run="a")])
    book.append(started(later, run="a"))
    assert book.cost({"g5": 1})[0]["hours"] == 1 + 170 * 24
    with book.as_of(moment(later + 7200)) as then:
        assert then.cost({"g5": 1})[0]["hours"] == 3
    assert sum(month["hours"] for month in book.throughput("month")) == pytest.approx(1 + 170 * 24)


def test_a_run_that_fell_silent_is_charged_up_to_its_last_sign_of_life(book: Ledger) -> None:
    """It is counted as lost; one that never beat may live, and runs up to now."""
    book.append([launched(run="a", config={}, instance_type="g5"), started(run="a")])
    book.append([heartbeat(3600, run="a", lease_seconds=60)])
    (row,), (lasted,) = book.cost({"g5": 3}), book.durations()
    assert (row["hours"], row["money"], row["lost"]) == (1.0, 3.0, 1)
    assert (lasted["max_seconds"], lasted["running"], lasted["lost"]) == (3600, 1, 1)
    assert sum(week["hours"] for week in book.throughput()) == pytest.approx(1)
    book.append([launched(run="b", config={}, instance_type="g5"), started(run="b")])
    assert (book.cost({"g5": 3})[0]["hours"], book.durations()[0]["lost"]) == (1 + 200 * 24, 1)


def test_zero_runs_are_a_right_answer(book: Ledger) -> None:
    """An empty ledger has no groups, one total, no week, no cost, nothing best and no effects."""
    assert book.outcomes() == book.crashes() == book.throughput() == book.cost({"g5": 1}) == []
    assert book.best_runs("loss") == book.effects("loss") == []
    assert book.last_good_first_crashed() is None
    (all_of_none,) = book.durations()
    assert (all_of_none["count"], all_of_none["mean_seconds"], all_of_none["total_seconds"]) == (0, None, 0)
    assert book.cost({"g5": 1}, by=[])[0]["money"] == 0
    assert [row["share"] for row in book.time_to_crash()] == [None] * 7
    assert book.outcomes(None)[0]["success_rate"] is None


def test_what_cannot_be_meant_is_refused(fleet: Ledger) -> None:
    """Unknown names, metrics that no run has, single runs against groups: each is an error that says the mend."""
    with pytest.raises(UnknownColumn, match="gradient_method"):
        fleet.outcomes("gradient_methods")
    with pytest.raises(UnknownColumn, match="month"):
        fleet.cost({"g5": 1}, by="months")
    with pytest.raises(InvalidValue, match="once"):
        fleet.durations(["host", "host"])
    with pytest.raises(UnknownFilter, match="host"):
        fleet.crashes(filters={"hosts": "ec2"})
    with pytest.raises(InvalidValue, match="week"):
        fleet.throughput("weak")
    for ask in (fleet.best_runs, fleet.effects, fleet.importance):
        with pytest.raises(InvalidValue, match=METRIC.replace("/", ".")):
            ask(METRIC.replace("maximize", "maximise"))
    with pytest.raises(InvalidValue, match="quotes"):
        fleet.outcomes('config."x"')
    with pytest.raises(RunNotFound):
        fleet.config_diff("run-0001", "nobody")
    with pytest.raises(AskedWrongly, match="two"):
        fleet.config_diff("run-0001", {"status": "crashed"})
    with pytest.raises(AskedWrongly, match="no run"):
        fleet.config_diff({"host": "nowhere"}, {"status": "crashed"})


def test_the_past_reports_what_was(book: Ledger) -> None:
    """A view of the past counts what had happened by then, and a run that ran then up to that moment."""
    book.append([launched(run="a", config={}, instance_type="g5"), started(run="a")])
    book.append([launched(run="b", config={}), started(run="b"), failed(60, run="b"), annotated(run="b", note="x")])
    book.append([completed(7200, run="a")])
    with book.as_of(moment(3600)) as then:
        assert {row["host"]: (row["running"], row["completed"], row["failed"]) for row in then.outcomes("host")} == {
            None: (1, 0, 1)
        }
        assert [row["max_seconds"] for row in then.durations()] == [3600.0]
        assert [(row["hours"], row["money"]) for row in then.cost({"g5": 2}, filters={"instance_type": "g5"})] == [
            (1.0, 2.0)
        ]
        assert then.throughput()[0]["hours"] == pytest.approx(1 + 60 / 3600)
    assert book.durations()[0]["max_seconds"] == 7200
