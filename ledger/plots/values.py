"""An objective's final value and direction out of runs' rows: `objectives/<alias>/raw_mean` of the final metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from pydantic import JsonValue

from ledger.errors import UnknownColumn
from ledger.events.fact import loaded
from ledger.plots.curves import LARGEST
from ledger.projections.curves import is_number
from ledger.projections.pareto import DIRECTIONS, Direction

__all__ = ["of_runs"]

Row = Mapping[str, object]

_METRIC = re.compile(r"objectives/(.+)/raw_mean")
_SUFFIX = re.compile(rf"_({'|'.join(DIRECTIONS)})$")


def of_runs(rows: Sequence[Row], objective: str) -> tuple[list[float | None], Direction]:
    """Return the objective's value in each row, None where there is no finite one, and what is better.

    It may be named with or without `_maximize` and `_minimize`. Raises UnknownColumn where no row has it.
    """
    values: list[float | None] = []
    known: set[str] = set()
    aliases: list[str] = []
    for row in rows:
        metrics = _json(row, "final_metrics_json")
        of_row = {found[1]: value for name, value in metrics.items() if (found := _METRIC.fullmatch(name))}
        known |= of_row.keys()
        alias = next((alias for alias in sorted(of_row) if _same(alias, objective)), None)
        value = None if alias is None else of_row[alias]
        aliases += [] if alias is None else [alias]
        values.append(float(value) if is_number(value) and abs(value) < LARGEST else None)
    if rows and not aliases:
        raise UnknownColumn(objective, known, " That is what the final metrics of these runs have.")
    return values, _direction(rows, objective, aliases)


def _direction(rows: Sequence[Row], objective: str, aliases: Sequence[str]) -> Direction:
    """What the configs say, else what the name says, else that more is better."""
    for row in rows:
        listed = _json(row, "config_json").get("objectives")
        for entry in listed if isinstance(listed, list) else ():
            named = isinstance(entry, dict) and any(_same(entry.get(key), objective) for key in ("alias", "name"))
            if isinstance(entry, dict) and named and _is_direction(entry.get("direction")):
                return "minimize" if entry["direction"] == "minimize" else "maximize"
    return "minimize" if any(name.endswith("_minimize") for name in (objective, *aliases)) else "maximize"


def _is_direction(value: JsonValue) -> TypeGuard[Direction]:
    return value in DIRECTIONS


def _same(name: JsonValue, objective: str) -> bool:
    return isinstance(name, str) and _SUFFIX.sub("", name) == _SUFFIX.sub("", objective)


def _json(row: Row, column: str) -> dict[str, JsonValue]:
    text = row[column]
    return loaded(text) if isinstance(text, str) else {}
