"""One Ledger in the hands of many: threads share it, forked children carry it over, and nothing is lost by either."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.events import Heartbeat
from tests.builders import launched, shown, told, trials
from tests.store.crowd import ROOT


def in_a_process(code: str, *arguments: object, timeout: float = 120) -> str:
    """Run *code*, which may fork as it likes, and return what it says; it fails the test by failing itself."""
    lines = f"import os, sys, threading, time, signal\nfrom ledger import Ledger\nfrom ledger.events import *\n{textwrap.dedent(code)}"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", lines, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def check(path: Path, wanted: int) -> None:
    with Ledger(path) as book:
        events = list(book.events())
        assert (len(events), shown(book)) == (wanted, told(events))
        assert book.verify().differences == ()


def test_a_forked_child_records_and_so_does_its_parent(path: Path) -> None:
    """With a Ledger that was in use before the fork: parent and child each see what the other recorded."""
    in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.insert_run("r", None, {})
        for number in range(20):
            child = os.fork()
            if child == 0:
                book.append(Heartbeat(run_id="r", step=number))
                book.close()
                os._exit(0 if book else 1)
            book.append(Heartbeat(run_id="parent", step=number))
            assert os.waitpid(child, 0)[1] == 0
        assert len(list(book.events("r"))) == 21
        book.close()
        """,
        path,
    )
    check(path, 41)


def test_a_child_goes_on_after_its_parent_has_closed(path: Path) -> None:
    """The parent's close is not the last one, and what the child then records is there."""
    in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        closed, close = os.pipe()
        child = os.fork()
        if child == 0:
            book.append(Heartbeat(run_id="child", step=0))
            os.read(closed, 1)
            for step in range(1, 6):
                book.append(Heartbeat(run_id="child", step=step))
            assert book.verify()
            os._exit(0)
        time.sleep(0.2)
        book.append(Heartbeat(run_id="r", step=1))
        book.close()
        os.write(close, b"x")
        assert os.waitpid(child, 0)[1] == 0
        """,
        path,
    )
    check(path, 8)


def test_a_child_that_is_killed_does_not_hurt_its_parent(path: Path) -> None:
    """Nor does one that leaves without closing anything."""
    in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        for number in range(10):
            child = os.fork()
            if child == 0:
                book.append(Heartbeat(run_id="child", step=number))
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            book.append(Heartbeat(run_id="r", step=number))
        book.close()
        """,
        path,
    )
    check(path, 21)


def test_a_child_of_a_child_records_too(path: Path) -> None:
    """The default ledger is carried over any number of forks."""
    in_a_process(
        """
        import ledger
        os.environ["TRAINING_DB_PATH"] = sys.argv[1]
        ledger.insert_run("r", None, {})
        def deeper(depth):
            if depth == 0:
                return
            child = os.fork()
            if child == 0:
                ledger.annotate("r", note=f"depth {depth}")
                deeper(depth - 1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        deeper(5)
        assert len(ledger.timeline(run_id="r")) == 6
        """,
        path,
    )
    check(path, 6)


def test_a_ledger_in_memory_is_the_childs_own_copy(path: Path) -> None:
    """What is in memory when the process forks is there on both sides, and from then on each has its own."""
    in_a_process(
        """
        book = Ledger(":memory:")
        book.append(Started(run_id="r"))
        child = os.fork()
        book.append(Heartbeat(run_id="r", step=1))
        assert [event.position for event in book.events()] == [1, 2]
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
    )


def test_forks_while_threads_write_and_read(path: Path) -> None:
    """No child finds a lock that nobody will release, whatever the parent's threads were doing."""
    out = in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        over = threading.Event()
        written = [0]
        def write():
            while not over.is_set():
                book.append(Heartbeat(run_id="thread", step=written[0]))
                written[0] += 1
        def read():
            while not over.is_set():
                assert book.verify()
        threads = [threading.Thread(target=work) for work in (write, read)]
        for thread in threads:
            thread.start()
        for number in range(30):
            child = os.fork()
            if child == 0:
                book.append(Heartbeat(run_id="child", step=number))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.join()
        book.close()
        print(written[0])
        """,
        path,
    )
    check(path, 31 + int(out))


def test_threads_that_fork_at_one_moment(path: Path) -> None:
    """Two threads may start processes at once; each fork finishes, and the ledger goes on."""
    in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        failed = []
        def start_processes():
            for number in range(15):
                child = os.fork()
                if child == 0:
                    book.append(Heartbeat(run_id="child", step=number))
                    os._exit(0)
                if os.waitpid(child, 0)[1]:
                    failed.append(number)
                book.append(Heartbeat(run_id="parent", step=number))
        threads = [threading.Thread(target=start_processes, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                print("a thread hangs", file=sys.stderr)
                sys.stderr.flush()
                os._exit(1)
        assert failed == []
        book.close()
        """,
        path,
    )
    check(path, 121)


def together(count: int, work: Callable[[int], None]) -> None:
    """Run *work* in so many threads at once, and let what any of them raises be seen."""
    raised: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except BaseException as exc:
            raised.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []


@pytest.mark.parametrize("place", ["file", "memory"])
def test_eight_threads_share_one_ledger(path: Path, place: str) -> None:
    """Each thread's events are there once, in its order, and all answers on the way were whole."""
    each = trials(40, 400)
    with Ledger(path if place == "file" else ":memory:") as book:
        book.append(launched(0, run="shared"))

        def work(number: int) -> None:
            for step in range(each):
                book.append(Heartbeat(run_id="shared" if step % 2 else f"own-{number}", step=step))
                if step % 8 == 0:
                    assert book.get_run(f"own-{number}") is not None
                    assert book.count_runs() <= 9

        together(8, work)

        events = list(book.events())
        assert Counter(event.run_id for event in events) == {"shared": 4 * each + 1} | {
            f"own-{n}": each // 2 for n in range(8)
        }
        assert shown(book) == told(events)
        assert book.verify()


def test_threads_open_a_new_file_at_once(path: Path) -> None:
    """One Ledger that was never used, and eight threads that use it first."""
    with Ledger(path) as book:
        together(8, lambda number: book.insert_run(f"r{number}", None, {}))

        assert (book.count_runs(), bool(book.verify())) == (8, True)


def test_threads_with_a_ledger_each(path: Path) -> None:
    """Several Ledgers on one file in one process do not hurt each other, also as they close."""

    def work(number: int) -> None:
        for step in range(10):
            with Ledger(path) as book:
                book.append(Heartbeat(run_id=f"r{number}", step=step))

    together(8, work)

    check(path, 80)


def test_other_threads_documented_calls_keep_the_order_of_each(path: Path) -> None:
    """A status that one thread set shows to it at once, whatever other threads do to other runs."""
    with Ledger(path) as book:

        def work(number: int) -> None:
            run_id = f"r{number}"
            book.insert_run(run_id, None, {})
            for status in ("running", "crashed", "running", "completed"):
                book.update_run_status(run_id, status)
                row = book.get_run(run_id)
                assert row is not None
                assert row["status"] == status

        together(8, work)

        assert os.path.exists(path)
        assert book.get_stats()["completed"] == 8


def test_a_fork_does_not_wait_for_readers_that_come_later(path: Path) -> None:
    """Threads that read without a pause hold up no fork: those that come meanwhile wait for it."""
    in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        done = []
        def read():
            while not done:
                book.query_runs()
        threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            start = time.monotonic()
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert time.monotonic() - start < 5, "the fork waited"
            os.waitpid(child, 0)
        done.append(True)
        for thread in threads:
            thread.join()
        book.close()
        """,
        path,
    )


def test_an_interrupted_fork_does_not_stop_the_next(path: Path) -> None:
    """Ctrl-C while a fork waits for a reader is ignored by Python there; locks are given back all the same."""
    said = in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        reading = threading.Event()
        def read():
            with book._database.read():
                reading.set()
                time.sleep(1)
        thread = threading.Thread(target=read)
        thread.start()
        reading.wait()
        sys.unraisablehook = lambda found: print(found.exc_type.__name__)
        def interrupted(*_):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupted)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        for number in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            thread.join()
            book.append(Heartbeat(run_id="r", step=number))
        assert book.verify().ok
        book.close()
        """,
        path,
        timeout=60,
    )
    assert said.split() == ["KeyboardInterrupt"]


READ_MEANWHILE = """
        book = Ledger(sys.argv[1], busy_seconds_max=1.0)
        for number in range(100):
            book.append(Started(run_id=f"r{number}"))
        reading, go_on = threading.Event(), threading.Event()
        class Slow:
            def write(self, line):
                reading.set()
                go_on.wait(30)
                return len(line)
        thread = threading.Thread(target=lambda: book.export(Slow()))
        thread.start()
        reading.wait()
"""


def test_a_child_that_inherits_a_read_uses_nothing_of_it(path: Path) -> None:
    """With a Ledger of its own neither, nor for recording; its parent, and the read itself, go on."""
    in_a_process(
        READ_MEANWHILE
        + """
        child = os.fork()
        if child == 0:
            from ledger.errors import LedgerUnreachable
            for use in (
                lambda: book.append(Heartbeat(run_id="child")),
                book.verify,
                lambda: book.backup(sys.argv[1] + ".backup"),
                lambda: Ledger(sys.argv[1]).get_stats(),
                lambda: Ledger(":memory:").merge(sys.argv[1]),
                lambda: Ledger(sys.argv[1]).annotate("r1", note="n"),
            ):
                try:
                    use()
                    os._exit(1)
                except LedgerUnreachable as exc:
                    if "forked while the ledger" not in str(exc):
                        os._exit(2)
            with Ledger(sys.argv[1] + ".own") as own:
                own.append(Heartbeat(run_id="child"))
            if grandchild := os.fork():
                os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
            try:
                book.get_stats()
            except LedgerUnreachable:
                os._exit(0)
            os._exit(3)
        book.append(Heartbeat(run_id="parent"))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        thread.join()
        child = os.fork()
        if child == 0:
            book.append(Heartbeat(run_id="later"))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        book.close()
        """,
        path,
    )
    check(path, 102)


def test_who_forks_in_the_middle_of_reading_waits_for_nobody(path: Path) -> None:
    """A thread cannot wait for what it reads itself; in the child that read fails, and the parent reads on."""
    in_a_process(
        """
        from ledger.errors import LedgerUnreachable
        book = Ledger(sys.argv[1])
        for number in range(5):
            book.append(Started(run_id=f"r{number}"))
        import sqlite3
        with sqlite3.connect(sys.argv[1]) as other:
            other.execute("UPDATE training_runs SET host = 'elsewhere'")
        other.close()
        changes, began = book.replay(dry_run=True), time.monotonic()
        next(changes)
        child = os.fork()
        if child == 0:
            try:
                list(changes)
            except LedgerUnreachable:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert time.monotonic() - began < 5, "the fork waited"
        assert len(list(changes)) == 4
        book.append(Heartbeat(run_id="parent"))
        book.close()
        """,
        path,
    )
    with Ledger(path) as book:
        book.replay()
    check(path, 6)


def test_a_signal_handler_that_forks_while_its_thread_records(path: Path) -> None:
    """The transaction is the parent's alone: a child that goes on with it changes nothing."""
    in_a_process(
        """
        from ledger.errors import LedgerUnreachable
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        try:
            with book._database.write() as connection:
                connection.execute("UPDATE training_runs SET host = 'here'")
                child = os.fork()
                if child:
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        except LedgerUnreachable:
            os._exit(0 if child == 0 else 1)
        if child == 0:
            os._exit(2)
        assert book.get_run("r")["host"] == "here"
        book.close()
        """,
        path,
    )


def test_a_connection_that_somebody_closed_stops_no_fork(path: Path) -> None:
    """Before a fork every database is looked at, also one whose connection is gone already."""
    book = Ledger(path)
    book.append(launched(0))
    held = book._database._held
    assert held is not None
    held.close()

    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    book._database._held = None
    assert book.count_runs() == 1
    book.close()
