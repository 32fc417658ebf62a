"""A ledger moves between a file and a server, both ways, and is the same ledger afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import InvalidValue, LedgerBusy, LedgerUnreachable, NotALedger, NotTheSame
from ledger.events import Event
from ledger.progress import Progress
from ledger.store import log, replay
from ledger.store.postgres.functions import GUARDS
from ledger.store.reading import EVENT_COLUMNS
from tests.builders import completed, heartbeat, launched, metrics_logged, shown, started, told, trials
from tests.places import POSTGRESQL
from tests.postgres.server import Server
from tests.store.crowd import ROOT
from tests.store.test_copy import stored
from tests.store.test_merge import behind, divided, filled
from tests.store.test_merge_lines import counts
from tests.strategies import batched, histories

New = Callable[[], str]
Given = settings(max_examples=trials(8, 150), suppress_health_check=[*HealthCheck])

COPYING = """
import sys
from ledger import Ledger
print("begun", flush=True)
with Ledger(sys.argv[1]) as book:
    book.copy(sys.argv[2])
"""


def ask(url: str, *statements: str) -> list[Any]:
    """Do something in a database without the ledger, and return what the last statement found."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def texts_on(url: str) -> list[Any]:
    """Return every event as the server has it, with its moments as text."""
    chosen = [f"{name}::text" if name.endswith("_at") else name for name in EVENT_COLUMNS]
    return ask(url, "SET timezone = 'UTC'", f"SELECT {', '.join(chosen)} FROM training_events ORDER BY position")


def tally(*_: object) -> None:
    """Handle an event."""


@Given
@given(histories().flatmap(batched), st.integers(0, 3))
def test_there_and_back_it_is_the_same_row_by_row(new_postgres_url: New, batches: list[list[Event]], seen: int) -> None:
    """A file copied to a server, to another, and into a file: every row of every table is that of the first."""
    one, other = new_postgres_url(), new_postgres_url()
    with tempfile.TemporaryDirectory() as folder:
        conflicting = completed(0, run="r1", number=1, exit_code=0)
        aside = filled(Path(folder, "aside.db"), completed(0, run="r1", number=1, exit_code=1))
        with Ledger(Path(folder, "one.db")) as book, Ledger(one) as on_server, Ledger(other) as further:
            book.append(conflicting)
            for batch in batches[:seen]:
                book.append(batch)
            book.subscription("slack").for_each(tally)
            for batch in batches[seen:]:
                book.append(batch)
            book.merge(aside)
            assert book.copy(one) == on_server.copy(other) == further.copy(Path(folder, "two.db"))

            assert list(on_server.events()) == list(further.events()) == list(book.events())
            assert shown(on_server) == shown(further) == shown(book)
            assert (on_server.verify().differences, further.verify().differences) == ((), ())
        assert texts_on(one) == texts_on(other)
        assert stored(Path(folder, "two.db")) == stored(Path(folder, "one.db"))
        with Ledger(Path(folder, "two.db")) as back:
            assert back.verify().differences == ()


@Given
@given(divided(parts=2), st.permutations([(0, 1), (1, 0)]))
def test_a_file_and_a_server_that_have_met_show_the_same(
    new_postgres_url: New, parts: list[list[Event]], order: list[tuple[int, int]]
) -> None:
    """Merged in any direction and order, a ledger in a file and one on a server have equal tables."""
    url = new_postgres_url()
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "a.db")) as file, Ledger(url) as server:
        books, places = (file, server), (Path(folder, "a.db"), url)
        for book, events in zip(books, parts, strict=True):
            book.init_db()
            book.append(events)
        for into, of in [*order, *order]:
            books[into].merge(places[of])

        every = {event.event_id: event for events in parts for event in events}
        assert shown(file) == shown(server) == told(every.values())
        assert (file.verify().differences, server.verify().differences) == ((), ())


def many(count: int, runs: int = 50) -> Iterator[Event]:
    """Events of runs that take turns, the ends of each at its beginning and its end."""
    for step in range(count):
        run = f"r{step // (runs * 40)}-{step % runs}"
        if step % (runs * 40) < runs:
            yield launched(step, run=run, config={"training": {"batch_size": 8, "learning_rate": "1e-4"}})
        elif step % 7 == 0:
            yield metrics_logged(step, run=run, columns={"loss": [1 / (step + 1)], "text": ["ä\u2028 \ud800"]})
        else:
            yield heartbeat(step, run=run, step=step, metrics={"train/loss": 1.0 / (step + 1)})


def test_a_large_ledger_comes_back_byte_for_byte(new_postgres_url: New, tmp_path: Path) -> None:
    """5,000 events (200,000 with LEDGER_PROOF=full) from a file to a server and back: all texts are the same."""
    count, url = trials(5_000, 200_000), new_postgres_url()
    with Ledger(tmp_path / "one.db") as book:
        events = many(count)
        while batch := list(islice(events, 1000)):
            book.append(batch)
        assert book.copy(url).events == count
    with Ledger(url) as on_server:
        assert on_server.copy(tmp_path / "two.db").events == count

    assert stored(tmp_path / "two.db") == stored(tmp_path / "one.db")


def test_a_copy_goes_on_as_the_original_would(book: Ledger, postgres_url: str) -> None:
    """On a server too, the next event gets the next position, version and link of the chain."""
    book.append([launched(0), started(1)])
    book.copy(postgres_url)
    with Ledger(postgres_url) as on_server:
        event = completed(5)
        one, theirs = book.append(event), on_server.append(event)

        assert (one.position, one.version, one.chain) == (theirs.position, theirs.version, theirs.chain)
        assert (on_server.verify().ok, shown(on_server)) == (True, shown(book))


def test_holes_in_positions_are_carried_and_known(new_postgres_url: New, tmp_path: Path) -> None:
    """A transaction that was rolled back leaves a hole on a server; a file with it is whole, and its own loss is seen."""
    url, again = new_postgres_url(), new_postgres_url()
    with Ledger(url) as on_server, Ledger(tmp_path / "file.db") as file, Ledger(again) as back:
        on_server.append(launched(0))
        with pytest.raises(KeyError), on_server._database.write() as connection:
            log.append(connection, [_fact(started(1))])
            raise KeyError
        on_server.append(started(1))
        on_server.copy(tmp_path / "file.db")
        file.append(completed(2))

        assert [event.position for event in file.events()] == [1, 3, 4]
        assert file.verify().differences == ()
        file.copy(again)
        assert ([event.position for event in back.events()], back.verify().differences) == ([1, 3, 4], ())
        assert back.append(heartbeat(9)).position == 5
    behind(tmp_path / "file.db", "DELETE FROM training_events WHERE position = 3")
    with Ledger(tmp_path / "file.db") as file:
        assert "position" in {difference.kind for difference in file.verify().differences}


def _fact(event: Event) -> Any:
    from ledger.events import Fact

    return Fact.of(event, redacting=True)


@pytest.fixture
def crossing(postgres_url: str) -> Iterator[Ledger]:
    """Give a ledger whose first position was committed last: a consumer had handled the second by then."""
    with Ledger(postgres_url) as slow, Ledger(postgres_url) as fast:
        slow.init_db()
        with slow._database.write() as connection:
            log.append(connection, [_fact(launched(0, run="slow"))])
            for step in range(3):
                fast.append(launched(step, run=f"fast-{step}"))
        assert [event.run_id for event in fast.events()] == ["slow", "fast-0", "fast-1", "fast-2"]
        yield slow


def handled(book: Ledger, last: str) -> list[str]:
    """Let a consumer go on from where it was up to the run that is last, and return what it got.

    Other databases of the server have transactions, too, which followers wait for.
    """
    got: list[str] = []
    while last not in got:
        book.subscription("slack").for_each(lambda event: got.append(event.run_id))
    return got


@pytest.mark.parametrize("seen", ["slow", "fast-0", "fast-1"])
def test_a_consumer_misses_nothing_where_it_goes_on(
    crossing: Ledger, new_postgres_url: New, tmp_path: Path, seen: str
) -> None:
    """On another server it goes on with what follows there; in a file rather too early than too late."""
    order = [event.run_id for event in islice(crossing.follow(), 4)]
    position = next(event.position for event in crossing.events() if event.run_id == seen)
    crossing.subscription("slack").rewind(position)
    further = new_postgres_url()
    crossing.copy(further)
    crossing.copy(tmp_path / "file.db")
    left = order[order.index(seen) + 1 :]
    with Ledger(further) as other, Ledger(tmp_path / "file.db") as file:
        assert handled(other, left[-1]) == left
        assert set(left) <= set(handled(file, left[-1]))
        other.append(launched(9, run="new"))
        file.append(launched(9, run="new"))
        assert (handled(other, "new"), handled(file, "new")) == (["new"], ["new"])


def test_what_is_a_servers_own_stays_there(new_postgres_url: New, tmp_path: Path) -> None:
    """The shift of transaction ids goes along with no copy, and events that follow stand behind the copied ones."""
    one, other = new_postgres_url(), new_postgres_url()
    with Ledger(one) as book, Ledger(other) as copy:
        book.append([launched(0), started(1)])
        ask(one, "UPDATE ledger_state SET value = 1000000 WHERE name = 'transaction_shift'")
        ask(one, "INSERT INTO ledger_state VALUES ('transaction_shift', '1000000') ON CONFLICT DO NOTHING")
        book.append(heartbeat(2))
        book.copy(other)
        copy.append(completed(3))
        book.copy(tmp_path / "file.db")

        assert [event.type for event in islice(copy.follow(), 4)] == [
            "launched", "started", "heartbeat", "completed"
        ]  # fmt: skip
        assert copy.verify().differences == ()
    assert {name for name, _ in stored(tmp_path / "file.db")["ledger_state"]} == {"folded_by"}


def test_a_target_that_is_not_empty_is_refused(book: Ledger, new_postgres_url: New, tmp_path: Path) -> None:
    """Both ways, and by a server's own address; what is there stays as it is."""
    url = new_postgres_url()
    book.append(launched(0))
    book.copy(url)
    before = texts_on(url)
    filled(tmp_path / "other.db", started(0, run="precious"))
    with Ledger(url) as on_server:
        for refused, to in ((book, url), (on_server, tmp_path / "other.db")):
            with pytest.raises(InvalidValue, match="merge"):
                refused.copy(to)
        with pytest.raises(InvalidValue, match="another place"):
            on_server.copy(url)

    assert texts_on(url) == before


def test_a_database_that_is_missing_is_named_with_the_mend(book: Ledger, postgres_url: str) -> None:
    """Neither a copy nor a merge makes a database, and the error says who does."""
    book.append(launched(0))
    missing = postgres_url.replace("/test_", "/missing_", 1)
    with pytest.raises(LedgerUnreachable, match=r"missing_.*does not exist.*createdb"):
        book.copy(missing)
    with pytest.raises(LedgerUnreachable, match=r"missing_.*does not exist.*createdb"):
        book.merge(missing)


def test_nobody_writes_into_a_copy_that_is_under_way(
    book: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who appends meanwhile waits, and comes behind what was copied; a second copy is refused."""
    book.append([launched(0), started(1)])
    with Ledger(postgres_url) as early:
        early.init_db()
    waited: list[Any] = []

    def append_meanwhile() -> None:
        with Ledger(postgres_url) as other:
            waited.append(other.append(launched(0, run="other")))

    rebuild, thread = replay.rebuild, threading.Thread(target=append_meanwhile)

    def rebuilding(*given: Any) -> int:
        thread.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while ask(postgres_url, waits) == [(0,)]:
            time.sleep(0.01)
        with Ledger(postgres_url, busy_seconds_max=0.05) as impatient, pytest.raises(LedgerBusy):
            impatient.append(launched(0, run="impatient"))
        return int(rebuild(*given))

    monkeypatch.setattr(replay, "rebuild", rebuilding)
    book.copy(postgres_url)
    thread.join()

    assert waited[0].position == 3
    with Ledger(postgres_url) as copy:
        assert [event.run_id for event in islice(copy.follow(), 3)] == ["r", "r", "other"]
        assert copy.verify().differences == ()
    with pytest.raises(InvalidValue, match="merge"):
        book.copy(postgres_url)


def test_a_value_that_no_ledger_writes_is_named(book: Ledger, path: Path, postgres_url: str) -> None:
    """What somebody put into a file, and a server does not take, is an error that says how to find it; nothing is written."""
    book.append(launched(0))
    behind(path, "UPDATE training_events SET occurred_at = 'once upon a time'")
    with pytest.raises(NotTheSame, match=r"training_events.*once upon a time.*ledger verify"):
        book.copy(postgres_url)

    assert ask(postgres_url, "SELECT count(*) FROM training_events") == [(0,)]


def test_a_row_that_is_not_its_fold_stops_a_copy_from_a_server(new_postgres_url: New, tmp_path: Path) -> None:
    """The first difference is named, nothing is written, and after a replay the same copy succeeds."""
    url, other = new_postgres_url(), new_postgres_url()
    with Ledger(url) as on_server:
        on_server.append([launched(0), started(1)])
        ask(url, "UPDATE training_runs SET host = 'elsewhere'")
        for to in (tmp_path / "file.db", other):
            with pytest.raises(NotTheSame, match="run 'r', column host of training_runs"):
                on_server.copy(to)
        assert ask(other, "SELECT count(*) FROM training_events") == [(0,)]
        on_server.replay()
        assert [on_server.copy(to).runs for to in (tmp_path / "file.db", other)] == [1, 1]


@pytest.mark.parametrize("way", ["to a server", "to a file", "between servers"])
def test_kill_9_during_a_copy_leaves_the_target_empty(new_postgres_url: New, tmp_path: Path, way: str) -> None:
    """Killed in the middle, nothing is there, and the same copy then succeeds."""
    events = [heartbeat(step, run=f"r{step % 50}", step=step) for step in range(3000)]
    file, server, further = filled(tmp_path / "one.db", *events), new_postgres_url(), new_postgres_url()
    with Ledger(file) as book:
        if way != "to a server":
            book.copy(server)
    source, target = {
        "to a server": (str(file), further),
        "to a file": (server, str(tmp_path / "two.db")),
        "between servers": (server, further),
    }[way]
    with Ledger(source) as book, Ledger(target) as other:
        other.init_db()
        for number in range(trials(2, 30)):
            child = subprocess.Popen(
                [sys.executable, "-c", COPYING, source, target], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            time.sleep(0.15 + 0.05 * number)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()
            if other.verify().events:
                return  # it was faster
            assert other.verify().ok
        assert book.copy(target).events == 3000
        assert other.verify().events == 3000


def broken_at(server: Server, steps: int) -> Callable[[Progress], None]:
    """Return a watcher that kills a server once so many steps are done."""

    def watch(progress: Progress) -> None:
        if progress.done >= steps and server.process is not None:
            server.kill()

    return watch


@pytest.mark.parametrize("way", ["to a server", "to a file", "between servers"])
def test_a_server_that_dies_in_the_middle_is_named(
    tmp_path: Path, new_postgres_url: New, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A copy and a merge raise LedgerUnreachable with that server's place; the same again, once it is back, succeeds."""
    monkeypatch.setattr("ledger.progress.TOLD_EVERY_SECONDS", 0)
    monkeypatch.setattr("ledger.store.merging.BATCH_EVENTS_MAX", 500)
    events = [heartbeat(step, run=f"r{step % 50}", step=step, metrics={"note": "x" * 2000}) for step in range(2000)]
    file, further = filled(tmp_path / "one.db", *events), new_postgres_url()
    with Server.start() as server:
        mortal = server.create_database("mortal")
        with Ledger(file) as book, Ledger(mortal, busy_seconds_max=2) as on_server:
            if way != "to a server":
                book.copy(mortal)
            source, target = {
                "to a server": (book, mortal),
                "to a file": (on_server, str(tmp_path / "two.db")),
                "between servers": (on_server, further),
            }[way]
            with pytest.raises(LedgerUnreachable, match="/mortal cannot be used"):
                source.copy(target, progress=broken_at(server, 1000))
            server.restart()
            assert source.copy(target).events == 2000

            empty = server.create_database("empty") if way == "to a server" else new_postgres_url()
            with Ledger(empty, busy_seconds_max=2) as into:
                into.init_db()
                place = "/empty" if way == "to a server" else "/mortal"
                with pytest.raises(LedgerUnreachable, match=f"{place} cannot be used"):
                    into.merge(file if way == "to a server" else mortal, progress=broken_at(server, 1000))
                server.restart()
                merged = into.merge(file if way == "to a server" else mortal)
                assert (merged.events, merged.proved) == (2000, True)
                assert merged.known > 0


def test_a_merge_reads_with_a_right_to_read(book: Ledger, pg_cluster: Any, postgres_url: str) -> None:
    """A role that may SELECT, and nothing else, is enough for who merges from a server; conflicts come along."""
    with Ledger(postgres_url) as on_server:
        on_server.append([completed(0, number=1, exit_code=1), started(1), launched(0, run="s")])
        book.append(completed(0, number=1, exit_code=0))
    reader = f"reader_{os.getpid()}"
    ask(
        postgres_url,
        f"CREATE ROLE {reader} LOGIN",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}",
        f"ALTER ROLE {reader} SET default_transaction_read_only = on",
    )
    try:
        found = book.merge(postgres_url.replace("postgres@", f"{reader}@", 1))
    finally:
        ask(postgres_url, f"DROP OWNED BY {reader}", f"DROP ROLE {reader}")
    assert (counts(found), found.proved) == ((3, 2, 0, 1), True)
    assert (found.refusals[0].where, set(shown(book))) == ("position 1", {"r", "s"})


def test_what_a_server_keeps_of_conflicts_is_offered_too(
    book: Ledger, path: Path, new_postgres_url: New, tmp_path: Path
) -> None:
    """A chain of merges over servers loses neither content of one id."""
    one, other = new_postgres_url(), new_postgres_url()
    aside = filled(tmp_path / "aside.db", completed(0, number=1, exit_code=1))
    with Ledger(one) as first, Ledger(other) as second:
        first.append(completed(0, number=1, exit_code=0))
        assert counts(first.merge(aside)) == (1, 0, 0, 1)
        assert counts(second.merge(one)) == (2, 1, 0, 1)
        assert counts(book.merge(other)) == (2, 1, 0, 1)
        assert counts(book.merge(one, other)) == (4, 0, 2, 2)
    assert [row[7] for row in stored(path)["training_conflicts"]] == ['{"exit_code":1}']


def test_a_server_merged_into_itself_is_as_it_was(postgres_url: str) -> None:
    """All is known, and nobody waits for himself."""
    with Ledger(postgres_url) as book:
        book.append([launched(0), started(1)])
        before = list(book.events())
        assert counts(book.merge(postgres_url)) == (2, 0, 2, 0)
        assert list(book.events()) == before


@pytest.mark.places(POSTGRESQL)
def test_a_database_without_a_ledger_is_no_source(path: Path, bare_place: str) -> None:
    """It is named, and nothing is made in it."""
    ask(bare_place, "CREATE TABLE notes (a int)")
    with Ledger(path) as book, pytest.raises(NotALedger, match="has no ledger"):
        book.merge(bare_place)
    assert ask(bare_place, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("notes",)]


def test_a_server_of_another_version_is_read_as_it_stands(book: Ledger, postgres_url: str) -> None:
    """One that was written by a later version, without what this one keeps beside its events, gives its events."""
    with Ledger(postgres_url) as on_server:
        on_server.append([launched(0), started(1)])
    ask(
        postgres_url,
        "INSERT INTO ledger_migrations VALUES ('m999_what_is_to_come', 'one day')",
        "DROP TABLE training_conflicts",
    )
    assert counts(book.merge(postgres_url)) == (2, 2, 0, 0)


@pytest.mark.parametrize(
    "attack",
    ["payload = '{\"exit_code\":7}'", "occurred_at = 'infinity'", "occurred_at = '0044-03-15 BC'", "source = '[]'"],
)
def test_a_tampered_event_on_a_server_is_refused_and_found(book: Ledger, postgres_url: str, attack: str) -> None:
    """Its digest does not fit any more: a merge takes the rest, and verify says which event it is."""
    with Ledger(postgres_url) as on_server:
        on_server.append([completed(0, number=1), started(1)])
        ask(
            postgres_url,
            "ALTER TABLE training_events DISABLE TRIGGER USER",
            f"UPDATE training_events SET {attack} WHERE position = 1",
            *(f"ALTER TABLE training_events ENABLE ALWAYS TRIGGER {name}" for name in GUARDS),
        )
        found = book.merge(postgres_url)

        assert (counts(found), found.proved, found.refusals[0].where) == ((2, 1, 0, 1), True, "position 1")
        assert "digest" in {difference.kind for difference in on_server.verify().differences}


def test_a_source_with_a_live_writer_is_read_as_of_one_moment(book: Ledger, postgres_url: str) -> None:
    """Whoever appends goes on, and the second reading gives what the first gave."""
    stop = threading.Event()

    def write() -> None:
        with Ledger(postgres_url) as writer:
            step = 0
            while not stop.is_set():
                writer.append([heartbeat(step, run=f"r{step % 3}", step=step), heartbeat(step, run="shared")])
                step += 1

    with Ledger(postgres_url) as on_server:
        on_server.append(launched(0))
        thread = threading.Thread(target=write)
        thread.start()
        try:
            found = [book.merge(postgres_url) for _ in range(4)]
        finally:
            stop.set()
            thread.join()
        assert all(merged.proved and merged.ok for merged in found)
        assert book.merge(postgres_url).proved
        assert shown(book) == shown(on_server)


def test_memory_stays_bounded_both_ways(new_postgres_url: New, tmp_path: Path) -> None:
    """30 MB of events are moved to a server and back, and merged from there, with a few of them in memory at a time."""
    url = new_postgres_url()
    with Ledger(tmp_path / "one.db") as book:
        for number in range(30):
            book.append(launched(number, run=f"r{number}", config={"text": "x" * 1_000_000}))
    peaks: list[int] = []
    with Ledger(tmp_path / "one.db") as book, Ledger(url) as on_server, Ledger(tmp_path / "merged.db") as into:
        for carry in (
            lambda: book.copy(url),
            lambda: on_server.copy(tmp_path / "two.db"),
            lambda: into.merge(url),
        ):
            tracemalloc.start()
            try:
                carry()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            peaks.append(peak)
        assert max(peaks) < 45_000_000, peaks
    with closing(psycopg.connect(url)) as connection:
        (length,) = connection.execute("SELECT sum(length(payload)) FROM training_events").fetchone() or (0,)
        assert length > 30_000_000
