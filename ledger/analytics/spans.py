"""When runs ran: moments as whole microseconds, from a start to an end, split at midnights; and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

__all__ = ["DAY", "HOUR", "SECOND", "Span", "by_month", "day_of", "instant", "instant_of", "month_of", "span_of"]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = (
    (datetime(year, month, day, tzinfo=UTC) - _EPOCH).days * DAY for year, month, day in ((1, 1, 1), (9999, 12, 31))
)


class Span(NamedTuple):
    """From when to when a run ran. Where it did not run all the time, *pace* spreads evenly how long it did."""

    begin: int
    end: int
    pace: tuple[int, int, int] | None = None  # when the run began, how long it lasted, how much of that it ran
    lost: bool = False

    def worked(self, since: int, until: int) -> int:
        """Return the microseconds of work between two moments of the span; those of all its parts add up."""
        if self.pace is None:
            return until - since
        begin, lasted, active = self.pace
        return (until - begin) * active // lasted - (since - begin) * active // lasted

    def work(self) -> int:
        return self.worked(self.begin, self.end)


def instant_of(moment: datetime) -> int:
    """Return how many microseconds a moment lies after 1970 began."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def instant(text: str) -> int:
    """Return the same of a moment as a row has it."""
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def span_of(status: object, *told: object, now: int) -> Span | None:
    """Return from when to when a run ran, so far; None where that is not known.

    It is *told* start, end, duration, and, if it matters, active seconds, last_seen_at, liveness, and since when it
    runs on. Where the start is not known it is the end less the duration, and the other way round. A running run
    ends now, a lost one when it was last seen. One that was active for a second less worked no longer than that.
    """
    started, ended, duration, active, seen, liveness, resumed = (*told, None, None, None, None)[:7]
    lost = status == "running" and liveness == "lost"
    if status == "running":
        span = None if started is None else _running(instant(str(started)), seen if lost else None, now, lost=lost)
    else:
        span = _ended(started, ended, duration)
    if span is None or not isinstance(active, int):
        return span
    worked = max(active, 0) * SECOND
    if status == "running" and isinstance(resumed, str):  # its active seconds are those before
        worked += max(0, span.end - max(span.begin, instant(resumed)))
    if span.end - span.begin - worked < SECOND:
        return span
    return span._replace(pace=(span.begin, span.end - span.begin, worked))


def _running(begin: int, seen: object, now: int, *, lost: bool) -> Span:
    end = now if not lost else begin if seen is None else instant(str(seen))
    return Span(begin, max(begin, end), lost=lost)


def _ended(started: object, ended: object, duration: object) -> Span | None:
    begin = None if started is None else instant(str(started))
    end = None if ended is None else instant(str(ended))
    if begin is not None and end is not None:
        return Span(begin, max(begin, end))
    if not isinstance(duration, int):
        return None
    if begin is not None:
        return _in_calendar(begin, begin + duration * SECOND)
    return None if end is None else _in_calendar(end - duration * SECOND, end)


def _in_calendar(begin: int, end: int) -> Span | None:
    """A span that was told by a duration, which may be any number: of one beyond the calendar nothing is known."""
    return Span(begin, max(begin, end)) if begin >= _FIRST and end <= _LAST else None


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
    begin, end = span.begin, span.end
    while (month := month_of(begin)) != month_of(max(begin, end - 1)):
        following = day_of(begin // DAY).replace(day=1) + timedelta(days=31)
        at = (following.replace(day=1).toordinal() - _EPOCH.toordinal()) * DAY
        yield month, span._replace(begin=begin, end=at)
        begin = at
    yield month, span._replace(begin=begin)
