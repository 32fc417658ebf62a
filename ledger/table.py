"""Rows as an aligned table, safe for a terminal whatever a stranger's text holds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

__all__ = ["table", "visible"]

Paint = Callable[[str, object, str], str]

GAP = "  "
NOTHING = "-"
NARROWEST = 20  # what a column that gives way keeps at least
_FIGURE = re.compile(r"\d+:\d\d:\d\d|-?[\d,]+\.\d+")  # a clock time, or a number with its digits chosen


def table(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    width: int | None = None,
    gives_way: str | None = None,
    paint: Paint | None = None,
) -> str:
    """Return *rows* under a heading, one line each; figures stand right.

    Nothing is cut unless *width* is given and a column *gives_way* to fit into it. *paint* gets a
    column's name, its value and the padded cell, and may put colour around the cell.
    """
    texts = [[cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *texts, strict=True)]
    if width is not None and gives_way in columns:
        at = columns.index(gives_way)
        room = width - sum(widths) + widths[at] - len(GAP) * (len(columns) - 1)
        widths[at] = min(widths[at], max(room, NARROWEST))
    rights = [_stands_right([row.get(name) for row in rows]) for name in columns]
    heading = _line([_padded(*spec) for spec in zip(columns, widths, rights, strict=True)])
    lines = [heading, _line(["-" * wide for wide in widths])]
    for row, cells in zip(rows, texts, strict=True):
        padded = [_padded(*spec) for spec in zip(cells, widths, rights, strict=True)]
        if paint:
            padded = [paint(name, row.get(name), text) for name, text in zip(columns, padded, strict=True)]
        lines.append(_line(padded))
    return "\n".join(lines)


def cell(value: object) -> str:
    """Return *value* as one line of text."""
    match value:
        case None | "":
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case _:
            return visible(str(value))


def visible(text: str) -> str:
    """Return *text* with all that would move the cursor, change colours or turn the line written out as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _line(cells: Sequence[str]) -> str:
    return GAP.join(cells).rstrip()


def _padded(text: str, width: int, right: bool) -> str:  # noqa: FBT001 -- called with the columns' own specs
    missing = width - _width(text)
    if missing < 0:
        text, missing = _cut(text, width)
    return " " * missing + text if right else text + " " * missing


def _cut(text: str, width: int) -> tuple[str, int]:
    """The beginning of *text* with an ellipsis, and how much of *width* that leaves."""
    kept = ""
    for character in text:
        if _width(kept + character) >= width:
            break
        kept += character
    return f"{kept}…", width - _width(kept) - 1


def _stands_right(values: Sequence[object]) -> bool:
    said = [value for value in values if value is not None]
    return bool(said) and all(_is_number(value) for value in said)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return _FIGURE.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _width(text: str) -> int:
    """How many columns a terminal gives *text*: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text if unicodedata.category(c) not in _ON_TOP)


_ON_TOP = frozenset(["Mn", "Me"])
