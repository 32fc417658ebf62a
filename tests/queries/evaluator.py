"""What query_runs answers, in plain Python over rows: the documented meaning, and nothing of how a ledger asks.

The names come from docs/reference.md. Numbers compare by their value, as Python compares an integer with a
float, but for integers beyond 64 bits, which stand for the nearest float. Text compares by code point.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

__all__ = ["ALSO", "BESIDE", "KINDS", "ROOTS", "evaluate", "meets"]

Row = dict[str, Any]
Meets = Callable[[Row], bool]

_REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")


def _table(title: str) -> list[list[str]]:
    """The cells of the first table below a title of the reference."""
    below = _REFERENCE.split(f"## {title}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in below.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def _kind(type: str) -> str:
    said = type.removesuffix("NOT NULL").strip()
    return {"TEXT (time)": "moment", "TEXT (JSON)": "json", "TEXT": "text", "INTEGER": "number", "REAL": "number"}[said]


KINDS: dict[str, str] = {cells[0]: _kind(cells[1]) for cells in _table("Columns of `training_runs`")} | {
    "liveness": "text"
}
_MEANS = {"later than": "after", "earlier than": "before", "is there": "has", "at least": "min", "at most": "max"}
# The documented names that are not made of their column's: name -> (column, operator, what a value counts).
ALSO: dict[str, tuple[str, str, int]] = {
    name: (column, _MEANS[means.split(",")[0]], int(means.rpartition(" ")[2]) if "units of" in means else 1)
    for name, column, means in _table("Filters of `query_runs` and `count_runs`")
}
ROOTS = {"config": "config_json", "metrics": "final_metrics_json", "metadata": "metadata_json"}
_TAGS = {"tags": "is", "not_tags": "not", "has_tags": "has"}
# Which of the values of an objective and of a metric stand behind a colon; an objective's first needs not be said.
BESIDE = {
    "objectives": ("training_objectives", ("raw_mean", "normalized_mean", "raw_std", "normalized_std")),
    "metrics": (
        "training_metrics",
        ("last", "last_step", "min", "min_step", "max", "max_step", "best", "best_step", "count", "non_finite"),
    ),
}
_PREFIX = re.compile(r"(not|min|max|has)_(.+)", re.DOTALL)
_SUFFIX = re.compile(r"(.+)_(contains|after|before)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,4})?", re.IGNORECASE)
_AGE = re.compile(r"([0-9.]+) *([smhdw])")
_AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def evaluate(
    rows: Iterable[Row],
    filters: Mapping[str, Any] | None = None,
    order_by: str = "created_at DESC",
    limit: int | None = 100,
    offset: int = 0,
    *,
    now: datetime,
    include_voided: bool = True,
) -> list[Row]:
    """Return those of *rows* that a ledger with these runs gives for the question, asked at *now*."""
    wanted = list(_wanted(filters or {}, now))
    chosen = [row for row in rows if (include_voided or not row["voided"]) and all(meet(row) for meet in wanted)]
    return _ordered(chosen, order_by)[offset : None if limit is None else offset + limit]


def meets(row: Row, filters: Mapping[str, Any], *, now: datetime) -> bool:
    """Return whether one row meets all filters."""
    return all(meet(row) for meet in _wanted(filters, now))


def _wanted(filters: Mapping[str, Any], now: datetime) -> Iterator[Meets]:
    """What has to hold; bounds of one value with rows of its own have to hold of one row."""
    bounds: dict[tuple[str, str, str], list[tuple[str, Any]]] = {}
    for name, value in _each(filters):
        operator, rest = (found[1], found[2]) if (found := _PREFIX.fullmatch(name)) else ("is", name)
        beside = _beside(rest)
        if beside is None or not (operator in ("min", "max") or (operator == "has" and _true(value))):
            yield _meets(name, value, now)
            continue
        kept = bounds.setdefault(beside, [])
        if operator != "has":
            kept.append((operator, _one_or_several(value, partial(_as_number, operator, now))))
    for beside, kept in bounds.items():
        yield partial(_keeps, beside, kept)


def _each(filters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in filters.items():
        yield from (
            ((f"{b}_{name}", limit) for b, limit in value.items()) if isinstance(value, Mapping) else [(name, value)]
        )


def _as_number(operator: str, now: datetime, value: Any) -> Any:
    return _plain("number", operator, value, 1, now)


def _keeps(beside: tuple[str, str, str], bounds: Sequence[tuple[str, Any]], row: Row) -> bool:
    return any(all(_holds(found, how, limit) for how, limit in bounds) for found in _values_beside(row, *beside))


def _true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")


def _ordered(rows: Sequence[Row], order_by: str) -> list[Row]:
    """By the last column first: sorting keeps the order of what is equal."""
    made = sorted(rows, key=lambda row: row["run_id"])
    for part in reversed(order_by.split(",")):
        name, *direction = part.split()
        descending = direction[:1] == ["DESC"]
        values = {row["run_id"]: _sorted_by(row, name, descending=descending) for row in made}
        there = [row for row in made if values[row["run_id"]] is not None]
        there.sort(key=lambda row: _rank(name, values[row["run_id"]]), reverse=descending)
        made = there + [row for row in made if values[row["run_id"]] is None]
    return made


def _sorted_by(row: Row, name: str, *, descending: bool) -> Any:
    """What a row is sorted by: a column, of several values the one that comes first, or a number below JSON."""
    if name in KINDS:
        return row[name]
    if (beside := _beside(name)) is not None:
        return (max if descending else min)(_values_beside(row, *beside), default=None)
    root, _, path = name.partition(".")
    return _json_number(_found(row, ROOTS[root], path))


def _beside(name: str) -> tuple[str, str, str] | None:
    """The table, the name and the column that a name without a word before it speaks of, if it does."""
    root, dot, said = name.partition(".")
    if not dot or root not in BESIDE:
        return None
    table, values = BESIDE[root]
    of, colon, which = said.rpartition(":")
    if colon and which in values:
        return table, of, which
    return None if root == "metrics" else (table, said, values[0])


def _values_beside(row: Row, table: str, of: str, which: str) -> list[Any]:
    rows = row["details"].get(table, {}).values()
    if table == "training_metrics":
        return [one[which] for one in rows if one["name"] == of and one[which] is not None]
    base, _, end = of.rpartition("_")
    directed = bool(base) and end in ("maximize", "minimize")
    alike = [one for one in rows if one["objective_base"] == (base if directed else of)]
    meant = [one for one in alike if not directed or one["direction"] in (None, end) or one["objective_name"] == of]
    return [one[which] for one in meant if one[which] is not None]


def _rank(name: str, value: Any) -> Any:
    """The lost come first, then the late, then all others, who are equal."""
    return {"lost": 0, "late": 1}.get(value, 2) if name == "liveness" else value


def _meets(name: str, value: Any, now: datetime) -> Meets:
    if (on_rows := _on_rows_beside(name, value, now)) is not None:
        return on_rows
    column, operator, times, keys = _asked(name)
    if name in _TAGS:
        return _on_tags(operator, value)
    if operator == "has":
        wanted = value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")
        return lambda row: (_found(row, column, keys) is not None) is wanted
    if keys is not None:
        return _in_json(column, keys, operator, value)
    plain = _one_or_several(value, lambda one: _plain(KINDS[column], operator, one, times, now))
    return lambda row: _holds(row[column], operator, plain)


def _on_rows_beside(name: str, value: Any, now: datetime) -> Meets | None:
    """A condition other than a bound on what has rows of its own: one meets it, and for `not` none does the opposite."""
    operator, rest = (found[1], found[2]) if (found := _PREFIX.fullmatch(name)) else ("is", name)
    if (beside := _beside(rest)) is None:
        return None
    if operator == "has":
        return lambda row: bool(_values_beside(row, *beside)) is _true(value)
    plain = _one_or_several(value, lambda one: _plain("number", operator, one, 1, now))
    if operator == "not":
        return lambda row: not any(_holds(found, "is", plain) for found in _values_beside(row, *beside))
    return lambda row: any(_holds(found, operator, plain) for found in _values_beside(row, *beside))


def _asked(name: str) -> tuple[str, str, int, str | None]:
    """The column that a name asks for, how, what its values count, and the path below it."""
    if name in ALSO:
        return *ALSO[name], None
    if name in _TAGS:
        return "tags_json", _TAGS[name], 1, None
    if name in KINDS:
        return name, "is", 1, None
    operator, rest = (found[1], found[2]) if (found := _PREFIX.fullmatch(name)) else ("is", name)
    if (found := _SUFFIX.fullmatch(rest)) and (found[1] in KINDS or found[2] == "contains"):
        rest, operator = found[1], found[2]
    if rest in KINDS:
        return rest, operator, 1, None
    root, _, path = rest.partition(".")
    return ROOTS[root], operator, 1, path


def _one_or_several(value: Any, read: Callable[[Any], Any]) -> Any:
    return [read(one) for one in value] if isinstance(value, list | tuple | set | frozenset) else read(value)


def _plain(kind: str, operator: str, value: Any, times: int, now: datetime) -> Any:
    """What a value means for a column of this kind: text as it is, a moment as the row has it, a number."""
    if kind == "moment":
        return _moment(value, now)
    if kind != "number":
        return value
    number = _number(value)
    return None if number is None else _reached(number * times)


def _moment(value: Any, now: datetime) -> str:
    if isinstance(value, str) and (age := _AGE.fullmatch(value.strip())):
        value = now - timedelta(seconds=float(age[1]) * _AGE_SECONDS[age[2]])
    if isinstance(value, str):
        value = datetime.fromisoformat(value.removesuffix("Z") if "+" in value else value)
    elif not isinstance(value, datetime) and isinstance(value, date):
        value = datetime(value.year, value.month, value.day)
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return str(value.replace(tzinfo=None).isoformat(timespec="microseconds")) + "Z"


def _number(value: Any) -> int | float | None:
    """The number that a value is or spells."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower().lstrip("+-") in ("inf", "infinity"):
            return float(text)
        if not _NUMBER.fullmatch(text):
            return None
        return _reached(int(text)) if text.lstrip("+-").isdigit() else float(text)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else _reached(value)


def _reached(number: int | float) -> int | float:
    """A number as far as numbers reach: beyond 64 bits an integer is the nearest float."""
    if isinstance(number, float) or -(2**63) <= number < 2**63:
        return number
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _holds(found: Any, operator: str, value: Any) -> bool:
    """Whether what a row has meets one comparison; what is not there meets none but `not`."""
    if operator in ("is", "not"):
        among = found is not None and (found in value if isinstance(value, list) else found == value)
        return bool(among) is (operator == "is")
    if found is None:
        return False
    return bool(_COMPARED[operator](found, value))


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "min": lambda found, value: found >= value,
    "max": lambda found, value: found <= value,
    "after": lambda found, value: found > value,
    "before": lambda found, value: found < value,
    "contains": lambda found, value: value in found,
}


def _on_tags(operator: str, value: Any) -> Meets:
    if operator == "has":
        wanted = value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")
        return lambda row: bool(_json(row["tags_json"])) is wanted
    asked = {value} if isinstance(value, str) else set(value)
    return lambda row: any(tag in asked for tag in _json(row["tags_json"]) or ()) is (operator == "is")


def _in_json(column: str, path: str, operator: str, value: Any) -> Meets:
    if operator in ("is", "not"):
        values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        return lambda row: any(_equal(_found(row, column, path), one) for one in values) is (operator == "is")
    if operator == "contains":
        return lambda row: isinstance(found := _found(row, column, path), str) and value in found
    bound = _number(value)
    return lambda row: (
        (number := _json_number(_found(row, column, path))) is not None and _COMPARED[operator](number, bound)
    )


def _found(row: Row, column: str, path: str | None) -> Any:
    """What a row has in a column, or at a path below it: under the whole path as one key, else key by key."""
    if path is None:
        return row[column]
    value = _json(row[column])
    if isinstance(value, dict) and path in value:
        return value[path]
    for key in path.split("."):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and re.fullmatch("0|[1-9][0-9]*", key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


@lru_cache(maxsize=4096)
def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _json_number(found: Any) -> int | float | None:
    return _number(found) if isinstance(found, int | float) else None


def _equal(found: Any, value: Any) -> bool:
    """Whether JSON data is what was asked for; text also stands for the number or truth value that it spells."""
    if isinstance(found, bool):
        return str(value).lower() == str(found).lower() if isinstance(value, bool | str) else False
    if isinstance(found, str):
        return isinstance(value, str) and found == value
    number = _json_number(found)
    spelled = not isinstance(value, str) or _NUMBER.fullmatch(value.strip())  # JSON spells no infinity
    return number is not None and bool(spelled) and number == _number(value)
