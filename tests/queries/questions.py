"""Random questions to a ledger, from a seed and a number: made of what is in its rows, so that answers are not empty.

Each filter is drawn for one of the rows; mostly with a value that the row meets, else with one that it just misses,
or with a value of another type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

from ledger.events.times import parse_moment
from tests.queries.evaluator import ALSO, BESIDE, KINDS, ROOTS, meets
from tests.queries.fleet import IN_JSON, KEYS, METRICS, NOW, NUMBERS, OBJECTIVES, TAGS, TEXTS

__all__ = ["Question", "question"]

Row = dict[str, Any]
CHOICES = {
    "status": ("launched", "running", "completed", "failed", "crashed"),
    "end_reason": ("exception", "signal", "oom", "preempted", "timeout", "node_failure", "user", "unknown"),
    "liveness": ("alive", "late", "lost", "ended", "unknown"),
}
_PATHS = ("training.lr", "training.batch_size", "training", "reward.beta", "reward.gradient_method", "seed", "bf16", "objectives.0.name", "objectives.1", "objectives.0.w", "no.such")  # fmt: skip
_METRICS = ("train/loss", "deep", "ok", "best", "a.b", "0", "deep.a", "deep.0")
_METADATA = ("who", "n", "a.b", "a", "0", "a.0")
_BEHIND = re.compile(f":({'|'.join(value for _, values in BESIDE.values() for value in values)})$")
_TRUTHS = {True: (True, 1, "true", "Yes", "1"), False: (False, 0, "false", "NO", "0")}


@dataclass(frozen=True)
class Question:
    """One call of query_runs."""

    filters: dict[str, Any]
    order_by: str
    limit: int | None
    offset: int
    include_voided: bool

    def __str__(self) -> str:
        page = f"limit={self.limit!r}, offset={self.offset!r}, include_voided={self.include_voided!r}"
        return f"query_runs({self.filters!r}, order_by={self.order_by!r}, {page})"


def question(seed: int, number: int, rows: Sequence[Row]) -> Question:
    """Return the question with this number about these rows; each tenth asks the one before with 1 for True and so on."""
    if number % 10 == 9:
        return _twin(question(seed, number - 1, rows))
    random = Random(f"question {seed} {number}")
    row = random.choice(rows)
    filters: dict[str, Any] = {}
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        filters.update((_met_by(random, row) if random.random() < 0.85 else _filter(random, random.choice(rows)),))
    limit = random.choice((None, None, None, 1, 10, 100, len(rows)))
    offset = random.choice((0, 0, 0, 1, 5, 50))
    return Question(filters, _order(random), limit, offset, random.random() < (0.9 if row["voided"] else 0.2))


def _twin(of: Question) -> Question:
    """The same words with values that Python takes for equal, and JSON does not."""
    roots = tuple(f"{prefix}{root}." for root in ROOTS for prefix in ("", "not_"))
    filters = {
        name: _swapped(value) if name.startswith(roots) and not _BEHIND.search(name) else value
        for name, value in of.filters.items()
    }
    return replace(of, filters=filters)


def _swapped(value: Any) -> Any:
    if isinstance(value, list):
        return [_swapped(one) for one in value]
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return value


def _met_by(random: Random, row: Row) -> tuple[str, Any]:
    """A filter that the row meets, if a few draws find one."""
    for _ in range(4):
        name, value = _filter(random, row)
        if meets(row, {name: value}, now=NOW):
            break
    return name, value


def _order(random: Random) -> str:
    names = random.sample(sorted(KINDS), random.choice((1, 1, 2, 3)))
    if random.random() < 0.35:
        below = (f"{random.choice(tuple(ROOTS))}.{path}" for path in (*_METRICS, "training.lr", "n"))
        names[random.randrange(len(names))] = random.choice(
            (_beside(random), _beside(random), random.choice(list(below)))
        )
    usual = random.choice((["created_at"], ["run_id"], ["status", "run_id"], names, names, names))
    return ", ".join(f"{name}{random.choice(('', ' ASC', ' DESC'))}" for name in usual)


def _filter(random: Random, row: Row) -> tuple[str, Any]:
    kind = random.randrange(12)
    if kind < 4:
        return _below(random, row)
    if kind > 9:
        return _on_rows_beside(random, row)
    if kind == 4:
        return _tags(random, row)
    name = random.choice(("status", "liveness", "host", "run_id", "beta", "batch_size")) if kind == 5 else None
    return _also(random, row) if kind == 6 else _on_column(random, row, name or random.choice(sorted(KINDS)))


def _beside(random: Random, row: Row | None = None) -> str:
    """One of the names of what has rows of its own; mostly of what the row has, if it has any."""
    root = random.choice(tuple(BESIDE))
    table, values = BESIDE[root]
    there = list((row or {"details": {}})["details"].get(table, {}))
    name = random.choice(there) if there and random.random() < 0.85 else random.choice((*OBJECTIVES, *METRICS))
    if not name.strip() or "\n" in name:
        name = "QED"
    if root == "objectives" and random.random() < 0.3:
        name = name.removesuffix("_minimize").removesuffix("_maximize") + random.choice(("", "_maximize", "_minimize"))
    short = root == "objectives" and ":" not in name and random.random() < 0.4
    which = "" if short else f":{random.choice(values)}"
    return f"{root}.{name}{which}" if row is not None or not re.search(r"[\s,]", name) else f"{root}.QED{which}"


def _on_rows_beside(random: Random, row: Row) -> tuple[str, Any]:
    """A filter on an objective or a metric."""
    name = _beside(random, row)
    table, values = BESIDE[name.partition(".")[0]]
    which = found[1] if (found := _BEHIND.search(name)) else values[0]
    of = [one[which] for one in row["details"].get(table, {}).values() if one[which] is not None]
    operator = random.choice(("is", "is", "not", "min", "min", "max", "max", "has", "bounds"))
    value = _near_number(random, random.choice(of) if of else None)
    if operator == "has":
        return f"has_{name}", _truth(random, bool(of))
    if operator == "bounds":
        return name, {"min": value, "max": math.inf} if random.random() < 0.5 else {"max": value}
    if operator in ("is", "not") and random.random() < 0.3:
        return _spelled(operator, name), [_near_number(random, one) for one in (*of, None)][: random.randrange(4)]
    return _spelled(operator, name), value


def _also(random: Random, row: Row) -> tuple[str, Any]:
    """One of the names that are documented on their own."""
    name, (column, operator, times) = random.choice(sorted(ALSO.items()))
    if operator == "has":
        return name, _truth(random, row[column] is not None)
    value = _value(random, row, column, operator)
    in_units = times != 1 and not isinstance(value, str) and abs(value) < 2**900
    return name, value / times if in_units else value


def _truth(random: Random, there: bool) -> Any:
    return random.choice(_TRUTHS[there if random.random() < 0.8 else not there])


def _on_column(random: Random, row: Row, name: str) -> tuple[str, Any]:
    kind = KINDS[name]
    operators = ["is", "is", "not", "min", "max", "has"]
    operators += {"text": ["contains"] * 2, "moment": ["after", "before"]}.get(kind, [])
    operator = random.choice(operators)
    if operator == "has":
        return f"has_{name}", _truth(random, row[name] is not None)
    if operator in ("is", "not") and random.random() < 0.4:
        several = [_value(random, row, name, operator) for _ in range(random.choice((0, 1, 2, 3, 5)))]
        return _spelled(operator, name), random.choice((list, tuple))(several)
    return _spelled(operator, name), _value(random, row, name, operator)


def _spelled(operator: str, name: str) -> str:
    if operator in ("contains", "after", "before"):
        return f"{name}_{operator}"
    return name if operator == "is" else f"{operator}_{name}"


def _value(random: Random, row: Row, name: str, operator: str) -> Any:
    """A value for a filter on a column."""
    found = row[name]
    if operator == "contains":
        return _part(random, found)
    if name in CHOICES:
        return found if found is not None and random.random() < 0.6 else random.choice(CHOICES[name])
    return _NEAR[KINDS[name]](random, found)


def _part(random: Random, text: str | None) -> str:
    if not text or random.random() < 0.15:
        return random.choice(("", "%", "_", "e", "é", "😀", "1", "\\", "zz"))
    start = random.randrange(len(text))
    return _storable(text[start : start + random.choice((1, 1, 2, 5))])


def _storable(text: str) -> str:
    """What may be asked for: no NUL and no half of a character."""
    return "".join(character for character in text if character != "\x00" and not "\ud800" <= character <= "\udfff")


def _near_text(random: Random, text: str | None) -> str:
    if text is None or random.random() < 0.2:
        return random.choice(TEXTS)
    return _storable(random.choice((text, text, text, text[:-1], text + "a", text.upper())))


def _near_number(random: Random, found: float | None) -> Any:
    number = random.choice(NUMBERS) if found is None or random.random() < 0.2 else found
    near: list[Any] = [number, number, number, _next(number, 1), _next(number, -1)]
    if abs(number) < 2**900:
        near += [float(number), math.nextafter(number, math.inf), math.nextafter(number, -math.inf)]
    if number == number // 1:
        near += [int(number), int(number) + 1, f" {int(number)} " if abs(number) < 10**300 else number]
    near += [f"{number!r}" if abs(number) < 10**300 else "inf", random.choice((math.inf, -math.inf, "-Infinity"))]
    return random.choice(near)


def _next(number: float, step: int) -> float:
    return number + step if isinstance(number, int) else number + step * 0.5


def _near_moment(random: Random, text: str | None) -> Any:
    if random.random() < 0.1:
        return random.choice(("2d", "47.5h", "1w", "0s", "172800s", "90 m"))
    moment = parse_moment("2024-05-02T00:00:00Z" if text is None else text)
    off = random.choice((0, 0, 0, -1, 1, 1000, -1000))
    if datetime(2, 1, 1, tzinfo=UTC) < moment < datetime(9999, 1, 1, tzinfo=UTC):
        moment += timedelta(microseconds=off)
        if random.random() < 0.3:
            return moment.astimezone(timezone(timedelta(hours=random.choice((-9, 5.5)))))
    return random.choice(
        (moment, moment.isoformat(), moment.replace(tzinfo=None), moment.date(), f"{moment.isoformat()}Z")
    )


def _near_json(random: Random, text: str | None) -> str:
    return random.choice((text, text, "{}", "[]", "null")) or "{}"


_NEAR: dict[str, Callable[[Random, Any], Any]] = {
    "text": _near_text,
    "number": _near_number,
    "moment": _near_moment,
    "json": _near_json,
}


def _tags(random: Random, row: Row) -> tuple[str, Any]:
    borne = [tag for tag in json.loads(row["tags_json"] or "[]") if tag]
    if random.random() < 0.2:
        return "has_tags", _truth(random, bool(borne))
    some = [
        random.choice(borne or TAGS) if random.random() < 0.6 else random.choice(TAGS)
        for _ in range(random.randrange(4))
    ]
    return random.choice(("tags", "not_tags")), some[0] if len(some) == 1 else some


def _below(random: Random, row: Row) -> tuple[str, Any]:
    """A filter on what lies at a path below one of the JSON columns."""
    root = random.choice(("config", "config", "config", "metrics", "metadata"))
    path, found = _path(random, root, json.loads(row[ROOTS[root]] or "{}"))
    operator = random.choice(("is", "is", "is", "not", "min", "max", "has", "contains"))
    number = found if isinstance(found, int | float) and not isinstance(found, bool) else None
    if number is not None and random.random() < 0.5:
        operator = random.choice(("min", "max", "is"))
    name = _spelled(operator, f"{root}.{path}")
    if operator == "has":
        return name, _truth(random, found is not None)
    if operator == "contains":
        return name, _part(random, found if isinstance(found, str) else json.dumps(found))
    if operator in ("min", "max"):
        return name, _near_number(random, number)
    if random.random() < 0.3:
        return name, [_near_anything(random, found) for _ in range(random.randrange(4))]
    return name, _near_anything(random, found)


def _path(random: Random, root: str, value: Any) -> tuple[str, Any]:
    """A path into what the row has there, and what lies at it; else one that other rows have."""
    keys: list[str] = []
    for _ in range(random.choice((1, 1, 2, 3))):
        below: list[tuple[str, Any]] = (
            [(key, item) for key, item in value.items() if _may_be_asked(key)]
            if isinstance(value, dict)
            else [(str(place), item) for place, item in enumerate(value)]
            if isinstance(value, list)
            else []
        )
        if not below:
            break
        key, value = random.choice(below)
        keys.append(key)
    if keys and random.random() < 0.85:
        return ".".join(keys), value
    return random.choice(
        {"config": (*_PATHS, *filter(_may_be_asked, KEYS)), "metrics": _METRICS, "metadata": _METADATA}[root]
    ), None


def _may_be_asked(key: str) -> bool:
    return bool(key) and "" not in key.split(".") and key.isprintable()


def _near_anything(random: Random, found: Any) -> Any:
    """A value for `is` and `not` below JSON: the same, the same as text, or of another type."""
    if random.random() < 0.15:
        return random.choice((True, False, "true", "FALSE", 0, 1, "1", 1.0, "null", *map(_storable, IN_JSON)))
    if isinstance(found, bool):
        return random.choice((found, found, str(found), str(found).upper(), int(found)))
    if isinstance(found, int | float):
        return _near_number(random, found)
    if isinstance(found, dict | list) and random.random() < 0.5:
        return _storable(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    return _near_text(random, found if isinstance(found, str) else None)
