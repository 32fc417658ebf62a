"""What differs between configs: of two runs, and of two groups of runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from ledger.analytics.groups import Row, same
from ledger.analytics.levels import Level, levelled

__all__ = ["Flat", "differences", "flat", "group_differences", "spelled", "varying"]

Path = tuple[str | int, ...]  # a place in a list is a number, so that it differs from a key that spells it
Flat = dict[Path, object]

_SHOWN = 5  # of the values of a group


def flat(config: str | None) -> Flat:
    """Return what a config's text holds by path; an empty list or object is a value of its own."""
    found: Flat = {}
    _collect(json.loads(config) if config else {}, (), found)
    return found


def _collect(value: object, before: Path, found: Flat) -> None:
    held: Iterable[tuple[str | int, object]] = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else held:
        path = (*before, key)
        if isinstance(item, dict | list) and item:
            _collect(item, path, found)
        else:
            found[path] = item


def spelled(path: Path) -> str:
    """Return a path with dots; a key with a dot in it may spell the path of another."""
    return ".".join(map(str, path))


def _order(path: Path) -> tuple[str, str]:
    return spelled(path), repr(path)


def differences(one: Flat, other: Flat) -> list[Row]:
    """Return a row for each path that differs, in the order of the paths."""
    made: list[Row] = []
    for path in sorted(one.keys() | other.keys(), key=_order):
        change = "added" if path not in one else "removed" if path not in other else "changed"
        if change != "changed" or same(one[path]) != same(other[path]):
            made.append({"path": spelled(path), "change": change, "one": one.get(path), "other": other.get(path)})
    return made


def varying(configs: Sequence[Flat]) -> list[Path]:
    """Return the paths whose values differ between configs, also where some lack them; what most have comes first."""
    counts = Counter(path for config in configs for path in config)
    vary = {path for path, count in counts.items() if count < len(configs)}
    for path in counts.keys() - vary:
        first = configs[0][path]
        kind = type(first)
        for config in configs:
            value = config[path]
            if value != first or (type(value) is not kind and same(value) != same(first)):
                vary.add(path)
                break
    return sorted(vary, key=lambda path: (-counts[path], *_order(path)))


def group_differences(one: Sequence[Flat], other: Sequence[Flat], bins: int) -> list[Row]:
    """Return a row for each path whose values are not spread alike in two groups, the most telling first."""
    made = [_group_difference(path, one, other, bins) for path in varying([*one, *other])]
    found = [each for each in made if each[0] > 0]
    found.sort(key=lambda each: (-each[0], _order(each[1])))
    return [row for *_, row in found]


def _group_difference(path: Path, one: Sequence[Flat], other: Sequence[Flat], bins: int) -> tuple[float, Path, Row]:
    present = [[config[path] for config in group if path in config] for group in (one, other)]
    levels, places = levelled([*present[0], *present[1]], bins)
    counts = [Counter(places[: len(present[0])]), Counter(places[len(present[0]) :])]
    absent = [len(group) - len(there) for group, there in zip((one, other), present, strict=True)]
    apart = sum(abs(counts[0][place] / len(one) - counts[1][place] / len(other)) for place in range(len(levels)))
    distance = (apart + abs(absent[0] / len(one) - absent[1] / len(other))) / 2
    spread = [_spread(levels, *of_group) for of_group in zip(counts, absent, strict=True)]
    return distance, path, {"path": spelled(path), "distance": distance, "one": spread[0], "other": spread[1]}


def _spread(levels: Sequence[Level], counts: Counter[int], absent: int) -> list[Row]:
    """The most frequent values of a group, and with how many runs; last those that lack it."""
    ordered = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
    made: list[Row] = [{"value": levels[place].value, "runs": number} for place, number in ordered[:_SHOWN]]
    if rest := sum(number for _, number in ordered[_SHOWN:]):
        made.append({"value": f"{len(ordered) - _SHOWN} others", "runs": rest})
    return [*made, {"absent": True, "runs": absent}] if absent else made
