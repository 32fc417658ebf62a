"""On a spool everything can be recorded and nothing asked; what a call has said is on disk before it returns."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import Ledger, events, origin
from ledger.cli.main import main
from ledger.errors import AskedWrongly, HalfConfigured, InvalidFact, LedgerClosed, LedgerUnreachable, OnlyASpool
from ledger.settings import Settings
from ledger.spool.folder import FolderWriter
from ledger.spool.naming import FileName
from ledger.spool.reading import SpoolFolder
from tests.builders import NOON, heartbeat, moment, started
from tests.core.test_origin import Stepped

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Name a folder, below another, that is not there yet."""
    return tmp_path / "below" / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Ledger]:
    with Ledger(f"spool://{folder}") as spool:
        yield spool


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return what complete lines say, in the order of the files' names."""
    return [json.loads(line) for _, _, line in SpoolFolder(folder).lines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_documented_function_records_without_knowing_the_run(spool: Ledger, folder: Path) -> None:
    """Nobody on a spool knows a run, so nothing is checked, and each call leaves its events."""
    spool.init_db()
    spool.attach_conversation("r", "c")
    spool.update_run_status("r", "running", wandb_run_id="w")
    spool.insert_run("r", "w", {"lr": 1})
    spool.insert_run("r", "w", {"lr": 2})
    spool.attach_crash_data("r", "log")
    spool.attach_blog_post("r", "url")
    spool.annotate("r", "odd", ["tag"], seen=True)
    spool.amend("r", reason="typo", host="ec2")
    spool.void("r", reason="bogus")
    spool.unvoid("r", reason="not bogus")
    answer = spool.append(heartbeat(0))

    assert [line["type"] for line in lines(folder)] == [
        "conversation_attached", "wandb_attached", "started", "launched", "wandb_attached", "launched",
        "wandb_attached", "crashed", "crash_data_attached", "blog_attached", "annotated", "amended", "voided",
        "unvoided", "heartbeat",
    ]  # fmt: skip
    assert (answer.position, answer.version, answer.digest) == (0, 0, lines(folder)[-1]["digest"])
    assert re.fullmatch("[A-Z0-9]{6}", spool.new_chain_of_custody_id())


def test_a_wrong_call_is_wrong_on_a_spool_too(spool: Ledger, folder: Path) -> None:
    """What needs no knowledge of the run is checked as ever, and nothing is written."""
    for wrong in (
        lambda: spool.update_run_status("r", "complete"),
        lambda: spool.insert_run("r", None, {}, batchsize=1),
        lambda: spool.amend("r", reason="x", hots="ec2"),
        lambda: spool.append(heartbeat(0), expected_version=1),
    ):
        with pytest.raises(AskedWrongly):
            wrong()
    with pytest.raises(InvalidFact):
        spool.append([heartbeat(0), "no event"])  # type: ignore[list-item]
    spool.append([])

    assert not folder.exists() or names(folder) == []


def test_what_one_call_says_happens_at_one_moment(spool: Ledger, folder: Path) -> None:
    """And that is the call's, in order, though the machine's clock is set back in between."""
    with origin.replaced(Stepped(0, 1, 2, 3, 4, 5, -3600)):
        spool.insert_run("r", "w", {})
        spool.update_run_status("r", "completed", started_at=NOON, wandb_run_id="w")
        spool.update_run_status("r", "running", at=moment(-9))
    said = lines(folder)
    times = [line["occurred_at"] for line in said]

    assert times[0] == times[1] <= times[2] == times[3] == times[4]
    assert times[5] == "2024-05-01T11:59:51.000000Z"
    assert [line["event_id"] for line in said] == sorted(line["event_id"] for line in said)


def test_a_crash_by_its_data_is_presumed(spool: Ledger, folder: Path) -> None:
    """Whether the run has ended otherwise, only its ledger knows: there, a witnessed end beats a presumed crash."""
    spool.attach_crash_data("r", error_log_s3_key="log")
    crashed, attached = lines(folder)

    assert json.loads(crashed["payload"]) == {"detected_by": "attach_crash_data", "presumed": True}
    assert crashed["occurred_at"] == attached["occurred_at"]
    assert crashed["event_id"] < attached["event_id"]


ASKING: dict[str, Callable[[Ledger], object]] = {
    "get_run": lambda book: book.get_run("r"),
    "query_runs": lambda book: book.query_runs(),
    "count_runs": lambda book: book.count_runs(),
    "get_stats": lambda book: book.get_stats(),
    "timeline": lambda book: book.timeline(run_id="r"),
    "events": lambda book: list(book.events()),
    "verify": lambda book: book.verify(),
    "replay": lambda book: book.replay(),
    "inspect": lambda book: book.inspect(),
    "backup": lambda book: book.backup("copy.db"),
    "restore_backup": lambda book: book.restore_backup("copy.db"),
    "sync": lambda book: book.sync("elsewhere"),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_asking_a_spool_names_the_mend(spool: Ledger, folder: Path, ask: Callable[[Ledger], object]) -> None:
    """A spool answers nothing, and says how its events get to where they can be asked for."""
    spool.append(started(0))

    with pytest.raises(OnlyASpool, match=rf"ledger --db LEDGER sync spool://{folder}"):
        ask(spool)


def test_recording_to_a_spool_loads_no_driver(folder: Path) -> None:
    """A fresh process records to a spool without SQLAlchemy, sqlite3 and boto3."""
    code = """
import sys, ledger
ledger.init_db()
ledger.insert_run("r", None, {"lr": 1})
ledger.update_run_status("r", "running")
ledger.annotate("r", "odd")
ledger.Ledger().append(ledger.Ledger and __import__("ledger.events").events.Heartbeat(run_id="r"))
print({"sqlalchemy", "sqlite3", "boto3"} & set(sys.modules))
"""
    env = {**os.environ, "TRAINING_DB_URL": f"spool://{folder}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr.count("\n")) == ("set()\n", 1)
    assert len(lines(folder)) == 4
    assert all(name.endswith(".jsonl") and ".open." not in name for name in names(folder)), "sealed at exit"


def test_the_environment_names_a_spool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRAINING_DB_URL, --db and Ledger(...) take the same URLs, and the documented functions go there."""
    monkeypatch.setenv("TRAINING_DB_URL", f"spool://{folder}")
    ledger.insert_run("r", None, {})

    assert [line["type"] for line in lines(folder)] == ["launched"]
    assert Ledger().url == f"spool://{folder}"


def test_urls_are_read_as_they_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes and a path, a bucket with or without a prefix; all else says what is wanted."""
    monkeypatch.setenv("HOME", "/home/me")
    read = {text: Settings.read(text).url for text in ("spool:///a/../b", "spool://~/s", "s3://bucket/a/b/", "s3://b")}

    assert read == {
        "spool:///a/../b": "spool:///b",
        "spool://~/s": "spool:///home/me/s",
        "s3://bucket/a/b/": "s3://bucket/a/b",
        "s3://b": "s3://b",
    }
    for text in ("spool://", "spool:x", "spool://x", "spool:/x", "s3:", "s3://", "s3:///x", "s3:/b/x"):
        with pytest.raises(HalfConfigured, match="spool"):
            Settings.read(text)
    monkeypatch.setenv("TRAINING_DB_SPOOL", "~/s")
    assert Settings.read("runs.db").spool == "spool:///home/me/s"
    for text in ("sqlite:///x", "postgresql://me:secret@host/x", " "):
        monkeypatch.setenv("TRAINING_DB_SPOOL", text)
        with pytest.raises(HalfConfigured, match="spool:///a/folder") as refused:
            Settings.read("runs.db")
        assert "secret" not in str(refused.value)


def test_a_file_says_who_writes_it(spool: Ledger, folder: Path) -> None:
    """Host, boot, pid and a part of its own; marked as open, and sealed by close, once and for all."""
    spool.append(started(0))
    (name,) = names(folder)
    said = FileName.parsed(name)
    spool.close()
    spool.close()

    assert said is not None
    assert (said.of_this_host(), said.pid, said.sealed) == (True, os.getpid(), False)
    assert names(folder) == [str(said.seal())] == [name.replace(".open.", ".")]
    with pytest.raises(LedgerClosed):
        spool.append(started(1))


def test_a_writer_holds_a_lock_on_its_file(spool: Ledger, folder: Path) -> None:
    """Further proof that it lives; gone with the process, and with the file's sealing."""
    spool.append(started(0))
    with next(folder.iterdir()).open("r+b") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spool.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_new_file_and_its_folders_outlive_a_power_cut(
    spool: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that holds the file is on disk before the first call returns, and so is each that was made for it."""
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    spool.append(started(0))
    (file,) = folder.iterdir()
    assert synced == [str(folder.parent.parent), str(folder.parent), str(folder), str(file)]
    spool.append(started(1))
    assert synced[4:] == [str(file)]


@pytest.mark.parametrize("host", ["a.b-c.example.org", "1.2.3.4", "a b/ü", "open", "h" * 300])
def test_a_name_is_read_as_it_was_written(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a machine is called."""
    monkeypatch.setattr(origin, "machine", lambda: (host, ""))
    name = FileName.new()

    assert FileName.parsed(str(name)) == name
    assert FileName.parsed(str(name.seal())) == name.seal()
    assert name.of_this_host()
    assert len(str(name)) < 255
    assert "/" not in str(name)


@pytest.mark.parametrize("text", ["x.jsonl", "a.b.c.jsonl", "h.boot.pid.part.jsonl", "h.boot.1.part.json", ""])
def test_other_names_are_nobodys(text: str) -> None:
    """A file of another name is not one that a process writes."""
    assert FileName.parsed(text) is None


def test_a_ledger_opened_again_begins_another_file(folder: Path) -> None:
    """Sealed files are never written to again, and two ledgers of one process do not share one."""
    for _ in range(3):
        with Ledger(f"spool://{folder}") as spool, Ledger(f"spool://{folder}") as other:
            spool.append(started(0))
            other.append(started(1))

    assert len(names(folder)) == 6
    assert len(lines(folder)) == 6


def test_a_ledger_that_is_dropped_seals_its_file(folder: Path) -> None:
    """Nobody has to close it."""
    Ledger(f"spool://{folder}").append(started(0))

    assert [".open." in name for name in names(folder)] == [False]


def test_a_simulation_that_repeats_itself_reuses_no_name(folder: Path) -> None:
    """With the same clock and the same chance again, a sealed file and an open one keep what they have."""
    spools = []
    for run in ("a", "b", "c"):
        with origin.replaced(Stepped(0, bits=7)):
            spools.append(Ledger(f"spool://{folder}"))
            spools[-1].append(started(0, run=run, number=ord(run)))
        if run == "a":
            spools[-1].close()
    for spool in spools:
        spool.close()

    assert sorted(line["run_id"] for line in lines(folder)) == ["a", "b", "c"]
    assert len(names(folder)) == 3


def test_threads_share_a_file(spool: Ledger, folder: Path) -> None:
    """Each line is whole, and each acknowledged event there once."""
    said: list[str] = []

    def write(number: int) -> None:
        said.extend(spool.append(heartbeat(step, run=f"r{number}")).event_id for step in range(50))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(line["event_id"] for line in lines(folder)) == sorted(said)
    assert len(names(folder)) == 1


def test_a_writer_whose_file_is_broken_holds_up_no_child(tmp_path: Path) -> None:
    """A fork while threads write: in the child every spool can be written to, whatever became of a file of another."""
    writers = [FolderWriter(tmp_path / name) for name in ("broken", "whole", "another")]
    facts = [events.Fact.of(started(0), redacting=False)]
    for writer in writers:
        writer.append(facts)
    assert writers[0]._file is not None
    os.close(writers[0]._file._descriptor)
    held, stop = threading.Event(), threading.Event()

    def write() -> None:
        with writers[0]._turn, writers[1]._turn, writers[2]._turn:
            held.set()
            stop.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # one that waits for a lock that nobody holds any more would wait for ever
        for writer in writers:
            writer.append(facts)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    stop.set()
    thread.join()

    assert ended == 0


def test_a_fork_gets_a_file_of_its_own(spool: Ledger, folder: Path) -> None:
    """While another thread writes; and neither disturbs the other's file, nor seals it."""
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: [spool.append(heartbeat(0, run="thread")) for _ in iter(stop.is_set, True)]
    )
    spool.append(started(0, run="parent"))
    thread.start()
    for number in range(10):
        child = os.fork()
        if child == 0:
            try:
                spool.append(started(0, run=f"child-{number}"))
                spool.close()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    spool.append(started(0, run="after"))
    stop.set()
    thread.join()
    spool.close()

    by_pid = {}
    for name, _, line in SpoolFolder(folder).lines():
        by_pid.setdefault(name.split(".")[-3], set()).add(json.loads(line)["run_id"])
    assert len(names(folder)) == 11
    assert sorted(map(sorted, by_pid.values())) == [
        ["after", "parent", "thread"] if runs == "parents" else [runs]
        for runs in ["parents", *(f"child-{number}" for number in range(10))]
    ]


def test_a_signal_handler_may_record_in_the_middle_of_a_write(
    spool: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line comes into a file of its own, whole, and the one that it interrupted is whole, too."""
    real, inside = os.write, []

    def interrupted(descriptor: int, data: Any) -> int:
        written = real(descriptor, bytes(data)[:7])
        if not inside:
            inside.append(True)
            spool.append(started(1, run="handler"))
        return written

    monkeypatch.setattr(os, "write", interrupted)
    spool.append(started(0, run="main"))

    assert sorted(line["run_id"] for line in lines(folder)) == ["handler", "main"]
    assert len(names(folder)) == 2


def test_a_real_alarm_that_records_loses_nothing(spool: Ledger, folder: Path) -> None:
    """Signals arrive wherever they do, again and again."""
    said: list[str] = []

    def on_alarm(*_: object) -> None:
        said.append(spool.append(started(0, run="alarm")).event_id)
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    try:
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            said.append(spool.append(heartbeat(0)).event_id)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert sorted(line["event_id"] for line in lines(folder)) == sorted(said)


def test_a_removed_file_or_folder_is_begun_anew(spool: Ledger, folder: Path) -> None:
    """Nothing is written into a file that has no name any more."""
    spool.append(started(0, run="gone"))
    for path in folder.iterdir():
        path.unlink()
    spool.append(started(0, run="there"))
    assert [line["run_id"] for line in lines(folder)] == ["there"]

    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    spool.append(started(0, run="again"))
    assert [line["run_id"] for line in lines(folder)] == ["again"]


class Disk:
    """Writes that fail: each plan says how many bytes still go to disk, and then which error comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate")}
        self.bytes_left: int | None = None
        self.failing: dict[str, int] = {}
        for name in self._real:
            monkeypatch.setattr(os, name, getattr(self, name))

    def write(self, descriptor: int, data: Any) -> int:
        self._fail("write")
        if self.bytes_left is None:
            return int(self._real["write"](descriptor, data))
        if self.bytes_left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = int(self._real["write"](descriptor, bytes(data)[: self.bytes_left]))
        self.bytes_left -= written
        return written

    def fsync(self, descriptor: int) -> None:
        self._fail("fsync")
        self._real["fsync"](descriptor)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._fail("ftruncate")
        self._real["ftruncate"](descriptor, length)

    def _fail(self, name: str) -> None:
        if self.failing.get(name):
            self.failing[name] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("bytes_left", [0, 1, 100, 350, 400])
@pytest.mark.parametrize("untruncatable", [False, True])
def test_a_full_disk_loses_nothing_acknowledged(
    spool: Ledger, folder: Path, disk: Disk, bytes_left: int, untruncatable: bool
) -> None:
    """The call raises, with the mend; no torn line comes before another; and when there is room, it goes on."""
    said = [spool.append(heartbeat(0)).event_id]
    disk.bytes_left = bytes_left
    disk.failing = {"ftruncate": 99 * untruncatable}
    for _ in range(3):
        with pytest.raises(
            LedgerUnreachable, match=r"No space left .*; nothing of this call is kept\. See to the disk's"
        ):
            spool.append([heartbeat(1, run="lost"), heartbeat(2, run="lost")])
    disk.bytes_left = None
    disk.failing = {}
    said += [spool.append(heartbeat(number)).event_id for number in range(3)]
    spool.close()

    assert [line["event_id"] for line in lines(folder) if line["run_id"] == "r"] == said
    texts = [path.read_text() for path in folder.iterdir()]
    assert all(text.endswith("\n") or untruncatable for text in texts)
    assert len(texts) <= 3
    assert all(".open." not in name for name in names(folder)) or untruncatable


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_file_that_failed_is_left_for_another(spool: Ledger, folder: Path, disk: Disk, call: str) -> None:
    """One failure of a file that has lines already is mended by beginning another; nobody is bothered."""
    said = [spool.append(heartbeat(0)).event_id]
    disk.failing = {call: 1}
    said += [spool.append(heartbeat(number)).event_id for number in range(2)]
    spool.close()

    assert [line["event_id"] for line in lines(folder)] == said
    assert len(names(folder)) == 2


def test_a_file_that_its_server_has_forgotten_is_left_for_another(
    spool: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS a handle may go stale: nothing can be done with the file, and the next line goes to another."""
    said = [spool.append(heartbeat(0)).event_id]

    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    real, calls = os.fstat, []

    def first_is_stale(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        return stale() if descriptor == calls[0] and len(calls) < 3 else real(descriptor)

    monkeypatch.setattr(os, "fstat", first_is_stale)
    said.append(spool.append(heartbeat(1)).event_id)

    assert [line["event_id"] for line in lines(folder)] == said
    assert len(names(folder)) == 2


def test_short_writes_are_finished(spool: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take a line in pieces."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
    said = [spool.append(heartbeat(number)).event_id for number in range(3)]

    assert [line["event_id"] for line in lines(folder)] == said


def test_an_interrupted_write_leaves_no_torn_line(spool: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a write takes its line back, and the same file goes on."""
    real = os.write
    spool.append(heartbeat(0))

    def interrupted(descriptor: int, data: Any) -> int:
        real(descriptor, bytes(data)[:50])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            spool.append(heartbeat(1, run="interrupted"))
    spool.append(heartbeat(2))

    assert [line["run_id"] for line in lines(folder)] == ["r", "r"]
    assert len(names(folder)) == 1


def test_a_limit_on_the_size_of_files_begins_another(folder: Path) -> None:
    """The system's own limit (as of a disk that is full) comes in the middle of a line; nothing acknowledged is lost."""
    code = f"""
import resource, signal
from ledger import Ledger
from ledger.errors import LedgerUnreachable
from ledger.events import Heartbeat
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
spool = Ledger("spool://{folder}")
for step in range(40):
    print(spool.append(Heartbeat(run_id="r", step=step)).event_id)
try:
    spool.append(Heartbeat(run_id="r", message="x" * 3000))
except LedgerUnreachable as exc:
    print(type(exc).__name__)
print(spool.append(Heartbeat(run_id="r", step=40)).event_id)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    said = done.stdout.split()

    assert said.pop(-2) == "LedgerUnreachable"
    assert [line["event_id"] for line in lines(folder)] == said
    assert all(path.stat().st_size <= 2000 and path.read_text().endswith("\n") for path in folder.iterdir())


def test_a_place_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """A file where a folder is wanted says so, with the mend."""
    (tmp_path / "file").write_text("")
    with Ledger(f"spool://{tmp_path}/file/spool") as spool:
        for call in (spool.init_db, lambda: spool.append(started(0))):
            with pytest.raises(LedgerUnreachable, match="See to the disk's space and the rights on the folder"):
                call()


def test_events_keep_their_own_times(spool: Ledger, folder: Path) -> None:
    """What append brings happened when it says."""
    spool.append(
        [started(9), heartbeat(-9), events.Heartbeat(run_id="r", occurred_at=datetime(1999, 1, 1, tzinfo=UTC))]
    )

    assert [line["occurred_at"][:19] for line in lines(folder)] == [
        "2024-05-01T12:00:09", "2024-05-01T11:59:51", "1999-01-01T00:00:00",
    ]  # fmt: skip


@pytest.mark.parametrize("record", [lambda spool: spool.annotate("r", "x"), lambda spool: spool.append(started(0))])
def test_the_first_recording_says_where_it_went(
    spool: Ledger, folder: Path, caplog: pytest.LogCaptureFixture, record: Callable[[Ledger], object]
) -> None:
    """Once in a process, with the command that moves it into a ledger; before anything is recorded there is nothing to say."""
    spool.init_db()
    assert (caplog.messages, spool.spooled) == ([], None)
    record(spool)
    with Ledger(f"spool://{folder}") as again:
        record(again)

    assert caplog.messages == [
        f"recorded in the spool {folder}; `ledger --db LEDGER sync {folder}` moves it into its ledger"
    ]
    assert spool.spooled == str(folder)


def test_the_prompt_says_where_it_went(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To people the command, to machines the place, and no row that nobody can know."""
    words = ["--db", f"spool://{folder}", "annotate", "ghost", "--note", "x"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert main(["--json", *words]) == 0

    assert said == (
        f"ghost: annotated, recorded in the spool {folder}; `ledger --db LEDGER sync {folder}` moves it in\n"
    )
    assert json.loads(capsys.readouterr().out) == {"recorded": "annotated", "spool": str(folder), "run": None}
