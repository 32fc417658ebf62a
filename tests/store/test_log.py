"""Appending inserts into a set: what is known is answered, what is new is accepted, nothing is half done."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.errors import AskedWrongly, EventConflict, InvalidFact, InvalidValue, WrongExpectedVersion
from ledger.events import Event, Recorded, Started
from ledger.events.times import text_of
from tests.builders import (
    HOUR,
    NOON,
    amended,
    annotated,
    completed,
    heartbeat,
    launched,
    moment,
    shown,
    started,
    told,
    unvoided,
    voided,
    wandb_attached,
)
from tests.places import Ledgers, on_both, tried
from tests.strategies import histories

pytestmark = on_both


def stored(book: Ledger) -> list[Recorded]:
    return list(book.events())


def test_an_append_answers_with_what_the_ledger_added(book: Ledger) -> None:
    """Position, version, recorded_at, digest and chain come back, for one event and for several."""
    one = book.append(launched(0))
    several = book.append([started(1), started(2, run="s")])

    assert [(e.position, e.run_id, e.version) for e in (one, *several)] == [(1, "r", 1), (2, "r", 2), (3, "s", 1)]
    assert [one, *several] == stored(book)


def test_an_event_is_accepted_once_and_answered_as_before(book: Ledger) -> None:
    """The same event again, alone or in a batch, changes nothing and gets the same answer."""
    event = launched(0)
    first = book.append(event)
    before = book.query_runs()

    assert book.append(event) == first
    assert book.append([started(1, run="s"), event])[1] == first
    assert ([e.event_id for e in stored(book)].count(event.event_id), book.query_runs({"run_id": "r"})) == (1, before)


def test_duplicates_inside_one_batch_are_fine(book: Ledger) -> None:
    """A batch that says something twice has it accepted once and answered twice."""
    event = launched(0)
    first, again = book.append([event, event])

    assert first == again
    assert len(stored(book)) == 1


def test_nothing_appended_is_nothing_done(book: Ledger) -> None:
    """An empty batch is no error."""
    assert book.append([]) == []


@tried(st.data())
def test_a_retry_of_anything_is_known(ledgers: Ledgers, data: st.DataObject) -> None:
    """After an unknown outcome, the same batch again gives the same answers and adds nothing."""
    events = data.draw(histories())
    with ledgers() as book:
        partly = data.draw(st.integers(0, len(events)))
        book.append(events[:partly])
        answers = book.append(events)

        assert book.append(events) == answers
        assert sorted(e.position for e in answers) == list(range(1, len(events) + 1))


OTHER_CONTENT: dict[str, Callable[[], Event]] = {
    "payload": lambda: started(0, number=1, started_at=moment(5)),
    "type": lambda: completed(0, number=1),
    "run": lambda: started(0, number=1, run="s"),
    "time": lambda: started(1, number=1),
    "source": lambda: started(0, number=1, source={"host": "elsewhere"}),
}


@pytest.mark.parametrize("other", OTHER_CONTENT.values(), ids=OTHER_CONTENT)
def test_a_known_id_with_other_content_is_an_error(book: Ledger, other: Callable[[], Event]) -> None:
    """The first stays, and the error names the event and its run."""
    book.append(started(0, number=1))
    before = (stored(book), book.query_runs())

    with pytest.raises(EventConflict, match=r"known \(of run 'r'\) with other content"):
        book.append(other())

    assert (stored(book), book.query_runs()) == before


def test_one_id_with_two_contents_in_one_batch_is_an_error(book: Ledger) -> None:
    """The batch contradicts itself, and nothing of it is accepted."""
    with pytest.raises(EventConflict):
        book.append([started(0, number=1), completed(0, number=1)])

    assert (stored(book), book.count_runs()) == ([], 0)


def test_a_batch_is_accepted_together_or_not_at_all(book: Ledger) -> None:
    """A conflict in the last of many leaves nothing of the others."""
    book.append(started(0, number=1))

    with pytest.raises(EventConflict):
        book.append([*(launched(n, run=f"run-{n}") for n in range(50)), completed(0, number=1)])

    assert (len(stored(book)), book.count_runs(), bool(book.verify())) == (1, 1, True)


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_event_and_its_rows_are_written_together(
    book: Ledger, monkeypatch: pytest.MonkeyPatch, trouble: type[BaseException]
) -> None:
    """Whatever breaks off an append at its last step, neither event nor row is there, and the ledger goes on."""

    def broken(*_: object) -> None:
        raise trouble

    book.append(launched(0, run="before"))
    with monkeypatch.context() as patch:
        patch.setattr("ledger.store.projector.settle_ids", broken)
        with pytest.raises(trouble):
            book.append([launched(0), wandb_attached(1, wandb_run_id="w")])

    assert (len(stored(book)), book.count_runs(), bool(book.verify())) == (1, 1, True)
    assert book.append([launched(0), wandb_attached(1, wandb_run_id="w")])[1].version == 2
    assert (len(stored(book)), shown(book)["r"]["wandb_run_id"]) == (3, "w")


class Clock:
    """A clock that is told what to show."""

    shows = NOON

    def now(self) -> datetime:
        return self.shows

    def random_bits(self, bits: int) -> int:
        return 0

    def source(self) -> dict[str, str | int]:
        return {"host": "simulated"}


def test_the_database_times_are_those_of_acceptance(book: Ledger) -> None:
    """created_at_db and updated_at_db are when this ledger accepted the first and the latest; a replay gives them back."""
    with origin.replaced(clock := Clock()):
        for hour, event in enumerate([started(9 * HOUR), launched(0), annotated(-HOUR, note="n")]):
            clock.shows = moment(hour * HOUR)
            book.append(event)
            book.append(started(0, run="another"))

        def times() -> tuple[str, str]:
            row = book.get_run("r")
            assert row is not None
            return row["created_at_db"], row["updated_at_db"]

        before = times()
        clock.shows = moment(99 * HOUR)
        book.replay()
        assert before == times() == (text_of(moment(0)), text_of(moment(2 * HOUR)))
        assert [event.recorded_at for event in book.events("r")] == [moment(hour * HOUR) for hour in range(3)]


def test_only_events_are_appended(book: Ledger) -> None:
    """Whatever else is handed over is an error that says so, before anything is written."""
    with pytest.raises(InvalidFact, match="an event of ledger.events is wanted"):
        book.append([started(0), {"type": "started"}])  # type: ignore[list-item]

    assert stored(book) == []


NEVER_REFUSED: dict[str, list[Event]] = {
    "a run that nobody launched": [completed(0)],
    "a second launch with another config": [launched(0, config={"a": 1}), launched(1, config={"a": 2})],
    "a W&B id that another run has": [
        wandb_attached(0, wandb_run_id="w"),
        wandb_attached(1, run="s", wandb_run_id="w"),
    ],
    "an end of a run that has ended": [completed(0), completed(1)],
    "life after death": [completed(0), heartbeat(1)],
    "what happens to a voided run": [voided(0, reason="x"), started(1)],
    "unvoiding what is not void": [unvoided(0, reason="x")],
    "an amendment of what is not there": [amended(0, host="h")],
    "what is older than all that is known": [completed(10), annotated(-1_000_000_000, note="n")],
}


@pytest.mark.parametrize("events", NEVER_REFUSED.values(), ids=NEVER_REFUSED)
def test_an_append_refuses_nothing_because_of_a_runs_state(book: Ledger, events: list[Event]) -> None:
    """Merges and spools come late: every well-formed event is accepted."""
    for event in events:
        book.append(event)

    assert (len(stored(book)), shown(book)) == (len(events), told(events))


def test_the_expected_version_has_to_be_the_runs(book: Ledger) -> None:
    """The number of events that the run has by now; the error says which, and nothing is written."""
    book.append(launched(0), expected_version=0)
    book.append([started(1), completed(2)], expected_version=1)

    for wrong in (0, 2, 4):
        with pytest.raises(WrongExpectedVersion, match="at version 3, not at") as refused:
            book.append(annotated(3, note="n"), expected_version=wrong)
        assert (refused.value.run_id, refused.value.expected, refused.value.actual) == ("r", wrong, 3)
    assert len(stored(book)) == 3


def test_known_events_are_answered_before_the_version_is_looked_at(book: Ledger) -> None:
    """A retry with the version of the first attempt is answered, not refused."""
    event = launched(0)
    first = book.append(event, expected_version=0)

    assert book.append(event, expected_version=0) == first
    assert book.append([event, event], expected_version=77) == [first, first]


def test_what_is_new_beside_what_is_known_still_has_to_expect_rightly(book: Ledger) -> None:
    """A batch that is partly known is checked for the rest of it."""
    event = launched(0)
    book.append(event)

    with pytest.raises(WrongExpectedVersion):
        book.append([event, started(1)], expected_version=0)
    assert book.append([event, started(1)], expected_version=1)[1].version == 2


@pytest.mark.parametrize("wrong", ["1", True, -1, 1.0, [1]], ids=repr)
def test_a_version_that_cannot_be_meant_is_refused(book: Ledger, wrong: Any) -> None:
    """It is a wrong call, which no rereading mends, also where every event is known."""
    event = launched(0)
    book.append(event)

    for said in (event, started(1)):
        with pytest.raises(InvalidValue, match="expected_version=.* 0 or more"):
            book.append(said, expected_version=wrong)
    assert len(list(book.events())) == 1


def test_an_expected_version_is_of_one_run(book: Ledger) -> None:
    """With new events of several runs it cannot be meant."""
    with pytest.raises(AskedWrongly, match="of one run"):
        book.append([started(0), started(0, run="s")], expected_version=0)

    assert stored(book) == []


def test_of_two_writers_that_read_the_same_version_one_is_refused(book: Ledger) -> None:
    """This is what an expected version is for."""
    book.append(launched(0))
    book.append(annotated(1, note="mine"), expected_version=1)

    with pytest.raises(WrongExpectedVersion):
        book.append(annotated(1, note="yours"), expected_version=1)


def test_events_are_read_in_order_of_acceptance(book: Ledger) -> None:
    """By run, by chain, by type, and from behind a position."""
    book.append([launched(9, chain_of_custody_id="C"), started(3, run="s"), started(1)])
    book.append([launched(2, run="v", chain_of_custody_id="C"), voided(3, run="v", reason="x")])

    def asked(*run: str, **how: Any) -> list[int]:
        return [event.position for event in book.events(*run, **how)]

    assert asked() == [1, 2, 3, 4, 5]
    assert asked("r") == [1, 3]
    assert asked(chain_of_custody_id="C") == [1, 3, 4, 5]
    assert asked(after=3) == [4, 5]
    assert asked(types=["started", "voided"]) == [2, 3, 5]
    assert asked("r", after=1, types="started") == [3]


def test_events_are_read_page_by_page(book: Ledger) -> None:
    """More events than a page holds come all, each once, also when more arrive meanwhile."""
    book.append([heartbeat(n, step=n) for n in range(1203)])
    seen = []
    for event in book.events():
        seen.append(event.position)
        if event.position == 700:
            book.append(completed(9999))

    assert seen == list(range(1, 1205))


@pytest.mark.parametrize(
    "run_id", ["it's", 'a"b', "a\nb", "😀", "x" * 10_000, "%", "?", "a;b--"], ids=lambda run: run[:4]
)
def test_any_text_is_a_run_id(book: Ledger, run_id: str) -> None:
    """Quotes, newlines, emoji and length are stored and given back unchanged."""
    book.append(launched(0, run=run_id))

    row = book.get_run(run_id)
    assert row is not None
    assert (row["run_id"], [event.run_id for event in book.events(run_id)]) == (run_id, [run_id])


def test_times_are_stored_in_utc_to_the_microsecond(book: Ledger) -> None:
    """Whatever zone a moment came in, it is one text."""
    east = datetime(2024, 5, 1, 19, 0, 0, 123456, tzinfo=timezone(timedelta(hours=7)))
    recorded = book.append(Started(run_id="r", occurred_at=east, started_at=east))

    row = book.get_run("r")
    assert row is not None
    assert json.loads(recorded.payload) == {"started_at": "2024-05-01T12:00:00.123456Z"}
    assert row["started_at"] == "2024-05-01T12:00:00.123456Z"
