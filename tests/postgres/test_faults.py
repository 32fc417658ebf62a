"""The server dies under those who write: nothing that was acknowledged is lost, nothing is there twice, and they go on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ledger import Ledger
from ledger.events import Recorded
from tests.postgres.server import DURABLE, Server
from tests.postgres.writer import SECONDS_MAX, SHARED, Writer, go_on, writing

FULL = os.environ.get("LEDGER_PROOF") == "full"
KILLS = 20 if FULL else 2
FAILOVERS = 5 if FULL else 1
WRITERS = 3


def assert_all_is_there(url: str, writers: Sequence[Writer]) -> None:
    """Stop the writers, who never met an error, and find what they were told is there, once."""
    assert [writer.stop() for writer in writers] == [""] * len(writers)
    with Ledger(url) as book:
        events = list(book.events())
        notes = [event.event.note for event in events if event.type == "annotated"]
        found = Counter([event.event_id for event in events if event.type == "heartbeat"] + notes)
        said = [word for writer in writers for word in writer.said]
        assert [word for word in said if found[word] == 0] == []
        assert [word for word, times in found.items() if times > 1] == []
        # What nobody was told of is what each was in the middle of, at most.
        assert len(found) - len(said) <= len(writers)
        assert Counter(event.type for event in events)["launched"] == len(writers) + 1
        assert book.verify().differences == ()


def test_a_killed_server_loses_nothing() -> None:
    """After every kill -9 the writers go on by themselves, without an error."""
    with Server.start(DURABLE) as server:
        url = server.create_database("ledger")
        with writing(url, WRITERS) as writers:
            for _ in range(KILLS):
                go_on(writers, 10)
                server.kill()
                server.restart()
            go_on(writers, 10)
            assert_all_is_there(url, writers)


@pytest.mark.parametrize("number", range(FAILOVERS))
def test_a_standby_takes_over(number: int) -> None:
    """With both hosts in one URL, writers go over to the synchronous standby, which has all that was acknowledged."""
    with Server.start(DURABLE) as primary:
        primary.create_database("ledger")
        with primary.standby() as standby:
            primary.wait_for(standby)
            url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/ledger"
            with writing(url, WRITERS) as writers:
                go_on(writers, 10)
                primary.kill()
                standby.set("synchronous_standby_names", "")
                standby.promote()
                go_on(writers, 10)
                assert_all_is_there(url, writers)


def test_followers_go_on_over_a_kill() -> None:
    """Who follows and who is subscribed is not ended by the server's end, and gets each event, the follower once."""
    followed: list[str] = []
    delivered: set[str] = set()
    with Server.start(DURABLE) as server:
        url = server.create_database("ledger")
        with Ledger(url) as book, Ledger(url) as other, writing(url, 2) as writers, ThreadPoolExecutor() as threads:
            go_on(writers, 5)
            following = threads.submit(follow, book, followed)
            consuming = threads.submit(consume, other, delivered)
            for _ in range(KILLS):
                go_on(writers, 10)
                server.kill()
                server.restart()
            go_on(writers, 10)
            said = [writer.stop() for writer in writers]
            with Ledger(url) as last:
                events = [event.event_id for event in last.events()]
                last.void(SHARED, reason=LAST)
            following.result(SECONDS_MAX)
            consuming.result(SECONDS_MAX)
    assert said == ["", ""]
    assert sorted(followed[:-1]) == sorted(events)
    assert delivered >= set(events)


LAST = "this is the last"


def follow(book: Ledger, seen: list[str]) -> None:
    for event in book.follow():
        seen.append(event.event_id)
        if event.type == "voided":
            return


class Done(BaseException):
    """A consumer goes on for ever; this ends it."""


def consume(book: Ledger, seen: set[str]) -> None:
    def handle(event: Recorded) -> None:
        seen.add(event.event_id)
        if event.type == "voided":
            raise Done

    with suppress(Done):
        book.subscription("s").for_each(handle, follow=True)
