"""Folded runs some at a time: as many as are looked up, written or sent together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple, TypeVar

from ledger.store.bounds import Bounds
from ledger.store.folding import Reading, Span, folded_runs
from ledger.store.run_rows import RunRows
from ledger.store.seen import Difference, Seen

__all__ = ["Part", "Plan", "in_parts", "parts_of"]

PART_LENGTH_MAX = 10_000_000  # what the runs weigh that are held together

T = TypeVar("T")


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


def in_parts(
    every: Iterable[T],
    number_max: int,
    length_max: int = PART_LENGTH_MAX,
    length_of: Callable[[T], int] = attrgetter("length"),
) -> Iterator[list[T]]:
    """Yield the runs, or rows of them, some at a time: as many as may be together."""
    part: list[T] = []
    length = 0
    for one in every:
        part.append(one)
        length += length_of(one)
        if len(part) >= number_max or length >= length_max:
            yield part
            part, length = [], 0
    if part:
        yield part
