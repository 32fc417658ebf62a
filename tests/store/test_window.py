"""Window = ledger: after every append, every row is what the pure functions make of the events so far."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.events import Event
from tests.builders import shown, told, trials
from tests.core.test_golden_lives import GOLDEN, Golden, differing
from tests.places import Ledgers, in_a_file, on_both, on_server, tried
from tests.strategies import batched, histories, life

pytestmark = on_both


def check_window(book: Ledger, batches: list[list[Event]]) -> list[Event]:
    """Append the batches one after the other, and after each compare tables, fold and verify."""
    accepted: dict[str, Event] = {}
    for batch in batches:
        book.append(batch)
        accepted |= {event.event_id: event for event in batch}
        assert shown(book) == told(accepted.values())
        assert book.verify().differences == ()
    return list(accepted.values())


@tried(histories().flatmap(batched))
def test_the_window_equals_the_fold_after_every_append(ledgers: Ledgers, batches: list[list[Event]]) -> None:
    """Whatever comes, in whatever order and batches, the tables show settle(fold) and verify agrees."""
    with ledgers() as book:
        check_window(book, batches)


@tried(life().flatmap(batched))
def test_the_window_equals_the_fold_of_one_long_life(ledgers: Ledgers, batches: list[list[Event]]) -> None:
    """The same for many events of one run, whose row is carried along from append to append."""
    with ledgers() as book:
        check_window(book, batches)


@tried(st.data())
def test_another_ledger_with_the_same_events_shows_the_same(ledgers: Ledgers, data: st.DataObject) -> None:
    """Order, duplicates, batches and a merge do not show: only what is local to a ledger differs."""
    events = data.draw(histories())
    with ledgers() as one, ledgers() as other, ledgers() as merged:
        for batch in data.draw(batched(events)):
            one.append(batch)
        for batch in data.draw(batched(events)):
            other.append(batch)
        half = len(events) // 2
        merged.append(events[:half])
        merged.append(data.draw(st.permutations(list(one.events()))))

        assert shown(one) == shown(other) == shown(merged)
        assert merged.verify()


@tried(histories().flatmap(batched))
def test_a_replay_gives_every_row_back(ledgers: Ledgers, batches: list[list[Event]]) -> None:
    """Thrown away and folded again, the tables come out the same, local columns too."""
    with ledgers() as book:
        for batch in batches:
            book.append(batch)
        before = book.query_runs(limit=None, include_voided=True)

        replayed = book.replay()

        assert (replayed, book.query_runs(limit=None, include_voided=True)) == (len(before), before)
        assert book.verify()


@settings(max_examples=trials(25, 400))
@given(histories().flatmap(batched))
def test_the_window_of_a_file_equals_the_fold(batches: list[list[Event]]) -> None:
    """The same on a file that is closed and opened again between the appends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.db")
        seen: dict[str, Event] = {}
        for batch in batches:
            with Ledger(path) as book:
                book.append(batch)
            seen |= {event.event_id: event for event in batch}
            with Ledger(path) as book:
                assert shown(book) == told(seen.values())
                assert book.verify()


@in_a_file
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.says)
def test_a_ledger_shows_the_golden_rows(ledgers: Ledgers, golden: Golden) -> None:
    """Each golden life gives its rows on a ledger too: in order, in reverse, and all at once."""
    shown_otherwise: list[dict[str, Any]] = []
    for batches in ([[e] for e in golden.history], [[e] for e in golden.history[::-1]], [list(golden.history)]):
        with ledgers() as book:
            check_window(book, batches)
            shown_otherwise.append(differing(golden, shown(book)))

    assert shown_otherwise == [{}, {}, {}]


@on_server
@pytest.mark.parametrize("part", range(4))
def test_a_server_shows_the_golden_rows(ledgers: Ledgers, part: int) -> None:
    """The same on PostgreSQL, in reverse; a quarter of the lives at a time."""
    for golden in GOLDEN[part::4]:
        with ledgers() as book:
            for event in golden.history[::-1]:
                book.append(event)
            assert (golden.says, differing(golden, shown(book))) == (golden.says, {})
            assert (golden.says, book.verify().differences) == (golden.says, ())
