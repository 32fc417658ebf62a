"""A dump restored on another server, whose counter of transactions is far behind: no event is hidden, none comes twice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from ledger import Ledger
from tests.builders import heartbeat, started
from tests.postgres import installed
from tests.postgres.hands import Readers, hands, holding
from tests.postgres.server import Server
from tests.postgres.test_followers import positions
from tests.postgres.test_writers import in_order_of_versions

BEGUN = 30_000  # transactions on the old server before the ledger's

# What has a savepoint has a number of its own; so this begins many transactions at once.
_BEGINNING = """
CREATE TABLE begun (a int);
DO $$ BEGIN FOR n IN 1..{count} LOOP BEGIN INSERT INTO begun VALUES (n); EXCEPTION WHEN OTHERS THEN END; END LOOP; END $$;
DROP TABLE begun
"""

READER = """
CREATE ROLE looker LOGIN;
GRANT USAGE ON SCHEMA public TO looker;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker
"""


@pytest.fixture(scope="module")
def old() -> Iterator[Server]:
    """Give a server that is far on: with a ledger that has positions out of order, a hole and a subscription half through."""
    with Server.start() as server:
        url = server.create_database("runs")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_BEGINNING.format(count=BEGUN))
        with Ledger(url) as book, Ledger(url) as slow:
            with holding(slow, started(run="slow")) as more:
                book.append([started(run="quick"), heartbeat(run="quick")])
                more(heartbeat(run="slow"))
            hands("hold", 2, url, 40)
            book.subscription("slack").rewind(positions(list(islice(book.follow(), 10)))[-1])
        yield server


@pytest.fixture
def new() -> Iterator[Server]:
    """Give a server that has begun next to nothing."""
    with Server.start() as server:
        yield server


def run(program: str, server: Server, *arguments: str, said: str = "") -> str:
    """Run one of the server's programs and return what it says."""
    done = subprocess.run(
        [server.programs / program, *arguments], input=said, capture_output=True, text=True, check=True,
        cwd=server.folder, env=installed.environment(server.folder), timeout=60,
    )  # fmt: skip
    return done.stdout


def restored(old: Server, new: Server) -> str:
    """Restore a dump of the old server's ledger on the new one, and return its URL."""
    url = new.create_database("runs")
    load(new, url, run("pg_dump", old, "--no-owner", old.url("runs")))
    return url


def load(server: Server, url: str, dump: str) -> None:
    run("psql", server, "-qX", "-v", "ON_ERROR_STOP=1", url, said=dump)


def test_followers_see_what_was_restored_and_then_what_comes(old: Server, new: Server, tmp_path: Path) -> None:
    """From the first event, from an old position, under a name and as a role that only reads, before and after a writer."""
    with Ledger(old.url("runs")) as there:
        past = positions(list(islice(there.follow(), len(list(there.events())))))
        waiting = there.subscription("slack").lag
    url = restored(old, new)
    assert newest_transaction(url) > counter(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(READER)
    with Readers(tmp_path) as readers, Ledger(url) as book:
        whole = readers.start("follow", new.url("runs", "looker"))
        later = readers.start("follow", url, past[7])
        assert positions(whole.seen_until(len(past))) == past
        assert positions(later.seen_until(len(past) - 8)) == past[8:]
        assert book.subscription("slack").lag == waiting == len(past) - 10

        answers = hands("hold", 3, url, 50)
        assert [answer.get("error") for answer in answers] == [None] * 3
        total = len(past) + 150
        seen, seen_later = whole.seen_until(total), later.seen_until(total - 8)
        assert positions(seen)[: len(past)] == past
        assert sorted(positions(seen)) == sorted(positions(list(book.events())))
        assert in_order_of_versions(seen)
        assert seen_later == seen[8:]
        handled: list[int] = []
        book.subscription("slack").for_each(lambda event: handled.append(event.position))
        assert handled == positions(seen)[10:]
        assert book.verify().differences == ()


def newest_transaction(url: str) -> int:
    return number(url, "SELECT max(transaction_id) FROM training_events")


def counter(url: str) -> int:
    return number(url, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + ledger_shift()")


def number(url: str, question: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return int(row[0])


def test_a_writer_that_was_there_before_the_dump(old: Server, new: Server) -> None:
    """Who has written to the empty ledger before, and writes on after a dump took its place, hides nothing either."""
    url = new.create_database("runs")
    with Ledger(url) as book:
        book.init_db()
        book.append(started(run="before"))
        new.drop_database("runs")
        restored(old, new)
        past = len(list(book.events()))
        follower = book.follow()
        seen = positions(list(islice(follower, past)))
        mine = book.append([heartbeat(run="after"), heartbeat(run="slow")])
        assert positions(list(islice(follower, 2))) == positions(mine)
        follower.close()
        assert len(set(seen)) == past
        assert book.verify().differences == ()


def test_a_dump_of_a_restored_ledger(old: Server, new: Server) -> None:
    """Restored once more, on a server that is ahead or behind, it is followed in the same order."""
    url = restored(old, new)
    with Ledger(url) as book:
        book.append(heartbeat(run="between"))
        past = positions(list(islice(book.follow(), len(list(book.events())))))
    dump = run("pg_dump", new, "--no-owner", url)
    for server, begun in ((new, BEGUN * 2), (old, 0)):
        again = server.create_database("again")
        with psycopg.connect(again, autocommit=True) as connection:
            connection.execute(_BEGINNING.format(count=begun))
        load(server, again, dump)
        with Ledger(again) as book, closing(book.follow()) as follower:
            assert positions(list(islice(follower, len(past)))) == past
            mine = book.append(heartbeat(run="third"))
            assert next(follower).position == mine.position
