"""When runs ran: moments as whole microseconds, from a start to an end, split at midnights."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

__all__ = ["DAY", "HOUR", "SECOND", "Span", "by_month", "day_of", "instant", "instant_of", "month_of", "span_of"]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = (
    (datetime(year, month, day, tzinfo=UTC) - _EPOCH).days * DAY for year, month, day in ((1, 1, 1), (9999, 12, 31))
)

Span = tuple[int, int]


def instant_of(moment: datetime) -> int:
    """Return how many microseconds a moment lies after 1970 began."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def instant(text: str) -> int:
    """Return the same of a moment as a row has it."""
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def span_of(status: object, started: object, ended: object, duration: object, now: int) -> Span | None:
    """Return from when to when a run ran, so far; None where that is not known.

    Where the start is not known it is the end less the duration, and the other way round.
    """
    begin = None if started is None else instant(str(started))
    end = now if status == "running" else None if ended is None else instant(str(ended))
    if begin is not None and end is not None:
        return begin, max(begin, end)
    if not isinstance(duration, int):
        return None
    if begin is not None:
        return _in_calendar(begin, begin + duration * SECOND)
    return None if end is None else _in_calendar(end - duration * SECOND, end)


def _in_calendar(begin: int, end: int) -> Span | None:
    """A span that was told by a duration, which may be any number: of one beyond the calendar nothing is known."""
    return (begin, max(begin, end)) if begin >= _FIRST and end <= _LAST else None


def day_of(day: int) -> date:
    """Return the day in UTC that begins so many days after 1970 began."""
    return date.fromordinal(_EPOCH.toordinal() + day)


def month_of(at: int) -> str:
    """Return the month in UTC in which a moment lies, as `2026-01`."""
    return _month_of_day(at // DAY)


@lru_cache(maxsize=4096)
def _month_of_day(day: int) -> str:
    return day_of(day).isoformat()[:7]


def by_month(span: Span) -> Iterator[tuple[str, Span]]:
    """Yield the months that a span touches, each with the part that lies in it."""
    begin, end = span
    while (month := month_of(begin)) != month_of(max(begin, end - 1)):
        following = day_of(begin // DAY).replace(day=1) + timedelta(days=31)
        at = (following.replace(day=1).toordinal() - _EPOCH.toordinal()) * DAY
        yield month, (begin, at)
        begin = at
    yield month, (begin, end)
