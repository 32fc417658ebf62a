"""Named consumers: they go on where they were, whatever happens to them, and no event stops the others."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import InvalidValue, LedgerClosed, NoLedger, PositionUnknown, UnknownFilter
from ledger.events import Recorded
from ledger.store import consumer as consuming_module
from ledger.subscription import Subscription
from tests.behind import behind, is_url
from tests.builders import heartbeat, launched, started, trials
from tests.places import Ledgers, in_a_file, on_both, on_server, tried
from tests.store.crowd import consuming, writing

pytestmark = on_both

Handler = Callable[[Recorded], None]


def slack(book: Ledger, **wanted: object) -> Subscription:
    """Return a subscription that does not wait before it tries again."""
    return book.subscription("slack", **{"pause_seconds": 0, **wanted})  # type: ignore[arg-type]


def failing(*positions: int, into: list[int] | None = None) -> Handler:
    """Return a handler that fails at these positions, and keeps those that it handled."""

    def handle(event: Recorded) -> None:
        if event.position in positions:
            raise ValueError(f"no channel for {event.position}")
        if into is not None:
            into.append(event.position)

    return handle


def keep(event: Recorded, connection: Any) -> None:
    """Write into a table of one's own, in the ledger's transaction."""
    connection.execute("CREATE TABLE IF NOT EXISTS kept (position bigint)")
    connection.execute(f"INSERT INTO kept VALUES ({event.position})")


def kept(place: str | Path, table: str = "kept") -> list[int]:
    """Return what handlers have kept, in their order."""
    order = "ctid" if is_url(place) else "rowid"
    with behind(place, guarded=True) as db:
        try:
            return [position for (position,) in db.execute(f"SELECT position FROM {table} ORDER BY {order}")]
        except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):  # nobody has kept anything yet
            return []


def test_each_event_comes_once_and_the_place_is_kept(book: Ledger, place: str) -> None:
    """for_each delivers what is behind the checkpoint, also for another process, and says how much it was."""
    book.append([launched(), started()])
    seen: list[int] = []
    assert slack(book).for_each(failing(into=seen)) == 2
    book.append(heartbeat())
    with Ledger(place) as again:
        assert (slack(again).position, slack(again).lag) == (2, 1)
        assert slack(again).for_each(failing(into=seen)) == 1
        assert slack(again).for_each(failing(into=seen)) == 0

    assert seen == [1, 2, 3]
    assert (slack(book).position, slack(book).lag) == (3, 0)


def test_names_have_places_of_their_own(book: Ledger) -> None:
    """One consumer's progress is none of another's."""
    book.append([launched(), started()])
    slack(book).for_each(failing())

    assert book.subscription("mail").for_each(failing()) == 2


def test_what_is_not_wanted_moves_the_checkpoint_in_one_step(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over events that are filtered away the checkpoint moves too, in one transaction and not one each."""
    book.append([started(), *(heartbeat(run="other") for _ in range(1200))])
    transactions: list[object] = []
    transact = book._database.transact
    monkeypatch.setattr(book._database, "transact", lambda work: transactions.append(work) or transact(work))
    subscription = slack(book, types=["started"], run_id="r")

    assert (subscription.lag, subscription.for_each(failing())) == (1, 1)
    assert (subscription.position, subscription.lag) == (1201, 0)
    assert len(transactions) == 4  # and two at the beginning: what it wants, and that it has begun


def test_following_goes_on_with_what_comes(book: Ledger) -> None:
    """With follow=True each event is handled as it comes, until the Ledger is closed."""
    seen: list[int] = []
    ended: list[type[BaseException]] = []

    def run() -> None:
        try:
            slack(book).for_each(failing(into=seen), follow=True)
        except LedgerClosed as exc:
            ended.append(type(exc))

    thread = threading.Thread(target=run)
    thread.start()
    for number in range(1, 6):
        book.append(heartbeat())
        until = time.monotonic() + 10
        while len(seen) < number and time.monotonic() < until:
            time.sleep(0.002)
    book.close()
    thread.join(10)

    assert (seen, ended) == ([1, 2, 3, 4, 5], [LedgerClosed])


def test_a_follower_that_wants_little_writes_seldom(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others write what it does not want, it moves its checkpoint once a second, not with each look."""
    monkeypatch.setattr(consuming_module, "NOTE_SECONDS", 0.3)
    subscription = slack(book, types="started")
    thread = threading.Thread(target=lambda: quietly(subscription), daemon=True)
    thread.start()
    positions = set()
    for _ in range(60):
        book.append(heartbeat())
        positions.add(subscription.position)
        time.sleep(0.01)
    until = time.monotonic() + 10
    while subscription.position < 60 and time.monotonic() < until:
        time.sleep(0.01)
    book.close()
    thread.join(10)

    assert 1 < len(positions) < 20


def quietly(subscription: Subscription) -> None:
    with pytest.raises(LedgerClosed):
        subscription.for_each(failing(), follow=True)


@pytest.mark.parametrize("together", [False, True])
def test_what_keeps_failing_is_parked_and_the_rest_goes_on(
    book: Ledger, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """After three tries the event is set aside with its error, one warning names it, and the others are handled."""
    book.append([launched(), started(), heartbeat()])
    tried: list[int] = []

    def handle(event: Recorded, *_: object) -> None:
        tried.append(event.position)
        failing(2)(event)

    with caplog.at_level(logging.WARNING, "ledger"):
        assert slack(book).for_each(handle, together=together) == 2
    (parked,) = slack(book).parked()

    assert tried == [1, 2, 2, 2, 3]
    assert (parked.position, parked.event.type, parked.error) == (2, "started", "ValueError: no channel for 2")
    assert (slack(book).position, slack(book).lag) == (3, 0)
    (warning,) = caplog.messages
    assert "event " + parked.event.event_id in warning
    assert "retry(handler)" in warning


def test_tries_are_counted_on_disk(book: Ledger, place: str) -> None:
    """A consumer that dies between two tries does not begin counting anew."""
    book.append([launched(), started()])
    tried: list[int] = []

    def handle(event: Recorded) -> None:
        if len(tried) == 2:
            raise KeyboardInterrupt  # the third try of the first consumer: it dies in it
        tried.append(event.position)
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        slack(book).for_each(handle)
    assert book.subscriptions()[0].failures == 2
    with Ledger(place) as again:
        assert slack(again).for_each(failing(1)) == 1
        assert [parked.position for parked in slack(again).parked()] == [1]


def test_a_success_forgets_the_failures_before_it(book: Ledger) -> None:
    """Two failures of one event and two of the next park neither."""
    book.append([launched(), started()])
    tried: Counter[int] = Counter()

    def handle(event: Recorded) -> None:
        tried[event.position] += 1
        if tried[event.position] < 3:
            raise ValueError

    assert (slack(book).for_each(handle), slack(book).parked()) == (2, [])


def test_pauses_grow_between_tries(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is twice the one before, up to half a minute, and there is none after the last try."""
    book.append(started())
    pauses: list[float] = []
    monkeypatch.setattr(consuming_module.time, "sleep", pauses.append)
    book.subscription("slack", tries=5, pause_seconds=5).for_each(failing(1))

    assert pauses == [5, 10, 20, 30]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failure(book: Ledger, together: bool, interrupt: type[BaseException]) -> None:
    """It ends the consumer at once, and the event comes again to the next."""
    book.append(started())

    def handle(*_: object) -> None:
        raise interrupt

    with pytest.raises(interrupt):
        slack(book).for_each(handle, together=together)
    assert (slack(book).position, slack(book).parked(), book.subscriptions()[0].failures) == (0, [], 0)
    assert slack(book).for_each(keep, together=True) == 1


class Malicious(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("failure", [Malicious(), ValueError("\x00\ud800" * 5000), UnicodeError("模型")])
def test_any_error_can_be_kept(book: Ledger, failure: Exception) -> None:
    """Whatever an exception says of itself, or cannot say, its event is parked."""
    book.append(started())

    def handle(event: Recorded) -> None:
        raise failure

    slack(book).for_each(handle)
    (parked,) = slack(book).parked()
    assert type(failure).__name__ in parked.error
    assert len(parked.error) < 15_000


@pytest.mark.parametrize("together", [False, True])
def test_parked_events_are_delivered_again_on_demand(book: Ledger, place: str, together: bool) -> None:
    """retry delivers them once more; who comes through is parked no more, who does not stays with its new error."""
    book.append([launched(), started(), heartbeat()])
    slack(book).for_each(failing(1, 2))

    def handle(event: Recorded, *connection: Any) -> None:
        if connection:
            keep(event, *connection)
        if event.position == 1:
            raise LookupError("still")

    assert slack(book).retry(handle, together=together) == 1
    assert [(parked.position, parked.error) for parked in slack(book).parked()] == [(1, "LookupError: still")]
    assert kept(place) == ([2] if together else [])
    assert slack(book).retry(failing()) == 1
    assert (slack(book).retry(failing()), slack(book).parked()) == (0, [])


def test_together_is_both_or_nothing(book: Ledger, place: str) -> None:
    """What a handler wrote before it failed is not there, and the checkpoint has not moved."""
    book.append([launched(), started()])

    def handle(event: Recorded, connection: Any) -> None:
        keep(event, connection)
        if event.position == 2:
            raise KeyboardInterrupt if not slack_failed else ValueError

    slack_failed: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        slack(book).for_each(handle, together=True)
    assert (kept(place), slack(book).position) == ([1], 1)

    slack_failed.append(True)
    slack(book).for_each(handle, together=True)
    assert (kept(place), slack(book).position, len(slack(book).parked())) == ([1], 2, 1)
    assert book.verify()


ATTACKS = [
    "UPDATE training_events SET type = 'x'",
    "DELETE FROM training_events",
    "INSERT INTO training_events SELECT * FROM training_events",
    "UPDATE training_runs SET host = 'x'",
    "DELETE FROM training_heads",
    "UPDATE ledger_subscriptions SET position = 0",
    "DROP TABLE Training_Runs",
    "DROP INDEX training_runs_host_newest",
    "ALTER TABLE training_runs ADD COLUMN x text",
    "CREATE INDEX i ON training_runs (host)",
    "CREATE TEMP TABLE Training_Events (position bigint)",
    "CREATE TEMP VIEW training_heads AS SELECT 1 AS run_id",
    "CREATE TEMP TABLE mine (run_id text); ALTER TABLE mine RENAME TO Training_Heads",
    "DROP VIEW training_timeline",
    "DROP TABLE training_metrics",
]
ATTACKS_ON_SQLITE = [
    "UPDATE sqlite_sequence SET seq = 0",
    "DROP TRIGGER training_events_no_update",
    "CREATE TRIGGER t AFTER INSERT ON training_events BEGIN SELECT 1; END",
    "COMMIT",
    "ROLLBACK",
    "BEGIN",
    "RELEASE ledger_delivery",
    "ROLLBACK TO ledger_delivery",
    "CREATE VIRTUAL TABLE temp.training_events USING fts5(position)",
    "CREATE TEMP TRIGGER t AFTER INSERT ON training_events BEGIN SELECT 1; END",
    "PRAGMA query_only = 1",
    "PRAGMA foreign_keys(1)",
    "ATTACH ':memory:' AS other",
]
ATTACKS_ON_POSTGRESQL = [
    "TRUNCATE training_runs",
    "TRUNCATE training_events",
    "DROP TRIGGER training_events_no_update ON training_events",
    "ALTER TABLE training_events DISABLE TRIGGER USER",
    "DROP INDEX training_events_followed",
    "SET session_replication_role = replica; DELETE FROM training_events",
    "MERGE INTO training_runs r USING kept ON true WHEN MATCHED THEN UPDATE SET host = 'x'",
    "ROLLBACK",
]


def attacked(book: Ledger, place: str, attack: str) -> None:
    """Let a handler attack, and see that it is refused, whatever it says of that, and that nothing is changed."""
    book.append([launched(), started()])
    slack(book).rewind(0)

    def handle(event: Recorded, connection: Any) -> None:
        keep(event, connection)
        for statement in attack.split("; "):
            connection.execute(statement)

    assert slack(book).for_each(handle, together=True) == 0
    refused = ("tables of its own only", "append-only", "already exists", "other objects depend on it")
    assert any(words in slack(book).parked()[0].error for words in refused)
    assert (kept(place), len(list(book.events())), book.verify().differences) == ([], 2, ())


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_handler_cannot_touch_what_is_the_ledgers(book: Ledger, place: str, attack: str) -> None:
    """In the ledger's transaction only tables of its own are open to it; the error says so, and nothing is changed."""
    attacked(book, place, attack)


@in_a_file
@pytest.mark.parametrize("attack", ATTACKS_ON_SQLITE)
def test_a_handler_in_a_file_cannot_touch_it_in_sqlites_ways(book: Ledger, place: str, attack: str) -> None:
    """SQLite tells what a statement is about to do, so that the marks of the transaction are safe as well."""
    attacked(book, place, attack)


@on_server
@pytest.mark.parametrize("attack", ATTACKS_ON_POSTGRESQL)
def test_a_handler_on_a_server_cannot_touch_it_in_its_ways(book: Ledger, place: str, attack: str) -> None:
    """TRUNCATE and changes of the schema count no rows, but are seen by the locks that they take."""
    attacked(book, place, attack)


@on_server
def test_a_handler_that_commits_has_its_event_again(book: Ledger, place: str) -> None:
    """What it wrote itself stays, as it asked for; the ledger is whole, and the event is parked."""
    book.append([launched(), started()])

    def handle(event: Recorded, connection: Any) -> None:
        keep(event, connection)
        connection.execute("COMMIT")

    assert slack(book).for_each(handle, together=True) == 0
    assert "tables of its own only" in slack(book).parked()[0].error
    assert (slack(book).position, set(kept(place)), book.verify().differences) == (2, {1, 2}, ())


@in_a_file
@pytest.mark.parametrize("way", ["commit", "rollback", "with", "executescript"])
def test_a_handler_cannot_end_the_transaction(book: Ledger, path: Path, way: str) -> None:
    """The driver's own ways to commit and to roll back are refused as well."""
    book.append(started())

    def handle(event: Recorded, connection: Any) -> None:
        keep(event, connection)
        if way == "with":
            with connection:
                keep(event, connection)
        elif way == "executescript":
            connection.executescript("INSERT INTO kept VALUES (1)")
        else:
            getattr(connection, way)()

    slack(book).for_each(handle, together=True)
    assert "tables of its own only" in slack(book).parked()[0].error
    assert kept(path) == []


def test_a_handler_that_closes_the_connection_is_parked_and_the_ledger_goes_on(book: Ledger, place: str) -> None:
    """As `with closing(connection)` does; what it wrote is taken back."""
    book.append([launched(), started()])

    def handle(event: Recorded, connection: Any) -> None:
        keep(event, connection)
        connection.close()

    assert slack(book).for_each(handle, together=True) == 0
    assert len(slack(book).parked()) == 2
    book.append(heartbeat())
    assert (kept(place), slack(book).position, book.verify().differences) == ([], 2, ())


@in_a_file
@pytest.mark.parametrize("swallows", [False, True])
def test_a_statement_that_rolls_all_back_is_a_failure(book: Ledger, path: Path, swallows: bool) -> None:
    """INSERT OR ROLLBACK ends the transaction unseen: nothing more is written in its place, and the event is parked."""
    book.append([launched(), started()])
    slack(book).for_each(keep, together=True)
    slack(book).rewind(0)

    def handle(event: Recorded, connection: Any) -> None:
        connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS once ON kept (position)")
        try:
            connection.execute("INSERT OR ROLLBACK INTO kept VALUES (?)", (event.position,))
        except sqlite3.IntegrityError:
            if not swallows:
                raise
            with pytest.raises(sqlite3.DatabaseError):
                connection.execute("DELETE FROM kept")

    assert slack(book).for_each(handle, together=True) == 0
    assert [parked.position for parked in slack(book).parked()] == [1, 2]
    assert "tables of its own only" in slack(book).parked()[0].error
    assert (kept(path), slack(book).position, book.verify().differences) == ([1, 2], 2, ())


async def later(event: Recorded) -> None:
    """Nobody would await it."""


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("wrong", [None, 5, later, lambda: 1, lambda event, connection, third: 1])
def test_what_cannot_handle_any_event_parks_none(book: Ledger, wrong: Callable[..., object], together: bool) -> None:
    """A handler that takes other arguments, or is none, is refused before it is called."""
    book.append([launched(), started()])
    with pytest.raises(InvalidValue, match=r"\(event, connection\)" if together else r"\(event\)"):
        slack(book).for_each(wrong, together=together)
    with pytest.raises(InvalidValue):
        slack(book).retry(wrong, together=together)
    with pytest.raises(InvalidValue):
        slack(book).for_each((lambda event: 1) if together else keep, together=together)

    assert (slack(book).position, slack(book).parked()) == (0, [])


@in_a_file
def test_a_handler_may_make_itself_at_home(book: Ledger, place: str) -> None:
    """Its own tables, indexes, savepoints and a row factory are its business, and leave no trace in the ledger's."""
    book.append([launched(), started()])

    def handle(event: Recorded, connection: Any) -> None:
        connection.row_factory = sqlite3.Row
        keep(event, connection)
        connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS once ON kept (position)")
        connection.execute("SAVEPOINT mine")
        connection.execute("DELETE FROM kept")
        connection.execute("ROLLBACK TO mine")
        row = connection.execute("SELECT run_id FROM training_runs").fetchone()
        assert row["run_id"] == "r"

    assert slack(book).for_each(handle, together=True) == 2
    book.append(heartbeat())
    assert (kept(place), book.verify().differences) == ([1, 2], ())


def test_a_handler_may_record_when_it_is_not_in_the_transaction(book: Ledger) -> None:
    """An event that a handler appends comes in its turn; inside the transaction it is refused, not a deadlock."""
    book.append([launched()])

    def answer(event: Recorded, *_: object) -> None:
        if event.type == "launched":
            book.append(started())

    assert slack(book).for_each(answer) == 2
    assert book.subscription("other", pause_seconds=0).for_each(answer, together=True) == 1
    assert "in the middle of recording" in book.subscription("other").parked()[0].error


def test_rewinding_brings_events_again(book: Ledger) -> None:
    """Behind the new checkpoint all comes again, parked or not; what is parked before it stays parked."""
    book.append([launched(), started(), heartbeat()])
    slack(book).for_each(failing(1, 3))
    slack(book).rewind(1)
    seen: list[int] = []

    assert [parked.position for parked in slack(book).parked()] == [1]
    assert (slack(book).for_each(failing(into=seen)), seen) == (2, [2, 3])
    slack(book).rewind(0)
    assert slack(book).for_each(failing(into=seen)) == 3
    with pytest.raises(PositionUnknown, match=r"rewind\("):
        slack(book).rewind(4)
    for wrong in (-1, "1", None, True):
        with pytest.raises(InvalidValue):
            slack(book).rewind(wrong)  # type: ignore[arg-type]


def test_a_rewind_is_not_undone_by_who_is_at_work(book: Ledger) -> None:
    """A consumer that is in the middle of an event does not move the checkpoint on after somebody has rewound."""
    book.append([launched(), started(), heartbeat()])
    seen: list[int] = []

    def handle(event: Recorded) -> None:
        seen.append(event.position)
        if event.position == 3 and seen.count(3) == 1:
            slack(book).rewind(0)

    slack(book).for_each(handle)
    assert seen == [1, 2, 3, 1, 2, 3]


def test_a_checkpoint_ahead_of_the_ledger_is_refused(book: Ledger, place: str) -> None:
    """Where an earlier state was put in place, what comes is not skipped: the error names `rewind`, which mends it."""
    book.append([launched(), started()])
    slack(book).for_each(failing())
    with behind(place) as db:
        db.execute("UPDATE ledger_subscriptions SET position = 9")
    with pytest.raises(PositionUnknown, match=r"newest is 2.*subscription\('slack'\)\.rewind\("):
        slack(book).for_each(failing())

    slack(book).rewind(2)
    book.append(heartbeat())
    assert slack(book).for_each(failing()) == 1


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "\ud800", "x" * 201, None, 5])
def test_a_name_is_text_that_can_be_kept(book: Ledger, name: str) -> None:
    """Not empty, without NUL and surrogates, of at most 200 characters."""
    with pytest.raises(InvalidValue):
        book.subscription(name)


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"tries": "3"}, {"pause_seconds": -1}, {"pause_seconds": None}])
def test_terms_that_cannot_be_meant_are_refused(book: Ledger, wrong: dict[str, object]) -> None:
    """As are types that nobody knows, at the call."""
    with pytest.raises(InvalidValue):
        book.subscription("slack", **wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownFilter):
        book.subscription("slack", types="startd")


def test_no_types_at_all_are_refused(book: Ledger) -> None:
    """Whoever follows none of them would wait for ever."""
    for ask in (book.follow, lambda types: book.subscription("slack", types=types)):
        with pytest.raises(InvalidValue, match="at least one type of event is wanted, or None for all"):
            ask(types=[])


def test_there_is_no_subscription_where_there_is_no_ledger(bare_place: str) -> None:
    """Asking for one makes none."""
    with Ledger(bare_place) as book:
        with pytest.raises(NoLedger):
            book.subscription("slack")
        with pytest.raises(NoLedger):
            book.subscriptions()
        with pytest.raises(NoLedger):
            book.subscription("slack")


def test_progress_is_listed(book: Ledger) -> None:
    """Who has begun is listed by name, with how much lies behind and how much is parked."""
    book.append([launched(), started(), heartbeat()])
    assert book.subscriptions() == []
    slack(book).for_each(failing(2))
    book.subscription("mail").rewind(1)

    assert [one[:5] for one in book.subscriptions()] == [("mail", 1, 2, 0, 0), ("slack", 3, 0, 0, 1)]


def test_the_choice_of_events_is_kept(book: Ledger) -> None:
    """What is behind is what is wanted, as the last consumer said it; a rewind asks anew."""
    book.append([launched(), started(), heartbeat(), heartbeat(run="other")])
    slack(book, types=["started", "heartbeat"], run_id="r").for_each(failing())
    book.append([started(5), launched(6, run="other"), heartbeat(run="other")])
    (listed,) = book.subscriptions()

    assert (listed.behind, listed.types, listed.run_id) == (1, ("heartbeat", "started"), "r")
    assert listed.wanted == "heartbeat, started of run r"
    slack(book).rewind(0)
    (listed,) = book.subscriptions()
    assert (listed.behind, listed.wanted) == (3, "heartbeat, started of run r")


@pytest.mark.parametrize(
    ("before", "after", "wider"),
    [
        ({}, {"types": "started"}, False),
        ({}, {"run_id": "r"}, False),
        ({"types": ["started", "launched"]}, {"types": "launched", "run_id": "r"}, False),
        ({"types": ["started", "launched"]}, {"types": ["launched", "started", "started"]}, False),
        ({"types": "started"}, {"types": ["launched", "started"]}, True),
        ({"types": "started"}, {}, True),
        ({"run_id": "r"}, {}, True),
        ({"run_id": "r"}, {"run_id": "other"}, True),
    ],
)
def test_who_wants_more_under_the_same_name_is_warned(
    book: Ledger, before: dict[str, Any], after: dict[str, Any], wider: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: the events of before that were not wanted then do not come, and it is said how to have them."""
    book.append([launched(), started(), launched(run="other"), started(run="other")])
    slack(book, **before).for_each(failing())
    with caplog.at_level(logging.WARNING, "ledger"):
        for _ in range(2):
            assert slack(book, **after).for_each(failing()) == 0

    assert len(caplog.messages) == wider
    assert all("lies before position 5 does not come. Subscription.rewind(0)" in said for said in caplog.messages)
    slack(book).rewind(0)
    assert slack(book, **before).for_each(failing()) > 0
    slack(book).rewind(0)
    assert slack(book).for_each(failing()) == 4
    assert len(caplog.messages) == wider


def test_a_rewind_under_a_consumer_keeps_its_choice(book: Ledger) -> None:
    """Whoever is at work has said once what it wants, and goes on."""
    book.append([launched(), started(), started()])
    seen: list[int] = []

    def handle(event: Recorded) -> None:
        seen.append(event.position)
        if len(seen) == 2:
            slack(book).rewind(0)

    slack(book, types="started").for_each(handle)
    assert (seen, book.subscriptions()[0].wanted) == ([2, 3, 2, 3], "started")


def test_nothing_is_passed_over_where_nothing_was_handled(book: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Who begins with nothing there, and then wants more, has all of it."""
    book.init_db()
    assert slack(book, types="started").for_each(failing()) == 0
    book.append([launched(), started()])
    assert slack(book).for_each(failing()) == 2
    assert caplog.messages == []


@pytest.mark.parametrize("together", [False, True])
def test_several_consumers_of_one_name(book: Ledger, place: str, together: bool) -> None:
    """None is skipped, whoever handles it; together each comes exactly once, and the checkpoint only grows."""
    book.append([heartbeat() for _ in range(150)])
    seen: list[int] = []
    positions: list[int] = []

    def handle(event: Recorded, *connection: Any) -> None:
        if connection:
            keep(event, *connection)
        seen.append(event.position)
        if random.random() < 0.05:
            raise ValueError

    def consume() -> None:
        with Ledger(place) as own:
            slack(own, tries=50).for_each(handle, together=together)

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        positions.append(slack(book).position)

    assert positions == sorted(positions)
    assert (set(seen), slack(book).position) == (set(range(1, 151)), 150)
    if together:
        assert kept(place) == list(range(1, 151))


@tried(
    steps=st.lists(
        st.tuples(st.sampled_from(["handled", "interrupted"]), st.none() | st.integers(0, 8), st.integers(0, 9)),
        max_size=25,
    )
)
def test_the_checkpoint_never_passes_what_nobody_handled(
    ledgers: Ledgers, steps: list[tuple[str, int | None, int]]
) -> None:
    """While one consumer handles an event another handles some, stops, and somebody rewinds: nothing is skipped."""
    with ledgers() as book:
        book.append([heartbeat() for _ in range(8)])
        handled: set[int] = set()
        left = list(steps)

        def handle(event: Recorded) -> None:
            if not left:
                raise KeyboardInterrupt
            ending, rewound, count = left.pop()
            with suppress(KeyboardInterrupt):
                slack(book).for_each(interrupted_after(count, handled))
            if rewound is not None:
                slack(book).rewind(min(rewound, slack(book).position))  # one that goes on skips, as it is asked to
            if ending == "interrupted":
                raise KeyboardInterrupt
            handled.add(event.position)
            assert set(range(1, slack(book).position + 1)) <= handled

        while left and slack(book).lag:
            with suppress(KeyboardInterrupt):
                slack(book).for_each(handle)
            assert set(range(1, slack(book).position + 1)) <= handled
        assert slack(book).parked() == []


def interrupted_after(count: int, handled: set[int]) -> Handler:
    left = [count]

    def handle(event: Recorded) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        handled.add(event.position)

    return handle


@pytest.mark.parametrize("kind", ["beside", "together"])
def test_consumers_killed_at_random_moments(path: Path, kind: str) -> None:
    """kill -9 at any moment: no event is skipped, and together none is handled twice."""
    with Ledger(path) as book:
        book.init_db()
    writer = writing(path, "r", heard=False)
    said: list[int] = []
    try:
        for _ in range(trials(10, 25)):
            consumer = consuming(path, kind)
            assert consumer.stdout is not None
            said += [int(line) for line in [consumer.stdout.readline()] if line.endswith("\n")]
            time.sleep(random.uniform(0, 0.15))
            consumer.kill()
            said += [int(line) for line in consumer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
            consumer.stdout.close()
            consumer.wait()
    finally:
        writer.kill()
        writer.communicate()

    with Ledger(path) as book:
        count = len(list(book.events()))
        reached = book.subscription(kind).position
        handled = kept(path, "handled") if kind == "together" else said
        assert set(range(1, reached + 1)) <= set(handled)
        assert kind == "beside" or handled == list(range(1, reached + 1))
        assert 0 < reached <= count
        assert book.verify()
