"""Whatever way spools take, their events arrive exactly once; and what is removed of them is in the ledger."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger
from ledger.cli.main import main
from ledger.errors import AskedWrongly, LedgerError, LedgerUnreachable
from ledger.events import Event, Fact
from ledger.events.lines import line_of
from ledger.spool.naming import FileName
from ledger.spool.reading import SpoolFolder
from ledger.store import merging
from tests.builders import completed, heartbeat, launched, shown, started, told, trials, unknown
from tests.store.crowd import ROOT, writing
from tests.store.test_many_processes import acknowledged, first_word
from tests.strategies import batched, histories

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
HERE = socket.gethostname()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def line(event: Event) -> str:
    fact = Fact.of(event, redacting=True)
    return line_of(fact, fact.digest())


def put(folder: Path, name: str, *events: Event, end: str = "") -> Path:
    """Write a spool file by hand; *end* is what comes behind its last line."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line(event)}\n" for event in events) + end)
    return path


def long_ago(file: Path) -> None:
    """Let it be written to last before this machine was started."""
    os.utime(file, (1e9, 1e9))


def gone_pid() -> int:
    """Return the pid of a process that is gone."""
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def name_of(
    host: str = HERE, boot: str = BOOT, pid: int | None = None, part: str = "p", *, sealed: bool = False
) -> str:
    return str(FileName(host, boot, gone_pid() if pid is None else pid, part, sealed))


def ids(book: Ledger) -> set[str]:
    return {event.event_id for event in book.events()}


@given(histories(), st.data())
def test_spools_give_the_same_rows_as_the_ledger_itself(made: list[Event], data: st.DataObject) -> None:
    """In however many spools the events lie, some twice, and in whatever order those are synced, again and again."""
    with tempfile.TemporaryDirectory() as folder, Ledger(":memory:") as straight, Ledger(f"{folder}/runs.db") as book:
        book.init_db()
        straight.append(made)
        places = []
        for number, batch in enumerate(data.draw(batched(made))):
            places.append(f"{folder}/spool-{number % 3}")
            with Ledger(f"spool://{places[-1]}") as spool:
                spool.append(batch)
        asked = data.draw(st.permutations([*dict.fromkeys(places), *places[:1]]))
        synced = [book.sync(place, clear=data.draw(st.booleans())) for place in asked]

        assert shown(book) == shown(straight) == told(made)
        assert ids(book) == {event.event_id for event in made}
        assert sum(answer.new for answer in synced) == len(made)
        assert [answer.new + answer.known for answer in synced] == [answer.events for answer in synced]
        assert book.verify()


def test_syncing_again_does_nothing(book: Ledger, folder: Path) -> None:
    """From the folder, or from a copy of it, all is known by then."""
    with Ledger(f"spool://{folder}") as spool:
        spool.append([launched(0), started(1)])
        shutil.copytree(folder, folder.with_name("copy-of-the-open"))
        spool.append(completed(2))
    shutil.copytree(folder, folder.with_name("copy-of-the-sealed"))
    places = [folder.with_name(name) for name in ("copy-of-the-open", "spool", "copy-of-the-sealed")]
    answers = [book.sync(place) for place in (*places, folder)]
    all_of_them = book.sync(*places)

    assert [(a.files, a.events, a.new, a.known, a.refused) for a in answers] == [
        (1, 2, 2, 0, 0), (1, 3, 1, 2, 0), (1, 3, 0, 3, 0), (1, 3, 0, 3, 0),
    ]  # fmt: skip
    assert (all_of_them.files, all_of_them.events, all_of_them.known) == (3, 8, 8)
    assert [event.type for event in book.events()] == ["launched", "started", "completed"]
    assert book.verify()


def test_an_open_copy_and_a_sealed_one_lie_side_by_side(book: Ledger, folder: Path) -> None:
    """As rsync leaves them when it came by before and after; copies of many machines may lie in folders below."""
    put(folder, f"node1/{name_of('node1', 'b1', 7)}", launched(0, run="a", number=1))
    put(folder, f"node1/{name_of('node1', 'b1', 7, sealed=True)}", launched(0, run="a", number=1), started(1, run="a"))
    put(folder, f"node2/{name_of('node2', 'b2', 7)}", launched(0, run="b"), end='{"event_id":"01')
    put(folder, "node2/.unfinished.jsonl", launched(0, run="c"))
    (folder / "node2" / f".{name_of('node2', 'b2', 8)}.Xy12z").write_text("what rsync")
    answer = book.sync(folder)

    assert (answer.files, answer.events, answer.new, answer.known, answer.refused) == (3, 4, 3, 1, 0)
    assert {row["run_id"]: row["status"] for row in book.query_runs()} == {"a": "running", "b": "launched"}


def test_a_torn_tail_is_left_out(book: Ledger, folder: Path) -> None:
    """At any length that a kill or a copy may leave, each line that is whole arrives, and nothing is refused."""
    name, whole = name_of(), f"{line(launched(0, number=1))}\n"
    two = f"{whole}{line(started(1, number=2))}\n"
    for length in range(len(two)):
        (folder / name).write_text(two[:length])
        answer = book.sync(folder)
        assert (answer.events, answer.refused) == (length // len(whole), 0)
    assert [event.type for event in book.events()] == ["launched"]


def test_a_torn_tail_of_one_file_that_is_merged_is_left_out(book: Ledger, folder: Path) -> None:
    """By its name it is a file of a spool; an export that is cut off lacks something, and says so."""
    file = put(folder, name_of(), launched(0, run="r"), end='{"event')
    merged = book.merge(file)
    assert (merged.events, merged.new, merged.refused) == (1, 1, 0)
    merged = book.merge(file.rename(folder / "export.jsonl"))
    assert (merged.known, merged.refused) == (1, 1)


def test_what_is_no_event_is_refused_and_the_rest_arrives(book: Ledger, folder: Path) -> None:
    """The answer says where and why; an id with other content is kept aside."""
    book.append(started(0, number=1))
    path = put(folder, name_of(sealed=True), heartbeat(1, number=2), started(5, number=1), heartbeat(2, number=3))
    text = path.read_text()
    path.write_text(
        '{"not": "ours"}\n' + text + text.splitlines()[0].replace('"type":"heartbeat"', '"type":"x"') + "\n"
    )
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n")
    answer = book.sync(folder)

    assert (answer.events, answer.new, answer.known, answer.refused) == (6, 2, 0, 4)
    assert [refusal.where.rpartition(":")[2] for refusal in answer.refusals] == ["1", "3", "5", "6"]
    assert all(str(path) in refusal.where for refusal in answer.refusals)
    assert "has no event_id" in answer.refusals[0].reason
    assert "training_conflicts" in answer.refusals[1].reason
    assert "not what its digest says" in answer.refusals[2].reason


def test_a_sync_is_a_first_write(tmp_path: Path, folder: Path) -> None:
    """Where there is no ledger yet, it is created, as any first write does."""
    put(folder, name_of(), launched(0))
    with Ledger(tmp_path / "new.db") as new:
        assert (new.sync(folder).new, new.count_runs()) == (1, 1)


def test_a_sync_needs_a_spool(tmp_path: Path, book: Ledger) -> None:
    """A mistyped place is an error, and not an answer of nought."""
    with pytest.raises(LedgerUnreachable, match=r"no spool at .*/nowhere\. Give the folder"):
        book.sync(tmp_path / "nowhere")
    with pytest.raises(AskedWrongly, match="needs a spool"):
        book.sync()


def test_a_mistyped_place_creates_no_ledger(tmp_path: Path) -> None:
    """The spool is looked at first."""
    with Ledger(tmp_path / "new" / "runs.db") as new, pytest.raises(LedgerUnreachable, match="no spool at"):
        new.sync(tmp_path / "nowhere")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["sync", "merge"])
def test_nothing_is_moved_where_one_of_several_is_missing(
    book: Ledger, folder: Path, tmp_path: Path, verb: str
) -> None:
    """Neither by the method nor at the prompt: every place is looked at first."""
    put(folder, name_of(), launched(0))
    nowhere = tmp_path / "nowhere"
    with pytest.raises(LedgerError, match="nowhere"):
        getattr(book, verb)(folder, nowhere)
    assert main(["--db", book.url, verb, str(folder), str(nowhere)]) in (2, 3)
    assert list(book.events()) == []


@pytest.mark.parametrize("verb", ["sync", "merge"])
def test_a_sealed_file_that_is_cut_off_is_named(
    book: Ledger, folder: Path, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy of it is not done: what is there is taken in, and it is said that there was more."""
    file = put(folder, name_of(sealed=True), launched(0), started(1))
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    answer = getattr(book, verb)(folder)
    assert (answer.new, answer.refused) == (1, 0)
    (warning,) = caplog.messages
    assert f"{file.name} ends in the middle of a line" in warning
    file.write_bytes(whole)
    answer = getattr(book, verb)(folder)
    assert (answer.new, answer.known, answer.refused) == (1, 1, 0)


def test_what_was_written_since_the_boot_is_of_no_former_boot(book: Ledger, folder: Path) -> None:
    """Another machine has this one's name: its open file is read, and left."""
    file = put(folder, name_of(boot="11111111-1111"), launched(0))
    assert (book.sync(folder, clear=True).cleared, file.exists()) == (0, True)
    long_ago(file)
    assert (book.sync(folder, clear=True).cleared, file.exists()) == (1, False)


def test_blank_lines_are_no_events(book: Ledger, folder: Path) -> None:
    """Somebody looked at the file in an editor: it is moved in, and cleared, as it was."""
    file = put(folder, name_of(sealed=True), launched(0), started(1), end="\n")
    file.write_text(file.read_text().replace("\n", "\n  \n"))
    answer = book.sync(folder, clear=True)

    assert (answer.events, answer.new, answer.refused, answer.cleared) == (2, 2, 0, 1)


def test_one_file_is_for_merge(book: Ledger, folder: Path) -> None:
    """A sync of it says so, and merge takes it in."""
    path = put(folder, name_of(), launched(0))
    with pytest.raises(LedgerUnreachable, match=re.escape(f"Take it in with `ledger merge {path}`")):
        book.sync(path)

    assert book.merge(path).new == 1


@pytest.mark.parametrize("verb", ["sync", "merge"])
def test_a_folder_may_bear_the_name_of_a_file(book: Ledger, folder: Path, verb: str) -> None:
    """As copied objects of a run have it that is called so."""
    put(folder, "model.jsonl/00000000-0000-0000-0000-000000000001.jsonl", launched(0))

    assert getattr(book, verb)(folder).new == 1


@pytest.mark.parametrize("verb", ["sync", "merge"])
def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """It is named, the exit code says it, and it stays."""
    for name in "abc":
        put(folder, f"{name}.jsonl", launched(0, run=name))
    real = Path.open

    def failing(self: Path, *said: Any, **more: Any) -> IO[Any]:
        if self.name == "b.jsonl":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, *said, **more)

    monkeypatch.setattr(Path, "open", failing)
    assert main(["--db", str(path), verb, str(folder)]) == 1

    assert f"{folder / 'b.jsonl'} cannot be read (Permission denied)" in capsys.readouterr().out
    with Ledger(path) as book:
        assert [row["run_id"] for row in book.query_runs(order_by="run_id")] == ["a", "c"]
    assert len(list(folder.iterdir())) == 3


def lock_out(path: Path) -> Iterator[None]:
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Each file, whether --clear may remove it, and whether it is read all the same.
FILES: dict[str, tuple[Callable[[], str], bool]] = {
    "sealed": (lambda: name_of(sealed=True), True),
    "sealed, of another host": (lambda: name_of("elsewhere", "b", 1, sealed=True), True),
    "sealed, of a process that runs": (lambda: name_of(pid=os.getpid(), sealed=True), True),
    "open, and its writer is gone": (name_of, True),
    "open, of an earlier boot": (lambda: name_of(boot="11111111-1111", pid=os.getpid()), True),
    "open, and its writer runs": (lambda: name_of(pid=os.getppid()), False),
    "open, and its writer belongs to root": (lambda: name_of(pid=1), False),
    "open, of another host": (lambda: name_of("elsewhere"), False),
    "open, of another host and boot": (lambda: name_of("elsewhere", "b"), False),
    "open, of an unknown boot": (lambda: name_of(boot="noboot", pid=os.getpid()), False),
    "of another name": (lambda: "export.jsonl", False),
    "an object's copy": (lambda: "r/00000000-0000-0000-0000-000000000001.jsonl", False),
}


@pytest.mark.parametrize(("name", "clears"), FILES.values(), ids=FILES)
def test_clear_removes_only_what_nobody_writes_to(
    book: Ledger, folder: Path, name: Callable[[], str], clears: bool
) -> None:
    """Sealed files, and those whose writer is proved gone; the others are merely read."""
    path = put(folder, name(), launched(0), started(1))
    long_ago(path)
    first = book.sync(folder)
    assert (first.new, first.cleared, path.exists()) == (2, 0, True), "clearing is a choice"
    answer = book.sync(folder, clear=True)

    assert (answer.known, answer.cleared, path.exists()) == (2, int(clears), not clears)


def test_clear_leaves_what_somebody_holds(book: Ledger, folder: Path) -> None:
    """A process of another container may share host, boot and pid; it still holds the lock on its file."""
    path = put(folder, name_of(), launched(0))
    for _ in lock_out(path):
        assert book.sync(folder, clear=True).cleared == 0
    assert book.sync(folder, clear=True).cleared == 1


def test_clear_removes_the_torn_file_of_a_dead_writer(book: Ledger, folder: Path) -> None:
    """Its last line was never acknowledged; a sealed file with a torn end is a copy that is not finished."""
    put(folder, name_of(), launched(0), end='{"event_id":"0')
    copy = put(folder, name_of(sealed=True), launched(0, run="b"), end='{"event_id":"0')

    assert book.sync(folder, clear=True).cleared == 1
    assert list(folder.iterdir()) == [copy]


def test_clear_leaves_a_file_with_a_line_that_was_refused(book: Ledger, folder: Path) -> None:
    """What is nowhere else is not removed; what is kept among the conflicts is."""
    book.append(started(0, number=1))
    put(folder, name_of(sealed=True, part="conflict"), started(5, number=1), launched(0))
    kept = put(folder, name_of(sealed=True, part="refused"), launched(0, run="b"), end='{"not": "ours"}\n')
    answer = book.sync(folder, clear=True)

    assert (answer.refused, answer.cleared) == (2, 1)
    assert list(folder.iterdir()) == [kept]


def test_clear_looks_again_before_it_removes(book: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that came in after the file was merged is not in the ledger yet, so the file stays."""
    path = put(folder, name_of(), launched(0))
    real = merging._merge_batch

    def slow(*said: object) -> merging.Merged:
        done = real(*said)  # type: ignore[arg-type]
        with path.open("a") as file:
            file.write(f"{line(started(1))}\n")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(merging, "_merge_batch", slow)
        assert book.sync(folder, clear=True).cleared == 0
    assert (book.sync(folder, clear=True).cleared, len(ids(book))) == (1, 2)


def test_a_live_writer_goes_on_while_it_is_synced(book: Ledger, folder: Path) -> None:
    """Each sync with --clear takes what is there and leaves the file; at the end nothing is missing and all is removed."""
    said: set[str] = set()
    with Ledger(f"spool://{folder}") as spool:
        for step in range(20):
            said.add(spool.append(heartbeat(step)).event_id)
            answer = book.sync(folder, clear=True)
            assert (answer.new, answer.known, answer.cleared) == (1, step, 0)
    assert book.sync(folder, clear=True).cleared == 1
    assert (ids(book), list(folder.iterdir())) == (said, [])


def test_a_live_process_goes_on_while_it_is_synced(book: Ledger, folder: Path) -> None:
    """The same with a writer elsewhere, and until it is killed."""
    writer = writing(f"spool://{folder}", "r")
    said = first_word(writer)
    for _ in range(5):
        assert book.sync(folder, clear=True).cleared == 0
    writer.kill()
    said |= acknowledged(writer)
    assert book.sync(folder, clear=True).cleared == 1
    assert (said - ids(book), list(folder.iterdir())) == (set(), [])


def test_a_file_that_is_sealed_while_it_is_synced_is_read(folder: Path) -> None:
    """Between the listing and the reading its name may change."""
    with Ledger(f"spool://{folder}") as spool:
        spool.append(launched(0))
        (file,) = SpoolFolder(folder).files()
    assert len(list(file.lines())) == 1
    for path in folder.iterdir():
        path.unlink()
    assert list(file.lines()) == []


def test_nothing_acknowledged_is_lost_by_kill_9(book: Ledger, folder: Path) -> None:
    """Writers are killed at random moments, two and two; what they acknowledged is synced, and their files removed."""
    said: set[str] = set()
    for number in range(trials(20, 50) // 2):
        pair = [writing(f"spool://{folder}", f"r{number}-{side}") for side in "ab"]
        if number % 5:
            said |= set().union(*map(first_word, pair))
        time.sleep(random.uniform(0, 0.3))
        for writer in pair:
            writer.kill()
        said |= set().union(*map(acknowledged, pair))
        answer = book.sync(folder, clear=number % 2 == 0)
        assert (answer.refused, said - ids(book)) == (0, set())

    assert book.sync(folder, clear=True).refused == 0
    assert list(folder.iterdir()) == []
    assert len(said) > 20
    assert book.verify()


def test_a_sync_that_is_killed_is_finished_by_the_same_command(tmp_path: Path, folder: Path) -> None:
    """At whatever moment of merging or removing; and nothing is lost or doubled on the way."""
    said = set()
    for number in range(8):
        events = [heartbeat(step, run=f"r{step % 5}", message="x" * 500) for step in range(120)]
        said |= {event.event_id for event in events}
        put(folder, name_of(part=f"p{number}", pid=1, sealed=True), *events)
    killed = 0
    for number in range(trials(20, 50)):
        work = tmp_path / f"work-{number}"
        shutil.copytree(folder, work / "spool")
        with Ledger(work / "runs.db") as book:
            book.init_db()
        command = [
            sys.executable,
            "-m",
            "ledger",
            "--db",
            work / "runs.db",
            "--json",
            "sync",
            work / "spool",
            "--clear",
        ]
        sync = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        _wait_until(lambda sync=sync, work=work: sync.poll() is not None or (work / "runs.db-wal").exists())
        time.sleep(random.uniform(0, 0.4))
        sync.kill()
        sync.communicate()
        killed += sync.returncode < 0
        with Ledger(work / "runs.db") as book:
            left = {json.loads(text)["event_id"] for _, _, text in SpoolFolder(work / "spool").lines()}
            assert left | ids(book) == said
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        with Ledger(work / "runs.db") as book:
            assert (ids(book), list((work / "spool").iterdir()), book.verify().differences) == (said, [], ())
        shutil.rmtree(work)
    assert killed > 3


def _wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_an_event_of_a_version_to_come_arrives(book: Ledger, folder: Path) -> None:
    """A node may run newer code than the ledger: what it says is kept, and shown as it is."""
    with Ledger(f"spool://{folder}") as spool:
        spool.append(unknown(0, type="moon_landed", payload={"x": 1}))

    assert book.sync(folder).new == 1
    assert [event.type for event in book.events()] == ["moon_landed"]


def test_a_presumed_crash_gives_way_to_a_witnessed_end(book: Ledger, folder: Path) -> None:
    """Of a run that completed where the spool could not see it, the attachment stays, and the status too."""
    book.insert_run("ended", None, {})
    book.update_run_status("ended", "completed")
    book.insert_run("silent", None, {})
    with Ledger(f"spool://{folder}") as spool:
        for run_id in ("ended", "silent"):
            spool.attach_crash_data(run_id, "log")
    book.sync(folder)

    assert {row["run_id"]: (row["status"], row["error_log_s3_key"]) for row in book.query_runs()} == {
        "ended": ("completed", "log"),
        "silent": ("crashed", "log"),
    }
