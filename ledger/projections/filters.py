"""What query_runs understands: filters and orderings, read off the columns of `Run`.

Parsing ends in conditions that are plain data; the store makes SQL of them. A name or value that
cannot be meant is an error: an ignored filter gives an answer to another question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from numbers import Integral, Real

from ledger.errors import InvalidValue, UnknownFilter, UnknownOrder, nearest
from ledger.events.envelope import storable_text
from ledger.events.times import parse_moment, text_of
from ledger.projections.columns import Column, Declared, Filter, Kind, Operator
from ledger.projections.fits import spelled_number
from ledger.projections.liveness import LIVENESS
from ledger.projections.metrics import STATISTICS
from ledger.projections.objectives import VALUES
from ledger.projections.run import COLUMNS

__all__ = [
    "FILTERS",
    "Condition",
    "Order",
    "in_64_bits",
    "is_path",
    "parse_filters",
    "parse_moment_or_age",
    "parse_order",
    "parse_whole_number",
]

Value = str | int | float | bool

VALUES_MAX = 10_000
FILTERS_MAX = 100


@dataclass(frozen=True)
class Condition:
    """One filter: a column, for JSON columns the keys below it, what to compare, and with which values."""

    column: str
    operator: Operator
    values: tuple[Value, ...]
    several: bool = False
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """By a column; of what has rows of its own, and below JSON columns, by what the keys name."""

    column: str
    descending: bool
    keys: tuple[str, ...] = ()


def _generic(column: Declared) -> Iterable[Filter]:
    """The filters that every column of this kind has."""
    name = column.name
    yield Filter(name, "is")
    yield Filter(f"not_{name}", "is_not")
    yield Filter(f"min_{name}", "min")
    yield Filter(f"max_{name}", "max")
    yield Filter(f"has_{name}", "has")
    if column.kind == "text":
        yield Filter(f"{name}_contains", "contains")
    if column.kind == "moment":
        yield Filter(f"{name}_after", "after")
        yield Filter(f"{name}_before", "before")


FILTERS: dict[str, tuple[Declared, Filter]] = {
    filter.name: (column, filter)
    for column in COLUMNS.values()
    for filter in (*_generic(column), *column.column.filters)
}

# Names below which a filter may go on with a dot into the JSON, and the column that holds it.
JSON_ROOTS = {"config": "config_json", "metrics": "final_metrics_json", "metadata": "metadata_json"}
# What has rows of its own: `objectives.COMT_activity`, `objectives.COMT_activity:raw_std`, `metrics.train/loss:min`.
# A name and, behind a colon, which of its values.
VALUED = {"objectives": ("training_objectives", VALUES), "metrics": ("training_metrics", STATISTICS)}
TAGS = {"tags": "is", "not_tags": "is_not", "has_tags": "has"}
# What no column holds and is derived when it is asked: it has the filters of a column all the same.
DERIVED = {
    filter.name: (column, filter)
    for column in [Declared("liveness", Column("Whether it lives."), "text", nullable=False, choices=LIVENESS)]
    for filter in _generic(column)
}

_PATH = re.compile(rf"(not_|min_|max_|has_)?({'|'.join(JSON_ROOTS)})\.(.+?)(_contains)?", re.DOTALL)
_VALUED = re.compile(r"(not_|min_|max_|has_)?(objectives|metrics)\.(.+)", re.DOTALL)
_BOUNDS = ("min", "max")
_PREFIXES: dict[str | None, Operator] = {
    None: "is",
    "not_": "is_not",
    "min_": "min",
    "max_": "max",
    "has_": "has",
}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)
_AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ENDLESS = {f"{sign}{word}" for sign in ("", "+", "-") for word in ("inf", "infinity")}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_filters(filters: Mapping[str, object] | None, now: datetime) -> list[Condition]:
    """Return the conditions that *filters* state; *now* is what "7d" is counted back from.

    Raises UnknownFilter and InvalidValue, which name the nearest.
    """
    if filters is None:
        return []
    if not isinstance(filters, Mapping):
        raise InvalidValue("filters", filters, "a mapping of filter names to values is wanted")
    if len(filters) > FILTERS_MAX:
        raise InvalidValue("filters", f"{len(filters)} filters", f"at most {FILTERS_MAX} at once are wanted")
    conditions = [_condition(name, value, now) for name, value in _each(filters)]
    if (values := sum(len(condition.values) for condition in conditions)) > VALUES_MAX:
        raise InvalidValue("filters", f"{values} values", f"at most {VALUES_MAX} at once are wanted")
    return conditions


def _each(filters: Mapping[str, object]) -> Iterator[tuple[object, object]]:
    """The filters by name; `{"metrics.loss": {"min": 0.1, "max": 1}}` is two of them."""
    for name, value in filters.items():
        if not isinstance(name, str) or "." not in name or not isinstance(value, Mapping) or not value:
            yield name, value
            continue
        for bound, limit in value.items():
            if bound not in _BOUNDS or name.startswith(tuple(filter(None, _PREFIXES))):
                raise InvalidValue(
                    name, value, "bounds are said as {'min': ..., 'max': ...}", nearest(str(bound), _BOUNDS)
                )
            yield f"{bound}_{name}", limit


def _condition(name: object, value: object, now: datetime) -> Condition:
    if not isinstance(name, str):
        raise UnknownFilter(name, FILTERS)
    if value is None:
        raise InvalidValue(name, None, "None is no value; ask for what is not there with has_...=False")
    if found := FILTERS.get(name) or DERIVED.get(name):
        column, filter = found
        return _column_condition(column, filter, value, now)
    if name in TAGS:
        return _tags_condition(name, value)
    if (valued := _valued(name)) is not None:
        return _valued_condition(name, valued, value)
    path_said = _PATH.fullmatch(name)
    if path_said is None:
        raise UnknownFilter(name, [*FILTERS, *TAGS, *DERIVED], "" if "." not in name else _ROOTS_HINT)
    prefix, root, path, contains = path_said.groups()
    operator: Operator = "contains" if contains else _PREFIXES[prefix]
    if "" in path.split("."):
        raise UnknownFilter(name, [], " A key of a path is empty; write keys with one dot between, config.training.lr.")
    if not is_path(path) or (contains and prefix):
        raise UnknownFilter(name, [], " A path is made of keys and dots, without quotes and backslashes.")
    parse = _JSON_PARSERS.get(operator, _json_value)
    values, several = _values(value, operator, partial(parse, name))
    return Condition(JSON_ROOTS[root], operator, values, several, tuple(path.split(".")))


def _valued(
    name: str, unknown: type[UnknownFilter | UnknownOrder] = UnknownFilter
) -> tuple[str, str, tuple[str, str]] | None:
    """The prefix, the table and the keys of a name that speaks of a value with rows of its own."""
    found = _VALUED.fullmatch(name)
    if found is None:
        return None
    prefix, root, said = found.groups()
    table, values = VALUED[root]
    of, colon, which = said.rpartition(":")
    if root == "metrics" and not (colon and which in values):  # a final metric, whose name may have colons in it
        return None
    if not colon:
        of, which = said, values[0]
    if which not in values:
        raise unknown(name, [], nearest(which, values) or f" Behind the colon stands one of {', '.join(values)}.")
    if not of or not storable_text(of):
        raise unknown(name, [], f" A name stands behind {root}., and before the colon where there is one.")
    return prefix or "", table, (of, which)


def _valued_condition(name: str, valued: tuple[str, str, tuple[str, str]], value: object) -> Condition:
    prefix, table, keys = valued
    operator = _PREFIXES[prefix or None]
    parse = partial(parse_boolean if operator == "has" else _number, name)
    values, several = _values(value, operator, parse)
    return Condition(table, operator, values, several, keys)


_ROOTS_HINT = (
    f" A path begins with {', '.join(f'{root}.' for root in JSON_ROOTS)}, what a run reached with objectives.; both"
    " may have not_, min_, max_, has_ before them."
)


def _column_condition(column: Declared, filter: Filter, value: object, now: datetime) -> Condition:
    name, operator = filter.name, filter.operator
    parse: Callable[[object], Value]
    if operator == "has":
        parse = partial(parse_boolean, name)
    elif operator == "contains":
        parse = partial(_text, name)
    elif column.choices:
        parse = partial(_choice, name, column.choices)
    elif column.kind == "moment":
        parse = partial(_moment, name, now)
    else:
        parse = partial(_PARSERS[column.kind], name)
    values, several = _values(value, operator, parse)
    if filter.times != 1:
        values = tuple(in_64_bits(number * filter.times) for number in values if not isinstance(number, str))
    return Condition(column.name, operator, values, several)


def _tags_condition(name: str, value: object) -> Condition:
    if name == "has_tags":
        return Condition("tags", "has", (parse_boolean(name, value),))
    values, _ = _values(value, "is", partial(_text, name))
    return Condition("tags", "is" if TAGS[name] == "is" else "is_not", values, several=True)


def _values(value: object, operator: Operator, parse: Callable[[object], Value]) -> tuple[tuple[Value, ...], bool]:
    if operator in ("is", "is_not") and isinstance(value, list | tuple | set | frozenset):
        return tuple(parse(item) for item in value), True
    return (parse(value),), False


def parse_boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int) and str(value).lower() in _BOOLEANS:
        return _BOOLEANS[str(value).lower()]
    raise InvalidValue(name, value, "true or false is wanted")


def parse_whole_number(name: str, value: object) -> int:
    """Return a count of 0 or more, also out of its text."""
    if isinstance(value, str) and value.isascii() and value.strip().isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise InvalidValue(name, value, "a whole number of 0 or more is wanted")
    return value


def parse_moment_or_age(name: str, value: object, now: datetime) -> datetime:
    """Return the moment that is meant; "7d" and "12h" are so long before *now*."""
    try:
        if isinstance(value, str) and (age := _AGE.fullmatch(value.strip())):
            return now - timedelta(**{_AGE_UNITS[age[2]]: float(age[1])})
        return parse_moment(value)
    except (ValueError, OverflowError):
        raise InvalidValue(name, value, 'a moment is wanted: a datetime, ISO 8601 text, or an age like "7d"') from None


def _moment(name: str, now: datetime, value: object) -> str:
    return text_of(parse_moment_or_age(name, value, now))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not storable_text(value):
        raise InvalidValue(name, value, "text is wanted")
    return value


def _choice(name: str, choices: tuple[str, ...], value: object) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InvalidValue(name, value, f"one of {', '.join(choices)} is wanted", nearest(str(value), choices))
    return value


def _number(name: str, value: object) -> int | float:
    made = _spelled(value) if isinstance(value, str) else value
    if isinstance(made, bool) or not isinstance(made, Real) or made != made:  # noqa: PLR0124 -- NaN
        raise InvalidValue(name, value, "a number is wanted")
    return in_64_bits(int(made) if isinstance(made, Integral) else float(made))


def _spelled(text: str) -> int | float | None:
    return float(text) if text.strip().lower() in _ENDLESS else spelled_number(text)


def in_64_bits(number: float) -> int | float:
    """A number that a driver takes: a larger integer compares as well as a float."""
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        try:
            return float(number)
        except OverflowError:
            return math.inf if number > 0 else -math.inf
    return number


def _json_value(name: str, value: object) -> Value:
    if isinstance(value, bool):
        return value
    return _text(name, value) if isinstance(value, str) else _number(name, value)


_PARSERS: dict[Kind, Callable[[str, object], Value]] = {
    "text": _text,
    "json": _text,
    "integer": _number,
    "real": _number,
}
_JSON_PARSERS: dict[Operator, Callable[[str, object], Value]] = {
    "has": parse_boolean,
    "min": _number,
    "max": _number,
    "contains": _text,
}


# By liveness come the lost first, then the late, then all others.
ORDERS = (*COLUMNS, "liveness")


def _keyed_order(name: str, *, descending: bool) -> Order | None:
    """The order by what has rows of its own, or by a number below a JSON column."""
    valued = _valued(name, UnknownOrder)
    if valued is not None and not valued[0]:
        return Order(valued[1], descending, valued[2])
    path_said = _PATH.fullmatch(name)
    if path_said is None or path_said[1] or path_said[4] or not is_path(path_said[3]):
        return None
    return Order(JSON_ROOTS[path_said[2]], descending, tuple(path_said[3].split(".")))


def is_path(path: str) -> bool:
    """Whether it is made of keys with one dot between, without the quotes and backslashes of paths in SQL."""
    return "" not in path.split(".") and '"' not in path and "\\" not in path and path.isprintable()


def parse_order(order_by: str) -> list[Order]:
    """Return the orderings that `"column DESC, other"` states. Raises UnknownOrder for anything else."""
    if not isinstance(order_by, str):
        raise UnknownOrder(order_by, ORDERS)
    orders = [_order(part) for part in order_by.split(",")]
    first: dict[tuple[str, ...], Order] = {}
    for order in orders:
        first.setdefault((order.column, *order.keys), order)  # what is named again decides nothing more
    return list(first.values())


def _order(part: str) -> Order:
    name, *rest = part.split() or [""]
    directions = [word.upper() for word in rest]
    if "." in name and directions in ([], ["ASC"], ["DESC"]):
        keyed = _keyed_order(name, descending=directions == ["DESC"])
        if keyed is not None:
            return keyed
    match part.split():
        case [name] if name in ORDERS:
            return Order(name, descending=False)
        case [name, direction] if name in ORDERS and direction.upper() in {"ASC", "DESC"}:
            return Order(name, descending=direction.upper() == "DESC")
        case [name, *_]:
            hint = " Write columns with ASC or DESC behind them, with commas between." if name in ORDERS else ""
            raise UnknownOrder(part.strip() if hint else name, ORDERS, hint)
        case _:
            raise UnknownOrder(part, ORDERS)
