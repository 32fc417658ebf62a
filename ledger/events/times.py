"""Moments: aware, in UTC, to the microsecond, and as text whose order is the order of time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import BeforeValidator

__all__ = ["LATEST", "UtcDateTime", "parse_moment", "text_of"]

# Nobody may say that something occurs on the calendar's last day: so there is always a moment that is
# one microsecond later than the newest event of a run.
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_OFFSET_AND_Z = re.compile(r"[+-]\d\d:?\d\dZ$")


def parse_moment(value: object) -> datetime:
    """Return *value* as an aware datetime in UTC; naive ones are taken as UTC.

    Takes datetimes, dates and ISO 8601 text, and the `+00:00Z` that `isoformat() + "Z"` makes of an
    aware one. Raises ValueError for everything else, and for what lies beyond the year 9999 in UTC.
    """
    if isinstance(value, str):
        text = value.strip().upper()  # ISO 8601 allows a small t and z, and Python does not
        value = datetime.fromisoformat(text[:-1] if _OFFSET_AND_Z.search(text) else text)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise ValueError(f"a datetime or ISO 8601 text is wanted, not {type(value).__name__}")  # noqa: TRY004 -- for pydantic
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment between the years 1 and 9999 in UTC is wanted") from None
    return value


def text_of(moment: datetime) -> str:
    """Return an aware UTC datetime as `YYYY-MM-DDTHH:MM:SS.ffffffZ`."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


UtcDateTime = Annotated[datetime, BeforeValidator(parse_moment)]
