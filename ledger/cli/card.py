"""One run as a card: its columns in groups, without the empty ones, JSON spread out."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ledger.cli.output import short_duration, short_moment, status_paint
from ledger.projections.columns import Declared
from ledger.projections.run import COLUMNS
from ledger.table import cell, visible

__all__ = ["card", "readable"]

GROUPS = ("Voided", "Run", "Life", "Hyperparameters", "Attachments", "Further")
LINE_MAX = 100  # JSON that fits into one line stays there


def card(row: Mapping[str, object]) -> str:
    """Return the lines of a run's row; those that JSON spreads over come last of their group."""
    groups: dict[str, list[str]] = {name: [] for name in GROUPS}
    wide = max(map(len, COLUMNS))
    for name, value in row.items():
        if value not in (None, "{}", "[]"):
            groups[_group(name)].append(_line(name, readable(name, value), wide))
    return "\n\n".join(
        "\n".join([title, *sorted(lines, key=lambda line: "\n" in line)]) for title, lines in groups.items() if lines
    )


def readable(name: str, value: object) -> object:
    """Return a column's value with times and durations as people write them."""
    if isinstance(value, str) and name in COLUMNS and COLUMNS[name].kind == "moment":
        return short_moment(value)
    if isinstance(value, int) and name.endswith("_seconds"):
        return short_duration(value)
    return value


def _group(name: str) -> str:
    """What a column is filed under, told by its declaration."""
    column = COLUMNS.get(name)
    if name == "liveness":
        return "Life"
    if column is None:
        return "Voided"
    if column.kind == "json" or column.column.local or name == "note":
        return "Further"
    if column.column.config:
        return "Hyperparameters"
    if name.endswith("_s3_key") or name == "blog_post_url":
        return "Attachments"
    return "Life" if _is_of_life(name, column) else "Run"


def _is_of_life(name: str, column: Declared) -> bool:
    return column.kind == "moment" or name.endswith("_seconds") or name in ("status", "end_reason", "exit_code")


def _line(name: str, value: object, wide: int) -> str:
    column = COLUMNS.get(name)
    if column is not None and column.kind == "json" and isinstance(value, str):
        text = _spread(value)
        if "\n" in text:
            return f"  {name}\n{text}"
    else:
        text = cell(value)
    return f"  {name:<{wide}}  {status_paint(name, value, text)}"


def _spread(document: str) -> str:
    made = json.loads(document)
    line = json.dumps(made, ensure_ascii=False)
    if len(line) <= LINE_MAX and not isinstance(made, dict):
        return visible(line)
    lines = json.dumps(made, ensure_ascii=False, indent=2).splitlines()
    return "\n".join(f"    {visible(line)}" for line in lines)
