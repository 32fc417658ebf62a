"""How much is done in each week, day or month, in UTC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

from ledger.analytics.groups import Row
from ledger.analytics.spans import DAY, HOUR, Span, day_of, span_of
from ledger.errors import AskedWrongly

__all__ = ["PERIODS", "throughput"]

PERIODS = ("day", "week", "month")
_LENGTHS = {"day": 1, "week": 7, "month": 28}
_PERIODS_MAX = 20_000
_ENDS = ("completed", "failed", "crashed")


@dataclass
class _Days:
    """What happened on each day."""

    launched: Counter[date] = field(default_factory=Counter)
    ended: Counter[tuple[date, str]] = field(default_factory=Counter)
    worked: Counter[date] = field(default_factory=Counter)  # microseconds

    def all(self) -> set[date]:
        return {*self.launched, *self.worked, *(day for day, _ in self.ended)}


def throughput(rows: Iterable[Sequence[object]], per: str, now: int) -> list[Row]:
    """Return the rows of throughput; *rows* have created_at, and then what `span_of` takes."""
    found = _by_days(list(rows), now, _PERIODS_MAX * _LENGTHS[per])
    within: dict[date, list[date]] = {begins: [] for begins in _periods(found.all(), per)}
    for day in found.all():
        within[_begin(day, per)].append(day)
    return [{per: _label(per, begins), **_done(found, begins, days)} for begins, days in within.items()]


def _by_days(rows: Sequence[Sequence[object]], now: int, days_max: int) -> _Days:
    launched = Counter(str(row[0])[:10] for row in rows)
    ended = Counter((row[3][:10], row[1]) for row in rows if isinstance(row[3], str))
    spans = [span for row in rows if (span := span_of(*row[1:], now=now)) is not None]
    known = [
        *map(date.fromisoformat, {*launched, *(day for day, status in ended if status in _ENDS)}),
        *(day_of(at // DAY) for span in spans for at in (span.begin, span.end)),
    ]
    if known and (max(known) - min(known)).days > days_max:
        raise AskedWrongly(
            f"the runs lie between {min(known)} and {max(known)}, too far apart for a row for each period. "
            "Ask for longer periods, or for fewer runs with created_after, started_after and created_before."
        )
    return _Days(
        Counter({date.fromisoformat(day): number for day, number in launched.items()}),
        Counter({(date.fromisoformat(day), str(status)): n for (day, status), n in ended.items() if status in _ENDS}),
        _worked(spans),
    )


def _worked(spans: Iterable[Span]) -> Counter[date]:
    """The microseconds of each day: those of first and last days, and of whole days by where they begin and end."""
    parts: Counter[int] = Counter()
    whole: Counter[int] = Counter()
    for span in spans:
        begin, end = span.begin, span.end
        first, last = begin // DAY, end // DAY
        if first == last or span.pace is not None:
            for day in range(first, last + 1):
                parts[day] += span.worked(max(begin, day * DAY), min(end, (day + 1) * DAY))
            continue
        parts[first] += DAY - begin % DAY
        parts[last] += end % DAY
        whole[first + 1] += 1
        whole[last] -= 1
    at_once = 0
    edges = sorted(whole)
    for day, following in pairwise(edges):
        at_once += whole[day]
        for between in range(day, following if at_once else day):
            parts[between] += at_once * DAY
    return Counter({day_of(day): microseconds for day, microseconds in parts.items() if microseconds})


def _begin(day: date, per: str) -> date:
    """The first day of the period that *day* is in."""
    if per == "month":
        return day.replace(day=1)
    return day - timedelta(days=min(day.weekday(), day.toordinal() - 1) if per == "week" else 0)


def _periods(days: set[date], per: str) -> Iterator[date]:
    """When each period begins, from the first to the last in which there is something."""
    if not days:
        return
    begins, last = (_begin(day, per) for day in (min(days), max(days)))
    while begins < last:
        yield begins
        begins = _begin(begins + timedelta(days=31 if per == "month" else _LENGTHS[per]), per)
    yield last


def _label(per: str, begins: date) -> str:
    if per == "week":
        year, week, _ = begins.isocalendar()
        return f"{year}-W{week:02}"
    return begins.isoformat()[: 7 if per == "month" else 10]


def _done(found: _Days, begins: date, days: list[date]) -> Row:
    return {
        "begins": begins.isoformat(),
        "launched": sum(found.launched[day] for day in days),
        **{status: sum(found.ended[day, status] for day in days) for status in _ENDS},
        "hours": sum(found.worked[day] for day in days) / HOUR,
    }
