"""The verb `report`: what many runs come to, each report as a table or as its rows."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.cli.asking import filters_of, gathered
from ledger.cli.output import say, say_document, short_duration, status_paint, width
from ledger.cli.place import asked
from ledger.errors import AskedWrongly
from ledger.table import table

if TYPE_CHECKING:
    from ledger.asking import Asking

__all__ = ["REPORTS", "report"]

Row = Mapping[str, object]
Report = Callable[["Asking", Namespace], Sequence[Row]]


def report(said: Namespace) -> int:
    """Report what many runs come to. See: ledger report NAME --help, and docs/analytics.md.

    Filters are those of `ledger runs`: -f status=crashed -f min_duration_hours=2 --since 30d.
    With --json: the rows, as the function of the report's name returns them.
    """
    with asked(said) as ledger:
        rows = REPORTS[said.report](ledger, said)
    if said.as_json:
        say_document(rows)
    elif rows:
        names = list(rows[0])
        own = said.metric if said.report == "best" else None  # a name that users gave says nothing of its unit
        headings = [name if name == own else _heading(name, names) for name in names]
        readable = [
            [row.get(name) if name == own else _readable(name, row.get(name)) for name in names] for row in rows
        ]
        shown = [dict(zip(headings, values, strict=True)) for values in readable]
        say(table(shown, headings, width=width(), gives_way=headings[-1], paint=status_paint))
    else:
        say(_NOTHING.get(said.report, "no runs"))
    return 0


_NOTHING = {"diff": "no difference", "crashes": "no crashes", "last-good": "no run crashed after one that completed"}


def _heading(name: str, names: Sequence[str]) -> str:
    """The name, and a clock's without its unit, where no other column is called so."""
    bare = name.removesuffix("_seconds") if name in _CLOCKS else name
    return name if bare in names else bare


def _readable(name: str, value: object) -> object:
    """A value as people read it: durations as clocks, rates and sums of money without digits that say nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool) and name in _CLOCKS:
        return short_duration(round(value))
    if isinstance(value, float) and name in _DIGITS:
        return f"{round(value, _DIGITS[name]) + 0.0:,.{_DIGITS[name]}f}"  # and no -0.000
    if isinstance(value, list) and value and all(isinstance(item, dict) and "runs" in item for item in value):
        return ", ".join(f"{_value(item)} ({item['runs']})" for item in value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


_COUNTED = ("duration", "active", "mean", "median", "p90", "min", "max", "total", "from", "below")
_CLOCKS = frozenset(f"{name}_seconds" for name in _COUNTED)
_RATES = ("success_rate", "success_low", "success_high", "share", "distance", "eta_squared", "epsilon_squared")
_DIGITS = {
    **dict.fromkeys((*_RATES, "importance", "r_squared"), 3),
    **dict.fromkeys(("money", "crashed_money", "failed_money"), 2),
    **dict.fromkeys(("hours", "unpriced_hours", "mean_hours"), 1),
}


def _value(item: Row) -> str:
    if item.get("absent"):
        return "(absent)"
    value = item["value"]
    return value if isinstance(value, str) else json.dumps(value)


def _outcomes(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.outcomes(said.by or "gradient_method", filters_of(said))


def _durations(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.durations(said.by, filters_of(said))


def _crashes(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.crashes(said.by or "end_reason", filters_of(said))


def _time_to_crash(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.time_to_crash(said.by, filters_of(said))


def _throughput(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.throughput(said.per, filters_of(said))


def _cost(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.cost(said.prices, said.by or "instance_type", filters_of(said))


def _diff(ledger: Asking, said: Namespace) -> Sequence[Row]:
    if len(said.runs) == 2 and not said.one and not said.other:
        return ledger.config_diff(*said.runs)
    if said.runs or not said.one or not said.other:
        raise AskedWrongly(
            "diff compares two runs, or two groups of runs. Say: ledger report diff RUN RUN, "
            "or ledger report diff --one status=completed --other status=crashed"
        )
    return ledger.config_diff(gathered(said.one), gathered(said.other))


def _last_good(ledger: Asking, said: Namespace) -> Sequence[Row]:
    found = ledger.last_good_first_crashed(filters_of(said))
    if found is None or said.as_json:
        return [found] if found else []
    say(f"{found['good']} completed, {found['crashed']} crashed")
    unchanged = "no config of both is known" if found["diff"] is None else "no difference"
    return found["diff"] or [{"path": None, "change": unchanged}]


def _effects(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.effects(said.metric, said.parameters, filters_of(said), bins=said.bins)


def _importance(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.importance(said.metric, said.parameters, filters_of(said))


def _best(ledger: Asking, said: Namespace) -> Sequence[Row]:
    return ledger.best_runs(said.metric, filters_of(said), said.number, minimize=said.minimize)


def _methods(ledger: Asking, said: Namespace) -> Sequence[Row]:
    """How each gradient method does: what completed, the share that did, and how long these took."""
    filters = _of_any_status(said)
    lasted = ledger.durations("gradient_method", {**filters, "status": "completed"})
    means = {row["gradient_method"]: row["mean_seconds"] for row in lasted}
    chosen = ("gradient_method", "completed", "failed", "crashed", "success_rate", "success_low", "success_high")
    rows = ledger.outcomes("gradient_method", filters)
    return [
        {**{name: row[name] for name in chosen}, "mean_hours": None if mean is None else mean / 3600}
        for row in rows
        for mean in [means.get(row["gradient_method"])]
    ]


def _unposted(ledger: Asking, said: Namespace) -> Sequence[Row]:
    own: dict[str, object] = {"has_blog_post": False}
    if said.min_hours is not None:
        own["min_duration_hours"] = said.min_hours
    asked_for = _of_any_status(said)
    for name in own:
        if name in asked_for:
            raise AskedWrongly(f"`report {said.report}` sets {name} itself. Leave -f {name}=... out.")
    filters = {**asked_for, **own, "status": "completed"}
    columns = ("run_id", "run_name", "duration_seconds", "config_file_path", "wandb_url")
    rows = ledger.query_runs(filters, "duration_seconds DESC", said.number)
    return [{name: row[name] for name in columns} for row in rows]


def _of_any_status(said: Namespace) -> dict[str, object]:
    filters = filters_of(said)
    if "status" in filters:
        raise AskedWrongly(f"`report {said.report}` says itself which statuses it looks at. Leave the status out.")
    return filters


REPORTS: dict[str, Report] = {
    "outcomes": _outcomes,
    "durations": _durations,
    "crashes": _crashes,
    "time-to-crash": _time_to_crash,
    "throughput": _throughput,
    "cost": _cost,
    "diff": _diff,
    "last-good": _last_good,
    "effects": _effects,
    "importance": _importance,
    "best": _best,
    "methods": _methods,
    "unposted": _unposted,
}
