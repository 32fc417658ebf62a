"""`training_objectives`: what a run was to reach, and what it reached; a row a run and objective.

The config says what there is, the final metrics say what was reached (`objectives/<alias>/raw_mean`), and what
somebody states by hand wins over both. Names of one objective may differ by `_maximize` or `_minimize` at their end.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, cast

from pydantic import JsonValue

from ledger.events.envelope import storable_text
from ledger.events.fact import loaded
from ledger.events.results import Direction
from ledger.projections.columns import Column, Declared, declared_columns
from ledger.projections.fits import Plain, fitting, is_key, path_into

__all__ = [
    "DOCUMENTED",
    "OBJECTIVE_COLUMNS",
    "STATED",
    "VALUES",
    "Objective",
    "Stated",
    "base_of",
    "direction_in",
    "may_differ",
    "objective_rows",
    "with_statement",
]

Row = dict[str, Plain]
Stated = list[tuple[str, str, Plain]]  # name, field and value of each statement that holds, the latest last


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One objective of one run."""

    run_id: Annotated[str, Column("The run.")]
    objective_name: Annotated[str, Column("Its name as the config has it, e.g. 'COMT_activity'.")]
    objective_alias: Annotated[str | None, Column("Its name in the metrics, e.g. 'COMT_activity_maximize'.")] = None
    uniprot: Annotated[
        str | None, Column("UniProt id of the protein that is aimed at.", config=("params.uniprot", "uniprot"))
    ] = None
    weight: Annotated[float | None, Column("Its weight among the objectives.", config=("weight",))] = None
    direction: Annotated[
        Direction | None,
        Column("Whether more or less of it is better; else as a name's end says.", config=("direction",)),
    ] = None
    raw_mean: Annotated[float | None, Column("Mean of the final values; NULL where it is not finite.")] = None
    normalized_mean: Annotated[float | None, Column("The same, normalized.")] = None
    raw_std: Annotated[float | None, Column("Standard deviation of the final values.")] = None
    normalized_std: Annotated[float | None, Column("The same, normalized.")] = None
    objective_base: Annotated[str, Column("Its name without `_maximize` and `_minimize`, by which it is looked up.")]


OBJECTIVE_COLUMNS: dict[str, Declared] = declared_columns(Objective)
DOCUMENTED = tuple(name for name in OBJECTIVE_COLUMNS if name != "objective_base")
VALUES = ("raw_mean", "normalized_mean", "raw_std", "normalized_std")
_NUMBERS = ("weight", *VALUES)
STATED = tuple(name for name in DOCUMENTED if name not in ("run_id", "objective_name"))
_READ = {name: column for name, column in OBJECTIVE_COLUMNS.items() if column.column.config}

_DIRECTED = re.compile(r"(.+)_(maximize|minimize)", re.DOTALL)
_MEASURED = re.compile(rf"objectives/(.+)/({'|'.join(VALUES)})", re.DOTALL)


@lru_cache(maxsize=4096)
def base_of(name: str) -> str:
    """Return the name without `_maximize` or `_minimize` at its end."""
    found = _DIRECTED.fullmatch(name)
    return found[1] if found else name


@lru_cache(maxsize=4096)
def direction_in(name: str) -> str | None:
    """Return the direction that a name ends in."""
    found = _DIRECTED.fullmatch(name)
    return found[2] if found else None


def objective_rows(run_id: str, config_json: Plain, final_metrics_json: Plain, stated: Stated) -> dict[str, Row]:
    """Return the objectives of a run by name, of its row's config and final metrics and of what was stated by hand."""
    rows = (_configured(config_json) if isinstance(config_json, str) else _NONE).of(run_id)
    by_hand = rows.state(stated) if stated else set()
    measured = _measured(final_metrics_json) if isinstance(final_metrics_json, str) else {}
    spellings = Counter(map(base_of, measured))
    found = [(rows.measured(alias, spellings), alias, values) for alias, values in measured.items()]
    # What bears an objective's own name goes before another spelling of it.
    for row, alias, values in sorted(
        found, key=lambda each: each[1] in (each[0]["objective_name"], each[0]["objective_alias"])
    ):
        exactly = alias in (row["objective_name"], row["objective_alias"])
        for field, value in values.items():
            if (exactly or row[field] is None) and (not by_hand or (row["objective_name"], field) not in by_hand):
                row[field] = value
    return rows.finished()


def with_statement(stated: Stated, payload: Mapping[str, JsonValue]) -> Stated:
    """Return what holds once this is stated by hand, too; what does not fit its column is not said.

    A number that is not finite is said to be none.
    """
    name = fitting(OBJECTIVE_COLUMNS["objective_name"], payload.get("objective_name"))
    if not isinstance(name, str):
        return stated
    made = [(field, fitting(OBJECTIVE_COLUMNS[field], payload[field])) for field in STATED if field in payload]
    said = [(name, field, value) for field, value in made if value is not None or field in _NUMBERS]
    said.append((name, "objective_name", name))  # so that it is there where nothing else is said
    fields = {statement[:2] for statement in said}
    return [*(earlier for earlier in stated if earlier[:2] not in fields), *said]


class _Gathered:
    """The objectives of one run as they are gathered."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._every: dict[str, Row] = {}
        self._called: dict[str, str] = {}  # by name and by alias, the name
        self._alike: dict[str, tuple[str, ...]] = {}  # by both without their ends, the names
        self._shares = False  # that with others, until something is added

    def of(self, run_id: str) -> _Gathered:
        """Return the same of a run."""
        made = _Gathered(run_id)
        made._every = {name: {**row, "run_id": run_id} for name, row in self._every.items()}
        made._called, made._alike, made._shares = self._called.copy(), self._alike, True
        return made

    def declare(self, declared: Row) -> None:
        """Take an objective of the config; of two that bear one name the second is called by its alias."""
        free = (declared[field] for field in ("objective_name", "objective_alias"))
        name = next((name for name in free if name is not None and name not in self._every), None)
        if name is not None:
            self._add(str(name)).update({**declared, "objective_name": name})
            self._call(str(name), declared["objective_alias"])

    def state(self, stated: Stated) -> set[tuple[Plain, str]]:
        """Let what was stated by hand act on the rows; return which values of which rows that were.

        Which names are one objective does not depend on who was spoken of first; what counts of them is the latest.
        """
        aliases = {name: value for name, field, value in stated if field == "objective_alias"}
        meant: dict[str, Row] = {}
        for name in sorted({name for name, _, _ in stated}):
            alias = aliases.get(name)
            found = self._find(name) or (self._find(alias) if isinstance(alias, str) else None)
            meant[name] = found or self._add(name)
            self._call(str(meant[name]["objective_name"]), alias)
        for name, field, value in stated:
            if field in STATED and (value is not None or field in VALUES):
                meant[name][field] = value
        return {(meant[name]["objective_name"], field) for name, field, _ in stated if field in VALUES}

    def measured(self, alias: str, spellings: Mapping[str, int]) -> Row:
        """Return the row whose metrics bear this name; *spellings* says how many names with other ends there are.

        The only spelling of the only such objective is its own, also where its end says something else.
        """
        found = self._find(alias)
        if found is None:
            base = base_of(alias)
            only = set(self._alike.get(base, ())) if spellings[base] == 1 else set()
            found = self._every[only.pop()] if len(only) == 1 else self._add(alias if base in self._every else base)
        if found["objective_alias"] is None:
            found["objective_alias"] = alias
            self._call(str(found["objective_name"]), alias)
        return found

    def _add(self, name: str) -> Row:
        self._every[name] = {**_BLANK, "run_id": self._run_id, "objective_name": name, "objective_base": base_of(name)}
        self._call(name, name)
        return self._every[name]

    def _call(self, name: str, called: object) -> None:
        if isinstance(called, str):
            base = base_of(called)
            self._called.setdefault(called, name)
            if self._shares:
                self._alike, self._shares = self._alike.copy(), False
            self._alike[base] = (*self._alike.get(base, ()), name)

    def _find(self, name: str) -> Row | None:
        """The row of this name or alias; else one that is called so but for its end, and goes the same way."""
        if name in self._called:
            return self._every[self._called[name]]
        direction, alike = direction_in(name), [self._every[each] for each in self._alike.get(base_of(name), ())]
        of_each = [(_direction_of(row), row) for row in alike]
        same = next((row for of_row, row in of_each if of_row == direction), None)
        return same or next((row for of_row, row in of_each if None in (of_row, direction)), None)

    def finished(self) -> dict[str, Row]:
        for row in self._every.values():
            row["direction"] = _direction_of(row)
        return {name: row for name, row in self._every.items() if is_key(self._run_id, name)}


_BLANK: Row = dict.fromkeys(OBJECTIVE_COLUMNS)
_NONE = _Gathered("")


def _direction_of(row: Row) -> str | None:
    if row["direction"] is not None:
        return str(row["direction"])
    names = (row["objective_alias"], row["objective_name"])
    return next((said for name in names if isinstance(name, str) and (said := direction_in(name))), None)


@lru_cache(maxsize=64)
def _configured(config_json: str) -> _Gathered:
    """What a config says of objectives, of no run yet."""
    made = _Gathered("")
    for declared in _declared(config_json):
        made.declare(declared)
    return made


def _declared(config_json: str) -> tuple[Row, ...]:
    """What a config says of objectives: a list of them, of their names, or an object by name."""
    if '"objectives"' not in config_json:
        return ()
    listed = path_into(json.loads(config_json), "objectives")
    if isinstance(listed, dict):
        listed = [{"name": name, **(said if isinstance(said, dict) else {})} for name, said in listed.items()]
    every = map(_objective_in, listed) if isinstance(listed, list) else ()
    return tuple(made for made in every if made is not None)


def _objective_in(listed: JsonValue) -> Row | None:
    said: dict[str, JsonValue] = listed if isinstance(listed, dict) else {"name": listed}
    name, alias = (fitting(OBJECTIVE_COLUMNS["objective_alias"], said.get(key)) for key in ("name", "alias"))
    called = name or (base_of(str(alias)) if alias else None)
    if called is None or not str(called).strip():
        return None
    made: Row = {"objective_name": called, "objective_alias": alias or None}
    for field, column in _READ.items():
        values = (_spelled(field, path_into(said, path)) for path in column.column.config)
        made[field] = next((value for found in values if (value := fitting(column, found)) is not None), None)
    return made


def _spelled(field: str, value: JsonValue) -> JsonValue:
    """The value; a direction also as people shorten it."""
    return (
        _DIRECTIONS.get(value.strip().lower()[:3], value) if field == "direction" and isinstance(value, str) else value
    )


_DIRECTIONS = {"max": "maximize", "min": "minimize"}


def _measured(final_metrics_json: str) -> dict[str, Row]:
    """What the final metrics say of each objective, by the name that they call it, in the order of those."""
    if '"objectives/' not in final_metrics_json:
        return {}
    made: dict[str, Row] = {}
    for name, value in loaded(final_metrics_json).items():  # of a list, to which somebody may amend it, nothing
        if (found := _measure(name)) is not None:
            alias, field = found
            is_plain = isinstance(value, float) and math.isfinite(value)  # as nearly all are
            made.setdefault(alias, {})[field] = cast("float", value) if is_plain else fitting(_VALUE, value)
    return {alias: made[alias] for alias in sorted(made)}


_VALUE = OBJECTIVE_COLUMNS["raw_mean"]


@lru_cache(maxsize=4096)
def _measure(name: str) -> tuple[str, str] | None:
    """The alias and the value that a final metric is named by."""
    found = _MEASURED.fullmatch(name)
    return (found[1], found[2]) if found and storable_text(name) else None


def may_differ(row: Row, other: Row) -> bool:
    """Whether two rows of a run may tell of other objectives, by a glance at what they are made of."""
    changed = [name for name in ("config_json", "final_metrics_json") if row[name] != other[name]]
    return any('"objectives' in str(each[name]) for name in changed for each in (row, other))
