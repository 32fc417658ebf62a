"""Lines that break, servers that say nothing, locks that last: what is recorded is there once, and who waits is told."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from ledger import Ledger, fallback
from ledger.errors import LedgerBusy, LedgerUnreachable, WrongExpectedVersion
from ledger.events import Heartbeat
from ledger.store.postgres import database as server_database
from tests.postgres.cluster import Cluster
from tests.postgres.proxy import Proxy, black_hole
from tests.postgres.server import Server
from tests.postgres.writer import ROOT, until

Says = Callable[[Ledger], object]


@pytest.fixture
def url(postgres_url: str) -> str:
    """Give the URL of a ledger with one run."""
    with Ledger(postgres_url) as book:
        book.insert_run("r", None, {"batch_size": 8})
    return postgres_url


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


def types(url: str) -> list[str]:
    with Ledger(url) as book:
        assert book.verify()
        return [event.type for event in book.events("r")]


SAID: list[tuple[Says, list[str]]] = [
    (lambda book: book.append(Heartbeat(run_id="r", step=1)), ["heartbeat"]),
    (lambda book: book.append([Heartbeat(run_id="r", step=step) for step in (1, 2)]), ["heartbeat", "heartbeat"]),
    (lambda book: book.append(Heartbeat(run_id="r", step=1), expected_version=1), ["heartbeat"]),
    (lambda book: book.update_run_status("r", "completed", wandb_run_id="w"), ["wandb_attached", "completed"]),
    (lambda book: book.record_crash("r", exit_code=1), ["crashed"]),
    (lambda book: book.attach_crash_data("r", "s3://log"), ["crashed", "crash_data_attached"]),
    (lambda book: book.annotate("r", "a note"), ["annotated"]),
]


@pytest.mark.parametrize("said", range(len(SAID)))
@pytest.mark.parametrize("lost", ["lose_commit", "lose_answer", "lose_answer_and_commit_later"])
def test_a_commit_that_nobody_heard_of(url: str, proxy: Proxy, pg_cluster: Cluster, said: int, lost: str) -> None:
    """Whether it came to be, did not, or will only after the next try has begun: it is there once, without an error."""
    say, wanted = SAID[said]
    with Ledger(proxy.url) as book, ThreadPoolExecutor() as threads:
        assert book.get_run("r") is not None
        proxy.at_commit = getattr(Proxy, lost)
        saying = threads.submit(say, book)
        if lost == "lose_answer_and_commit_later":
            # The run's lock is held by who has not committed yet.
            until(lambda: pg_cluster.run_sql(WAITING, database=proxy.database) != [])
            proxy.may_commit.set()
        saying.result(30)
    assert proxy.at_commit is None
    assert sorted(types(url)[1:]) == sorted(wanted)


WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND cardinality(pg_blocking_pids(pid)) > 0"
)


def test_a_launch_that_nobody_heard_of(url: str, proxy: Proxy) -> None:
    """A run that was launched by a commit without an answer is launched once."""
    for number, lost in enumerate((Proxy.lose_commit, Proxy.lose_answer)):
        with Ledger(proxy.url) as book:
            assert book.get_run("r") is not None
            proxy.at_commit = lost
            book.insert_run(f"new-{number}", f"w{number}", {"batch_size": 1})
    with Ledger(url) as book:
        assert Counter(event.type for event in book.events()) == {"launched": 3, "wandb_attached": 2}
        assert book.verify()


def test_an_expected_version_that_was_wrong_stays_wrong(url: str, proxy: Proxy) -> None:
    """A lost line makes no version right: the next try is refused as the first would have been."""
    with Ledger(proxy.url) as book:
        book.append(Heartbeat(run_id="r", step=1))
        proxy.at_commit = Proxy.lose_commit
        with Ledger(url) as other, pytest.raises(WrongExpectedVersion):
            threading.Timer(0, lambda: other.append(Heartbeat(run_id="r", step=2))).run()
            book.append(Heartbeat(run_id="r", step=3), expected_version=2)


def test_asking_goes_on_after_lines_were_cut(url: str, proxy: Proxy) -> None:
    """Connections that were kept and are dead by now are not what a question meets."""
    with Ledger(proxy.url) as book:
        for _ in range(3):
            assert book.get_run("r") is not None
            assert [row["run_id"] for row in book.query_runs()] == ["r"]
            assert book.count_runs() == 1
            assert len(list(book.events())) == 1
            assert book.verify()
            proxy.cut_all()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start() as server:
        yield server


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_asking_goes_on_after_a_restart(server: Server, how: str) -> None:
    """A process that was connected asks and records as before, once the server is back; while it starts, it waits."""
    with Ledger(server.create_database(f"restarted_{how}")) as book:
        book.insert_run("r", None, {})
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: book.get_run("r"), range(8)))
            getattr(server, how)()
            asking = threads.submit(book.get_run, "r")
            recording = threads.submit(book.annotate, "r", "a note")
            time.sleep(0.2)
            assert not asking.done()
            server.restart()
            assert asking.result(30) is not None
            recording.result(30)
        for _ in range(5):
            assert book.get_run("r") is not None
        assert book.get_stats()["launched"] == 1
        assert len(list(book.events())) == 2


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINING_DB_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MAX", 1.0)
    return tmp_path / "spool"


def timed(say: Callable[[], object]) -> float:
    began = time.monotonic()
    say()
    return time.monotonic() - began


@pytest.mark.usefixtures("spool")
def test_a_stopped_server_and_a_spool(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Recording goes to the spool soon, the calls after that at once; back again, the ledger has all of it once."""
    with caplog.at_level(logging.INFO, "ledger"), Ledger(server.create_database("spooled")) as book:
        book.insert_run("r", None, {})
        server.stop()
        assert timed(lambda: book.annotate("r", "first")) < 10
        slowest = max(timed(lambda: book.append(Heartbeat(run_id="r", step=step))) for step in range(300))
        assert slowest < 2
        assert book.spooled is not None
        with pytest.raises(LedgerUnreachable):
            book.append(Heartbeat(run_id="r", step=1), expected_version=1)
        server.restart()
        time.sleep(1)  # within which nobody asks the server again
        book.annotate("r", "last")
        assert book.spooled is None
        assert Counter(event.type for event in book.events()) == {"launched": 1, "annotated": 2, "heartbeat": 300}
        assert book.verify()
    assert "What is recorded meanwhile goes to" in caplog.text
    assert "is back" in caplog.text


@pytest.mark.usefixtures("spool")
def test_a_host_that_never_answers_and_a_spool(tmp_path: Path) -> None:
    """A black hole costs the first call a few seconds, and each that looks again no more."""
    with closing(black_hole()) as hole:
        with Ledger(f"postgresql://user@127.0.0.1:{hole.getsockname()[1]}/ledger") as book:
            assert timed(lambda: book.insert_run("r", None, {})) < 10
            assert sorted(timed(lambda: book.append(Heartbeat(run_id="r"))) for _ in range(50))[45] < 1
            assert book.spooled is not None


def test_a_host_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a spool it is said within the time for which one may wait, for questions too."""
    monkeypatch.setattr(server_database, "FIRST_SECONDS_MAX", 1.0)
    with closing(black_hole()) as hole:
        url = f"postgresql://user@127.0.0.1:{hole.getsockname()[1]}/ledger?connect_timeout=2"
        with Ledger(url) as book:
            for say in (lambda: book.insert_run("r", None, {}), lambda: book.get_run("r")):
                began = time.monotonic()
                with pytest.raises(LedgerUnreachable, match="timeout expired.*TRAINING_DB_SPOOL"):
                    say()
                assert time.monotonic() - began < 12


@pytest.mark.usefixtures("spool")
def test_a_server_that_falls_silent(url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that stays open and brings nothing is given up in the end, and those that were kept with it."""
    monkeypatch.setattr(server_database, "SILENCE_SECONDS", 0.5)
    with Ledger(proxy.url, busy_seconds_max=0.5) as book, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda step: book.append(Heartbeat(run_id="r", step=step)), range(8)))
        proxy.stalled.set()
        assert timed(lambda: book.annotate("r", "into the silence")) < 15
        assert book.spooled is not None
        proxy.stalled.clear()
        proxy.cut_all()
        time.sleep(1)
        book.annotate("r", "and out of it")
        assert book.spooled is None
    assert Counter(types(url)) == {"launched": 1, "heartbeat": 8, "annotated": 2}


def test_a_session_that_was_ended(url: str, pg_cluster: Cluster) -> None:
    """Who ends our sessions, in the middle of a transaction too, does not keep us from recording."""
    ending = threading.Event()

    def end() -> None:
        while not ending.wait(0.02):
            pg_cluster.run_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger'"
                " AND datname = %s AND random() < 0.3", psycopg.conninfo.conninfo_to_dict(url)["dbname"],
            )  # fmt: skip

    with Ledger(url) as book, ThreadPoolExecutor(5) as threads:
        ender = threads.submit(end)
        recording = [
            threads.submit(lambda number=number: [book.annotate("r", f"{number}/{step}") for step in range(40)])
            for number in range(4)
        ]
        for each in recording:
            each.result(60)
        ending.set()
        ender.result()
    assert Counter(types(url)) == {"launched": 1, "annotated": 160}


def test_who_waits_for_a_lock_is_told_where_to_look(url: str) -> None:
    """A run that a stranger has locked is a busy ledger after a bounded time; the mend is one for a server."""
    with psycopg.connect(url) as stranger, Ledger(url, busy_seconds_max=0.3) as book:
        stranger.execute("SELECT * FROM training_heads FOR UPDATE")
        with pytest.raises(LedgerBusy, match="pg_stat_activity") as caught:
            book.annotate("r", "a note")
        assert "fuser" not in str(caught.value)
        book.insert_run("another", None, {})
        stranger.rollback()
        book.annotate("r", "a note")


def test_the_victim_of_a_deadlock_tries_again(url: str, pg_cluster: Cluster) -> None:
    """A stranger who locks runs the other way round does not cost us what we record."""
    with Ledger(url) as book:
        book.insert_run("a", None, {})
        for _ in range(2):
            with psycopg.connect(url) as stranger, ThreadPoolExecutor() as threads:
                stranger.execute("SET deadlock_timeout = '10s'")  # so that it is not the victim
                stranger.execute("SELECT * FROM training_heads WHERE run_id = 'r' FOR UPDATE")
                recording = threads.submit(book.append, [Heartbeat(run_id=run_id) for run_id in ("a", "r")])
                until(lambda: stranger_blocks(pg_cluster, stranger))
                stranger.execute("SELECT * FROM training_heads WHERE run_id = 'a' FOR UPDATE")
                stranger.rollback()
                assert len(recording.result(30)) == 2
        assert book.verify()


def stranger_blocks(cluster: Cluster, stranger: psycopg.Connection) -> bool:
    blocked = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    return cluster.run_sql(blocked, stranger.info.backend_pid) != []


def test_an_interrupt_leaves_a_usable_ledger(url: str) -> None:
    """Ctrl-C while a lock is waited for: nothing was written, and the same Ledger goes on."""
    script = """
import sys
from ledger import Ledger
with Ledger(sys.argv[1]) as book:
    assert book.get_run("r") is not None
    try:
        print("begun", flush=True)
        book.annotate("r", "interrupted")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.stdin.readline()
    book.annotate("r", "afterwards")
    print(book.get_run("r")["note"], len(list(book.events("r"))))
"""
    with psycopg.connect(url) as stranger:
        stranger.execute("SELECT * FROM training_heads FOR UPDATE")
        process = subprocess.Popen(
            [sys.executable, "-c", script, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        until(lambda: bool(stranger.execute(WAITING).fetchall()))
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        stranger.rollback()
        out, _ = process.communicate("go\n", timeout=60)
    assert (process.returncode, out) == (0, "afterwards 2\n")


def test_twenty_threads_record_at_once(url: str) -> None:
    """Threads share one Ledger, for their own runs and for one of all, and open a bounded number of connections."""
    with Ledger(url) as book, ThreadPoolExecutor(20) as threads:

        def record(number: int) -> None:
            book.insert_run(f"run-{number}", None, {})
            for step in range(10):
                book.append([Heartbeat(run_id=f"run-{number}", step=step), Heartbeat(run_id="r", step=step)])
                assert book.get_run(f"run-{number}") is not None

        list(threads.map(record, range(20)))
        assert Counter(event.type for event in book.events()) == {"launched": 21, "heartbeat": 400}
        assert book.verify()


def test_a_fork_in_the_middle_of_everything(url: str) -> None:
    """Parent and children each go on recording; what a child inherits of a half-read answer ends nobody's session."""
    script = """
import gc, os, sys
from ledger import Ledger
from ledger.events import Heartbeat
book = Ledger(sys.argv[1])
for number in range(20):
    book.insert_run(f"run-{number:02}", None, {"batch_size": 8})
with book._database.write() as connection:
    connection.execute("UPDATE training_runs SET batch_size = 9")
asking, following = book.replay(dry_run=True), book.follow()
first = next(asking), next(following)
for number in range(10):
    child = os.fork()
    if child == 0:
        book.append(Heartbeat(run_id="child", step=number))
        del asking, following
        gc.collect()
        book.append(Heartbeat(run_id="child", step=number))
        book.close()
        os._exit(0)
    book.append(Heartbeat(run_id="parent", step=number))
    assert os.waitpid(child, 0)[1] == 0
    assert next(asking).column == "batch_size"
assert len(list(asking)) == 10
assert len([next(following) for _ in range(50)]) == 50
book.replay()
book.close()
"""
    done = subprocess.run([sys.executable, "-c", script, url], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with Ledger(url) as book:
        assert Counter(event.run_id for event in book.events()) == {
            "child": 20,
            "parent": 10,
            "r": 1,
            **{f"run-{number:02}": 1 for number in range(20)},
        }
        assert book.verify()


def test_a_fork_inside_a_transaction(url: str) -> None:
    """A child that comes out of a transaction of its parent's writes nothing of it, and the parent commits."""
    script = """
import os, sys
from ledger import Ledger
from ledger.errors import LedgerUnreachable
from ledger.events import Heartbeat
book = Ledger(sys.argv[1])
def forking(event, connection):
    global child
    child = os.fork()
subscription = book.subscription("s", tries=1)
try:
    delivered = subscription.for_each(forking, together=True)
except LedgerUnreachable as exc:
    assert child == 0, exc
    book.append(Heartbeat(run_id="r", step=1))
    os._exit(7)
assert child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert delivered == 1, delivered
book.append(Heartbeat(run_id="r", step=2))
"""
    done = subprocess.run([sys.executable, "-c", script, url], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert Counter(types(url)) == {"launched": 1, "heartbeat": 2}


def record_in_a_child(book: Ledger, number: int) -> None:
    book.append(Heartbeat(run_id="r", step=number))


def test_multiprocessing_carries_a_ledger_over(url: str) -> None:
    """Children of multiprocessing that were forked use the Ledger that they inherited."""
    with Ledger(url) as book:
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=record_in_a_child, args=(book, number)) for number in range(4)]
        for child in children:
            child.start()
        book.append(Heartbeat(run_id="r", step=99))
        for child in children:
            child.join(30)
            assert child.exitcode == 0
        assert len(list(book.events("r"))) == 6


def test_a_child_that_ends_closes_no_session(url: str) -> None:
    """A child that exits in the usual way, with all that Python then does, leaves its parent's session alone."""
    with Ledger(url) as book, book._database.read() as connection:
        child = os.fork()
        if child == 0:
            book.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert connection.execute("SELECT 1").fetchone() == (1,)
