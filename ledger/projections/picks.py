"""What is read of a run by name: a column, or what lies below a path of its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import InvalidValue, UnknownColumn
from ledger.projections.filters import JSON_ROOTS, is_path
from ledger.projections.run import COLUMNS

__all__ = ["Pick", "listed_names", "metric_pick", "parse_pick", "parse_picks"]


@dataclass(frozen=True)
class Pick:
    """A column, and for JSON columns the keys below it; *name* is what it was asked for by."""

    name: str
    column: str
    keys: tuple[str, ...] = ()


def parse_pick(name: object, beside: Sequence[str] = ()) -> Pick:
    """Return what *name* means: a column, or a path such as config.training.lr. *beside* are further names to offer.

    Raises UnknownColumn, which names the nearest.
    """
    if isinstance(name, str) and name in COLUMNS:
        return Pick(name, name)
    root, dot, path = name.partition(".") if isinstance(name, str) else ("", "", "")
    if not dot or root not in JSON_ROOTS:
        raise UnknownColumn(name, [*COLUMNS, *beside], _HINT)
    return Pick(f"{root}.{path}", JSON_ROOTS[root], _keys(str(name), path))


_HINT = f" A path begins with {', '.join(f'{root}.' for root in JSON_ROOTS)}: config.training.lr."


def listed_names(by: str | Sequence[str] | None, keyword: str = "by") -> list[str]:
    """Return the names that *keyword* was given: one, several, or none. A name that is said twice is an error."""
    if by is not None and not isinstance(by, str | Sequence):
        raise InvalidValue(keyword, by, "a column or a path is wanted, several of them, or None")
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    if len({str(name) for name in names}) < len(names):
        raise InvalidValue(keyword, by, "each column or path is wanted once")
    return names


def parse_picks(by: str | Sequence[str] | None, keyword: str = "by") -> list[Pick]:
    return [parse_pick(name) for name in listed_names(by, keyword)]


def metric_pick(metric: object) -> Pick:
    """Return where the final metric of this name lies; "metrics." may be said before it."""
    if not isinstance(metric, str) or not metric:
        raise InvalidValue("metric", metric, 'the name of a final metric is wanted, such as "eval/loss"')
    name = metric.removeprefix("metrics.")
    return Pick(name, JSON_ROOTS["metrics"], _keys(metric, name))


def _keys(said: str, path: str) -> tuple[str, ...]:
    if not is_path(path):
        raise InvalidValue("name", said, "keys with one dot between are wanted, without quotes and backslashes")
    return tuple(path.split("."))
