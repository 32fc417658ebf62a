"""Times of one process never go back and its ids increase, whatever its clock does and however many threads ask."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from ledger import origin
from ledger.events import Started

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Stepped:
    """A clock that shows the given moments one after the other, and then the last one for ever."""

    def __init__(self, *seconds: float, bits: int | None = None) -> None:
        self._moments = [NOON + timedelta(seconds=second) for second in seconds]
        self._bits = bits

    def now(self) -> datetime:
        return self._moments.pop(0) if len(self._moments) > 1 else self._moments[0]

    def random_bits(self, bits: int) -> int:
        return (1 << bits) - 1 if self._bits is None else self._bits

    def source(self) -> dict[str, str | int]:
        return {"host": "simulated"}


def test_now_never_goes_back() -> None:
    """With a clock that is set back by an hour, time stands still until it has caught up."""
    with origin.replaced(Stepped(0, 10, -3600, 5, 11)):
        assert [(origin.now() - NOON).total_seconds() for _ in range(5)] == [0, 10, 10, 10, 11]


def test_ids_increase_with_a_clock_that_goes_back() -> None:
    """An id made after the clock was set back is still greater than all before it."""
    with origin.replaced(Stepped(0, 10, -3600, 5, 11)):
        made = [origin.new_event_id() for _ in range(5)]

    assert made == sorted(set(made))


@pytest.mark.parametrize("bits", [0, None], ids=["no randomness", "all bits set"])
def test_ids_increase_within_one_moment(bits: int | None) -> None:
    """Where clock and randomness stand still, ids count up, over every carry, and stay version 7."""
    with origin.replaced(Stepped(0, bits=bits)):
        made = [uuid.UUID(origin.new_event_id()) for _ in range(3000)]

    assert made == sorted(set(made))
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}


def test_an_id_bears_its_time() -> None:
    """The first 48 bits are the milliseconds since 1970."""
    with origin.replaced(Stepped(0.123, bits=0)):
        made = uuid.UUID(origin.new_event_id())

    assert made.int >> 80 == int(NOON.timestamp() * 1000) + 123


def test_ids_increase_across_threads() -> None:
    """Each thread sees its ids increase, and no two threads get the same one."""
    made: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        into.extend(origin.new_event_id() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(ids == sorted(ids) for ids in made)
    assert len({each for ids in made for each in ids}) == 8 * 2000


def test_events_of_one_process_keep_the_order_in_which_they_were_made() -> None:
    """Canonical order is the order of making, also while the clock goes back."""
    with origin.replaced(Stepped(0, 0, 10, -3600, -3600, 5, 11)):
        made = [Started(run_id="r") for _ in range(6)]

    assert made == sorted(made, key=lambda event: (event.occurred_at, event.event_id))


def test_a_simulation_ends() -> None:
    """After it, clock and identity are the machine's again."""
    with origin.replaced(Stepped(0)):
        assert Started(run_id="r").source.host == "simulated"

    assert Started(run_id="r").source.pid == os.getpid()
    assert origin.now() > NOON + timedelta(days=300)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose uid nobody knows, the number says who it is."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    origin._process_identity.cache_clear()
    try:
        assert origin.source()["user"] == str(os.getuid())
    finally:
        origin._process_identity.cache_clear()


def test_random_text_draws_from_its_alphabet() -> None:
    """Every character can come up, and no other."""
    drawn = "".join(origin.random_text("ABC", 6) for _ in range(200))

    assert (set(drawn), len(drawn)) == (set("ABC"), 1200)
