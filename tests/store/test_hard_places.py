"""Hard places: a full disk, a network filesystem, a folder that may not be written to. Nothing acknowledged is lost."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import LedgerError, LedgerUnreachable
from ledger.store.filesystem import on_network
from tests.builders import annotated, heartbeat, launched, shown, told
from tests.store.crowd import crowd
from tests.store.test_forks_and_threads import in_a_process

MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
hub:/export /mnt/team\\040data nfs4 rw 0 0
/dev/nvme1 /mnt/team\\040data/scratch xfs rw 0 0
mds@tcp:/lustre /expanse/lustre lustre rw 0 0
sshfs /home/ada/hub fuse.sshfs rw 0 0
short
"""


@pytest.mark.parametrize(
    ("place", "network"),
    [
        ("/data/runs.db", False),
        ("/mnt/team data/runs.db", True),
        ("/mnt/team data/scratch/runs.db", False),
        ("/mnt/team data/deep/er/runs.db", True),
        ("/mnt/team", False),
        ("/expanse/lustre/ada/runs.db", True),
        ("/expanse/lustre2/runs.db", False),
        ("/home/ada/hub/runs.db", True),
        ("/home/ada/runs.db", False),
    ],
)
def test_a_network_filesystem_is_known_by_its_mount(tmp_path: Path, place: str, network: bool) -> None:
    """The innermost mount that holds the file says of what kind it is."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)

    assert on_network(Path(place), mounts) is network


def test_where_the_system_does_not_say_it_is_local(tmp_path: Path) -> None:
    """Without a list of mounts, as on other systems, nothing is assumed."""
    assert on_network(Path("/data/runs.db"), tmp_path / "no such list") is False


def test_a_link_lies_where_it_leads(tmp_path: Path) -> None:
    """What matters is where the file is, not where its name is."""
    (tmp_path / "far").mkdir()
    (tmp_path / "runs.db").symlink_to(tmp_path / "far" / "runs.db")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nhub:/export {tmp_path / 'far'} nfs rw 0 0\n")

    assert on_network(tmp_path / "runs.db", mounts)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every place lie on a network filesystem, here and in the processes of a crowd."""
    monkeypatch.setattr("ledger.store.sqlite.on_network", lambda path: True)
    monkeypatch.setenv("CROWD_ON_NETWORK", "yes")


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        mode: str = db.execute("PRAGMA journal_mode").fetchone()[0]
        return mode


@pytest.mark.usefixtures("network")
def test_on_a_network_there_is_no_wal(path: Path) -> None:
    """The ledger does all it does with a rollback journal, which needs no memory shared between machines."""
    with Ledger(path) as book, Ledger(path) as other:
        for number in range(40):
            (book if number % 2 else other).append(heartbeat(number, step=number))
        assert {file.name for file in path.parent.iterdir()} <= {"runs.db", "runs.db-journal"}
        assert (shown(book), bool(book.verify())) == (told(other.events()), True)

    assert ([file.name for file in path.parent.iterdir()], journal_mode(path)) == (["runs.db"], "delete")


@pytest.mark.usefixtures("network")
def test_many_processes_on_a_network(path: Path) -> None:
    """Eight writers at once, with a rollback journal: each event is there once, and no error reaches anybody."""
    answers = crowd("append", 8, path, 15)

    assert [answer["error"] for answer in answers if "error" in answer] == []
    assert journal_mode(path) == "delete"
    with Ledger(path) as book:
        assert {event.event_id for event in book.events()} == {each for answer in answers for each in answer["ids"]}
        assert book.verify()


def test_a_ledger_that_moved_to_a_network_leaves_its_wal(path: Path, request: pytest.FixtureRequest) -> None:
    """Made on a local disk, it is turned to a rollback journal when it is first written to over there."""
    with Ledger(path) as book:
        book.append(launched(0))
    assert journal_mode(path) == "wal"
    request.getfixturevalue("network")

    with Ledger(path) as book:
        book.append(heartbeat(1, step=1))

    assert journal_mode(path) == "delete"


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """The call says that it is full and that nothing was written; when there is room again, it goes on."""
    out = in_a_process(
        """
        import resource, signal
        from ledger.errors import LedgerError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        book = Ledger(sys.argv[1])
        said = [book.append(Started(run_id="r")).event_id]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
        for number in range(10_000):
            event = Annotated(run_id=f"r{number % 3}", note="x" * 2000)
            try:
                said.append(book.append(event).event_id)
            except LedgerError as exc:
                assert "nothing was written" in str(exc), exc
                break
        else:
            raise AssertionError("the disk was never full")
        assert book.get_run("r") is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.append(book.append(event).event_id)
        assert book.verify().differences == ()
        book.close()
        print("\\n".join(said))
        """,
        path,
    )

    with Ledger(path) as book:
        assert {event.event_id for event in book.events()} == set(out.split())
        assert book.verify()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no queue")
def test_who_is_stuck_at_the_head_of_the_queue_stops_nobody(path: Path) -> None:
    """Whoever has locked the folder, and does not go on, delays the others and no more."""
    import fcntl

    with Ledger(path, busy_seconds_max=0.2) as book, Ledger(path) as patient:
        book.append(launched(0))
        stuck = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(stuck, fcntl.LOCK_EX)
            positions = [book.append(heartbeat(number, step=number)).position for number in range(3)]
        finally:
            os.close(stuck)

        assert positions == [2, 3, 4]
        assert patient.append(heartbeat(9, step=9)).position == 5


@pytest.mark.parametrize("place", ["file/runs.db", "folder", "file/deep/runs.db"])
def test_a_place_that_cannot_be_is_an_error_of_ours(tmp_path: Path, place: str) -> None:
    """A folder in place of the file, a file in place of the folder: an error that names the place, and nothing else changes."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")

    with Ledger(tmp_path / place) as book, pytest.raises(LedgerUnreachable, match=place.partition("/")[0]):
        book.append(launched(0))

    assert ((tmp_path / "file").read_text(), list((tmp_path / "folder").iterdir())) == ("precious", [])


def test_a_damaged_file_is_said_to_be_damaged(path: Path) -> None:
    """What SQLite finds malformed is an error that says what to do, for readers and writers."""
    with Ledger(path) as book:
        book.append([annotated(number, run=f"r{number}", note="x" * 3000) for number in range(200)])
    content = bytearray(path.read_bytes())
    content[4096 * 4 : 4096 * 60] = b"\xff" * (4096 * 56)
    path.write_bytes(content)

    for do in (Ledger.verify, lambda book: book.append(launched(0)), lambda book: book.query_runs(limit=None)):
        with Ledger(path) as book, pytest.raises(LedgerError, match="restore-backup"):
            do(book)


def test_reading_a_backup_does_not_change_it(path: Path, tmp_path: Path) -> None:
    """Whoever only asks leaves every byte as it was."""
    with Ledger(path) as book:
        book.append(launched(0))
        kept = book.backup(tmp_path / "backup.db")
    before = kept.read_bytes()

    with Ledger(kept) as book:
        assert book.count_runs() == 1

    assert kept.read_bytes() == before
