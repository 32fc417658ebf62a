"""Following on a server, where positions are committed out of their order: nothing is left out, nothing comes twice."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger import Ledger
from ledger.errors import LedgerUnreachable, PositionUnknown
from ledger.events import Recorded
from ledger.store.postgres import listening
from tests.builders import heartbeat, launched, started, trials
from tests.postgres.hands import CONDITIONS, Readers, Seen, Undone, hands, holding, naive_look
from tests.postgres.server import Server
from tests.postgres.test_writers import in_order_of_versions
from tests.store.test_follow import Follower

HOLDING = 8


@pytest.fixture
def book(postgres_url: str) -> Iterator[Ledger]:
    """Give an empty ledger on the server."""
    with Ledger(postgres_url) as book:
        book.init_db()
        yield book


def positions(events: list[Recorded] | list[Seen]) -> list[int]:
    return [event.position for event in events]


def test_no_follower_skips_what_was_held_or_follows_what_was_undone(
    postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transactions are held open and taken back: followers miss nothing, and both naive ways to follow do."""
    each = trials(250, 25_000)
    with Ledger(postgres_url) as book, Readers(tmp_path) as readers:
        book.init_db()
        watching = [readers.start("follow", postgres_url) for _ in range(2)]
        watching.append(readers.start("consume", postgres_url, "slack"))
        naive = [readers.start(way, postgres_url) for way in CONDITIONS]
        answers = hands("hold", HOLDING, postgres_url, each, 0.1 if each > 250 else 0.3)
        assert [answer["error"] for answer in answers if "error" in answer] == []
        total = sum(answer["committed"] for answer in answers)
        seen = [reader.seen_until(total) for reader in watching]
        time.sleep(0.3)  # more than they need to see what they would see twice
        there = {event.event_id for event in book.events()}
        missed = {
            way: total - len({event.event_id for event in reader.seen()})
            for way, reader in zip(CONDITIONS, naive, strict=True)
        }

        assert len(there) == total == HOLDING * each
        assert [Counter(event.event_id for event in reader.seen()) for reader in watching] == [Counter(there)] * 3
        assert all(map(in_order_of_versions, seen))
        assert seen[0] == seen[1] == seen[2]
        assert (min if each > 250 else max)(missed.values()) > 0  # of so few, one way may have been lucky
        assert book.verify().differences == ()
    with capsys.disabled():
        held, undone = (sum(answer[what] for answer in answers) for what in ("held", "undone"))
        print(f"\n{total} events, {held} transactions held and {undone} undone: naive readers missed {missed}")


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_by_position_an_event_is_skipped(book: Ledger, postgres_url: str, condition: str) -> None:
    """What began first and is numbered last is there before the other: who goes by position has passed that by then."""
    naive: list[int] = []

    def look() -> None:
        with psycopg.connect(postgres_url) as connection:
            after = max(naive, default=0)
            naive.extend(row[0] for row in connection.execute(naive_look(condition), (after,)))

    follower = Follower(book)
    with ExitStack() as second, Ledger(postgres_url) as other, Ledger(postgres_url) as slow:
        with holding(other, started(run="first")) as first:
            second.enter_context(holding(slow, started(run="second")))
            first(heartbeat(run="first"))
        look()
        assert follower.positions(2) == [1, 3]
        second.close()
        look()
        assert follower.positions(1) == [2]
    assert naive == [1, 3]


def test_an_open_transaction_holds_followers_back_and_nobody_else(book: Ledger, postgres_url: str) -> None:
    """While an older transaction goes on, what came after it is there for all who ask, and comes to followers later."""
    follower = Follower(book)
    with Ledger(postgres_url) as other, holding(other, started(run="slow")):
        book.append(launched(run="quick", config={}, host="hub"))
        assert (book.get_run("quick") or {})["host"] == "hub"
        assert [event.run_id for event in book.events()] == ["quick"]
        assert follower.sees_nothing()

    assert [getattr(follower.next(), "run_id", None) for _ in range(2)] == ["slow", "quick"]


def test_a_run_comes_in_the_order_of_its_versions(book: Ledger, postgres_url: str) -> None:
    """Also where the transaction that wrote to it last is the one that began first."""
    with Ledger(postgres_url) as other, holding(other, started(run="a")) as more:
        book.append([started(run="b"), heartbeat(run="b")])
        more(heartbeat(run="b"), heartbeat(run="c"))
    seen = list(islice(book.follow(), 5))

    assert [(event.run_id, event.version) for event in seen if event.run_id == "b"] == [("b", 1), ("b", 2), ("b", 3)]
    assert sorted(positions(seen)) == [1, 2, 3, 4, 5]


@pytest.fixture
def mixed(book: Ledger, postgres_url: str) -> list[int]:
    """Let positions be committed out of order, with a hole at 3, and return them as followers see them: 1 6 2 4 5 7."""
    with Ledger(postgres_url) as slow, Ledger(postgres_url) as other:
        with holding(slow, started(run="first")) as first:
            with holding(book, started(run="second")) as second:
                with suppress(Undone), holding(other, heartbeat(run="undone")):
                    raise Undone
                second(heartbeat(run="second"), heartbeat(run="second"))
            first(heartbeat(run="first"))
        book.append(heartbeat(run="third"))
    return [1, 6, 2, 4, 5, 7]


def test_following_goes_on_behind_any_event_that_was_seen(book: Ledger, mixed: list[int]) -> None:
    """`after` is the position of an event: what comes is what a follower from the first sees behind it."""
    assert positions(list(islice(book.follow(), 6))) == mixed
    for place, position in enumerate(mixed[:-1]):
        assert positions(list(islice(book.follow(position), 5 - place))) == mixed[place + 1 :]


def test_behind_a_hole_nothing_of_a_later_position_is_left_out(book: Ledger, mixed: list[int]) -> None:
    """Where a transaction was taken back there is no event to have seen: all later ones come, and maybe earlier ones."""
    assert positions(list(islice(book.follow(3), 5))) == mixed[1:]
    with pytest.raises(PositionUnknown, match="newest is 7"):
        next(book.follow(8))


def test_behind_a_position_that_is_yet_to_be_committed_nothing_is_left_out(book: Ledger, postgres_url: str) -> None:
    """Who comes with the position of an open transaction gets that transaction's events, too, and those before it."""
    with Ledger(postgres_url) as slow, holding(slow, started(run="slow")):
        book.append([heartbeat(run="quick"), heartbeat(run="quick")])
        follower = Follower(book, after=1)
        assert follower.sees_nothing()

    assert follower.positions(3) == [1, 2, 3]


def test_types_and_runs_choose_on_a_server_too(book: Ledger, mixed: list[int]) -> None:
    """What is wanted comes in the same order as it would among all, and then what is appended."""
    follower = Follower(book, types=["heartbeat"])
    of_run = Follower(book, run_id="second", types=["heartbeat", "started"])
    assert (follower.positions(4), of_run.positions(3)) == ([6, 4, 5, 7], [2, 4, 5])
    book.append([started(run="second"), heartbeat(run="second")])

    assert (follower.positions(1), of_run.positions(2)) == ([9], [8, 9])


def test_a_subscription_goes_in_the_same_order(book: Ledger, mixed: list[int]) -> None:
    """Its checkpoint, lag, parked events and rewinding go by that order, not by position alone."""
    tried: list[int] = []

    def handle(event: Recorded) -> None:
        tried.append(event.position)
        if event.position in {6, 4}:
            raise ValueError(event.position)

    slack = book.subscription("slack", tries=1)
    assert (slack.lag, slack.for_each(handle), slack.lag, slack.position) == (6, 4, 0, 7)
    assert tried == mixed
    assert [kept.position for kept in slack.parked()] == [4, 6]
    slack.rewind(6)
    assert ([kept.position for kept in slack.parked()], slack.lag) == ([6], 4)
    assert [(one.name, one.behind, one.parked) for one in book.subscriptions()] == [("slack", 4, 1)]
    assert slack.retry(lambda event: None) == 1
    tried.clear()
    assert (slack.for_each(handle), tried) == (3, [2, 4, 5, 7])
    slack.rewind(3)
    assert (slack.position, slack.lag) == (1, 5)
    with pytest.raises(PositionUnknown):
        slack.rewind(8)


def kept(url: str) -> Counter[int]:
    with psycopg.connect(url) as connection:
        return Counter(position for (position,) in connection.execute("SELECT position FROM kept"))


def test_consumers_that_are_killed_in_the_middle(postgres_url: str, tmp_path: Path) -> None:
    """While writers hold and undo: each event comes at least once, and exactly once together with the ledger."""
    with Ledger(postgres_url) as book, Readers(tmp_path) as readers:
        book.init_db()
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE TABLE kept (position bigint)")
        answers: list[dict[str, Any]] = []
        writers = threading.Thread(target=lambda: answers.extend(hands("hold", 2, postgres_url, trials(100, 3000))))
        writers.start()
        heard: set[int] = set()
        while writers.is_alive():
            pair = [readers.start("consume", postgres_url, "beside"), readers.start("keep", postgres_url, "together")]
            time.sleep(0.6 + 0.3 * (len(heard) % 3))
            for reader in pair:
                reader.kill()
            heard |= set(positions(pair[0].seen()))
        writers.join()
        last = readers.start("consume", postgres_url, "beside")
        book.subscription("together").for_each(
            lambda event, connection: connection.execute("INSERT INTO kept VALUES (%s)", (event.position,)),
            together=True,
        )
        until = time.monotonic() + 30
        while book.subscription("beside").lag and time.monotonic() < until:
            time.sleep(0.05)
        there = set(positions(list(book.events())))

        assert [answer.get("error") for answer in answers] == [None, None]
        assert heard | set(positions(last.seen())) == there
        assert kept(postgres_url) == Counter(there)


def test_several_consumers_of_one_name(postgres_url: str, tmp_path: Path) -> None:
    """Three processes of one name at once: together with the ledger exactly once, beside it at least once."""
    with Ledger(postgres_url) as book, Readers(tmp_path) as readers:
        book.init_db()
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE TABLE kept (position bigint)")
        beside = [readers.start("consume", postgres_url, "beside") for _ in range(3)]
        for _ in range(3):
            readers.start("keep", postgres_url, "together")
        answers = hands("hold", 2, postgres_url, trials(60, 500))
        names = ("beside", "together")
        until = time.monotonic() + 60
        while any(book.subscription(name).lag for name in names) and time.monotonic() < until:
            time.sleep(0.05)
        there = set(positions(list(book.events())))

        assert [answer.get("error") for answer in answers] == [None, None]
        assert set().union(*(positions(reader.seen()) for reader in beside)) == there
        assert kept(postgres_url) == Counter(there)


def test_a_waiting_follower_is_woken(book: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it would not look by itself for minutes, a commit of somebody else wakes it at once."""
    monkeypatch.setattr(listening, "LIVELY_SECONDS", 0.0)
    monkeypatch.setattr(listening, "PAUSE_SECONDS_MAX", 300.0)
    monkeypatch.setattr(listening, "POLL_SECONDS", 300.0)
    events = book.follow()
    waiting = threading.Thread(target=lambda: next(events), daemon=True)
    waiting.start()
    until_listening(postgres_url)
    with Ledger(postgres_url) as other:
        other.append(started())
    waiting.join(30)

    assert not waiting.is_alive()
    events.close()


def until_listening(url: str, statement: str = "LISTEN ledger_events") -> None:
    """Wait until somebody's last statement in this database is that one."""
    until = time.monotonic() + 30
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(asked, (statement,)).fetchone() == (0,):
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_busy_follower_does_not_listen(book: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing piles up for who handles an event for hours: he stops listening as soon as one has come."""
    monkeypatch.setattr(listening, "LIVELY_SECONDS", 0.05)
    events = book.follow()
    waiting = threading.Thread(target=lambda: next(events), daemon=True)
    waiting.start()
    until_listening(postgres_url)
    book.append(started())
    waiting.join(10)

    assert not waiting.is_alive()
    until_listening(postgres_url, "UNLISTEN ledger_events")
    events.close()


def test_a_consumers_own_progress_wakes_nobody(book: Ledger, postgres_url: str) -> None:
    """A checkpoint that moves is no news; an event is."""
    book.append([started(), heartbeat()])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {listening.CHANNEL}")
        with Ledger(postgres_url) as other:
            assert other.subscription("slack").for_each(lambda event: None) == 2
        assert list(connection.notifies(timeout=0.1)) == []
        with Ledger(postgres_url) as other:
            other.append(heartbeat())
        assert len(list(connection.notifies(timeout=10, stop_after=1))) == 1


def test_where_nobody_may_listen_they_look(book: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler that refuses LISTEN followers and consumers get the same by looking from time to time."""

    def refused(connection: psycopg.Connection[Any]) -> bool:
        connection.execute("DO $$ BEGIN RAISE feature_not_supported; END $$")
        return True

    monkeypatch.setattr(listening, "LIVELY_SECONDS", 0.0)
    monkeypatch.setattr(listening, "_listen", refused)
    follower = Follower(book)
    for position in range(1, 4):
        book.append(heartbeat())
        assert follower.positions(1) == [position]


def test_a_lost_line_is_no_end_of_listening(book: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listened, and whose connection somebody has ended, still gets what comes."""
    monkeypatch.setattr(listening, "LIVELY_SECONDS", 0.0)
    follower = Follower(book)
    until_listening(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    book.append(started())

    assert follower.positions(1) == [1]


def test_a_fork_takes_its_own_way(book: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that goes on with a follower of its parent's has its own connections; both see all."""
    monkeypatch.setattr(listening, "LIVELY_SECONDS", 0.0)
    book.append(started())
    with closing(book.follow()) as events:
        assert next(events).position == 1
        later = threading.Timer(0.3, lambda: book.append(heartbeat()))
        later.start()
        assert next(events).position == 2
        later.join()
        child = os.fork()
        if child == 0:
            with suppress(BaseException), Ledger(postgres_url) as other:
                threading.Timer(0.3, lambda: other.append(heartbeat())).start()
                os._exit(next(events).position)
            os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        book.append(heartbeat())
        assert [next(events).position for _ in range(2)] == [3, 4]


def test_the_command_follows_a_server(postgres_url: str, tmp_path: Path) -> None:
    """`ledger events --follow` prints what is there and what comes, in the order of followers."""
    import json
    import subprocess
    import sys

    with Ledger(postgres_url) as book:
        book.append([started(), heartbeat()])
        command = [sys.executable, "-m", "ledger", "--db", postgres_url, "events", "--follow", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(2)]
            book.append(heartbeat(run="other"))
            lines.append(json.loads(process.stdout.readline()))
        finally:
            process.kill()
            process.communicate()
    assert [(line["position"], line["run_id"]) for line in lines] == [(1, "r"), (2, "r"), (3, "other")]


def test_followers_on_a_hot_standby(tmp_path: Path) -> None:
    """There nobody can listen or write: followers look, get what the primary commits, and skip nothing that was held."""
    with Server.start() as server, Readers(tmp_path) as readers:
        url = server.create_database("followed")
        with Ledger(url) as book:
            book.append(started())
            with server.standby() as standby:
                server.wait_for(standby)
                there = readers.start("follow", standby.url("followed"))
                assert positions(there.seen_until(1)) == [1]
                answers = hands("hold", 2, url, 100)
                assert [answer.get("error") for answer in answers] == [None] * 2
                seen = there.seen_until(201)
                assert seen == [Seen(e.position, e.event_id, e.run_id, e.version) for e in islice(book.follow(), 201)]
                assert in_order_of_versions(seen)
                with Ledger(standby.url("followed")) as there_too:
                    assert there_too.count_runs() == book.count_runs()
                    with pytest.raises(LedgerUnreachable, match="It is a standby: name the primary"):
                        there_too.append(started())
                server.wait_for()


def test_what_goes_on_in_another_database_holds_nobody_back(
    postgres_url: str, new_postgres_url: Callable[[], str]
) -> None:
    """A snapshot counts the transactions of the whole server; those of another database bring no event here."""
    with psycopg.connect(new_postgres_url()) as elsewhere, psycopg.connect(postgres_url) as here:
        elsewhere.execute("SELECT pg_current_xact_id()")
        with Ledger(postgres_url) as book:
            book.append([launched(), started()])
            seen: list[int] = []
            assert book.subscription("s").for_each(lambda event: seen.append(event.position)) == 2
            here.execute("SELECT pg_current_xact_id()")
            book.append(heartbeat())
            assert book.subscription("s").for_each(lambda event: seen.append(event.position)) == 0
            here.commit()
            assert book.subscription("s").for_each(lambda event: seen.append(event.position)) == 1
            assert seen == [1, 2, 3]
