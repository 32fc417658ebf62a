"""The queue of writers: it is given on whatever happens, and nobody depends on it."""

from __future__ import annotations

import errno
import gc
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import LedgerBusy
from ledger.events import Heartbeat
from ledger.store import turns
from ledger.store.turns import Queue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def seconds_to(work: Any) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def take(folder: Path, seconds_max: float = 5) -> None:
    with Queue(folder).head(seconds_max):
        pass


def test_one_at_a_time_is_at_the_head(folder: Path) -> None:
    """Many threads with queues of their own are in the block one after the other."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        queue = Queue(folder)
        for _ in range(20):
            with queue.head(30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
        queue.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (120, 1)


def test_who_waits_in_vain_goes_on_without(folder: Path) -> None:
    """The process at the head may have been stopped there; a writer passes it by after its time, and later ones too."""
    stopped = Queue(folder)
    with stopped.head(5):
        assert 0.2 < seconds_to(lambda: take(folder, 0.3)) < 5
        assert 0.2 < seconds_to(lambda: take(folder, 0.3)) < 5
    time.sleep(0.1)  # the threads that waited for them get the head, one after the other, and give it on
    assert seconds_to(lambda: take(folder)) < 1
    stopped.close()


def test_an_interrupted_wait_gives_its_place_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting leaves no lock behind."""

    def interrupted(*_: object) -> Iterator[None]:
        raise KeyboardInterrupt

    ahead = Queue(folder)
    with ahead.head(5):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Event, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                take(folder)
    time.sleep(0.1)
    assert seconds_to(lambda: take(folder)) < 1
    ahead.close()


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_such_locks_there_is_no_queue(path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    """A filesystem that refuses flock stops no recording."""

    def refused(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(turns, "flock", refused)
    with Ledger(path) as book:
        assert book.append(Heartbeat(run_id="r")).position == 1


def test_without_threads_a_writer_does_not_wait_in_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may start no more threads goes on without the queue."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ahead = Queue(folder)
    with ahead.head(5):
        monkeypatch.setattr(threading.Thread, "start", refused)
        assert seconds_to(lambda: take(folder)) < 1
    ahead.close()


def test_a_ledger_that_is_dropped_leaves_nothing_open(path: Path) -> None:
    """A loop that opens the ledger for each call does not run out of descriptors."""

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    Ledger(path).init_db()
    before = count()
    for step in range(20):
        Ledger(path).append(Heartbeat(run_id="r", step=step))
    assert count() <= before + 2


def test_all_waits_of_a_writer_together_are_bounded(path: Path) -> None:
    """Threads of one process, the queue and SQLite's lock: a writer raises LedgerBusy after its one time."""
    with Ledger(path) as book, closing(sqlite3.connect(path, isolation_level=None)) as other:
        book.init_db()
        other.execute("BEGIN IMMEDIATE")
        impatient = Ledger(path, busy_seconds_max=0.5)
        waits: list[float] = []

        def work() -> None:
            start = time.monotonic()
            with pytest.raises(LedgerBusy):
                impatient.append(Heartbeat(run_id="r"))
            waits.append(time.monotonic() - start)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        other.execute("ROLLBACK")
        impatient.close()
        assert max(waits) < 1.5
        assert book.count_runs() == 0


def test_a_writer_that_waited_while_a_backup_was_put_back_writes_to_what_is_there_now(path: Path) -> None:
    """What was acknowledged lies in the ledger, not in the file that was set aside under the writer."""
    with Ledger(path) as book:
        book.append(Heartbeat(run_id="old"))
        kept = book.backup(path.with_name("kept.db"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writer = threading.Thread(target=lambda: book.append(Heartbeat(run_id="new")))
            writer.start()
            time.sleep(0.3)
            path.rename(path.with_name("aside.db"))
            kept.rename(path)
            other.execute("ROLLBACK")
            writer.join()
        assert sorted(run["run_id"] for run in book.query_runs()) == ["new", "old"]
        assert book.verify().ok
