"""Lines from elsewhere: what is new is accepted, what is known is counted, what cannot be is refused and named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.events import Event, Fact
from ledger.events.lines import line_of
from ledger.store import merging
from ledger.store.merging import Merged, arriving, merge_arrivals
from tests.behind import behind
from tests.builders import completed, heartbeat, launched, shown, started, told
from tests.places import in_a_file, on_both

pytestmark = on_both


def lines_of(*events: Event) -> list[tuple[str, str]]:
    """Return the events as lines, each with its number."""
    facts = [Fact.of(event, redacting=True) for event in events]
    return [(f"line {number}", line_of(fact, fact.digest())) for number, fact in enumerate(facts, 1)]


def merged(book: Ledger, lines: Iterable[tuple[str, str]], came_from: str = "elsewhere") -> Merged:
    return merge_arrivals(book._database, (arriving(where, line, len(line)) for where, line in lines), came_from)


def counts(found: Merged) -> tuple[int, int, int, int]:
    return found.events, found.new, found.known, found.refused


def kept_aside(place: str | Path) -> list[tuple[str, str, str]]:
    """Return what the ledger keeps of conflicts."""
    with behind(place, guarded=True) as db:
        return db.execute("SELECT event_id, payload, came_from FROM training_conflicts").fetchall()


def test_lines_become_events_with_their_rows(book: Ledger) -> None:
    """What came is accepted as if it had been appended, and the window shows it."""
    events = [launched(0, config={"batch_size": 8}), started(1), completed(2)]
    found = merged(book, lines_of(*events))

    assert (counts(found), found.ok, found.refusals) == ((3, 3, 0, 0), True, ())
    assert shown(book) == told(events)
    assert book.verify()


def test_what_is_known_is_counted_and_nothing_else(book: Ledger) -> None:
    """The same lines again, and some of them twice, change nothing."""
    events = [launched(0), started(1)]
    merged(book, lines_of(*events))
    before = list(book.events())

    assert counts(merged(book, lines_of(*events, *events, completed(2)))) == (5, 1, 4, 0)
    assert list(book.events())[:2] == before


@in_a_file
def test_what_is_known_waits_for_no_lock(book: Ledger, path: Path) -> None:
    """The same lines again are counted while another process holds the write lock."""
    lines = lines_of(launched(0), started(1))
    merged(book, lines)
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with Ledger(path, busy_seconds_max=0.2) as other:
            assert counts(merged(other, lines)) == (2, 0, 2, 0)


def test_a_malformed_line_is_refused_and_named(book: Ledger) -> None:
    """The rest is accepted; the refusal says where, which event, if the line tells, and why."""
    (where, whole), *_ = lines_of(launched(0, number=7))
    tampered = json.dumps({**json.loads(whole), "run_id": "another"})
    found = merged(book, [("line 1", "{torn"), ("line 2", tampered), (where, whole)])

    torn, changed = found.refusals
    assert counts(found) == (3, 1, 0, 2)
    assert (torn.where, torn.event_id) == ("line 1", None)
    assert "no JSON" in torn.reason
    assert (changed.where, changed.event_id) == ("line 2", json.loads(whole)["event_id"])
    assert "not what its digest says" in changed.reason


def test_one_id_with_two_contents_loses_neither(book: Ledger, place: str) -> None:
    """The first stays, the other is kept verbatim and once, and is counted as refused each time."""
    book.append(completed(0, number=1, exit_code=0))
    other = lines_of(completed(0, number=1, exit_code=1), completed(9, number=2))

    found = merged(book, other, "laptop.db")
    again = merged(book, other, "laptop-again.db")

    assert (counts(found), counts(again)) == ((2, 1, 0, 1), (2, 0, 1, 1))
    assert found.refusals[0].where == "line 1"
    assert "training_conflicts" in found.refusals[0].reason
    assert [row[1:] for row in kept_aside(place)] == [('{"exit_code":1}', "laptop.db")]
    assert [json.loads(event.payload) for event in book.events()] == [{"exit_code": 0}, {}]
    assert book.verify()


def test_two_contents_in_one_batch_conflict_too(book: Ledger, place: str) -> None:
    """The first of them is accepted, the other kept aside, in one transaction."""
    found = merged(book, lines_of(*(completed(0, number=1, exit_code=code) for code in (3, 4, 5, 4))))

    assert counts(found) == (4, 1, 0, 3)
    assert sorted(payload for _, payload, _ in kept_aside(place)) == ['{"exit_code":4}', '{"exit_code":5}']


@pytest.mark.parametrize("limit", ["BATCH_EVENTS_MAX", "BATCH_BYTES_MAX"])
def test_batches_are_bounded(book: Ledger, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """By count and by size; what is larger than a batch is one by itself."""
    monkeypatch.setattr(merging, limit, 1)
    committed: list[range] = []
    monkeypatch.setattr(book._database, "checkpoint_after", committed.append)

    assert merged(book, lines_of(*(heartbeat(step, step=step) for step in range(5)))).new == 5
    assert [len(new) for new in committed] == [1] * 5


def test_what_a_batch_accepted_stays_when_a_later_one_fails(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same merge again goes on from there."""
    monkeypatch.setattr(merging, "BATCH_EVENTS_MAX", 2)
    lines = lines_of(*(heartbeat(step, step=step) for step in range(6)))

    with pytest.raises(OSError, match="unplugged"):
        merged(book, breaking_after(5, lines))

    assert counts(merged(book, lines)) == (6, 2, 4, 0)
    assert book.verify()


def breaking_after(count: int, lines: list[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    yield from lines[:count]
    raise OSError("unplugged")


def test_only_a_few_refusals_are_listed(book: Ledger) -> None:
    """All are counted."""
    found = merged(book, [(f"line {number}", "{") for number in range(50)])

    assert (found.refused, len(found.refusals), found.refusals[0].where) == (50, 20, "line 0")


def test_counts_add_up() -> None:
    """Two merges together are as many events as both, and proved only if both are."""
    one, other = Merged(3, 1, 1, 1, proved=True), Merged(2, 2, 0, 0, proved=False)

    assert one + other == Merged(5, 3, 1, 1, proved=False)
    assert (one + one).proved


Attack = Callable[[dict[str, object]], dict[str, object]]


@pytest.mark.parametrize(
    "attack",
    [
        lambda said: {**said, "run_id": "a\x00b"},
        lambda said: {**said, "event_id": "not a uuid"},
        lambda said: {**said, "digest": "0" * 64},
        lambda said: {**said, "payload": '{"config":NaN}'},
        lambda said: {**said, "position": 1, "schema_version": 10**30},
    ],
)
def test_no_attack_comes_in_by_a_line(book: Ledger, attack: Attack) -> None:
    """What no event can be is refused, and nothing of it is stored."""
    (_, whole), *_ = lines_of(launched(0))

    assert counts(merged(book, [("line 1", json.dumps(attack(json.loads(whole))))])) == (1, 0, 0, 1)
    assert list(book.events()) == []
