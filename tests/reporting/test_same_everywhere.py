"""Runs with whatever a stranger may say: each database reports the same of them, and none fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ledger import Ledger
from ledger.analytics.groups import rank
from ledger.errors import AskedWrongly
from tests.builders import trials
from tests.queries.databases import empty_ledgers
from tests.queries.fleet import NOW, batches, filled, standing_at

RUNS = 250
FILTERS: tuple[dict[str, object] | None, ...] = (None, {"has_started_at": True, "not_host": "ec2"})
BY = (
    *(None, "gradient_method", "host", "status", "learning_rate", "created_at", "end_reason", "exit_code"),
    *(
        "config.a",
        "config.a.b",
        "config.training.lr",
        "config.objectives.0.name",
        "config.0",
        "metadata.a",
        "metrics.loss",
    ),
    ["host", "config.seed", "status"],
)
PRICES = [
    {"instance_type": kind, "price_per_hour": 1 + number / 7, "from": start}
    for number, kind in enumerate(("mgda", "ec2", "", "1", "😀"))
    for start in (["2024-05-02"] if number % 2 else [None])
    if kind
]


def asked(ask: Callable[[], Any]) -> Any:
    """Return the answer, or the error that says how to ask."""
    try:
        return ask()
    except AskedWrongly as exc:
        return f"{type(exc).__name__}: {exc}"


def comparable(value: Any) -> Any:
    """Return what a report says, but for lone surrogates in documents, for which a server has another character, in another place."""
    if isinstance(value, dict):
        return {comparable(key): comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((comparable(item) for item in value), key=rank)
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else value


def reports(book: Ledger, metric: str, filters: dict[str, object] | None) -> dict[str, Any]:
    by_anything = {
        f"{name} by {by}": asked(lambda ask=ask, by=by: ask(by=by, filters=filters))  # type: ignore[misc]
        for name, ask in (("outcomes", book.outcomes), ("durations", book.durations), ("crashes", book.crashes))
        for by in BY
    }
    per_period = {per: asked(lambda per=per: book.throughput(per, filters)) for per in ("day", "week", "month")}  # type: ignore[misc]
    return {
        **by_anything,
        **per_period,
        "time": book.time_to_crash("host", filters),
        "cost": asked(lambda: book.cost(PRICES, ["month", "host"], filters)),
        "cost by month": asked(
            lambda: book.cost(PRICES, "month", {"started_after": "2024-01-01", "has_duration_seconds": True})
        ),
        "cost by path": asked(lambda: book.cost(PRICES, "config.a", filters)),
        "best": asked(lambda: book.best_runs(metric, filters, status=None)),
        "worst": asked(lambda: book.best_runs(metric, filters, None, minimize=True, status=None)),
        "effects": asked(lambda: book.effects(metric, None, filters, None)),
        "effects of": asked(lambda: book.effects(metric, ["config.a", "config.b", "beta", "config.lr"], filters, None)),
        "groups": asked(lambda: book.config_diff({"status": "completed"}, {"not_status": "completed"})),
        "last": asked(lambda: book.last_good_first_crashed(filters)),
    }


@pytest.mark.parametrize("seed", range(trials(2, 8)))
def test_any_run_is_reported_alike_everywhere(seed: int) -> None:
    """Numbers at the ends of what there is, odd keys, odd text, odd times: the same rows from each database."""
    accepted = batches(seed + 100, RUNS)
    with empty_ledgers() as books, standing_at(NOW):
        for book in books.values():
            filled(book, accepted)
        for metric in ("train/loss", "a.b", "nothing"):
            for filters in FILTERS:
                one, other = (comparable(reports(book, metric, filters)) for book in books.values())
                for name, rows in one.items():
                    assert rows == other[name], (name, metric, filters)
