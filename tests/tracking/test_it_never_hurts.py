"""Whatever becomes of the database, training goes on to its end, and afterwards every event is there, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tracking.processes import Place

STEPS = 20_000

TRAINING = f"""
import sys, ledger
with ledger.track("r", heartbeat_seconds=0.5) as run:
    print("begun", flush=True)
    sys.stdin.readline()
    for step in range({STEPS}):
        run.log({{"loss": 1 / (step + 1)}}, step=step)
    run.note("all of it")
    print(run.counted, file=sys.stderr)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    with made.ledger() as book:
        book.insert_run("r", None, {"batch_size": 8})
    return made


def steps_of(place: Place) -> list[int]:
    with place.ledger() as book:
        return [step for event in book.events("r", types="metrics_logged") for step in event.event.columns["step"]]  # type: ignore[attr-defined]


def assert_all_is_there(place: Place) -> None:
    """Every step is in the ledger once, with the start and the end, and nothing is wrong with it."""
    place.sync()
    with place.ledger() as book:
        assert book.verify()
        types = [event.type for event in book.events("r")]
    assert steps_of(place) == list(range(STEPS))
    assert (types.count("started"), types.count("completed"), types.count("annotated")) == (1, 1, 1)
    assert place.row()["status"] == "completed"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database's lock in another process."""
    hold = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", hold, str(path)], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()


def begun(place: Place, **env: str) -> subprocess.Popen[str]:
    process = place.start(TRAINING, env=env, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def finished(process: subprocess.Popen[str]) -> str:
    """Let the training go on to its end, which has to be a good one, and return what it said."""
    _, err = process.communicate("go\n", timeout=120)
    assert process.returncode == 0, err
    return err


def test_with_the_database_there(place: Place) -> None:
    """Nothing is spooled and nothing is said, where nothing is wrong."""
    err = finished(begun(place))

    assert "spool" not in err
    assert "written=" in err
    assert not list(place.spool.glob("*")) if place.spool.exists() else True
    assert_all_is_there(place)


def test_with_the_database_locked_all_the_time(place: Place) -> None:
    """From before the start to after the end somebody else has the lock: it all goes to the spool, and that is said."""
    with locked(place.path):
        err = finished(begun(place))

    assert err.count("was locked by another process") == 1
    assert f"sync {place.spool}" in err
    assert_all_is_there(place)


def test_with_the_database_locked_for_a_while(place: Place) -> None:
    """What was spooled meanwhile is brought in by the process itself."""
    process = begun(place)
    with locked(place.path):
        assert process.stdin is not None
    finished(process)

    assert_all_is_there(place)


@contextmanager
def moved_away(place: Place) -> Iterator[Path]:
    """Take the ledger's folder, with all that lies in it, out of its place, and put it back."""
    elsewhere = place.folder / "elsewhere"
    os.rename(place.path.parent, elsewhere)
    yield elsewhere
    os.rename(elsewhere, place.path.parent)


def test_with_a_place_that_cannot_be_opened(place: Place) -> None:
    """Something that is no folder lies where the ledger was."""
    process = begun(place)
    with moved_away(place):
        place.path.parent.write_text("in the way", encoding="utf-8")
        err = finished(process)
        place.path.parent.unlink()

    assert "spool" in err
    assert_all_is_there(place)


def test_with_the_database_deleted(place: Place) -> None:
    """The file is gone in the middle of a run: nobody makes a new one in its place, and nothing is lost."""
    process = begun(place)
    with moved_away(place):
        finished(process)
        assert not place.path.parent.exists()

    assert_all_is_there(place)


def test_with_a_database_that_can_only_be_read(place: Place) -> None:
    """A ledger that this process may read and not write: all of it goes to the spool."""
    # Root may write to everything; once all is loaded that somebody else may not read, it is root no more.
    script = f"""
import os, sys, ledger, ledger.fallback, ledger.spool.folder
os.umask(0)
with ledger.Ledger({str(place.folder / "warm.db")!r}).track("r") as run:
    run.log({{"loss": 1}})
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
{TRAINING}"""
    for folder in (place.folder, *place.folder.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    place.state.mkdir()
    place.state.chmod(0o777)
    place.path.chmod(0o444)
    place.path.parent.chmod(0o555)
    process = place.start(script, stdin=subprocess.PIPE)
    err = finished(process)
    place.path.parent.chmod(0o755)
    place.path.chmod(0o644)

    assert "spool" in err
    assert_all_is_there(place)


def test_with_the_disks_full(tmp_path: Path) -> None:
    """Neither ledger nor spool has room: training ends well all the same, and how much was lost is said."""
    place = Place(tmp_path)
    script = TRAINING.replace("sys.stdin.readline()", "fill()").replace(
        "import sys, ledger",
        "import sys, ledger, resource\n"
        "def fill(): resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)",
    )
    code, _, err = place.run(script)

    assert code == 0, err
    assert "neither the ledger nor a spool takes what is recorded" in err
    assert "lost" in err
    assert place.row()["status"] == "running"


def test_with_no_configuration_the_first_second_is_cheap(tmp_path: Path) -> None:
    """Without any ledger `track` raises at entry."""
    place = Place(tmp_path)
    code, _, err = place.run(TRAINING, env={"TRAINING_DB_PATH": ""})

    assert code == 1
    assert "TRAINING_DB_PATH not set" in err


def test_switched_off(tmp_path: Path) -> None:
    """With TRAINING_DB_URL=off nothing is recorded, which is said once."""
    place = Place(tmp_path)
    process = begun(place, TRAINING_DB_URL="off")
    err = finished(process)

    assert err.count("TRAINING_DB_URL=off") == 1
    assert not place.path.exists()


def test_on_a_spool_from_the_start(tmp_path: Path) -> None:
    """A node without a route records to its spool, without SQLAlchemy, and a sync brings all of it in."""
    place = Place(tmp_path)
    script = TRAINING + "\nassert 'sqlalchemy' not in sys.modules"
    process = place.start(script, env={"TRAINING_DB_URL": f"spool://{place.spool}"}, stdin=subprocess.PIPE)
    finished(process)

    assert_all_is_there(place)


def test_kill_9_loses_only_what_waited(place: Place) -> None:
    """What was flushed before a SIGKILL is there, whole."""
    script = TRAINING.replace("run.note", "run.flush(); import os; os.kill(os.getpid(), 9)\n    run.note").replace(
        "sys.stdin.readline()", ""
    )
    code, _, _ = place.run(script)

    assert code == -signal.SIGKILL
    assert steps_of(place) == list(range(STEPS))
    assert place.row()["status"] == "running"
