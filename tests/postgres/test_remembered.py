"""What a process remembers of the runs that it wrote last: it saves a look, and never says what is not so any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import pytest
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.errors import EventConflict, LedgerBusy
from ledger.events import Event, Failed, Unvoided, Voided
from ledger.store.documented import Database
from ledger.store.placing import placed
from ledger.store.postgres.remembered import RUNS_MAX
from tests.behind import behind
from tests.builders import amended, heartbeat, launched, moment, shown, started, told, unknown, wandb_attached
from tests.places import Ledgers, on_server, tried
from tests.strategies import events

pytestmark = on_server


def _no_look(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the run was looked at")


@contextmanager
def nothing_is_asked(book: Ledger) -> Iterator[None]:
    """Let *book* record by what it remembers alone."""
    database: Database = book._database
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(database, "transact", _no_look)
        yield


def is_right(book: Ledger) -> None:
    """The tables are what the events say, and everything holds together."""
    assert shown(book) == told(book.events())
    assert book.verify().differences == ()


def test_the_next_event_of_a_run_asks_for_nothing(book: Ledger) -> None:
    """Behind a documented function, an append or another one like it, an event takes no look at its run."""
    book.insert_run("r", None, {"lr": 1.0}, host="ec2", at=moment())

    with nothing_is_asked(book):
        answers = [book.append(heartbeat(60 + step, step=step, metrics={"loss": 1 / (step + 1)})) for step in range(3)]
        answers.append(book.append(Failed(run_id="r", occurred_at=moment(90), end_reason="oom")))

    assert answers == list(book.events())[1:]
    assert [answer.version for answer in answers] == [2, 3, 4, 5]
    is_right(book)


@pytest.mark.parametrize(
    "said",
    [
        lambda book: book.append(heartbeat(120, step=7)),
        lambda book: book.append([heartbeat(120, step=7), heartbeat(130, run="s")]),
        lambda book: book.update_run_status("r", "completed"),
        lambda book: book.void("r", reason="a trial"),
        lambda book: book.append(started(-60, number=5)),
        lambda book: book.append(unknown(120, type="moon_landed")),
        lambda book: book.append(wandb_attached(100, wandb_run_id="w", number=6)),
        lambda book: book.append(wandb_attached(1, run="s", wandb_run_id="w", number=6)),
        lambda book: book.append(amended(100, host="elsewhere")),
        lambda book: book.replay(),
    ],
    ids=["event", "batch", "status", "void", "late", "unknown", "wandb", "wandb of another", "amended", "replay"],
)
def test_what_somebody_else_said_meanwhile_counts(book: Ledger, place: str, said: Callable[[Ledger], object]) -> None:
    """Whoever writes the run meanwhile, in whichever way: the next event stands on all that he said."""
    book.insert_run("r", None, {"lr": 1.0}, host="ec2", at=moment())
    book.append(wandb_attached(2, wandb_run_id="w"))

    with Ledger(place) as other:
        said(other)
    last = book.append(heartbeat(200, step=9, metrics={"loss": 0.5}))

    assert list(book.events())[-1] == last
    is_right(book)


@pytest.mark.parametrize(
    "said",
    [
        [amended(5, host="x"), amended(6, host="ec2")],
        [started(-5)],
        [unknown(5, type="moon_landed")],
        [heartbeat(-5, step=1)],
        [Voided(run_id="r", reason="a trial", occurred_at=moment(5))],
        [
            Voided(run_id="r", reason="a trial", occurred_at=moment(5)),
            Unvoided(run_id="r", reason="none", occurred_at=moment(6)),
        ],
        [heartbeat(5 + step, step=step, metrics={"loss": loss}) for step, loss in enumerate([1.0, 2.0, 1.0, 2.0])],
    ],
    ids=["amended", "late", "unknown", "late sign of life", "voided", "unvoided", "back and forth"],
)
def test_every_event_has_its_effect(book: Ledger, said: list[Event]) -> None:
    """A late event, one that is not understood, one that takes the run away: each, and what comes behind it, counts."""
    book.append(launched(0, config={"lr": 1.0}, host="ec2"))
    for event in [*said, heartbeat(60, step=2)]:
        book.append(event)
        is_right(book)


def test_a_run_with_what_is_not_understood_is_looked_at(book: Ledger) -> None:
    """It may be understood by now, so such a run is folded afresh each time."""
    book.append(launched(0, config={}))
    book.append(unknown(5, type="moon_landed"))

    with pytest.raises(AssertionError, match="looked at"), nothing_is_asked(book):
        book.append(heartbeat(60, step=2))


def test_a_known_event_is_answered_as_before(book: Ledger) -> None:
    """What the run, or another, has already is no new event, and other content of its id is refused."""
    book.append(launched(0, config={}))
    first = book.append(heartbeat(1, step=1, number=7))

    assert book.append(heartbeat(1, step=1, number=7)) == first
    with pytest.raises(EventConflict):
        book.append(heartbeat(1, step=2, number=7))
    book.append(launched(0, run="s", number=8))
    with pytest.raises(EventConflict):
        book.append(heartbeat(1, run="s", step=1, number=7))
    assert book.append(heartbeat(9, run="s", step=3)).version == 2
    assert len(list(book.events())) == 4
    is_right(book)


def test_a_replay_that_mends_a_row_is_not_undone(book: Ledger, place: str) -> None:
    """What was tampered with and remembered so, and mended by another, is not written back."""
    book.append(launched(0, config={"lr": 1.0}))
    with behind(place) as stranger:
        stranger.execute(
            "UPDATE training_heads SET beside = replace(beside, '{', '{\"explicit\":{\"learning_rate\":7.0},')"
        )
        stranger.execute("UPDATE training_runs SET host = 'nowhere'")
    with Ledger(place) as misled:
        misled.append(heartbeat(1, step=1))
        book.replay()
        misled.append(heartbeat(2, step=2))

    is_right(book)


def test_an_event_that_changes_nothing_of_the_row(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the clock stands still, a late sign of life is accepted like any other event."""
    stands = origin.now()
    monkeypatch.setattr(origin, "now", lambda: stands)
    for event in (launched(0, config={}), started(1), heartbeat(11, step=4), heartbeat(10.5, step=3)):
        book.append(event)

    assert len(list(book.events())) == 4
    is_right(book)


def test_a_transaction_whose_number_was_given_out_again(book: Ledger) -> None:
    """After a loss of commits another head may bear the same number: by its chain it is known to be another."""
    book.append(launched(0, config={}))
    book.append(heartbeat(1, step=1))
    book._database.remembered._runs["r"].chain = "0" * 64
    book.append(heartbeat(2, step=2))

    is_right(book)


def test_another_writer_is_waited_for_once(book: Ledger, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the run for too long is told of after one wait, and nothing was recorded."""
    with Ledger(place) as other:
        monkeypatch.setattr(other._database, "_busy_seconds_max", 1.0)
        other.append(launched(0, config={}))
        with book._database.write() as connection, nothing_is_asked(other), pytest.raises(LedgerBusy):
            connection.execute("SELECT run_id FROM training_heads FOR UPDATE").fetchall()
            other.append(heartbeat(1, step=1))

    assert len(list(book.events())) == 1
    is_right(book)


def test_only_so_many_runs_are_remembered(book: Ledger) -> None:
    """A hub that records for thousands of runs does not keep them all in memory; those that were left out are asked for."""
    for number in range(RUNS_MAX + 5):
        book.append(launched(0, run=f"r{number}", number=number))
    with nothing_is_asked(book):
        book.append(heartbeat(1, run=f"r{RUNS_MAX + 4}", step=1))
    with pytest.raises(AssertionError, match="looked at"), nothing_is_asked(book):
        book.append(heartbeat(1, run="r0", step=1))

    assert book.append(heartbeat(1, run="r0", step=1)).version == 2
    is_right(book)


def test_the_server_counts_places_as_everybody_does(book: Ledger) -> None:
    """The checksum of positions and times is the same whoever makes it, at any length of either."""
    given = [(0, 1, "2026-01-01T00:00:00.000000Z"), (0xFFFFFFFF, 2**62, "x"), (7, 10**9, ""), (0x80000000, 99, "é")]
    with book._database.read() as connection:
        for before, position, recorded_at in given:
            asked = "SELECT ledger_placed(%s::bigint, %s::bigint, %s::text)"
            (made,) = connection.execute(asked, (before, position, recorded_at)).fetchone()
            assert made == placed([(position, recorded_at)], before)


@tried(st.lists(st.tuples(st.integers(0, 2), events(st.sampled_from(["r", "s"]))), min_size=2, max_size=16))
def test_several_writers_in_turn(ledgers: Ledgers, said: Sequence[tuple[int, Event]]) -> None:
    """Whatever three ledgers say one after the other, each of what it remembers: the tables are the fold of all of it."""
    with ledgers() as book, ExitStack() as stack:
        writers: list[Any] = [book, *(stack.enter_context(Ledger(book._database.url)) for _ in range(2))]
        for who, event in said:
            try:
                writers[who].append(event)
            except EventConflict:
                assert event.event_id in {known.event_id for known in book.events()}
        is_right(book)
