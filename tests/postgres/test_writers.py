"""Writers on one server: they wait for each other where they write the same run, nowhere else, and never in a ring."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from tests.builders import heartbeat, shown, started, told, trials, wandb_attached
from tests.postgres.hands import Readers, Seen, hands, holding
from tests.postgres.server import Server
from tests.store.crowd import crowd

WRITERS = 32


@pytest.fixture
def own_server() -> Iterator[Server]:
    """Give a server whose log nobody else writes to."""
    with Server.start() as server:
        yield server


def in_order_of_versions(seen: list[Seen]) -> bool:
    """Whether each run's events come as its writers put them one behind the other, and none twice."""
    versions: Counter[str] = Counter()
    for event in seen:
        versions[event.run_id] += 1
        if event.version != versions[event.run_id]:
            return False
    return True


def test_thirty_two_processes_and_those_who_follow_them(
    own_server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Own and shared runs, two followers and a subscription: all comes to each once and in a valid order."""
    url, each = own_server.create_database("crowd"), trials(25, 100)
    with Ledger(url) as book, Readers(tmp_path) as readers:
        book.init_db()
        watching = [readers.start("follow", url), readers.start("follow", url), readers.start("consume", url, "slack")]
        began = time.perf_counter()
        answers = crowd("append", WRITERS, url, each)
        took = time.perf_counter() - began
        assert [answer["error"] for answer in answers if "error" in answer] == []
        seen = [reader.seen_until(WRITERS * each) for reader in watching]
        events = list(book.events())

        ids = Counter(event_id for answer in answers for event_id in answer["ids"])
        assert [Counter(event.event_id for event in found) for found in seen] == [ids] * 3
        assert all(map(in_order_of_versions, seen))
        assert seen[0] == seen[1] == seen[2]
        assert shown(book) == told(events)
        assert book.verify().differences == ()
        assert book.subscription("slack").lag == 0
    assert_no_deadlock(own_server, "crowd")
    with capsys.disabled():
        slowest = max(answer["slowest_seconds"] for answer in answers)
        print(f"\n{WRITERS} x {each} appends on a server in {took:.1f} s, the slowest waited {slowest:.3f} s")


def assert_no_deadlock(server: Server, database: str) -> None:
    """Neither the server's count nor its log knows of any."""
    counted = server.run_sql("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", database)
    assert (counted, "deadlock detected" in server.log) == ([(0,)], False)


def test_batches_over_many_runs_never_wait_in_a_ring(own_server: Server) -> None:
    """Sixteen processes, any runs in any order, W&B ids that go to and fro: no deadlock, and window = ledger."""
    url = own_server.create_database("mixed")
    own_server.set("deadlock_timeout", "50ms")
    with Ledger(url) as book:
        for n in range(8):
            book.append([started(run=f"r{n}"), wandb_attached(run=f"r{n}", wandb_run_id=f"w{n}")])
        answers = hands("mix", 16, url, trials(40, 400))
        assert [answer["error"] for answer in answers if "error" in answer] == []
        assert book.verify().differences == ()
        assert shown(book) == told(book.events())
    assert_no_deadlock(own_server, "mixed")


def test_only_writers_of_the_same_run_wait(postgres_url: str) -> None:
    """While a transaction is open, others append to other runs and take other W&B ids; its own run waits for it."""
    with Ledger(postgres_url) as book, Ledger(postgres_url) as other:
        book.append([started(run=run) for run in "abc"])
        waiting = threading.Thread(target=lambda: other.append(heartbeat(run="a")))
        with holding(book, heartbeat(run="a"), wandb_attached(run="a", wandb_run_id="one")):
            other.append(heartbeat(run="b"))
            other.append([heartbeat(run="c"), wandb_attached(run="c", wandb_run_id="two"), started(run="new")])
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
        waiting.join(10)

        assert not waiting.is_alive()
        assert [event.version for event in book.events(run_id="a")] == [1, 2, 3, 4]
        assert (other.get_run("a") or {})["wandb_run_id"] == "one"
        assert book.verify().differences == ()
