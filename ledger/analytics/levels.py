"""The values of a hyperparameter as a few levels: many numbers as ranges of equal shares, rare words as one."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.analytics.groups import Row, rank, same, whole
from ledger.analytics.numbers import finite, quantile, spelled_value

__all__ = ["Level", "levelled"]

WORDS_MAX = 20


@dataclass(frozen=True)
class Level:
    """One value, or how many values from *low* to *high*, or, without these, of the rare ones."""

    value: object
    low: float | None = None
    high: float | None = None
    values: int = 1

    def row(self) -> Row:
        return {"value": self.value, "low": self.low, "high": self.high, "values": self.values}


def levelled(values: Sequence[object], bins: int) -> tuple[list[Level], list[int]]:
    """Return the levels of values in their order, and for each value the place of its level."""
    keys, kept = _keys(values)
    counts = Counter(keys)
    numbers = [key for key in counts if not isinstance(key, tuple) and finite(key) is not None]
    absent = None in counts
    if len(numbers) > bins and len(numbers) + absent == len(counts):
        levels, places = _ranges(counts, numbers, bins)
    else:
        levels, places = _words(counts, kept)
    if absent:
        places[None] = len(levels)
        levels = [*levels, Level(None)]
    return levels, [places[key] for key in keys]


def _keys(values: Sequence[object]) -> tuple[Sequence[object], dict[object, object]]:
    """What is equal for values that are the same, also where text spells a number; and what it stands for."""
    kinds = set(map(type, values))
    spelled: dict[object, object] = {}
    if str in kinds:
        texts = {value for value in values if isinstance(value, str)}
        spelled = {text: number for text in texts if (number := spelled_value(text)) != text}
    if kinds & {bool, list, dict}:
        keys = [spelled.get(value, value) if isinstance(value, str) else same(value) for value in values]
        return keys, {key: value for key, value in zip(keys, values, strict=True) if isinstance(key, tuple)}
    return [spelled.get(value, value) for value in values] if spelled else values, {}


def _ranges(counts: Counter[object], numbers: list[object], bins: int) -> tuple[list[Level], dict[object, int]]:
    """Ranges with as equal numbers of runs as the values allow; between two of them lies no value."""
    ordered = sorted(numbers, key=rank)
    flat = [number for number in ordered for _ in range(counts[number])]
    floats = [finite(number) or 0.0 for number in flat]
    edges = sorted({quantile(floats, step / bins) or 0.0 for step in range(1, bins)})
    within: dict[int, list[object]] = {}
    for number in ordered:
        within.setdefault(bisect_left(edges, finite(number) or 0.0), []).append(number)
    levels = [_range(members) for members in within.values()]
    places = {number: place for place, members in enumerate(within.values()) for number in members}
    return levels, places


def _range(members: list[object]) -> Level:
    low, high = finite(members[0]), finite(members[-1])
    if len(members) == 1:
        return Level(whole(members[0]))
    return Level(_apart(whole(members[0]), whole(members[-1])), low, high, len(members))


def _apart(low: object, high: object) -> str:
    """The ends of a range, with as many digits as tell them apart."""
    for digits in [4] if isinstance(low, int) and isinstance(high, int) else range(4, 18):
        one, other = (f"{finite(end):.{digits}g}" for end in (low, high))
        if one != other:
            return f"{one} to {other}"
    return f"{low} to {high}"


def _words(counts: Counter[object], kept: dict[object, object]) -> tuple[list[Level], dict[object, int]]:
    found = [key for key in counts if key is not None]
    shown = found
    if len(found) > WORDS_MAX:
        found.sort(key=lambda key: (-counts[key], rank(kept.get(key, key))))
        shown = found[: WORDS_MAX - 1]
    shown = sorted(shown, key=lambda key: rank(kept.get(key, key)))
    places = {key: place for place, key in enumerate(shown)}
    levels = [Level(whole(kept.get(key, key))) for key in shown]
    if len(found) > len(shown):
        rest = len(found) - len(shown)
        levels.append(Level(f"{rest} others", values=rest))
        places |= {key: len(shown) for key in found if key not in places}
    return levels, places
