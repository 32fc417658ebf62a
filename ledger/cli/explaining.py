"""Why a row is as it is, and what a replay would make of it: explain, replay --dry-run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

from ledger.cli.output import counted, say, say_array, say_document, short_moment, status_paint, width
from ledger.cli.place import opened
from ledger.errors import UnknownColumn
from ledger.table import cell, table, visible

if TYPE_CHECKING:
    from ledger.projections.explain import Explanation, Setting
    from ledger.store.dry_run import Change

__all__ = ["explain", "replay_changes"]

VALUE_WIDTH_MAX = 40
LINES_MAX = 1000  # of one table: a replay may change more than fits into memory


def explain(said: Namespace) -> int:
    """Tell of every column of a run which event gave it its value, and what that replaced.

    With --column: all values that it ever had, the newest first.
    With --json: a list of column, value, event_id, type, occurred_at, source, claim, held_by (of
    wandb_run_id: what the run claims, and which other run holds that) and replaced, a list of the same.
    """
    from ledger.projections.explain import EXPLAINED

    if said.column is not None and said.column not in EXPLAINED:
        raise UnknownColumn(said.column, EXPLAINED)
    with opened(said) as ledger:
        every = ledger.explain(said.run_id)
    chosen = [explained for explained in every if said.column in (None, explained.column)]
    if said.as_json:
        say_document([asdict(explained) for explained in chosen])
        return 0
    lines = _overview(chosen) if said.column is None else [line for each in chosen for line in _history(each)]
    if lines:
        say(table(lines, list(lines[0]), width=width(), gives_way=list(lines[0])[-1], paint=status_paint))
    for sentence in _remarks(chosen, [said.column] if said.column else EXPLAINED):
        say(visible(sentence))
    return 0


def _overview(chosen: Iterable[Explanation]) -> list[dict[str, object]]:
    return [
        {"column": explained.column, **_line(explained.column, explained), "replaced": _replaced(explained)}
        for explained in chosen
    ]


def _history(explained: Explanation) -> list[dict[str, object]]:
    return [_line(explained.column, explained), *(_line(explained.column, setting) for setting in explained.replaced)]


def _line(column: str, setting: Setting | Explanation) -> dict[str, object]:
    return {
        "value": _brief(column, setting.value),
        "set by": setting.type,
        "at": short_moment(setting.occurred_at),
        "source": setting.source,
    }


def _replaced(explained: Explanation) -> str:
    """The value before, and by what; how many there were before that one."""
    if not explained.replaced:
        return ""
    before = explained.replaced[0]
    more = len(explained.replaced) - 1
    earlier = f", and {more} earlier" if more else ""
    return f"{_brief(explained.column, before.value)} ({before.type} {short_moment(before.occurred_at)}){earlier}"


def _brief(column: str, value: object) -> str:
    """A value as people write it, in one cell."""
    from ledger.cli.card import readable

    return _cut(readable(column, value))


def _remarks(chosen: Sequence[Explanation], asked: Iterable[str]) -> Iterator[str]:
    for explained in chosen:
        if explained.held_by is not None:
            yield f"{explained.column}: this run claims {explained.claim!r}, which run {explained.held_by!r} holds"
    said = {explained.column for explained in chosen}
    if unsaid := [name for name in asked if name not in said and name != "reason"]:
        yield f"never said: {', '.join(unsaid)}"


def replay_changes(said: Namespace) -> int:
    """Print what a replay would change, and how much that is."""
    with opened(said) as ledger:
        following = ledger.replay(dry_run=True)
        if said.as_json:
            say_array(map(asdict, following))
        else:
            _say_changes(following)
    return 0


def _say_changes(following: Iterator[Change]) -> None:
    columns = runs = 0
    last = None
    while chunk := list(islice(following, LINES_MAX)):
        for change in chunk:  # they come run by run
            columns, runs, last = columns + 1, runs + (change.run_id != last), change.run_id
        lines = [{"run_id": c.run_id, "column": c.column, **_sides(c.stored, c.computed)} for c in chunk]
        say(table(lines, ["run_id", "column", "stored", "computed"]))
    verdict = f"{counted(columns, 'column')} of {counted(runs, 'run')} would change"
    say(verdict if columns else "nothing would change")


def _sides(stored: object, computed: object) -> dict[str, str]:
    """Both values; where long texts begin alike, from shortly before they part."""
    if isinstance(stored, str) and isinstance(computed, str):
        pairs = enumerate(zip(stored, computed, strict=False))
        shorter = min(len(stored), len(computed))
        alike = next((place for place, (left, right) in pairs if left != right), shorter) - VALUE_WIDTH_MAX // 4
        if alike > 0 and max(len(stored), len(computed)) > VALUE_WIDTH_MAX:
            stored, computed = f"...{stored[alike:]}", f"...{computed[alike:]}"
    return {"stored": _cut(stored), "computed": _cut(computed)}


def _cut(value: object) -> str:
    if value is None:
        return "nothing"
    text = cell(value)
    return text if len(text) <= VALUE_WIDTH_MAX else f"{text[: VALUE_WIDTH_MAX - 3]}..."
