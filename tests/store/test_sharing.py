"""A large ledger is folded by two processes as by one, whatever becomes of the second."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from multiprocessing import Pipe
from pathlib import Path
from threading import Semaphore, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import LedgerDamaged
from ledger.events import Event
from ledger.events.times import text_of
from ledger.store import beside, folding, prepared, replay, second, sharing, sqlite, starting
from ledger.store.beside import File, Outbox
from ledger.store.bounds import EVERYTHING, Bounds
from ledger.store.folding import Span, folded_runs
from ledger.store.parts import Plan
from ledger.store.run_rows import RunRows
from ledger.store.second import Second
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
        patch.setattr(sharing, "may_start", may_start)
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


STARTED = "import sys; words, sys.path[:] = sys.argv[1:3], sys.argv[3:]; from ledger.store import beside; "
GOING_ON = "beside.fold_beside(*map(int, words))"
HALF = (
    "beside.parts_of = lambda *given: (part for n, part in enumerate(every(*given)) if n < 1 or sys.exit('enough')); "
)
ENDS = {
    "does not start": ("raise SystemExit(3)", "exit code 3"),
    "ends before it has folded anything": (f"beside.greeting = lambda: 1 / 0; {GOING_ON}", "ZeroDivisionError"),
    "ends when a span is half done": (f"every = beside.parts_of; {HALF}{GOING_ON}", "enough (exit code 1)"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
    "says nothing": ("import time; time.sleep(600)", "it said nothing for 1 s"),
}


@pytest.mark.parametrize(("code", "reason"), ENDS.values(), ids=ENDS)
def test_where_the_second_process_ends_this_one_goes_on(
    many: Path, code: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had not folded is folded here, what it had is not written twice, and it is said why."""
    monkeypatch.setattr(second, "_CODE", STARTED + code)
    monkeypatch.setattr(second, "SILENT_SECONDS_MAX", 1.0 if "nothing" in reason else 60.0)
    right = by_one(many, EVERYTHING)
    with sharing_much(span=15) as noted:
        assert by_two(many) == right
        with Ledger(many) as book:
            book.replay()
            assert book.verify()
    assert len(noted.processes) == 3
    assert caplog.text.count(reason) == (1 if "enough" in reason else 3)  # for a part is larger than a span there


@pytest.mark.parametrize("executable", ["/nowhere/python3", "/usr/bin/python-trainer", "/usr/sbin/uwsgi", "", None])
def test_without_an_interpreter_there_is_no_second_process(
    many: Path, executable: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be started, or that is another program, is done without; what could not be is said."""
    monkeypatch.setattr(starting.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(sys, "executable", executable)
    with sharing_much(may_start=starting.may_start) as noted:
        assert by_two(many) == by_one(many, EVERYTHING)
    assert not noted.processes
    assert caplog.text.count("could not be started") == (executable == "/nowhere/python3")


def test_a_frozen_program_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its executable is the program itself, whatever it is called."""
    monkeypatch.setattr(starting.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert starting.may_start()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not starting.may_start()


def test_with_one_processor_there_is_no_second_process(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would only take turns with this one."""
    monkeypatch.setattr(starting.os, "sched_getaffinity", lambda _: {0}, raising=False)
    with sharing_much(may_start=starting.may_start) as noted:
        by_two(many)
    assert not noted.asked


def test_code_of_another_version_is_not_asked(
    many: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that runs for days may be older than what is installed now, and folds by other rules."""
    monkeypatch.setattr(second, "greeting", lambda: ("0.0.1", "other rules"))
    with sharing_much() as noted:
        assert by_two(many) == by_one(many, EVERYTHING)
    assert (noted.runs, noted.asked > 0) == ([], True)
    assert "and this process by 0.0.1 other rules" in caplog.text


def test_a_file_that_was_put_in_its_place_is_not_read(
    many: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the very file that this process has open."""
    monkeypatch.setattr(sharing, "identity", lambda _: (1, 1))
    with sharing_much() as noted:
        assert by_two(many) == by_one(many, EVERYTHING)
    assert not noted.runs
    assert "another file lies there now" in caplog.text


def test_a_file_that_is_replaced_meanwhile_is_read_to_its_end(many: Path, tmp_path: Path) -> None:
    """By both: what is shown of one ledger has nothing of the other."""
    with Ledger(tmp_path / "other.db") as other:
        other.append([launched(number, run=f"other-{number}") for number in range(200)])
    right = by_one(many, EVERYTHING)
    with sharing_much() as noted, closing(SQLiteDatabase(str(many))) as database, database.snapshot() as ledger:
        parts = sharing.folded_in_parts(lambda: nullcontext(ledger), runs_max=1)
        made = [run for _ in range(3) for run in next(parts).runs]
        while not noted.runs:  # until the second one has the file open
            made += next(parts).runs
        (tmp_path / "other.db").replace(many)
        made += [run for part in parts for run in part.runs]
    assert {run.run_id: run for run in made} == right
    assert len(made) == len(right)


def test_without_a_wal_there_is_no_second_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a writer that waits for this process would not let another one begin to read."""
    monkeypatch.setattr(sqlite, "on_network", lambda _: True)
    with Ledger(path) as book, sharing_much() as noted:
        book.append(some_events())
        for use in (
            book.replay,
            book.verify,
            lambda: book.as_of().count_runs(),
            lambda: list(book.replay(dry_run=True)),
        ):
            use()
    assert not noted.processes


def test_a_folder_of_a_name_that_is_no_utf_8_is_shared_too(tmp_path: Path) -> None:
    """A path is bytes to the system, and a text only to people."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("a filesystem of texts")
    with Ledger(f"{folder}/runs.db") as book, sharing_much() as noted:
        book.append(some_events())
        book.replay()
        assert book.verify()
        with book.as_of() as view:
            assert view.count_runs() == book.count_runs()
    assert noted.runs


def test_long_runs_are_not_counted_again_in_every_span(path: Path) -> None:
    """That a run began before is seen at its first event, however many it has."""
    with Ledger(path) as book:
        book.append([heartbeat(step, run=f"r{step % 3}", step=step) for step in range(3_000)])
        bounds = Bounds(2**62, recorded_at_max=text_of([recorded.recorded_at for recorded in book.events()][-1]))
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    with closing(SQLiteDatabase(str(path))) as database, database.read() as connection:
        folding._begun(connection, ["r0"], 1_500, bounds)  # read the schema
        connection.set_progress_handler(step, 10)
        assert folding._begun(connection, ["r0", "r1", "r2", "r3"], 1_500, bounds) == {"r0", "r1", "r2"}
        connection.set_progress_handler(None, 0)
    assert steps < 20


def test_many_open_files_are_no_failure(many: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no pipe can be had, one process folds."""

    def none_left(**_: object) -> None:
        raise OSError(24, "Too many open files")

    with sharing_much() as noted, pytest.MonkeyPatch.context() as patch:
        patch.setattr(second, "Pipe", none_left)
        assert by_two(many) == by_one(many, EVERYTHING)
    assert not noted.processes
    assert "Too many open files" in caplog.text


def test_to_ask_one_that_has_ended_is_no_signal(many: Path) -> None:
    """A program that leaves SIGPIPE as the system has it goes on."""
    code = (
        "import signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "from ledger import Ledger\n"
        "from ledger.store import second, sharing\n"
        "sharing.SPAN, sharing.SPANS_MIN, sharing.may_start = 5, 2, lambda: True\n"
        "start = second.start\n"
        "def ended(*given):\n"
        "    process = start('raise SystemExit', *given[1:])\n"
        "    process.wait()\n"
        "    return process\n"
        "second.start = ended\n"
        "with Ledger(sys.argv[1]) as book: assert book.verify() and book.replay()"
    )
    assert subprocess.run([sys.executable, "-c", code, str(many)]).returncode == 0


@pytest.mark.parametrize("flags", [["-I"], ["-E", "-s"], ["-OO"]])
def test_the_second_interpreter_is_started_as_the_first_one_was(flags: list[str], tmp_path: Path) -> None:
    """With its flags, and no module from where one happens to stand."""
    (tmp_path / "json.py").write_text("raise SystemExit('a module from here was taken')")
    code = (
        "import os, sys, tempfile; sys.path[:] = [*sys.path, 'src']\n"
        "from ledger.store import starting\n"
        "os.chdir(sys.argv[1])\n"
        "errors = tempfile.TemporaryFile()\n"
        "said = 'import json, sys, ledger.store.beside; sys.exit(str([sys.argv[1], list(sys.flags)]))'\n"
        "process = starting.start('import sys; sys.path[:] = sys.argv[2:]; ' + said, ['word'], [], errors)\n"
        "process.wait(); errors.seek(0); told = errors.read().decode()\n"
        "assert told.strip() == str(['word', list(sys.flags)]), (told, list(sys.flags))"
    )
    done = subprocess.run([sys.executable, *flags, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("replaying", [True, False])
def test_an_error_that_is_kept_keeps_no_process(many: Path, replaying: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a prompt does, and a future."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(replay if replaying else prepared, "write_runs", fails)
    for module, name in ((replay, "_RUNS_HELD"), (replay, "_RUNS_A_PART"), (prepared, "_CHUNK")):
        monkeypatch.setattr(module, name, 1)  # so that it fails before all runs were folded
    with sharing_much() as noted, Ledger(many) as book:
        kept = None
        try:
            book.replay() if replaying else book.as_of().count_runs()
        except ZeroDivisionError as exc:
            kept = exc
        assert kept is not None
        assert [process.poll() is None for process in noted.processes] == [False]


WORKING = """
import sys, time
from ledger import Ledger
from ledger.store import sharing

sharing.SPAN, sharing.SPANS_MIN, sharing.may_start = 5, 2, lambda: True
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


FORKING = WORKING.replace(
    "shared = sharing._shared",
    """
import os
from ledger.store import second

started = second.Second.__init__

def start_and_fork(self, *given):
    started(self, *given)
    if os.fork() == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)

second.Second.__init__ = start_and_fork
shared = sharing._shared
""",
)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for a process's children")
@pytest.mark.parametrize("program", [WORKING, FORKING], ids=["alone", "forked meanwhile"])
def test_the_second_process_goes_with_a_first_one_that_is_killed(many: Path, program: str) -> None:
    """kill -9 leaves nobody behind who holds the file open, and the next replay finishes the work."""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, str(many)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    process.stdout.close()
    seconds = [child for child in children if b"fold_beside" in Path(f"/proc/{child}/cmdline").read_bytes()]
    deadline = time.monotonic() + 20
    while any(is_alive(child) for child in seconds) and time.monotonic() < deadline:
        time.sleep(0.02)
    for child in set(children) - set(seconds):
        os.kill(int(child), signal.SIGKILL)
    assert seconds or len(children) == 1
    assert not any(is_alive(child) for child in seconds)
    with Ledger(many) as book:
        book.replay()
        assert book.verify()


def test_the_second_process_folds_on_while_nobody_takes_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe holds little, and who takes from it may be writing; what waits in memory is bounded."""
    monkeypatch.setattr(beside, "HELD_BYTES_MAX", 1_000_000)
    taken, told = Pipe(duplex=False)
    with taken, told:
        outbox, put = Outbox(told), Semaphore(0)

        def fold() -> None:
            for number in range(9):
                outbox.put([number] * 200_000)  # 400,000 bytes or more
                put.release()

        folding = Thread(target=fold, daemon=True)
        folding.start()
        assert all(put.acquire(timeout=30) for _ in range(2))
        waits = not all(put.acquire(timeout=1) for _ in range(3))
        assert waits, "what nobody takes is held without bound"
        assert [taken.recv()[0] for _ in range(9)] == list(range(9))
        folding.join(30)
        outbox.put("x" * 2_000_000)  # more than the bound, and nothing else is there
        assert len(taken.recv()) == 2_000_000


def test_what_was_folded_is_handed_over_before_an_error_ends_the_second_process() -> None:
    taken, told = Pipe(duplex=False)
    with taken, told:

        def fails() -> None:
            with Outbox(told) as outbox:
                outbox.put("x" * 500_000)
                outbox.put("the last")
                raise ZeroDivisionError

        def fold() -> None:
            with pytest.raises(ZeroDivisionError):
                fails()

        folding = Thread(target=fold, daemon=True)
        folding.start()
        folding.join(0.2)
        assert folding.is_alive()
        assert (len(taken.recv()), taken.recv()) == (500_000, "the last")
        folding.join(30)
        assert not folding.is_alive()


def test_what_cannot_be_sent_ends_the_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would wait for ever, and the first one ten minutes for it."""
    said: list[str] = []  # on stderr, whose last words the first one tells
    monkeypatch.setattr(threading, "excepthook", lambda failure: said.append(str(failure.exc_value)))

    class Fails:
        def send_bytes(self, _: bytes) -> None:
            raise MemoryError("no more")

    outbox = Outbox(Fails())
    outbox.put("lost")
    with pytest.raises(BrokenPipeError):
        for _ in range(1000):
            outbox.put("x" * 100_000)
    with pytest.raises(BrokenPipeError), outbox:
        outbox.put("and again")
    assert said == ["no more"]


@pytest.mark.parametrize("folds", [0.0, 0.1, 0.3, 0.5, 1.0, 2.0, 4.0])
def test_a_second_process_is_asked_for_what_it_folds_meanwhile(many: Path, folds: float) -> None:
    """It *folds* so many spans while this one folds one. However fast it is, it ends when this one does."""
    with closing(SQLiteDatabase(str(many))) as database, database.read() as connection:
        file = sharing._file_of(connection)
    assert file is not None
    spans = deque(Span(number, number, number + 1) for number in range(40))
    with Second(file, Plan(EVERYTHING, False, 1)) as second:
        pace = 0.0
        while spans:
            second.ask(spans)
            spans.popleft()
            pace += folds
            while second.asked and pace >= 1:
                second.asked.popleft()
                second._folded += 1
                pace -= 1
                second.ask(spans)
        assert len(second.asked) <= max(1.0, folds)  # what it does while this one folds one span


def test_where_nobody_listens_any_more_the_second_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "HELD_BYTES_MAX", 1_000_000)
    taken, told = Pipe(duplex=False)
    with told:
        outbox = Outbox(told)
        outbox.put("x" * 2_000_000)  # on its way when the other end is closed
        taken.close()
        with pytest.raises(BrokenPipeError):
            outbox.put("more")
        with pytest.raises(BrokenPipeError):
            outbox.put("and again")


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
        assert {"placed", "position"} <= {found.kind for found in book.verify().differences}
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
