"""How a field of `Run` says that it is a column, and what is read off such fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Literal, NewType, Union, get_args, get_origin, get_type_hints

__all__ = ["Column", "Declared", "Filter", "JsonText", "Kind", "Moment", "Operator", "declared_columns"]

# ISO 8601 in UTC, always `YYYY-MM-DDTHH:MM:SS.ffffffZ`: the order of the text is the order of time.
Moment = NewType("Moment", str)
# One JSON document as text.
JsonText = NewType("JsonText", str)

Kind = Literal["text", "integer", "real", "moment", "json"]
Operator = Literal["is", "is_not", "min", "max", "after", "before", "contains", "has"]

_KINDS: dict[object, Kind] = {str: "text", int: "integer", float: "real", Moment: "moment", JsonText: "json"}


@dataclass(frozen=True)
class Filter:
    """A documented keyword of query_runs that is not named after its column; a value counts *times* so much."""

    name: str
    operator: Operator
    times: int = 1


@dataclass(frozen=True)
class Column:
    """What a column means, and where it comes from.

    `config` names paths into the launched config, of which the first that is there and fits is read;
    with `counted` it is the length of what lies there. `amendable` columns can be corrected by a
    person. `local` ones are made from what this ledger added, and differ between ledgers.
    """

    doc: str
    config: Sequence[str] = ()
    counted: bool = False
    amendable: bool = True
    local: bool = False
    filters: Sequence[Filter] = ()


@dataclass(frozen=True)
class Declared:
    """A column with what its field's type says: the kind of its values, whether it may be NULL, its choices."""

    name: str
    column: Column
    kind: Kind
    nullable: bool
    choices: tuple[str, ...] = ()


@cache
def declared_columns(row: type) -> dict[str, Declared]:
    """Return the columns that the dataclass *row* declares, by name, in order."""
    hints = get_type_hints(row, include_extras=True)
    return {name: _declared(name, hint) for name, hint in hints.items()}


def _declared(name: str, hint: object) -> Declared:
    plain, column = get_args(hint)
    members = get_args(plain) if get_origin(plain) in (Union, UnionType) else (plain,)
    (value,) = (member for member in members if member is not NoneType)
    choices = get_args(value) if get_origin(value) is Literal else ()
    kind = "text" if choices else _KINDS[value]
    return Declared(name, column, kind, NoneType in members, choices)
