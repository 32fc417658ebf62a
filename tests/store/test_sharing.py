"""A large ledger is folded by two processes as by one, whatever becomes of the second."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import LedgerDamaged
from ledger.events import Event
from ledger.store import second, sharing
from ledger.store.bounds import EVERYTHING, Bounds
from ledger.store.folding import folded_runs
from ledger.store.forking import identity
from ledger.store.run_rows import RunRows
from ledger.store.second import File, Second
from ledger.store.sqlite import SQLiteDatabase
from tests.behind import behind
from tests.builders import completed, heartbeat, launched, metrics_logged, shown, told, wandb_attached
from tests.store.test_verify import EVENTS, ON_SQLITE, TAMPERINGS, filled
from tests.strategies import histories


class Noted:
    """What was asked of second processes, what came back from them, and the processes."""

    def __init__(self) -> None:
        self.asked = 0
        self.runs: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []


@contextmanager
def sharing_much(span: int = 5, *, may_start: Callable[[], bool] = lambda: True) -> Iterator[Noted]:
    """Let every ledger be folded by two, a few positions at a time."""
    noted = Noted()

    class Watched(Second):
        def __init__(self, file: File, *more: object) -> None:
            super().__init__(file, *more)
            if self._process is not None:
                noted.processes.append(self._process)

        def ask(self, spans):
            before = len(spans)
            super().ask(spans)
            noted.asked += before - len(spans)

        def _take(self):
            for part in super()._take():
                noted.runs += [run.run_id for run in part.runs]
                yield part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "SPAN", span)
        patch.setattr(sharing, "SPANS_MIN", 2)
        patch.setattr(sharing, "Second", Watched)
        patch.setattr(second, "_may_start", may_start)
        yield noted
        for process in noted.processes:
            assert process.poll() is not None, "a second process outlived what it was for"


def by_one(path: Path, bounds: Bounds) -> dict[str, RunRows]:
    with closing(SQLiteDatabase(str(path))) as database:
        return {run.run_id: run for run in folded_runs(database.snapshot, bounds)}


def by_two(path: Path, bounds: Bounds = EVERYTHING) -> dict[str, RunRows]:
    made: dict[str, RunRows] = {}
    with closing(SQLiteDatabase(str(path))) as database:
        for part in sharing.folded_in_parts(database.snapshot, bounds, runs_max=2):
            for run in part.runs:
                assert run.run_id not in made, "a run came twice"
                made[run.run_id] = run
    return made


def some_events(runs: int = 12) -> list[Event]:
    """Several runs at a time, which go on across spans, and one that goes on to the end."""
    made: list[Event] = []
    for number in range(runs):
        run = f"r{number}"
        made += [
            launched(number, run=run, config={"lr": number}),
            wandb_attached(number, run=run, wandb_run_id=f"w{number % 5}"),
        ]
        made += [heartbeat(number + step, run="long", step=step, metrics={"loss": 0.1}) for step in range(2)]
        made.append(
            metrics_logged(number, run=f"r{number // 2}", columns={"step": [1, 2], "loss": [1.0, 0.5 / (number + 1)]})
        )
    return [*made, *(completed(99, run=f"r{number}") for number in range(0, runs, 2))]


@pytest.fixture
def many(path: Path) -> Path:
    """Give a ledger of several spans."""
    with Ledger(path) as book:
        book.append(some_events())
    return path


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=histories(), span=st.integers(1, 9), data=st.data())
def test_two_processes_fold_what_one_does(tmp_path: Path, events: list[Event], span: int, data: st.DataObject) -> None:
    """Whatever there is and wherever spans end: the same rows, and each run once; what came later is not in it."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
    with Ledger(path) as book:
        positions = [recorded.position for recorded in book.append([*events, *some_events(3)])]
    last = data.draw(st.sampled_from(positions))
    with sharing_much(span) as noted:
        assert by_two(path) == by_one(path, EVERYTHING)
        assert by_two(path, Bounds(last)) == by_one(path, Bounds(last))
    assert noted.asked


def test_both_processes_take_their_part(many: Path) -> None:
    """The second one folds runs of its own, and not all of them."""
    with sharing_much() as noted:
        everything = by_two(many)
    assert 0 < len(noted.runs) < len(everything)
    assert set(noted.runs) < everything.keys()


def test_replay_verify_and_the_past_are_shared(many: Path) -> None:
    """Each asks a second process, and what comes of it is settle(fold)."""
    with Ledger(many) as book:
        right = told(book.events())
        for use in (book.replay, book.verify, lambda: shown(book.as_of()), lambda: list(book.replay(dry_run=True))):
            with sharing_much() as noted:
                use()
            assert noted.asked
            assert shown(book) == right
        with sharing_much(), book.as_of() as view:
            assert view.count_runs() == book.count_runs()
        assert book.verify().differences == ()


ENDS = {
    "does not start": "raise SystemExit(3)",
    "ends before it has folded anything": (
        "from ledger.store import second; second._greeting = lambda: raise_(); second.fold_beside(*map(int, sys.argv[1:3]))"
    ),
    "ends when a span is half done": (
        "from ledger.store import second as s; every = s.parts_of; "
        "s.parts_of = lambda *given: (part for n, part in enumerate(every(*given)) if n < 1 or sys.exit(4)); "
        "s.fold_beside(*map(int, sys.argv[1:3]))"
    ),
    "is killed": "import os; os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_where_the_second_process_ends_this_one_goes_on(
    many: Path, code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had not folded is folded here, what it had is not written twice, and it is said."""
    monkeypatch.setattr(second, "_CODE", f"import sys; sys.path[:] = sys.argv[3:]; {code}")
    right = by_one(many, EVERYTHING)
    with sharing_much(span=15) as noted:
        assert by_two(many) == right
        with Ledger(many) as book:
            book.replay()
            assert book.verify()
    assert len(noted.processes) == 3
    assert "this one goes on" in caplog.text


@pytest.mark.parametrize("executable", ["/nowhere/python3", "/usr/sbin/uwsgi", "", None])
def test_without_an_interpreter_there_is_no_second_process(
    many: Path, executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be started, or that is another program, is done without."""
    monkeypatch.setattr(second.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(sys, "executable", executable)
    with sharing_much(may_start=second._may_start) as noted:
        assert by_two(many) == by_one(many, EVERYTHING)
    assert not noted.processes


def test_with_one_processor_there_is_no_second_process(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would only take turns with this one."""
    monkeypatch.setattr(second.os, "sched_getaffinity", lambda _: {0}, raising=False)
    with sharing_much(may_start=second._may_start) as noted:
        by_two(many)
    assert not noted.asked


def test_code_of_another_version_is_not_asked(
    many: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that runs for days may be older than what is installed now, and folds by other rules."""
    monkeypatch.setattr(second, "_greeting", lambda: ("0.0.1", "other rules"))
    with sharing_much() as noted:
        assert by_two(many) == by_one(many, EVERYTHING)
    assert (noted.runs, noted.asked > 0) == ([], True)
    assert "this one goes on" in caplog.text


def test_a_file_that_was_put_in_its_place_is_not_read(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the very file that this process has open."""
    monkeypatch.setattr(second, "identity", lambda path: (identity(path) or (0, 0))[0:1] + (1,))
    with sharing_much() as noted:
        assert by_two(many) == by_one(many, EVERYTHING)
    assert not noted.runs


def test_a_small_ledger_is_folded_by_one(many: Path) -> None:
    """To start a process would take longer."""
    with sharing_much() as noted, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "SPAN", 20_000)
        by_two(many)
    assert not noted.processes


def test_whoever_stops_early_leaves_no_process(many: Path) -> None:
    """An interrupt, or a generator that nobody asks on."""
    with sharing_much() as noted, closing(SQLiteDatabase(str(many))) as database:
        parts = sharing.folded_in_parts(database.snapshot, runs_max=1)
        next(parts)
        parts.close()
        assert [process.poll() for process in noted.processes] == [-signal.SIGKILL]


WORKING = """
import sys, time
from ledger import Ledger
from ledger.store import second, sharing

sharing.SPAN, sharing.SPANS_MIN, second._may_start = 5, 2, lambda: True
shared = sharing._shared

def slowly(*given):
    for part in shared(*given):
        yield part
        print("part", flush=True)
        time.sleep(0.2)

sharing._shared = slowly
with Ledger(sys.argv[1]) as book:
    book.replay()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for a process's children")
def test_the_second_process_goes_with_a_first_one_that_is_killed(many: Path) -> None:
    """kill -9 leaves nobody behind who holds the file open, and the next replay finishes the work."""
    process = subprocess.Popen([sys.executable, "-c", WORKING, str(many)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while any(is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert children
    assert not any(is_alive(child) for child in children)
    with Ledger(many) as book:
        book.replay()
        assert book.verify()


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a ledger with which nobody tampered, as one closed file."""
    path = tmp_path_factory.mktemp("whole") / "runs.db"
    filled(path)
    return path


@pytest.mark.parametrize("what", [*TAMPERINGS, *(f"sqlite: {what}" for what in ON_SQLITE)])
def test_two_processes_find_what_one_does(whole: Path, path: Path, what: str) -> None:
    """Whatever somebody did behind the ledger's back is found by both ways, and no kind less."""
    shutil.copyfile(whole, path)
    sql, kind = ON_SQLITE[what.removeprefix("sqlite: ")] if what.startswith("sqlite: ") else TAMPERINGS[what]
    with behind(path) as db:
        columns = ", ".join(db.columns("training_runs"))
        for statement in sql.replace("{columns}", columns).split("\n"):
            db.execute(statement)
    with Ledger(path) as book:
        alone = book.verify()
        with sharing_much(span=4):
            shared = book.verify()
    assert kind in {difference.kind for difference in shared.differences}
    assert {difference.kind for difference in shared.differences} == {
        difference.kind for difference in alone.differences
    }
    assert (shared.events, shared.runs) == (alone.events, alone.runs)


def test_the_first_difference_is_that_of_the_earliest_event(many: Path) -> None:
    """Whichever process is the faster, the same one is named."""
    with behind(many) as db:
        db.execute(f"UPDATE {EVENTS} SET source = '{{}}' WHERE position > 2")
    with Ledger(many) as book:
        alone = [found for found in book.verify().differences if found.kind == "digest"]
        for _ in range(3):
            with sharing_much() as noted:
                assert [found for found in book.verify().differences if found.kind == "digest"] == alone
            assert noted.asked


def test_a_position_beyond_all_others_makes_no_more_spans(many: Path) -> None:
    """Somebody may have moved an event there behind the ledger's back."""
    with behind(many) as db:
        db.execute(f"UPDATE {EVENTS} SET position = {2**62} WHERE position = 9")
    with Ledger(many) as book, sharing_much() as noted:
        assert {"head", "position"} <= {found.kind for found in book.verify().differences}
        book.replay()
    assert noted.asked < 3_000


def test_bytes_that_are_no_text_are_damage_to_both(many: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second process ends with them, and this one says what they are."""
    with behind(many) as db:
        db.execute(f"UPDATE {EVENTS} SET payload = CAST(x'7bff7d' AS TEXT) WHERE position = 7")
    caplog.set_level(logging.WARNING, logger="ledger")
    with Ledger(many) as book, sharing_much():
        with pytest.raises(LedgerDamaged, match="no UTF-8"):
            book.replay()
        assert {"digest"} <= {found.kind for found in book.verify().differences}
