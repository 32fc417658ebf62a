"""What differs between configs: of two runs, and of two groups of runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from ledger.analytics.groups import Row, same
from ledger.analytics.levels import Level, levelled

__all__ = ["Flat", "differences", "flat", "group_differences", "varying"]

Flat = dict[str, object]

_SHOWN = 5  # of the values of a group


def flat(config: str | None) -> Flat:
    """Return what a config's text holds by dotted path; an empty list or object is a value of its own."""
    found: Flat = {}
    _collect(json.loads(config) if config else {}, "", found)
    return found


def _collect(value: object, before: str, found: Flat) -> None:
    held: Iterable[tuple[object, object]] = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else held:
        path = f"{before}{key}"
        if isinstance(item, dict | list) and item:
            _collect(item, f"{path}.", found)
        else:
            # A key with a dot in it may spell the path of another, which then shows both.
            found[path] = item if path not in found else [found[path], item]


def differences(one: Flat, other: Flat) -> list[Row]:
    """Return a row for each path that differs, in the order of the paths."""
    made: list[Row] = []
    for path in sorted(one.keys() | other.keys()):
        change = "added" if path not in one else "removed" if path not in other else "changed"
        if change != "changed" or same(one[path]) != same(other[path]):
            made.append({"path": path, "change": change, "one": one.get(path), "other": other.get(path)})
    return made


def varying(configs: Sequence[Flat]) -> list[str]:
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
    return sorted(vary, key=lambda path: (-counts[path], path))


def group_differences(one: Sequence[Flat], other: Sequence[Flat], bins: int) -> list[Row]:
    """Return a row for each path whose values are not spread alike in two groups, the most telling first."""
    made = [_group_difference(path, one, other, bins) for path in varying([*one, *other])]
    return [row for _, _, row in sorted((-distance, path, row) for distance, path, row in made if distance > 0)]


def _group_difference(path: str, one: Sequence[Flat], other: Sequence[Flat], bins: int) -> tuple[float, str, Row]:
    present = [[config[path] for config in group if path in config] for group in (one, other)]
    levels, places = levelled([*present[0], *present[1]], bins)
    counts = [Counter(places[: len(present[0])]), Counter(places[len(present[0]) :])]
    absent = [len(group) - len(there) for group, there in zip((one, other), present, strict=True)]
    apart = sum(abs(counts[0][place] / len(one) - counts[1][place] / len(other)) for place in range(len(levels)))
    distance = (apart + abs(absent[0] / len(one) - absent[1] / len(other))) / 2
    spread = [_spread(levels, *of_group) for of_group in zip(counts, absent, strict=True)]
    return distance, path, {"path": path, "distance": distance, "one": spread[0], "other": spread[1]}


def _spread(levels: Sequence[Level], counts: Counter[int], absent: int) -> list[Row]:
    """The most frequent values of a group, and with how many runs; last those that lack it."""
    ordered = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
    made: list[Row] = [{"value": levels[place].value, "runs": number} for place, number in ordered[:_SHOWN]]
    if rest := sum(number for _, number in ordered[_SHOWN:]):
        made.append({"value": f"{len(ordered) - _SHOWN} others", "runs": rest})
    return [*made, {"absent": True, "runs": absent}] if absent else made
