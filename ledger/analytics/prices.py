"""What an hour of each type of instance costs, and from when: a table that the user gives."""

from __future__ import annotations

import csv
import json
import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

from ledger.analytics.spans import Span, instant_of
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, UnknownKeyword
from ledger.events.times import parse_moment

__all__ = ["Given", "Prices", "read_prices"]

Given = str | os.PathLike[str] | Mapping[str, object] | Iterable[Mapping[str, object]]

_ALWAYS = -(2**63)
_WORDS = ("instance_type", "price_per_hour", "from", "currency")


class Prices:
    """Prices by type of instance, each from a moment on."""

    def __init__(self, changes: Mapping[str, Mapping[int, Decimal]], currency: str | None) -> None:
        self.currency = currency
        self._changes = {kind: sorted(of_kind.items()) for kind, of_kind in changes.items()}

    def charged(self, kind: object, spans: Sequence[Span]) -> Counter[Decimal | None]:
        """Return how many microseconds of spans fall under each price of an hour, None where none is known."""
        changes = self._of(kind)
        if not changes or (len(changes) == 1 and changes[0][0] == _ALWAYS):
            price = changes[0][1] if changes else None
            return Counter({price: sum(span.work() for span in spans)})
        moments = [at for at, _ in changes]
        prices = [None, *(price for _, price in changes)]
        charged: Counter[Decimal | None] = Counter()
        for span in spans:
            begin, end = span.begin, span.end
            first, last = bisect_right(moments, begin), bisect_left(moments, end)
            edges = [begin, *moments[first:last], end]
            for price, (since, until) in zip(prices[first:], pairwise(edges), strict=False):
                charged[price] += span.worked(since, until)
        return charged

    def unpriced(self, kind: object, spans: Sequence[Span]) -> int:
        """Return how many of the spans have time of which no price is known."""
        changes = self._of(kind)
        return sum(span.begin < span.end and (not changes or span.begin < changes[0][0]) for span in spans)

    def _of(self, kind: object) -> Sequence[tuple[int, Decimal]]:
        return self._changes.get(kind, []) if isinstance(kind, str) else []


def read_prices(given: Given) -> Prices:
    """Return the prices that are given: rows, prices by type of instance, or a file of CSV, JSON or YAML with either.

    Raises AskedWrongly for what cannot be meant.
    """
    rows = _read(Path(given)) if isinstance(given, str | os.PathLike) else given
    if isinstance(rows, Mapping):
        rows = [{"instance_type": kind, "price_per_hour": price} for kind, price in rows.items()]
    if not isinstance(rows, Iterable):
        raise InvalidValue("prices", given, "rows, a mapping of instance types to prices, or a file is wanted")
    changes: dict[str, dict[int, Decimal]] = {}
    currencies: list[str | None] = []
    for number, row in enumerate(rows, start=1):
        kind, since, price, currency = _parsed(row, number)
        if changes.setdefault(kind, {}).setdefault(since, price) != price:
            raise AskedWrongly(f"prices: row {number} gives {kind!r} a second price from the same moment. Keep one.")
        currencies.append(currency)
    if not currencies:
        raise InvalidValue("prices", given, "at least one price is wanted")
    for one, other in pairwise(currencies):
        if one != other:
            raise AskedWrongly(f"prices are in {one!r} and in {other!r}, whose sum means nothing. Give all in one.")
    return Prices(changes, currencies[0] if currencies else None)


def _parsed(row: object, number: int) -> tuple[str, int, Decimal, str | None]:
    if not isinstance(row, Mapping):
        raise InvalidValue(f"prices: row {number}", row, f"a mapping with {', '.join(_WORDS)} is wanted")
    for word in row:
        if word not in _WORDS:
            raise UnknownKeyword(word, _WORDS, f" It is in row {number} of the prices, which take {', '.join(_WORDS)}.")
    kind, currency = row.get("instance_type"), row.get("currency") or None
    if not isinstance(kind, str) or not kind.strip():
        raise InvalidValue(f"prices: row {number}: instance_type", kind, "the name of a type of instance is wanted")
    if not isinstance(currency, str | None):
        raise InvalidValue(f"prices: row {number}: currency", currency, "text is wanted, such as USD")
    return kind.strip(), _since(row.get("from"), number), _price(row.get("price_per_hour"), number), currency


def _since(value: object, number: int) -> int:
    if value is None or value == "":
        return _ALWAYS
    try:
        made: datetime = parse_moment(value)
    except (ValueError, OverflowError):
        raise InvalidValue(f"prices: row {number}: from", value, "a date or a moment is wanted, or nothing") from None
    return instant_of(made)


def _price(value: object, number: int) -> Decimal:
    try:
        # A float is meant as it is written: 0.1 is a tenth.
        made = Decimal(str(value).strip()) if isinstance(value, str | int | float | Decimal) else Decimal("NaN")
    except InvalidOperation:
        made = Decimal("NaN")
    if not made.is_finite() or not 0 <= made < 10**9 or isinstance(value, bool):
        raise InvalidValue(f"prices: row {number}: price_per_hour", value, "a number of 0 or more is wanted")
    return made


def _read(path: Path) -> object:
    """What a file holds, by the ending of its name."""
    reading = {".csv": _from_csv, ".json": _from_json, ".yaml": _from_yaml, ".yml": _from_yaml}.get(path.suffix.lower())
    if reading is None:
        raise InvalidValue("prices", str(path), "a file is wanted whose name ends in .csv, .json, .yaml or .yml")
    try:
        return reading(path.read_text(encoding="utf-8-sig"))
    except csv.Error as exc:
        wanted = f"CSV is wanted whose quotes are closed and whose fields are short ({exc})"
        raise InvalidValue("prices", str(path), wanted) from None
    except (OSError, ValueError, RecursionError) as exc:
        why = " ".join(str(exc).split())
        raise AskedWrongly(f"the prices in {path} cannot be read ({why}). Mend the file, or name another.") from None


def _from_csv(text: str) -> object:
    reader = csv.DictReader(text.splitlines(), strict=True)
    _once([word.strip() for word in reader.fieldnames or ()])
    rows = list(reader)
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has not as many fields as the heading")
    return [{str(word).strip(): value.strip() for word, value in row.items()} for row in rows]


def _from_json(text: str) -> object:
    return json.loads(text, parse_float=Decimal, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _once([key for key, _ in pairs])
    return dict(pairs)


def _once(words: Sequence[object]) -> None:
    """Refuse a heading or key that comes again: of its two values one would be lost."""
    for word, times in Counter(words).items():
        if times > 1:
            raise ValueError(f"{word!r} is said {times} times")


def _from_yaml(text: str) -> object:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("yaml") from None
    try:
        document = yaml.compose(text, yaml.SafeLoader)
        within = document.value if isinstance(document, yaml.SequenceNode) else [document]
        for row in within:
            if isinstance(row, yaml.MappingNode):
                _once([key.value for key, _ in row.value if isinstance(key, yaml.ScalarNode)])
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from None
