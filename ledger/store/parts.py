"""Folded runs some at a time: as many as are looked up, written or sent together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledger.store.bounds import Bounds
from ledger.store.folding import Reading, Span, folded_runs
from ledger.store.run_rows import RunRows
from ledger.store.seen import Difference, Seen

__all__ = ["Part", "Plan", "in_parts", "parts_of"]

PART_LENGTH_MAX = 10_000_000  # characters of the rows of runs that are held together


class Plan(NamedTuple):
    """Which events are folded, whether each is looked at besides, and how many runs make a part."""

    bounds: Bounds
    witnessed: bool
    runs_max: int


class Part(NamedTuple):
    """Some runs of the span of this *number*, and what was found wrong with events since the part before."""

    number: int
    faults: list[Difference]
    runs: list[RunRows]


def parts_of(read: Reading, plan: Plan, span: Span) -> Iterator[Part]:
    """Fold the runs of a span."""
    seen = Seen() if plan.witnessed else None
    for runs in in_parts(folded_runs(read, plan.bounds, seen, span), plan.runs_max):
        yield Part(span.number, seen.faults() if seen else [], runs)
    if seen is not None and (last := seen.faults()):
        yield Part(span.number, last, [])


def in_parts(every: Iterable[RunRows], runs_max: int, length_max: int = PART_LENGTH_MAX) -> Iterator[list[RunRows]]:
    """Yield the runs some at a time, as many as may be held together."""
    part: list[RunRows] = []
    length = 0
    for run in every:
        part.append(run)
        length += run.length
        if len(part) >= runs_max or length >= length_max:
            yield part
            part, length = [], 0
    if part:
        yield part
