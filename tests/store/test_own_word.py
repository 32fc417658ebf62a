"""Your own word counts: what a documented call says shows at once, whatever other machines' clocks say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.events import Event
from tests.builders import (
    HOUR,
    NOON,
    amended,
    completed,
    crashed,
    failed,
    heartbeat,
    launched,
    moment,
    started,
    unknown,
    wandb_attached,
)
from tests.places import Ledgers, on_both, tried
from tests.strategies import life

pytestmark = on_both

STATUSES = ("running", "completed", "failed", "crashed")


class At:
    """A machine whose clock shows one moment; a laptop that is hours behind, or years."""

    def __init__(self, shows: datetime) -> None:
        self._shows = shows

    def now(self) -> datetime:
        return self._shows

    def random_bits(self, bits: int) -> int:
        return 0

    def source(self) -> dict[str, str | int]:
        return {"host": "behind"}


def row_of(book: Ledger, run_id: str = "r") -> dict[str, Any]:
    row = book.get_run(run_id)
    assert row is not None
    return row


AHEAD: dict[str, Callable[[float], Event]] = {
    "launched": launched,
    "started": started,
    "completed": completed,
    "failed": failed,
    "crashed": crashed,
    "heartbeat": heartbeat,
    "amended to running": lambda at: amended(at, status="running"),
    "amended to launched": lambda at: amended(at, status="launched"),
    "presumed crash": lambda at: crashed(at, presumed=True),
    "not understood": lambda at: unknown(at, type="moon_landed"),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("event", AHEAD.values(), ids=AHEAD)
def test_a_status_shows_at_once(ledgers: Ledgers, event: Callable[[float], Event], status: str) -> None:
    """Though the run's newest event bears a time seven hours ahead of this machine's."""
    with ledgers() as book, origin.replaced(At(NOON)):
        book.append([launched(0), event(7 * HOUR)])

        book.update_run_status("r", status)

        assert row_of(book)["status"] == status
        assert book.verify()


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=9), timedelta(days=3650)], ids=str)
def test_a_whole_life_by_a_clock_that_is_behind(ledgers: Ledgers, behind: timedelta) -> None:
    """Each word shows when it is said, in the order in which the words were said."""
    with ledgers() as book, origin.replaced(At(NOON - behind)):
        book.append(heartbeat(0, step=1))
        for status in (*STATUSES, *reversed(STATUSES)):
            book.update_run_status("r", status)
            assert row_of(book)["status"] == status

        occurred = [event.occurred_at for event in book.events()]
        assert occurred == sorted(occurred)


SAYINGS: dict[str, tuple[Callable[[Ledger], object], str, object]] = {
    "note": (lambda book: book.annotate("r", "seen"), "note", "seen"),
    "amendment": (lambda book: book.amend("r", reason="x", note="seen"), "note", "seen"),
    "amendment to NULL": (lambda book: book.amend("r", reason="x", note=None), "note", None),
    "post": (lambda book: book.attach_blog_post("r", "https://b"), "blog_post_url", "https://b"),
    "conversation": (lambda book: book.attach_conversation("r", "c"), "conversation_s3_key", "c"),
    "crash data": (lambda book: book.attach_crash_data("r", "e"), "error_log_s3_key", "e"),
    "crash": (lambda book: book.attach_crash_data("r", "e"), "status", "crashed"),
    "W&B": (lambda book: book.update_run_status("r", "running", wandb_run_id="w"), "wandb_run_id", "w"),
    "name": (lambda book: book.update_run_status("r", "running", run_name="n"), "run_name", "n"),
    "end": (lambda book: book.update_run_status("r", "failed", duration_seconds=5), "duration_seconds", 5),
    "void": (lambda book: book.void("r", reason="a test"), "reason", "a test"),
}


@pytest.mark.parametrize(("say", "column", "value"), SAYINGS.values(), ids=SAYINGS)
def test_every_word_shows_at_once(
    ledgers: Ledgers, say: Callable[[Ledger], object], column: str, value: object
) -> None:
    """Notes, amendments, attachments, names and voids too, over what bears a later time."""
    with ledgers() as book, origin.replaced(At(NOON)):
        others = {
            "note": "other",
            "blog_post_url": "o",
            "conversation_s3_key": "o",
            "error_log_s3_key": "o",
            "run_name": "o",
        }
        book.append([launched(0), started(1), amended(9 * HOUR, **others)])

        say(book)

        assert row_of(book)[column] == value


def test_a_call_that_says_several_things_says_them_in_order(ledgers: Ledgers) -> None:
    """The events of one call, moved behind a clock that is ahead, keep their order."""
    with ledgers() as book, origin.replaced(At(NOON)):
        book.append([launched(0), started(9 * HOUR)])

        book.update_run_status("r", "crashed", started_at=moment(1), ended_at=moment(5), wandb_run_id="w", run_name="n")

        row = row_of(book)
        assert (row["status"], row["ended_at"], row["wandb_run_id"]) == ("crashed", "2024-05-01T12:00:05.000000Z", "w")
        assert book.verify()


def test_a_call_happens_a_microsecond_after_what_is_known(ledgers: Ledgers) -> None:
    """Not later than it must, so that the order of calls on different machines stays the order of the calls."""
    with ledgers() as book, origin.replaced(At(NOON)):
        book.append([launched(0), started(HOUR)])

        book.update_run_status("r", "completed")

        assert [*book.events()][-1].occurred_at == moment(HOUR) + timedelta(microseconds=1)


def test_a_backfill_happens_when_it_says(ledgers: Ledgers) -> None:
    """With at=, the time is what is said, also where that lies before all that is known."""
    with ledgers() as book:
        book.append([launched(0), started(HOUR)])

        book.update_run_status("r", "completed", at=moment(60))

        assert [*book.events()][-1].occurred_at == moment(60)
        assert (row_of(book)["status"], bool(book.verify())) == ("running", True)


@tried(life(8), st.lists(st.sampled_from(STATUSES), min_size=1, max_size=4), st.integers(-40, 40))
def test_a_status_shows_over_any_history(
    ledgers: Ledgers, events: list[Event], statuses: list[str], hours: int
) -> None:
    """Whatever was accepted before, from whatever clocks: when the call returns, the status is that status."""
    with ledgers() as book, origin.replaced(At(moment(hours * HOUR))):
        book.append([launched(0, run="r1"), *events])
        for status in statuses:
            book.update_run_status("r1", status)
            assert row_of(book, "r1")["status"] == status
        assert book.verify()


def test_a_claimed_id_may_be_said_again(ledgers: Ledgers) -> None:
    """A run that holds its W&B id may name it at its end, though another claims it too."""
    with ledgers() as book:
        book.append([wandb_attached(1, wandb_run_id="w"), wandb_attached(2, run="s", wandb_run_id="w")])

        book.update_run_status("r", "completed", wandb_run_id="w")

        assert (row_of(book)["status"], row_of(book)["wandb_run_id"]) == ("completed", "w")


def test_at_the_end_of_the_calendar_words_still_count(ledgers: Ledgers) -> None:
    """A clock that shows the year 9999 cannot make a run mute."""
    with ledgers() as book:
        book.append(
            started(0).model_copy(update={"occurred_at": datetime.fromisoformat("9999-12-30T23:59:59.999999Z")})
        )
        for status in STATUSES:
            book.update_run_status("r", status)
            assert row_of(book)["status"] == status

        assert [event.event.type for event in book.events()][0] == "started"
        assert book.verify()
