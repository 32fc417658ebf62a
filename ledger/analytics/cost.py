"""What runs cost: the hours of their instances, at the prices that held then.

Time is counted in whole microseconds and each price is multiplied once, so that the parts of a run add up to the run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from ledger.analytics.groups import Key, Row, by_names, grouped, rank, same
from ledger.analytics.prices import Prices
from ledger.analytics.spans import DAY, HOUR, Span, by_month, span_of
from ledger.errors import AskedWrongly

__all__ = ["MONTH", "cost"]

MONTH = "month"
_LASTS_MAX = 100 * 366 * DAY  # a run divided by months; what seems to last longer is somebody's slip

Paid = Counter[Decimal | None]  # microseconds at each price of an hour, None where it is not known


@dataclass
class _Group:
    runs: int = 0
    unknown: int = 0
    lost: int = 0
    unpriced_runs: int = 0
    paid: Paid = field(default_factory=Counter)
    broken: dict[object, Paid] = field(default_factory=lambda: {"crashed": Counter(), "failed": Counter()})

    def row(self, currency: str | None) -> Row:
        return {
            "runs": self.runs,
            "hours": self.paid.total() / HOUR,
            "money": _known_money(self.paid),
            "crashed_money": _known_money(self.broken["crashed"]),
            "failed_money": _known_money(self.broken["failed"]),
            "currency": currency,
            "unpriced_runs": self.unpriced_runs,
            "unpriced_hours": self.paid[None] / HOUR,
            "unknown": self.unknown,
            "lost": self.lost,
        }


def cost(rows: Iterable[Sequence[object]], names: Sequence[str], prices: Prices, now: int) -> list[Row]:
    """Return the rows of cost.

    *names* are those of the columns, with the month wherever it is to stand; *rows* have the values of the others, then
    instance type, and then what `span_of` takes.
    """
    monthly = names.index(MONTH) if MONTH in names else None
    groups: dict[Key, tuple[Key, _Group]] = {} if names else {(): ((), _Group())}
    for values, rests in grouped(rows, len(names) - (monthly is not None) + 2):
        *before, kind, status = values
        spans = [span_of(status, *rest, now=now) for rest in rests]
        for month, of_month in (_by_months(spans) if monthly is not None else {None: spans}).items():
            key = before if monthly is None else [*before[:monthly], month, *before[monthly:]]
            same_key = tuple(map(same, key))
            if same_key not in groups:
                groups[same_key] = tuple(key), _Group()
            _count(groups[same_key][1], kind, status, of_month, prices)
    ordered = sorted(groups.values(), key=_by_money)
    if monthly is not None:
        ordered.sort(key=lambda group: rank(group[0][monthly]))
    return [{**by_names(names, key), **group.row(prices.currency)} for key, group in ordered]


def _by_months(spans: Iterable[Span | None]) -> dict[str | None, list[Span | None]]:
    """The spans in each month, one that lies in several by parts."""
    made: defaultdict[str | None, list[Span | None]] = defaultdict(list)
    for span in spans:
        if span is None:
            made[None].append(None)
        elif span.end - span.begin > _LASTS_MAX:
            raise AskedWrongly(
                "a run lasted more than a hundred years, too long to be divided by months. Correct its times with "
                "amend(...), or leave it out with started_after and started_before."
            )
        else:
            for month, part in by_month(span):
                made[month].append(part)
    return made


def _count(group: _Group, kind: object, status: object, spans: Sequence[Span | None], prices: Prices) -> None:
    known = [span for span in spans if span is not None]
    charged = prices.charged(kind, known)
    group.runs += len(spans)
    group.unknown += len(spans) - len(known)
    group.lost += sum(span.lost for span in known)
    group.unpriced_runs += prices.unpriced(kind, known) if charged[None] else 0
    group.paid.update(charged)
    if status in group.broken:
        group.broken[status].update(charged)


def _known_money(paid: Paid) -> float | None:
    """What is to be paid; None where no price is known of any of the hours."""
    return money(paid) if paid.total() > paid[None] or not paid[None] else None


def money(paid: Paid) -> float:
    """Return what is to be paid, as exactly as a float can say it."""
    with localcontext(prec=60):
        due = sum((price * microseconds for price, microseconds in paid.items() if price is not None), Decimal(0))
        return float(due / HOUR)


def _by_money(group: tuple[Key, _Group]) -> tuple[object, ...]:
    key, counted = group
    return -money(counted.paid), -counted.paid[None], *map(rank, key)
