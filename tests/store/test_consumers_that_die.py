"""A handler that ends its process fails as one that raises: its event is parked in the end, and the rest goes on."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.events import Recorded
from tests.builders import heartbeat, started
from tests.places import on_both

pytestmark = on_both

# Handles what lies behind the checkpoint, says each position, and is killed at some.
CONSUMER = """
import json, os, signal, sys
from ledger import Ledger, origin

said = json.loads(sys.argv[1])
place, node, deadly = said["place"], said["node"], said["deadly"]
if node:
    origin.machine = lambda: (node, "a boot")

def handle(event, *connection):
    print(event.position, flush=True)
    if event.position in deadly:
        os.kill(os.getpid(), signal.SIGKILL)

with Ledger(place) as book:
    slack = book.subscription("slack", types=said["types"], tries=said["tries"], pause_seconds=0)
    slack.for_each(handle, together=said["kind"] == "together")
"""


def consumed(
    place: str | Path,
    *deadly: int,
    kind: str = "beside",
    node: str = "",
    tries: int = 3,
    types: str | None = None,
) -> list[int]:
    """Return what a consumer, on another machine if a *node* is named, was given before it died, or came through."""
    said = {"place": str(place), "deadly": deadly, "kind": kind, "node": node, "tries": tries, "types": types}
    command = [sys.executable, "-c", CONSUMER, json.dumps(said)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    positions = [int(line) for line in done.stdout.split()]
    assert done.returncode == (-signal.SIGKILL if {*positions} & {*deadly} else 0), done.stderr
    return positions


def begun(book: Ledger) -> str | None:
    with book._database.read() as connection:
        return connection.execute("SELECT begun_by FROM ledger_subscriptions").fetchone()[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["beside", "together"])
def test_an_event_that_kills_its_consumers_is_parked(book: Ledger, place: str, kind: str) -> None:
    """Its first death, behind another event, is the only one that nobody counts; then three are too many."""
    book.append([heartbeat(minute) for minute in range(3)])
    given = [consumed(place, 2, kind=kind) for _ in range(5)]

    assert given == [[1, 2], [2], [2], [2], [3]]
    (parked,) = book.subscription("slack").parked()
    assert (parked.position, book.subscription("slack").position) == (2, 3)
    assert parked.error.startswith("the process ended while it was in the handler (pid ")
    assert book.subscription("slack").retry(lambda event: None) == 1


def test_a_death_and_an_error_count_alike(book: Ledger, place: str) -> None:
    """Two deaths and one error of the same event make three tries."""
    book.append([heartbeat(minute) for minute in range(2)])
    tried: list[int] = []

    def handle(event: Recorded) -> None:
        tried.append(event.position)
        if event.position == 1:
            raise ValueError("no channel")

    assert [consumed(place, 1) for _ in range(2)] == [[1], [1]]
    assert book.subscription("slack").for_each(handle) == 1
    assert tried == [1, 2]
    assert [kept.error for kept in book.subscription("slack").parked()] == ["ValueError: no channel"]


def test_what_comes_through_forgets_the_deaths(book: Ledger, place: str) -> None:
    """Consumers that were killed for another reason cost the event nothing once it is handled."""
    book.append([heartbeat(minute) for minute in range(3)])
    for position in range(1, 4):
        assert [consumed(place, position) for _ in range(2)] == [[position], [position]]
        assert consumed(place)[0] == position
        assert book.subscription("slack").for_each(lambda event: None) == 0
        book.subscription("slack").rewind(position)

    assert book.subscription("slack").parked() == []


def test_who_is_at_work_is_not_taken_for_dead(book: Ledger, place: str) -> None:
    """However many begin and die at the event that a slow one is at: it is there, so nothing is counted."""
    book.append([heartbeat(minute) for minute in range(2)])
    given: list[list[int]] = []

    def slow(event: Recorded) -> None:
        if event.position == 1:
            given.extend(consumed(place, 1) for _ in range(4))

    assert book.subscription("slack").for_each(slow) == 2
    assert given == [[1]] * 4
    assert book.subscription("slack").parked() == []


@pytest.mark.parametrize("kind", ["beside", "together"])
def test_who_cannot_be_looked_for_is_not_taken_for_dead_at_once(book: Ledger, place: str, kind: str) -> None:
    """On another machine, or in another container: each begins with the event, and one in the end comes through."""
    book.append([heartbeat(minute) for minute in range(2)])
    given = [consumed(place, 1, kind=kind, node=f"node{number}") for number in range(5)]

    assert given == [[1]] * 5
    assert consumed(place, kind=kind) == [1, 2]
    assert book.subscription("slack").parked() == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_nothing_begun(book: Ledger, interrupt: type[BaseException]) -> None:
    """It is no failure, and neither is the end of the process that follows."""
    book.append(heartbeat())

    def stop(event: Recorded) -> None:
        assert begun(book) is not None
        raise interrupt

    with pytest.raises(interrupt):
        book.subscription("slack").for_each(stop)
    assert begun(book) is None


def long_ago(book: Ledger) -> None:
    """Let what was noted last be older than a consumer elsewhere may be silent for."""
    with book._database.write() as connection:
        connection.execute("UPDATE ledger_subscriptions SET updated_at = '2020-01-01T00:00:00.000000Z'")


def test_who_has_said_nothing_for_long_is_taken_for_dead(book: Ledger, place: str) -> None:
    """A consumer elsewhere that cannot be looked for; and if it comes through after all, its event is parked no more."""
    book.append([heartbeat(minute) for minute in range(2)])
    parked: list[int] = []

    def handle(event: Recorded) -> None:
        if event.position == 1:
            for number in range(3):
                long_ago(book)
                assert consumed(place, 1, 2, node=f"node{number}") == ([1] if number < 2 else [2])
            parked.extend(kept.position for kept in book.subscription("slack").parked())

    assert book.subscription("slack").for_each(handle) == 2
    assert (parked, book.subscription("slack").parked()) == ([1], [])


def test_deaths_are_three_at_least(book: Ledger, place: str) -> None:
    """A process may end for a reason of its own, so that one try is no reason to park; what raises once is parked."""
    book.append([heartbeat(minute) for minute in range(2)])
    assert [consumed(place, 1, tries=1) for _ in range(2)] == [[1], [1]]
    assert consumed(place, tries=1) == [1, 2]
    assert book.subscription("slack").parked() == []


def test_another_choice_begins_to_count_anew(book: Ledger, place: str) -> None:
    """Deaths at one event are no deaths at another, which is the next of a wider choice."""
    book.append([started(), heartbeat()])
    assert [consumed(place, 2, types="heartbeat") for _ in range(3)] == [[2]] * 3
    assert consumed(place) == [1, 2]
    assert book.subscription("slack").parked() == []


def test_the_first_event_alone_is_announced(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What that costs is one transaction for each call of for_each, not one for each event."""
    book.append([heartbeat(minute) for minute in range(20)])
    book.subscription("slack").rewind(0)
    transactions: list[object] = []
    transact = book._database.transact
    monkeypatch.setattr(book._database, "transact", lambda work: transactions.append(work) or transact(work))
    book.subscription("slack").for_each(lambda event: None)

    assert len(transactions) == 20 + 2  # its choice of events, too


def test_a_parked_death_is_told(book: Ledger, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever finds it warns, as of any that is parked."""
    book.append(heartbeat())
    assert [consumed(place, 1) for _ in range(3)] == [[1]] * 3
    with caplog.at_level(logging.WARNING, "ledger"):
        assert book.subscription("slack").for_each(lambda event: None) == 0
    (warning,) = caplog.messages
    assert "its handler failed 3 times (the process ended while it was in the handler" in warning
