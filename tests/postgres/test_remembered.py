"""What a process remembers of the runs that it wrote last: it saves a look, and never says what is not so any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn

import psycopg
import pytest
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.errors import EventConflict, LedgerBusy, LedgerError
from ledger.events import Event, Failed, Unvoided, Voided
from ledger.store import log
from ledger.store.log import Accepted
from ledger.store.placing import placed
from ledger.store.postgres.patience import Patience
from ledger.store.postgres.remembered import RUNS_MAX, Remembered
from tests.behind import behind
from tests.builders import (
    amended,
    heartbeat,
    launched,
    metrics_logged,
    moment,
    objective_stated,
    scaffolds_recorded,
    shown,
    started,
    told,
    unknown,
    wandb_attached,
)
from tests.places import Ledgers, on_server, tried
from tests.postgres.hands import holding
from tests.strategies import events

pytestmark = on_server


def _no_look(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the run was looked at")


def _no_failure(*_: object) -> NoReturn:
    raise AssertionError("the server refused a statement")


@contextmanager
def nothing_is_asked() -> Iterator[None]:
    """Let ledgers record by what they remember alone."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(log, "append", _no_look)
        yield


class _UndoneError(Exception):
    """Takes a transaction back."""


def waits_for_a_lock(place: str) -> bool:
    """Whether somebody in this database waits for another's transaction."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(place, autocommit=True) as connection:
        return connection.execute(asked).fetchone() != (0,)


def is_right(book: Ledger) -> None:
    """The tables are what the events say, and everything holds together."""
    assert shown(book) == told(book.events())
    assert book.verify().differences == ()


def test_the_next_event_of_a_run_asks_for_nothing(book: Ledger) -> None:
    """Behind a documented function, an append or another one like it, an event takes no look at its run."""
    book.insert_run("r", None, {"lr": 1.0}, host="ec2", at=moment())

    with nothing_is_asked():
        answers = [book.append(heartbeat(60 + step, step=step, metrics={"loss": 1 / (step + 1)})) for step in range(3)]
        answers.append(book.append(Failed(run_id="r", occurred_at=moment(90), end_reason="oom")))

    assert answers == list(book.events())[1:]
    assert [answer.version for answer in answers] == [2, 3, 4, 5]
    is_right(book)


def test_what_was_logged_is_remembered_as_written(book: Ledger) -> None:
    """Behind metrics, scaffolds and objectives, which need more than one statement, the next event asks for nothing."""
    book.insert_run("r", None, {"objectives": ["QED"]}, at=moment())
    for said in (
        metrics_logged(1, columns={"step": [1], "loss": [0.5]}),
        scaffolds_recorded(2, columns={"scaffold_id": ["s"]}),
        objective_stated(3, objective_name="QED", raw_mean=0.5),
    ):
        book.append(said)
        with nothing_is_asked():
            book.append(heartbeat(said.occurred_at.second + 0.5, step=1))
    assert [row["count"] for row in book.get_run_metrics("r")] == [1]
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

    with pytest.raises(AssertionError, match="looked at"), nothing_is_asked():
        book.append(heartbeat(60, step=2))


def test_a_known_event_is_answered_as_before(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run, or another, has already is no new event, and other content of its id is refused; nothing fails."""
    monkeypatch.setattr(Patience, "may_try_again", _no_failure)
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
    book._database.remembered._runs["r"].tracked.chain = "0" * 64
    book.append(heartbeat(2, step=2))

    is_right(book)


def test_another_writer_is_waited_for_once(book: Ledger, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the run for too long is told of after one wait, and nothing was recorded."""
    with Ledger(place) as other:
        monkeypatch.setattr(other._database, "_busy_seconds_max", 1.0)
        other.append(launched(0, config={}))
        with holding(book, heartbeat(1, step=1)), nothing_is_asked(), pytest.raises(LedgerBusy):
            other.append(heartbeat(2, step=2))

    assert [event.version for event in book.events()] == [1, 2]
    is_right(book)


@pytest.mark.parametrize("undone", [False, True])
def test_a_writer_in_the_middle_is_waited_for(book: Ledger, place: str, undone: bool) -> None:  # noqa: FBT001 -- a case
    """Behind one that commits the event stands on his; where he takes it back, on what is remembered."""
    with Ledger(place) as other, ThreadPoolExecutor(1) as thread:
        other.append(launched(0, config={}))
        with suppress(_UndoneError), holding(book, amended(1, host="theirs")):
            waiting = thread.submit(other.append, heartbeat(2, step=2))
            while not waits_for_a_lock(place):
                assert not waiting.done()
            if undone:
                raise _UndoneError

    assert waiting.result().version == (2 if undone else 3)
    is_right(book)


def test_what_fails_at_the_commit_is_not_acknowledged(book: Ledger, place: str) -> None:
    """The server answers the statement before it commits: only the commit is an acknowledgement."""
    book.append(launched(0, config={}))
    with psycopg.connect(place, autocommit=True) as owner:
        owner.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no commit''; END'")
        owner.execute(
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON training_events DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        with pytest.raises((LedgerError, psycopg.Error), match="no commit"):
            book.append(heartbeat(1, step=1))
        owner.execute("DROP TRIGGER late ON training_events")

    assert book.append(heartbeat(1, step=1)).version == 2
    is_right(book)


def test_a_statement_that_never_goes_well_is_told(book: Ledger, place: str) -> None:
    """Where the schema lacks a part of it, nobody is served by the other way for ever, and without a word."""
    book.append(launched(0, config={}))
    with psycopg.connect(place, autocommit=True) as owner:
        owner.execute("ALTER FUNCTION ledger_placed RENAME TO gone")

    with pytest.raises(LedgerError, match="ledger_placed"):
        book.append(heartbeat(1, step=1))


def test_a_run_that_others_write_too_is_asked_for(book: Ledger, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who remembers in vain, time after time, asks for longer and longer, and remembers again once it is alone."""
    tries: list[Accepted | None] = []
    ordinary = Remembered._append

    def counted(*said: Any) -> Accepted | None:
        tries.append(ordinary(*said))
        return tries[-1]

    monkeypatch.setattr(Remembered, "_append", counted)
    book.append(launched(0, config={}))
    with Ledger(place) as other:
        for step in range(64):
            other.append(heartbeat(10 + 2 * step, step=step))
            book.append(heartbeat(11 + 2 * step, step=step))
    assert 4 < len(tries) < 16
    assert not any(tries)
    for step in range(70):
        book.append(heartbeat(500 + step, step=step))
    assert tries[-1] is not None
    is_right(book)


def test_only_so_many_runs_are_remembered(book: Ledger) -> None:
    """A hub that records for thousands of runs does not keep them all in memory; those that were left out are asked for."""
    for number in range(RUNS_MAX + 5):
        book.append(launched(0, run=f"r{number}", number=number))
    with nothing_is_asked():
        book.append(heartbeat(1, run=f"r{RUNS_MAX + 4}", step=1))
    with pytest.raises(AssertionError, match="looked at"), nothing_is_asked():
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
