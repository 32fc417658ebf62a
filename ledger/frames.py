"""Rows and histories as a pandas or polars DataFrame or an Arrow table, with the types that their columns mean.

A column of a run has the type of its declaration, also where all rows lack it, and in an empty list. What is not
declared has the type of its values: truth values, integers, floats, moments (as the ledger writes them), else text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Literal

from ledger.errors import InvalidValue, MissingExtra, UnknownColumn
from ledger.events.plain import json_text, plain
from ledger.projections.run import COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["Table", "tabled", "to_arrow", "to_pandas", "to_polars"]

Kind = Literal["boolean", "integer", "real", "moment", "text"]
Table = Mapping[str, Sequence[object]] | Iterable[Mapping[str, object]]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True)
class Typed:
    """One column: values of one kind, or None."""

    name: str
    kind: Kind
    values: list[object]


def to_pandas(table: Table, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return rows (query_runs, any list of dicts) or columns (get_history) as a DataFrame; *columns* are those wanted.

    Integers are Int64, truth values boolean, text string, and moments datetime64[us, UTC], all with NA; of floats a
    missing one is NaN. An empty list has the columns of a run.
    """
    try:
        import pandas as pd
    except ImportError as exc:
        raise MissingExtra("pandas") from exc
    kinds = {
        "boolean": "boolean", "integer": "Int64", "real": "float64", "moment": "datetime64[us, UTC]", "text": "string"
    }  # fmt: skip
    return pd.DataFrame(
        {column.name: pd.Series(column.values, dtype=kinds[column.kind]) for column in tabled(table, columns)}
    )


def to_polars(table: Table, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return rows or columns as a polars DataFrame, as to_pandas does; what is missing is null."""
    try:
        import polars as pl
    except ImportError as exc:
        raise MissingExtra("polars") from exc
    kinds = {
        "boolean": pl.Boolean(),
        "integer": pl.Int64(),
        "real": pl.Float64(),
        "moment": pl.Datetime("us", "UTC"),
        "text": pl.String(),
    }
    return pl.DataFrame(
        [pl.Series(column.name, column.values, dtype=kinds[column.kind]) for column in tabled(table, columns)]
    )


def to_arrow(table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Return rows or columns as an Arrow table, as to_pandas does; what is missing is null."""
    try:
        import pyarrow as pa
    except ImportError as exc:
        raise MissingExtra("arrow") from exc
    kinds = {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "real": pa.float64(),
        "moment": pa.timestamp("us", "UTC"),
        "text": pa.string(),
    }
    made = tabled(table, columns)
    return pa.table({column.name: pa.array(column.values, kinds[column.kind]) for column in made})


def tabled(table: Table, columns: Sequence[str] | None = None) -> list[Typed]:
    """Return the columns of rows or of columns, each of one kind. Raises InvalidValue for what is neither."""
    chosen = None if columns is None else _chosen(columns)
    of_columns = isinstance(table, Mapping)
    values = _of_one_length(table) if isinstance(table, Mapping) else _of_rows(table, chosen)
    declared: Mapping[str, Kind] = {} if of_columns else _declared()
    for name in chosen or ():
        if name not in values:
            raise UnknownColumn(name, values)
    return [_typed(name, values[name], declared.get(name)) for name in (values if chosen is None else chosen)]


def _chosen(columns: object) -> list[str]:
    """The names that are asked for, each once: a frame has no two columns of one name."""
    if not isinstance(columns, Iterable) or isinstance(columns, str | Mapping):
        raise InvalidValue("columns", columns, "a list of names is wanted")
    made: dict[str, None] = {}
    for name in columns:
        if not isinstance(name, str):
            raise InvalidValue("columns", name, "each is the name of a column, a text")
        if name in made:
            raise InvalidValue("columns", name, "each name is wanted once")
        made[name] = None
    return list(made)


def _named(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidValue("table", name, "the names of columns are texts")
    return name


def _of_one_length(table: Mapping[str, object]) -> dict[str, list[object]]:
    made: dict[str, list[object]] = {}
    for name, values in table.items():
        if not isinstance(values, list | tuple):
            raise InvalidValue(name, values, "a list is wanted; put a single row into one: [row]")
        made[_named(name)] = list(values)
    if len(set(map(len, made.values()))) > 1:
        raise InvalidValue("table", {name: len(values) for name, values in made.items()}, "one length is wanted")
    return made


def _of_rows(table: Iterable[object], columns: Sequence[str] | None) -> dict[str, list[object]]:
    """The rows' columns, in the order in which they are first met; no rows have those of a run, and those asked for."""
    rows = list(table) if isinstance(table, Iterable) and not isinstance(table, str) else [table]
    names: dict[str, None] = {}
    mappings: list[Mapping[object, object]] = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise InvalidValue("table", row, "rows are wanted, each a mapping, or columns by name")
        mappings.append(row)
        names |= dict.fromkeys(map(_named, row))
    if not rows:
        names = dict.fromkeys([*COLUMNS, "liveness", *(columns or ())])
    return {name: [row.get(name) for row in mappings] for name in names}


@cache
def _declared() -> Mapping[str, Kind]:
    """The kinds of the columns that rows of runs may have."""
    of_json: Mapping[str, Kind] = dict.fromkeys(COLUMNS, "text")
    kinds = {name: column.kind for name, column in COLUMNS.items() if column.kind != "json"}
    return {**of_json, **kinds, "liveness": "text", "voided": "boolean", "reason": "text"}


def _typed(name: str, values: Sequence[object], declared: Kind | None) -> Typed:
    there = [value for value in values if value is not None]
    order = _FITS if declared is None or not all(map(_FITS[declared], there)) else (declared,)
    # Nothing is known of a column without values: most that are derived and can lack all of them are means.
    kind: Kind = next((k for k in order if all(map(_FITS[k], there))), "text") if there or declared else "real"
    convert = _CONVERTED[kind]
    return Typed(name, kind, [None if value is None else convert(value) for value in values])


def _is_integer(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_real(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**1023)


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else None
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) and _MOMENT.fullmatch(value) else None
    except ValueError:  # a thirteenth month
        return None


def _text(value: object) -> str:
    """The text, or the JSON of what is none; a lone surrogate, which no frame takes, as its escape."""
    made = value if isinstance(value, str) else plain(value)
    text = made if isinstance(made, str) else json_text(made)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


# The kinds, in the order in which they are tried: what fits none becomes text.
_FITS: Mapping[Kind, Callable[[object], bool]] = {
    "boolean": lambda value: type(value) is bool,
    "integer": _is_integer,
    "real": _is_real,
    "moment": lambda value: _moment(value) is not None,
    "text": lambda value: isinstance(value, str),
}
_CONVERTED: Mapping[Kind, Callable[[object], object]] = {
    "boolean": bool,
    "integer": lambda value: value,
    "real": lambda value: float(value) if isinstance(value, int | float) else None,
    "moment": _moment,
    "text": _text,
}
