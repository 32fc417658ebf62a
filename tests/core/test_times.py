"""Moments: whatever people write, in UTC to the microsecond, and as text whose order is the order of time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.events.times import parse_moment, text_of

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

SPELLINGS: dict[str, Any] = {
    "Z": "2024-05-01T12:00:00Z",
    "small letters": "2024-05-01t12:00:00z",
    "offset and a small z": "2024-05-01T12:00:00+00:00z",
    "offset": "2024-05-01T12:00:00+00:00",
    "offset and Z": "2024-05-01T12:00:00+00:00Z",
    "short offset and Z": "2024-05-01T12:00:00+0000Z",
    "fraction, offset and Z": "2024-05-01T12:00:00.000000+00:00Z",
    "another zone": "2024-05-01T05:00:00-07:00",
    "another zone and Z": "2024-05-01T05:00:00-07:00Z",
    "naive text": "2024-05-01T12:00:00",
    "a space between": "2024-05-01 12:00:00",
    "no seconds": "2024-05-01T12:00",
    "spaces around": " 2024-05-01T12:00:00Z\n",
    "naive": datetime(2024, 5, 1, 12),
    "aware": NOON,
    "aware elsewhere": datetime(2024, 5, 1, 19, tzinfo=timezone(timedelta(hours=7))),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_one_moment_in_many_spellings(spelling: Any) -> None:
    """Aware, naive (which is UTC), with Z, an offset, or both, as people make them."""
    made = parse_moment(spelling)

    assert (made, made.tzinfo) == (NOON, UTC)


def test_a_date_is_its_first_moment() -> None:
    """A day, as a date or as text, begins at midnight UTC."""
    assert parse_moment(date(2024, 5, 1)) == parse_moment("2024-05-01") == datetime(2024, 5, 1, tzinfo=UTC)


NO_MOMENTS: dict[str, Any] = {
    "words": "soon",
    "nothing": "",
    "number": 1714564800,
    "boolean": True,
    "None": None,
    "list": [2024, 5, 1],
    "month 13": "2024-13-01T00:00:00Z",
    "before the year 1": "0001-01-01T00:00:00+14:00",
    "after the year 9999": "9999-12-31T23:00:00-14:00",
    "aware, before the year 1": datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    "aware, after the year 9999": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
}


@pytest.mark.parametrize("value", NO_MOMENTS.values(), ids=NO_MOMENTS)
def test_what_is_no_moment_is_an_error(value: Any) -> None:
    """Anything else is a ValueError, never another error and never a guess."""
    with pytest.raises(ValueError, match="."):
        parse_moment(value)


moments = st.datetimes(timezones=st.just(UTC))


@given(moments, moments)
def test_the_order_of_the_text_is_the_order_of_time(one: datetime, other: datetime) -> None:
    """Two moments compare as their texts do, from the year 1 to the year 9999."""
    assert (one < other) == (text_of(one) < text_of(other))


@given(moments)
def test_a_moment_comes_back_from_its_text(moment: datetime) -> None:
    """To the microsecond, in the one written form."""
    text = text_of(moment)

    assert (parse_moment(text), len(text), text[10], text[-1]) == (moment, 27, "T", "Z")
