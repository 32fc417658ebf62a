"""A database that is away stops nobody and loses nothing: what is recorded meanwhile is there when it is back."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, fallback, origin
from ledger.cli.main import main
from ledger.errors import (
    AskedWrongly,
    EventConflict,
    LedgerBusy,
    LedgerClosed,
    LedgerDamaged,
    LedgerError,
    LedgerUnreachable,
    NoLedger,
    NotALedger,
    RunNotFound,
)
from ledger.events import Fact, Started
from ledger.settings import location, mark_of
from ledger.spool.reading import SpoolFolder
from ledger.store import documented
from tests.builders import completed, heartbeat, launched, moment, shown, started, told, trials
from tests.core.test_origin import Stepped
from tests.store.crowd import ROOT
from tests.store.test_many_processes import acknowledged, first_word
from tests.store.test_spool_sync import name_of, put

BUSY_SECONDS = 0.2


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a spool to fall back to, in the environment, too."""
    spool = tmp_path / "spool"
    monkeypatch.setenv("TRAINING_DB_SPOOL", str(spool))
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MIN", 0.0)
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MAX", 0.0)
    return spool


@pytest.fixture
def book(path: Path, spool: Path) -> Iterator[Ledger]:
    """Give a ledger with one run, that falls back to the spool."""
    with Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
        book.insert_run("known", None, {})
        yield book


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock, as a stranger does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        yield
        stranger.execute("ROLLBACK")


@contextmanager
def vanished(path: Path) -> Iterator[None]:
    """Take the ledger's files away, as when a disk is not mounted."""
    aside = path.with_name("aside.db")
    for name in ("", "-wal", "-shm"):
        if (file := Path(f"{path}{name}")).exists():
            file.rename(f"{aside}{name}")
    yield
    for name in ("", "-wal", "-shm"):
        if (file := Path(f"{aside}{name}")).exists():
            file.rename(f"{path}{name}")


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Put a file there that SQLite calls malformed."""
    kept, broken = path.with_name("kept.db"), path.with_name("broken.db")
    with Ledger(path) as book:
        book.backup(kept)
    shutil.copy(kept, broken)
    with broken.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (broken.stat().st_size - 4096))
    _put(path, broken)
    yield
    _put(path, kept)


def _put(path: Path, file: Path) -> None:
    for name in ("-wal", "-shm"):
        Path(f"{path}{name}").unlink(missing_ok=True)
    file.replace(path)


AWAY = {"locked": locked, "vanished": vanished, "damaged": damaged}


def of(path: Path) -> str:
    """Return the part of a file's name that says that it waits for this ledger."""
    return f"p-{mark_of(location(path))}"


def spooled(spool: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for _, _, line in SpoolFolder(spool).lines()] if spool.exists() else []


@pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
def test_what_is_recorded_meanwhile_is_there_afterwards(
    book: Ledger, path: Path, spool: Path, away: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Every call returns, the log says so once, and the next call on the ledger finds it all, by itself."""
    with away(path):
        book.update_run_status("known", "running")
        book.attach_blog_post("known", "url")
        book.append(heartbeat(1, run="known"))
        book.attach_crash_data("known", "log")
        assert [line["type"] for line in spooled(spool)] == [
            "started", "blog_attached", "heartbeat", "crashed", "crash_data_attached",
        ]  # fmt: skip
    book.annotate("known", "it is back")

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"ledger --db {path} sync {spool}" in warnings[0].getMessage()
    assert [event.type for event in book.events()] == [
        "launched", "started", "blog_attached", "heartbeat", "crashed", "crash_data_attached", "annotated",
    ]  # fmt: skip
    row = book.get_run("known")
    assert row is not None
    assert (row["status"], row["blog_post_url"], row["note"]) == ("crashed", "url", "it is back")
    assert list(spool.iterdir()) == []
    assert book.verify()


def test_a_launch_that_was_spooled_is_known_to_the_next_call(book: Ledger, path: Path) -> None:
    """What the ledger checks, it checks with what this process has said meanwhile."""
    with locked(path):
        book.insert_run("new", "w", {"lr": 1})
    book.update_run_status("new", "running")
    book.insert_run("new", "w", {"lr": 1})

    assert [event.type for event in book.events("new")] == ["launched", "wandb_attached", "started"]
    with pytest.raises(LedgerError, match="launched before with another"):
        book.insert_run("new", "w", {"lr": 2})


@pytest.mark.parametrize("away", [locked, vanished], ids=["locked", "vanished"])
def test_without_the_variable_it_is_the_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, away: Callable[[Path], Any]
) -> None:
    """As ever; and the message names the variable as a mend where the ledger is there, and locked."""
    with Ledger(path, busy_seconds_max=0.05) as book:
        book.insert_run("r", None, {})
        with away(path), pytest.raises((LedgerBusy, NoLedger)) as refused:
            book.update_run_status("r", "running")
    assert "TRAINING_DB_SPOOL" in str(refused.value) or isinstance(refused.value, NoLedger)


def test_a_place_that_cannot_be_reached_goes_to_the_spool(tmp_path: Path, spool: Path) -> None:
    """A path below a file, as a disk that is not there; the file system's own words reach the log."""
    (tmp_path / "file").write_text("")
    with Ledger(tmp_path / "file" / "runs.db") as book:
        book.init_db()
        book.insert_run("r", None, {})
        book.update_run_status("r", "running")
        assert len(book.new_chain_of_custody_id()) == 6
        with pytest.raises(LedgerError):
            book.get_run("r")

    assert [line["type"] for line in spooled(spool)] == ["launched", "started"]
    with Ledger(tmp_path / "file" / "runs.db") as book, pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRAINING_DB_SPOOL")
        with Ledger(tmp_path / "file" / "runs.db") as bare, pytest.raises(LedgerUnreachable, match="TRAINING_DB_SPOOL"):
            bare.insert_run("r", None, {})


def test_a_full_disk_goes_to_the_spool(book: Ledger, path: Path, spool: Path) -> None:
    """SQLite's word that the database is full is one that the spool is for."""
    with book._database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    for step in range(20):
        book.append(heartbeat(step, run="known", message="x" * 9000))
    assert len(spooled(spool)) >= 15
    with book._database.write() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    book.annotate("known", "room")

    assert sum(event.type == "heartbeat" for event in book.events()) == 20
    assert list(spool.iterdir()) == []


CALLERS_FAULTS: dict[str, tuple[Callable[[Ledger], object], type[LedgerError]]] = {
    "unknown run": (lambda book: book.update_run_status("r", "running"), RunNotFound),
    "unknown status": (lambda book: book.update_run_status("known", "runing"), AskedWrongly),
    "another content": (lambda book: [book.append(started(n, number=1)) for n in (1, 2)], EventConflict),
    "a version": (lambda book: book.append(started(0, run="known"), expected_version=7), LedgerError),
}


@pytest.mark.parametrize(("call", "error"), CALLERS_FAULTS.values(), ids=CALLERS_FAULTS)
def test_the_callers_faults_still_raise(
    book: Ledger, spool: Path, call: Callable[[Ledger], object], error: type[LedgerError]
) -> None:
    """They are no outage, and nothing of them is spooled."""
    with pytest.raises(error):
        call(book)
    assert spooled(spool) == []


def test_what_only_a_ledger_can_know_is_not_spooled(book: Ledger, path: Path, spool: Path) -> None:
    """An append with an expected version raises while the ledger is away; after it, it is checked with what was spooled."""
    with locked(path):
        with pytest.raises(LedgerBusy):
            book.append(started(0, run="known"), expected_version=1)
        book.append(started(1, run="known"))
        with pytest.raises(LedgerBusy):
            book.append(started(0, run="known"), expected_version=2)
        assert len(spooled(spool)) == 1

    assert book.append(started(2, run="known"), expected_version=2).version == 3


def test_another_file_in_the_ledgers_place_is_an_error(path: Path, spool: Path) -> None:
    """A spool is not for what somebody has to decide."""
    path.write_text("dear diary, " * 100)
    with Ledger(path) as book, pytest.raises(NotALedger):
        book.insert_run("r", None, {})
    with Ledger(path) as closed:
        pass
    with pytest.raises(LedgerClosed):
        path.unlink()
        closed.insert_run("r", None, {})
    assert spooled(spool) == []


def test_an_outage_is_not_waited_for_by_every_call(
    book: Ledger, path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call waits its time; then the ledger is asked rarely and shortly, ever more rarely the longer it is away."""
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MIN", 30.0)
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MAX", 60.0)
    with locked(path):
        began = time.monotonic()
        book.append(heartbeat(0, run="known"))
        first = time.monotonic() - began
        for step in range(20):
            book.append(heartbeat(step, run="known"))
        rest = time.monotonic() - began - first
    assert first >= BUSY_SECONDS
    assert rest < 20 * BUSY_SECONDS / 2
    book.append(heartbeat(30, run="known"))
    assert len(spooled(spool)) == 22, "within the pause nobody asks"

    monkeypatch.setattr(time, "monotonic", lambda real=time.monotonic: real() + 31)
    book.append(heartbeat(31, run="known"))
    assert (spooled(spool), sum(1 for _ in book.events())) == ([], 24)


def test_a_ledger_that_is_away_is_asked_shortly(book: Ledger, path: Path) -> None:
    """However long the first call waited for it."""
    with locked(path):
        book.append(heartbeat(0, run="known"))
        book._database._busy_seconds_max = 20.0
        began = time.monotonic()
        book.append(heartbeat(1, run="known"))
        assert time.monotonic() - began < 10


def test_what_another_thread_has_spooled_late_is_brought_in(book: Ledger, spool: Path) -> None:
    """Its call may reach the spool when others have found the ledger back already; nothing of it is read twice."""
    book.append(heartbeat(0, run="known"))
    book._sink._onward.append([Fact.of(heartbeat(1, run="known"), redacting=True)], None)
    book.append(heartbeat(2, run="known"))

    assert [event.occurred_at for event in book.events("known")][2:] == [moment(1), moment(2)]
    assert (spooled(spool), book._sink._spool.has_own(), book._sink._spool.own()) == ([], False, [])


def test_the_pause_grows_up_to_a_bound() -> None:
    """News is only the first; the pause doubles until it is as long as it may be."""
    outage = fallback._Outage()
    pauses = []
    said = []
    for _ in range(8):
        said.append(outage.begin())
        pauses.append(outage._pause_seconds)
    assert said == [True] + [False] * 7
    assert pauses == [1, 2, 4, 8, 16, 16, 16, 16]
    outage.end()
    outage.end()
    assert (outage.lasts(), outage.may_be_over(), outage.begin()) == (False, True, True)


def test_each_outage_is_told_once(book: Ledger, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each, however many calls and threads find it."""
    for _ in range(2):
        with locked(path):
            threads = [
                threading.Thread(target=lambda: [book.append(heartbeat(0, run="known")) for _ in range(3)])
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        book.append(heartbeat(1, run="known"))

    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 2
    assert sum(1 for _ in book.events()) == 27


def test_threads_lose_nothing_while_the_database_comes_and_goes(book: Ledger, path: Path, spool: Path) -> None:
    """A stranger locks it again and again under eight threads; no call raises, and each event is there once."""
    said: list[str] = []
    failed: list[BaseException] = []

    stop = threading.Event()

    def write(number: int) -> None:
        try:
            while not stop.is_set():
                said.append(book.append(heartbeat(0, run=f"r{number}")).event_id)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        with locked_if_free(path):
            time.sleep(random.uniform(BUSY_SECONDS, 2 * BUSY_SECONDS))
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    book.annotate("known", "done")

    assert failed == []
    there = [event.event_id for event in book.events() if event.type == "heartbeat"]
    assert sorted(there) == sorted(said)
    assert (list(spool.iterdir()), bool(book.verify())) == ([], True)


@contextmanager
def locked_if_free(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=1)) as stranger:
        try:
            stranger.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            pass
        yield


def test_a_fork_spools_for_itself(book: Ledger, path: Path, spool: Path) -> None:
    """The child's events are its own to bring in, or the next process's; the parent's are the parent's."""
    with locked(path):
        book.append(heartbeat(0, run="known"))
        child = os.fork()
        if child == 0:
            try:
                book.append(heartbeat(1, run="known"))
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(spooled(spool)) == 2
    book.append(heartbeat(2, run="known"))
    assert len(spooled(spool)) == 1
    with Ledger(path) as another:
        another.append(heartbeat(3, run="known"))

    assert (spooled(spool), sum(1 for _ in book.events())) == ([], 5)


def test_what_is_refused_when_it_is_brought_in_is_said(
    book: Ledger, path: Path, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody asked for it, so that a log is the only place: where and why, and the file that keeps it."""
    book.append(heartbeat(0, run="known", number=7))
    with locked(path):
        book.append(heartbeat(0, run="known", number=7, step=1))
    book.append(heartbeat(1, run="known"))
    put(spool, name_of(part=of(path), sealed=True), end="garbage\n")
    with Ledger(path) as another:
        another.append(heartbeat(2, run="known"))
    conflict, garbage = (text for text in caplog.messages if "spooled event" in text)

    assert re.fullmatch(rf"1 spooled event\(s\) refused, the first at {spool}/.*:1: known with other .*", conflict)
    assert "stays there" not in conflict
    assert f"; what is refused stays there, in {next(spool.iterdir()).name}" in garbage


def test_the_first_write_of_a_process_takes_over_what_others_left(path: Path, spool: Path) -> None:
    """Sealed files and those of the dead of this host, and nothing else: not what somebody still writes to."""
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="sealed"))
    put(spool, name_of(part=of(path)), launched(0, run="dead"), end='{"torn')
    kept = [
        put(spool, name_of(part=of(path), pid=os.getppid()), launched(0, run="alive")),
        put(spool, name_of("elsewhere", "b", 1, of(path), sealed=True), launched(0, run="another host")),
    ]
    with Ledger(path) as book:
        book.insert_run("mine", None, {})
        assert {row["run_id"] for row in book.query_runs()} == {"mine", "sealed", "dead"}
        put(spool, name_of(part=of(path), sealed=True), launched(0, run="later"))
        book.insert_run("mine too", None, {})

        assert "later" not in {row["run_id"] for row in book.query_runs()}, "once a process"
    assert set(kept) <= set(spool.iterdir())


def test_what_waits_for_another_ledger_is_left_to_it(path: Path, spool: Path, tmp_path: Path) -> None:
    """Several have one folder to fall back to; and what was recorded to a spool of that name says of no ledger."""
    with Ledger(path) as book, Ledger(tmp_path / "other.db") as other:
        book.insert_run("r", None, {})
        other.init_db()
    with locked(path), Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
        book.annotate("r", note="said to the first")
    with Ledger(f"spool://{spool}") as meant:
        meant.annotate("s", note="said to a spool")
    with Ledger(tmp_path / "other.db") as other:
        other.insert_run("o", None, {})
        assert [run["run_id"] for run in other.query_runs()] == ["o"]
    assert len(spooled(spool)) == 2
    linked = tmp_path / "link"
    linked.symlink_to(path.parent)
    with Ledger(linked / path.name) as book:
        book.annotate("r", note="again")
        assert [event.type for event in book.events()] == ["launched", "annotated", "annotated"]
    (left,) = spooled(spool)
    assert left["run_id"] == "s"


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("postgresql://a:b@host/x", "postgresql://c@host/x?sslmode=require", True),
        ("postgresql+psycopg://host/x", "postgresql://host/x?password=secret", True),
        ("postgresql://host/x", "postgresql://host/y", False),
        ("postgresql://host/x", "postgresql://host:5433/x", False),
        ("postgresql:///x?host=/run/a", "postgresql:///x?host=/run/b", False),
    ],
)
def test_a_ledger_has_one_mark_whoever_asks(one: str, another: str, same: bool) -> None:
    assert (mark_of(one) == mark_of(another)) is same


def test_the_doctors_scratch_ledgers_take_nothing_over(path: Path, spool: Path, capfd: Any) -> None:
    with Ledger(path) as book:
        book.insert_run("r", None, {})
    with locked(path), Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
        book.update_run_status("r", "completed")
    assert main(["--db", str(path), "doctor"]) == 0
    said = capfd.readouterr()
    assert "ledger-proof" not in said.out + said.err
    assert f"1 file(s) lie in the spool {spool}" in said.out
    assert len(spooled(spool)) == 1
    with Ledger(path) as book:
        book.init_db()
        assert (book.get_run("r") or {})["status"] == "completed"


def test_whoever_asks_sees_what_this_process_has_spooled(book: Ledger, path: Path, spool: Path) -> None:
    """Also where nothing is recorded any more; while the ledger is away, it is answered as far as it can be."""
    with locked(path):
        book.insert_run("late", None, {})
        assert book.get_run("late") is None
        assert book.spooled is not None
    assert book.get_run("late") is not None
    assert (book.spooled, spooled(spool)) == (None, [])


def test_whoever_asks_sees_it_at_once_however_long_the_outage_was(
    path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who records waits a while before the ledger is asked again; a question goes there anyway, and ends the outage."""
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MIN", 60.0)
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MAX", 60.0)
    with Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
        book.insert_run("r", None, {})
        with locked(path):
            book.update_run_status("r", "running")
            assert book.get_run("r")["status"] == "launched"  # type: ignore[index]
        book.update_run_status("r", "completed")
        assert len(spooled(spool)) == 2
        assert book.get_run("r")["status"] == "completed"  # type: ignore[index]
        assert book.append(heartbeat(9, run="r")).position > 0
        assert spooled(spool) == []


def test_whoever_asks_first_sees_what_others_left(path: Path, spool: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A process that ended in an outage could not bring it in; at the prompt, too."""
    with Ledger(path) as book:
        book.insert_run("r", None, {})
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="left"))
    assert main(["--db", str(path), "show", "left"]) == 0
    assert spooled(spool) == []
    put(spool, name_of(part=of(path), sealed=True), completed(5, run="left"))
    assert main(["--db", str(path), "annotate", "left", "--note", "later"]) == 0
    assert "status" not in capfd.readouterr().out.partition("left: annotated")[2]


def test_a_question_takes_over_little(
    path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More is left to who records, for it would be waited for; and what is refused of it is told there."""
    monkeypatch.setattr(fallback, "TAKEN_OVER_BYTES_MAX", 1_000)
    with Ledger(path) as book:
        book.insert_run("r", None, {})
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="left"), end="no event\n")
    with Ledger(path) as book, caplog.at_level(logging.WARNING):
        assert {row["run_id"] for row in book.query_runs()} == {"r", "left"}
        assert caplog.messages == []
    put(spool, name_of(part=of(path), sealed=True), *(launched(0, run=f"many{number}") for number in range(20)))
    with Ledger(path) as book:
        assert book.count_runs() == 2
        book.insert_run("mine", None, {})
        assert book.count_runs() == 23


def test_who_records_beside_a_question_sees_what_others_left(
    path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the question's thread is at it, too: the call's checks come behind all of it."""
    with Ledger(path) as book:
        book.init_db()
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="known"))
    at_it, done = threading.Event(), threading.Event()
    real = fallback.sync_files

    def slowly(*said: Any, **more: Any) -> int:
        if "told_at" in more:
            at_it.set()
            done.wait(10)
        return real(*said, **more)

    monkeypatch.setattr(fallback, "sync_files", slowly)
    with Ledger(path) as book:
        asking = threading.Thread(target=book.count_runs)
        asking.start()
        assert at_it.wait(10)
        book.update_run_status("known", "running")
        done.set()
        asking.join()
        assert book.get_run("known")["status"] == "running"  # type: ignore[index]


def test_who_asks_and_may_not_write_is_answered(path: Path, spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What others left stays, and nothing is said: it is nothing to him."""
    with Ledger(path) as book:
        book.insert_run("r", None, {})
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="left"))
    with locked(path), Ledger(path, busy_seconds_max=BUSY_SECONDS) as book, caplog.at_level(logging.WARNING):
        assert [book.count_runs() for _ in range(3)] == [1, 1, 1]
    assert caplog.messages == []
    assert len(spooled(spool)) == 1


def test_a_take_over_that_fails_disturbs_nobody(
    path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The call records what it has to record."""
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="left"))

    def fail(*_: object) -> int:
        raise LedgerBusy("there")

    monkeypatch.setattr(fallback, "sync_files", fail)
    with Ledger(path) as book:
        book.insert_run("r", None, {})
        assert book.count_runs() == 1
    assert f"What others left in {spool} stays there" in caplog.text


def test_a_folder_that_cannot_be_looked_into_disturbs_nobody(
    path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does what the system says of it."""

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ledger.spool.folder.FolderWriter.left_on_this_host", fail)
    with Ledger(path) as book:
        book.insert_run("r", None, {})
        assert book.count_runs() == 1
    assert "Permission denied" in caplog.text


def test_a_file_that_cannot_be_removed_is_no_outage(
    book: Ledger, path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are in the ledger; it stays, and the next call goes straight there."""

    def fail(*_: object) -> bool:
        raise LedgerUnreachable("AccessDenied")

    with locked(path):
        book.append(heartbeat(0, run="known"))
    monkeypatch.setattr("ledger.spool.reading.SpoolFile.clear", fail)
    for step in range(2):
        assert book.append(heartbeat(step, run="known")).position == 3 + step
    assert len(spooled(spool)) == 1


def test_a_bringing_in_that_fails_loses_nothing(
    book: Ledger, path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call is spooled, too, and the one after it brings both in."""
    with locked(path):
        book.append(heartbeat(0, run="known"))

    def fail(*_: object) -> int:
        raise LedgerUnreachable("the disk is full again")

    with monkeypatch.context() as patch:
        patch.setattr(fallback, "sync_files", fail)
        book.append(heartbeat(1, run="known"))
        assert len(spooled(spool)) == 2
    book.append(heartbeat(2, run="known"))
    assert (spooled(spool), sum(1 for _ in book.events())) == ([], 4)


def test_somebody_else_may_sync_meanwhile(book: Ledger, path: Path, spool: Path) -> None:
    """What they have moved in and removed is known, and nobody misses it."""
    with locked(path):
        book.append(heartbeat(0, run="known"))
        book._sink._spool.own()  # seals what was written, as the return of the database does
        book.append(heartbeat(1, run="known"))
    with Ledger(path) as other:
        assert (other.sync(spool, clear=True).new, len(list(spool.iterdir()))) == (2, 1)
    book.append(heartbeat(2, run="known"))

    assert (spooled(spool), sum(1 for _ in book.events())) == ([], 4)


def test_closing_brings_in_what_can_be_brought_in(path: Path, spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At once, or not at all, with a word on where it lies."""
    with Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
        book.insert_run("r", None, {})
        with locked(path):
            book.append(heartbeat(0))
    assert spooled(spool) == []
    with locked(path):
        with Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
            book.append(heartbeat(1))
        assert len(spooled(spool)) == 1
    assert "sync" in caplog.records[-1].getMessage()
    assert all(".open." not in file.name for file in spool.iterdir())


def test_a_spool_that_fails_too_is_an_error(book: Ledger, path: Path, spool: Path) -> None:
    """Then nothing is acknowledged, and the message is that of the spool."""
    spool.write_text("")
    with locked(path), pytest.raises(LedgerUnreachable, match="the spool at .* cannot be used"):
        book.append(heartbeat(0, run="known"))
    spool.unlink()
    book.append(heartbeat(1, run="known"))
    assert sum(1 for _ in book.events()) == 2


def test_times_do_not_go_back_into_the_spool(path: Path, spool: Path) -> None:
    """Our last word was moved behind that of a clock that is ahead; what is spooled next comes after it, too."""
    with origin.replaced(Stepped(0)), Ledger(path, busy_seconds_max=BUSY_SECONDS) as book:
        book.append(Started(run_id="r", occurred_at=moment(7200)))
        book.update_run_status("r", "running")
        with locked(path):
            book.update_run_status("r", "completed")
            book.annotate("r", "done")
            book.update_run_status("r", "running", at=moment(60))
        book.annotate("r", "back")

        said = [(event.type, event.occurred_at) for event in book.events("r")]
        assert [type for type, _ in said] == ["started", "started", "completed", "annotated", "started", "annotated"]
        assert said[0][1] < said[1][1] < said[2][1] < said[3][1] < said[5][1]
        assert said[4][1] == moment(60)
        row = book.get_run("r")
        assert row is not None
        assert row["status"] == "completed"


def test_an_unknown_outcome_is_no_conflict(
    book: Ledger, path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that succeeded and said that it did not: the spooled event is the same one, and known."""
    real = documented.record

    def lost(*said: Any, **more: Any) -> None:
        real(*said, **more)
        raise LedgerUnreachable("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(documented, "record", lost)
        book.update_run_status("known", "running")
        book.attach_crash_data("known", "log")
    book.annotate("known", "back")

    types = [event.type for event in book.events("known")]
    assert types.count("started") == 1
    with book._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM training_conflicts").fetchone() == (0,)
    assert shown(book) == told(book.events())


def test_a_ledger_in_memory_has_no_need_of_it(spool: Path) -> None:
    """It is never away."""
    with Ledger(":memory:") as book:
        book.insert_run("r", None, {})
        assert book.count_runs() == 1
    assert not spool.exists()


def test_the_command_line_says_that_it_is_recorded(
    book: Ledger, path: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`annotate` on a ledger that is away, or on a spool, is done; the row is not to be had."""
    with vanished(path):
        assert main(["--db", str(path), "annotate", "known", "--note", "x"]) == 0
        assert main(["--db", f"spool://{spool}", "--json", "annotate", "known", "--note", "y"]) == 0
        assert main(["--db", f"spool://{spool}", "init"]) == 0
        assert main(["--db", f"spool://{spool}", "show", "known"]) == 3
    said = capsys.readouterr()

    assert "known: annotated" in said.out
    assert "ledger --db LEDGER sync" in said.err
    assert [json.loads(line["payload"])["note"] for line in spooled(spool)] == ["x", "y"]


WRITER = """
import sys
from ledger import Ledger, fallback
from ledger.events import Heartbeat
fallback.PAUSE_SECONDS_MIN = fallback.PAUSE_SECONDS_MAX = 0.02
book = Ledger(sys.argv[1], busy_seconds_max=0.05)
for step in range(1_000_000):
    print(book.append(Heartbeat(run_id=sys.argv[2], step=step)).event_id, flush=True)
"""


def test_writers_that_are_killed_while_the_database_comes_and_goes_lose_nothing(path: Path, spool: Path) -> None:
    """Each acknowledged event is in the ledger or in the spool, whose dead the next process brings in."""
    with Ledger(path) as book:
        book.init_db()
    said: set[str] = set()
    for number in range(trials(20, 50)):
        command = [sys.executable, "-c", WRITER, str(path), f"r{number}"]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said |= first_word(writer)
        until = time.monotonic() + random.uniform(0, 0.4)
        while time.monotonic() < until:
            with locked_if_free(path):
                time.sleep(random.uniform(0, 0.2))
            time.sleep(random.uniform(0, 0.05))
        writer.kill()
        said |= acknowledged(writer)
        with Ledger(path) as book:
            book.append(heartbeat(number))
            there = {event.event_id for event in book.events()}
            assert (said - there, spooled(spool), book.verify().differences) == (set(), [], ())


def test_a_vanished_ledger_is_not_made_anew(book: Ledger, path: Path, spool: Path) -> None:
    """Not by who has used it: that would be another ledger. Whoever means it says init_db."""
    with vanished(path):
        book.insert_run("new", None, {})
        book.append(heartbeat(0, run="known"))
        assert (path.exists(), len(spooled(spool))) == (False, 2)
        book.init_db()
        assert (path.exists(), book.count_runs()) == (True, 2)
        path.unlink()


def test_the_default_ledger_falls_back_too(path: Path, spool: Path) -> None:
    """The documented functions, in a process of their own, while a stranger has the ledger, and after it."""
    code = f"""
import sqlite3, ledger
from ledger import fallback
fallback.PAUSE_SECONDS_MIN = 0.0
ledger.insert_run("r", None, {{}})
stranger = sqlite3.connect({str(path)!r}, isolation_level=None)
stranger.execute("BEGIN IMMEDIATE")
ledger.default.default_ledger()._database._busy_seconds_max = 0.1
ledger.update_run_status("r", "running")
stranger.execute("ROLLBACK")
ledger.update_run_status("r", "completed")
print(ledger.get_run("r")["status"])
"""
    env = {**os.environ, "TRAINING_DB_PATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)

    assert done.stdout == "completed\n"
    assert done.stderr.count("recorded meanwhile") == 1
    assert spooled(spool) == []


def test_damage_is_what_the_spool_is_for(book: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the same call is LedgerDamaged."""
    monkeypatch.delenv("TRAINING_DB_SPOOL")
    with damaged(path), Ledger(path) as bare, pytest.raises(LedgerDamaged):
        bare.update_run_status("known", "running")


def test_ones_own_word_counts_over_what_is_taken_over(path: Path, spool: Path) -> None:
    """What another process of this host left, by a clock that was ahead, does not hide the status that a call says."""
    with Ledger(path) as book:
        book.insert_run("r", None, {})
    put(spool, name_of(part=of(path)), completed(10 * 365 * 86400, run="r"))
    with Ledger(path) as book:
        book.update_run_status("r", "running")
        row = book.get_run("r")

        assert (row or {})["status"] == "running"
        assert [event.type for event in book.events()] == ["launched", "completed", "started"]


def test_a_launch_that_another_process_left_is_known_to_the_first_call(path: Path, spool: Path) -> None:
    """A launcher that found no ledger is gone; the training that it started finds one, and its run."""
    with Ledger(path) as book:
        book.init_db()
    put(spool, name_of(part=of(path), sealed=True), launched(0, run="r"))
    with Ledger(path) as book:
        book.update_run_status("r", "running")

        assert [event.type for event in book.events("r")] == ["launched", "started"]
