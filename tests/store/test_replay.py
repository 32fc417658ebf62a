"""A replay builds new tables beside the old ones: nobody waits, nobody sees half of it, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from ledger import Ledger
from ledger.doctor import examine
from ledger.errors import LedgerBusy, LedgerDamaged, LedgerError
from ledger.events import Event
from ledger.progress import Progress
from ledger.projections.run import COLUMNS, HYPERPARAMETERS
from ledger.store import folding, replay, sqlite, swap
from ledger.store.postgres import replaying
from ledger.store.postgres.connection import ServerConnection
from ledger.store.run_rows import RunRows
from ledger.store.statements import StoredRow
from ledger.store.tables import PROJECTION, Projection
from tests.behind import behind, is_url
from tests.builders import (
    annotated,
    completed,
    heartbeat,
    launched,
    metrics_logged,
    objective_stated,
    scaffolds_recorded,
    shown,
    started,
    told,
    trials,
    voided,
    wandb_attached,
)
from tests.places import Ledgers, on_both, on_server, tried
from tests.store.crowd import ROOT
from tests.strategies import RUN_IDS, histories

pytestmark = on_both


def schema(path: str | Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, sql FROM sqlite_master").fetchall())


def edit(place: str | Path, *statements: str) -> None:
    """Do behind the ledger's back what nobody should do."""
    with behind(place) as db:
        for statement in statements:
            db.execute(statement)


def some_runs(count: int) -> list[Event]:
    made: list[Event] = []
    for number in range(count):
        run = f"r{number}"
        made += [
            launched(number, run=run, config={"batch_size": number, "objectives": ["tox"]}, host="ec2"),
            wandb_attached(number + 1, run=run, wandb_run_id=f"w{number // 2}"),
            heartbeat(number + 2, run=run, metrics={"loss": 1 / (number + 1)}),
            metrics_logged(number + 2.5, run=run, columns={"step": [number], "loss": [number / 8]}),
            scaffolds_recorded(number + 2.5, run=run, columns={"scaffold_id": ["s"], "cluster": [number]}),
        ]
        if number % 7 == 0:
            made.append(voided(number + 3, run=run, reason="bogus"))
    return made


BESIDE = (objective_stated, scaffolds_recorded, metrics_logged)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a replay write a few runs at a time, so that a small ledger takes many parts."""
    monkeypatch.setattr(replay, "_RUNS_AT_ONCE", 3)
    monkeypatch.setattr(replay, "_RUNS_HELD", 6)
    monkeypatch.setattr(replay, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(replay, "_TRANSACTIONS_A_CHECKPOINT", 2)
    monkeypatch.setattr(replaying, "_RUNS_AT_ONCE", 3)
    monkeypatch.setattr(replay, "_EVENTS_AT_ONCE", 4)
    monkeypatch.setattr(replay, "_LAST_EVENTS_MAX", 2)
    monkeypatch.setattr(swap, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(swap, "_DROPPED_AT_ONCE", 2_000)


def after_each_part(monkeypatch: pytest.MonkeyPatch, do: Callable[[int], None]) -> None:
    """Do something between any two parts that a replay writes, as other processes do."""
    build, number = replay._write, 0

    def write_and_do(*arguments: object) -> None:
        nonlocal number
        build(*arguments)
        threads = [threading.Thread(target=do, args=(number,))]
        number += 1
        waiting.extend(threads)
        for thread in threads:
            thread.start()

    waiting: list[threading.Thread] = []
    monkeypatch.setattr(replay, "_write", write_and_do)
    # The lock is held inside of `_write`; whoever appends waits until the part is committed.
    finish = replay._exchange_when_caught_up

    def join_and_finish(*arguments: object) -> None:
        for thread in waiting:
            thread.join()
        finish(*arguments)

    monkeypatch.setattr(replay, "_exchange_when_caught_up", join_and_finish)
    monkeypatch.setattr(replaying, "_write", writing_and_doing(replaying._write, do))


def writing_and_doing(write: Callable[..., None], do: Callable[[int], None]) -> Callable[..., None]:
    """On a server nobody waits for a part, but for the exchange."""
    numbers = count()

    def write_and_do(own: ServerConnection, *more: object) -> None:
        write(own, *more)
        if own.is_idle:
            thread = threading.Thread(target=do, args=(next(numbers),))
            thread.start()
            thread.join()

    return write_and_do


@pytest.mark.usefixtures("small_parts")
@tried(histories(RUN_IDS))
def test_a_replay_gives_what_the_events_tell(ledgers: Ledgers, events: list[Event]) -> None:
    """In a file, in parts, over any history: the same rows as the pure fold, and as before."""
    with ledgers() as memory:
        memory.append(events)
        told_by_memory = shown(memory)
        memory.replay()
        assert shown(memory) == told_by_memory == told(events)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("seed", range(trials(10, 100)))
def test_what_is_appended_meanwhile_is_in_it(place: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """In order and out of order, to runs that were built and that were not, with contested ids and voids."""
    random = Random(seed)
    events = [event for event in some_runs(20) if random.random() < 0.8]
    later: list[Event] = []
    for number in range(30):
        run = f"r{random.randrange(25)}"
        make = random.choice([heartbeat, started, completed, launched, voided, annotated, wandb_attached, *BESIDE])
        said = {
            voided: {"reason": "x"},
            annotated: {"note": f"n{number}", "tags": (f"t{number}",)},
            wandb_attached: {"wandb_run_id": f"w{random.randrange(6)}"},
            launched: {"config": {"batch_size": number}},
            objective_stated: {"objective_name": "tox", "raw_mean": number},
            scaffolds_recorded: {"columns": {"scaffold_id": [f"s{number % 3}"], "pareto_rank": [number]}},
            metrics_logged: {"columns": {"step": [number], "loss": [random.random()]}},
        }
        later.append(make(random.randrange(-5, 40), run=run, **said.get(make, {})))
    with Ledger(place) as book, Ledger(place) as other:
        book.append(events)
        edit(place, "UPDATE training_runs SET host = 'elsewhere' WHERE batch_size > 9")  # a row that is right is left

        def append_some(number: int) -> None:
            other.append(later[5 * number : 5 * number + 5])

        after_each_part(monkeypatch, append_some)
        book.replay()
        assert book.verify(), book.verify().differences
        there = {event.event_id for event in book.events()}
        assert shown(book) == told(event for event in [*events, *later] if event.event_id in there)
        assert len(there) > len(events)


@pytest.mark.usefixtures("small_parts")
def test_nobody_sees_a_table_that_is_half_built(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were wrong are wrong until the exchange, and right from then on, all at once; and readers do not wait."""
    with Ledger(place) as book, Ledger(place) as reader:
        book.append(some_runs(40))
        edit(place, "UPDATE training_runs SET host = 'elsewhere'")
        seen: list[tuple[int, frozenset[str]]] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                rows = reader.query_runs(limit=None)
                seen.append((len(rows), frozenset(row["host"] for row in rows)))

        watching = threading.Thread(target=look)
        after_each_part(monkeypatch, lambda _: time.sleep(0.01))
        watching.start()
        book.replay()
        done.set()
        watching.join()

    assert {count for count, _ in seen} == {34}
    assert {hosts for _, hosts in seen} <= {frozenset({"elsewhere"}), frozenset({"ec2"})}
    assert seen[0][1] == {"elsewhere"}


def test_what_others_hung_on_the_tables_survives(path: Path) -> None:
    """Views, triggers and indexes of others keep their names and work, and the schema is to the letter as before."""
    with Ledger(path) as book:
        book.append(some_runs(20))
        edit(
            path,
            "CREATE VIEW crashed AS SELECT run_id FROM training_runs WHERE status = 'crashed'",
            "CREATE INDEX by_name ON training_runs (run_name, batch_size) WHERE run_name IS NOT NULL",
            'CREATE UNIQUE INDEX "by_run" ON "voided_runs" (run_id, host)',
            'create  index "odd ""name (really)"\non"TRAINING_RUNS"(host)',
            "create unique index if not exists main.[an other] on training_runs (run_id, `host`)",
            "CREATE INDEX `by ``mark` ON 'training_runs' (\"host\")",
            "CREATE TABLE seen (run_id TEXT)",
            "CREATE TRIGGER note AFTER INSERT ON training_runs BEGIN INSERT INTO seen VALUES (NEW.run_id); END",
        )
        before = schema(path)
        book.replay()
        book.replay()
        assert schema(path) == before
        book.append(launched(0, run="new", run_name="n"))
        assert book.verify()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT * FROM seen").fetchall() == [("new",)]
        assert db.execute("SELECT * FROM crashed").fetchall() == []
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM training_runs INDEXED BY by_name WHERE run_name = 'n'")
        assert "by_name" in str(plan.fetchall())


def test_a_connection_that_was_open_before_sees_the_new_tables(path: Path) -> None:
    """Another program's prepared statements and a reader's snapshot go on: the one anew, the other as it was."""
    with Ledger(path) as book, closing(sqlite3.connect(path, isolation_level=None)) as other:
        book.append(some_runs(20))
        edit(path, "UPDATE training_runs SET host = 'elsewhere'")
        ask = "SELECT DISTINCT host FROM training_runs"
        other.execute("BEGIN")
        assert other.execute(ask).fetchall() == [("elsewhere",)]
        book.replay()
        assert other.execute(ask).fetchall() == [("elsewhere",)]
        other.execute("COMMIT")
        assert other.execute(ask).fetchall() == [("ec2",)]


@pytest.mark.parametrize(
    "what",
    [
        "an index that we cannot read",
        "an index that names its table",
        "a schema that nobody may touch",
        "an index meanwhile",
    ],
)
def test_where_tables_cannot_be_exchanged_they_are_rebuilt(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Then writers wait for it, which is said with the reason, and the tables come out the same."""
    with Ledger(path) as book:
        book.append(some_runs(20))
        if what == "an index that we cannot read":
            edit(path, "CREATE INDEX odd /* really */ ON training_runs (host)")
        elif what == "an index that names its table":
            edit(path, "CREATE INDEX i ON training_runs (host) WHERE training_runs.host IS NOT NULL")
        elif what == "an index meanwhile":
            copied = swap.exchangeable
            monkeypatch.setattr(
                replay, "exchangeable", lambda c: (copied(c), edit(path, "CREATE INDEX i ON training_runs (host)"))[0]
            )
        else:

            def refuse(*_: object) -> None:
                raise swap.Unexchangeable("may not be modified")

            monkeypatch.setattr(replay, "exchange", refuse)
        before = shown(book)
        edit(path, "UPDATE training_runs SET host = 'elsewhere'")
        assert book.replay() == 20
        assert (shown(book), bool(book.verify())) == (before, True)
    assert not [name for name in schema(path) if name.startswith("replaying_")]
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "rebuilds the tables where they are" in said.getMessage()


def test_two_replays_at_once_do_not_meet(place: str) -> None:
    """Each builds its own tables; afterwards everything is right, and nothing of them is left."""
    with Ledger(place) as book:
        book.append(some_runs(60))
        before = shown(book)
    books = [Ledger(place) for _ in range(3)]
    threads = [threading.Thread(target=book.replay) for book in books]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for book in books:
        assert (shown(book), bool(book.verify())) == (before, True)
        book.close()
    assert is_url(place) or not [name for name in schema(place) if name.startswith("replaying_")]


KILLED = """
import sys
from ledger import Ledger
from ledger.store import replay

replay._RUNS_AT_ONCE, replay._RUNS_HELD = 5, 15
print("ready", flush=True)
with Ledger(sys.argv[1]) as book:
    while True:
        book.replay()
"""


def test_a_replay_that_is_killed_leaves_everything_whole(place: str) -> None:
    """At whatever moment: the tables are right, and the same command removes what is left and finishes the work."""
    with Ledger(place) as book:
        book.append(some_runs(60))
        before = shown(book)
    random = Random(7)
    left = 0
    on_file = not is_url(place)
    for _ in range(trials(12 if on_file else 6, 50)):
        edit(place, "UPDATE training_runs SET host = 'elsewhere'")
        process = subprocess.Popen([sys.executable, "-c", KILLED, place], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.02, 0.35))
        process.kill()
        process.wait()
        process.stdout.close()
        left += on_file and any(name.startswith("replaying_") for name in schema(place))
        with Ledger(place) as book:
            assert {row["host"] for row in book.query_runs(limit=None)} in ({"elsewhere"}, {"ec2"})
    with Ledger(place) as book:
        assert book.replay() == 60
        assert (shown(book), bool(book.verify())) == (before, True)
    assert left or not on_file, "no kill met a replay at work"
    assert not on_file or not [name for name in schema(place) if name.startswith("replaying_")]


def test_the_replay_of_another_that_lives_is_left_alone(path: Path) -> None:
    """Removed is what a process left that is gone, or that said nothing for a quarter of an hour from elsewhere."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here, long_ago = json.loads(swap._whose()), "2020-01-01T00:00:00.000000Z"
    said = {
        "lives": {"pid": living.pid, "since": long_ago},
        "far": {"host": "elsewhere", "boot": "another", "pid": gone.pid},
        "dead": {"pid": gone.pid},
        "rebooted": {"pid": living.pid, "boot": "an earlier one"},
        "silent": {"host": "elsewhere", "pid": living.pid, "since": long_ago},
        "mine": {},
    }
    with Ledger(path) as book:
        book.append(some_runs(3))
        edit(path, *(f"CREATE TABLE replaying_{mark}_x (run_id TEXT)" for mark in said))
        with book._database.write() as connection:
            for mark, differing in said.items():
                swap.state.remember(connection, f"replaying_{mark}_", json.dumps(here | differing))
        book.replay()
    living.communicate(b"\n")
    assert {name for name in schema(path) if name.startswith("replaying_")} == {"replaying_lives_x", "replaying_far_x"}


@pytest.mark.usefixtures("small_parts")
def test_a_long_replay_is_not_overtaken_by_one_of_another_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However old it is; and what another machine's goes by is said anew with every part."""
    monkeypatch.setattr(swap, "_ABANDONED", timedelta(0))
    with Ledger(path) as book, Ledger(path) as other:
        book.append(some_runs(20))
        said: list[str] = []

        def begin_another(_: int) -> None:
            swap.remove_abandoned(other._database)
            with other._database.read() as connection:
                said.extend(swap.state.named(connection, "replaying_").values())

        after_each_part(monkeypatch, begin_another)
        book.replay()
        assert book.verify()
    assert len({json.loads(whose)["since"] for whose in said}) > 3


def test_a_replay_whose_tables_are_gone_says_to_do_it_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is not damaged by that, and no backup has to be put back."""
    with Ledger(path) as book:
        book.append(some_runs(3))
        write = replay._write

        def without_tables(connection: sqlite3.Connection, tables: Projection, *more: object) -> None:
            for table in tables:
                connection.execute(f"DROP TABLE {table.name}")
            write(connection, tables, *more)

        monkeypatch.setattr(replay, "_write", without_tables)
        with pytest.raises(LedgerBusy, match="another replay, which overtook this one"):
            book.replay()
        monkeypatch.undo()
        assert (book.replay(), bool(book.verify())) == (3, True)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("heavy", "journal"), [("r0", "wal"), ("r19", "wal"), ("r19", "delete")])
def test_large_tables_are_removed_in_parts(
    path: Path, monkeypatch: pytest.MonkeyPatch, heavy: str, journal: str
) -> None:
    """So many rows at a time until the rest is small enough to go at once, wherever the long ones lie.

    Without a WAL a look at them all would keep writers waiting; there every row goes so.
    """
    monkeypatch.setattr(sqlite, "on_network", lambda _: journal == "delete")
    parts: list[tuple[str, int]] = []
    rests: list[int] = []
    remove_some, length_of = swap._remove_some, swap._length_of

    def noting(database: sqlite.SQLiteDatabase, table: str) -> tuple[int, int]:
        made = remove_some(database, table)
        parts.append((table.rpartition("_")[2], made[0]))
        with database.read() as connection:
            rests.append(length_of(connection, table))
        return made

    with Ledger(path) as book:
        book.append([*some_runs(20), annotated(9, run=heavy, note="x" * 3_000)])
        monkeypatch.setattr(swap, "_DROPPED_AT_ONCE", 2_500)
        monkeypatch.setattr(swap, "_remove_some", noting)
        book.replay()
    of_runs = [count for table, count in parts if table == "runs"]
    assert max(of_runs) == 4
    assert sum(of_runs) == 20 if journal == "delete" else 0 < sum(of_runs) < 20
    assert rests[-1] <= 2_500
    assert [name for name in schema(path) if name.startswith("replaying")] == []


@pytest.mark.parametrize("secure", [0, 1, 2])
def test_what_is_removed_is_overwritten_as_before_also_after_a_failure(path: Path, secure: int) -> None:
    """Only what a replay built itself is freed without that."""
    with Ledger(path) as book:
        book.append(some_runs(3))
        with book._database.write() as connection:
            connection.execute(f"PRAGMA secure_delete = {swap._SECURE[secure]}")
        with pytest.raises(LedgerBusy):
            swap._remove_some(book._database, "replaying_gone")
        with book._database.write() as connection:
            assert connection.execute("PRAGMA secure_delete").fetchone() == (secure,)


@pytest.mark.parametrize(
    ("cut", "kind"),
    [
        ("DELETE FROM training_events WHERE run_id = 'r1' AND version = 3", "head"),
        ("DELETE FROM training_events WHERE run_id = 'r1'", "deleted run"),
        ("DELETE FROM training_heads WHERE run_id = 'r1'", "missing head"),
    ],
)
def test_a_replay_hides_no_cut(place: str, cut: str, kind: str) -> None:
    """What the heads say of events that somebody removed is still there afterwards."""
    with Ledger(place) as book:
        book.append(some_runs(4))
        edit(place, cut)
        before = {difference.kind for difference in book.verify().differences}
        book.replay()
        after = {difference.kind for difference in book.verify().differences}

    assert kind in before
    assert kind in after
    assert "row" not in after


@pytest.mark.usefixtures("small_parts")
def test_runs_that_were_appended_to_meanwhile_are_no_evidence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the tables are exchanged, time is spent on heads that differ for a cause, and on no others."""
    looked_at: list[set[str]] = []
    keep = replay.keep_evidence

    def look_and_keep(connection: sqlite3.Connection, tables: Projection, run_ids: list[str]) -> None:
        looked_at.append(set(run_ids))
        keep(connection, tables, run_ids)

    monkeypatch.setattr(replay, "keep_evidence", look_and_keep)
    with Ledger(path) as book, Ledger(path) as other:
        book.append(some_runs(40))
        edit(path, "UPDATE training_heads SET version = 9 WHERE run_id = 'r5'")

        def append_some(number: int) -> None:
            if number == 13:  # the last part
                other.append([heartbeat(50, run=f"r{run}", step=1) for run in range(6, 40)])

        after_each_part(monkeypatch, append_some)
        book.replay()
        assert book.verify().differences[0].kind == "head"
    assert looked_at == [{"r5"}]


def test_a_better_extraction_reaches_old_runs_by_replay(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor says that a replay is due as soon as the rules differ, and no more once it was done."""
    with Ledger(place) as book:
        book.append(launched(0, config={"optimizer": {"batch": 64}}))
        assert not [problem for problem in examine(str(place)).problems if "ledger replay" in problem]

        column = COLUMNS["batch_size"]
        better = dataclasses.replace(
            column, column=dataclasses.replace(column.column, config=(*column.column.config, "optimizer.batch"))
        )
        monkeypatch.setitem(COLUMNS, "batch_size", better)
        monkeypatch.setitem(HYPERPARAMETERS, "batch_size", better)
        assert [problem for problem in examine(str(place)).problems if "ledger replay" in problem]
        book.replay()
        row = book.get_run("r")
        assert row is not None
        assert row["batch_size"] == 64
        assert not [problem for problem in examine(str(place)).problems if "ledger replay" in problem]


@tried(st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), histories(RUN_IDS))
def test_however_few_events_are_held_at_a_time(
    ledgers: Ledgers, kept: int, waiting: int, page: int, events: list[Event]
) -> None:
    """Of a run with very many, or of all that wait for theirs: rows, heads and verification come out the same."""
    with ledgers() as book, pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT_MAX", kept)
        patch.setattr(folding, "WAITING_MAX", waiting)
        patch.setattr(folding, "WAITING_LENGTH_MAX", waiting * 100)
        patch.setattr(folding, "PAGE", page)
        book.append(events)
        before = shown(book)
        book.replay()
        assert book.verify(), book.verify().differences
        assert shown(book) == before


@pytest.mark.parametrize("kept", [1_000, 100_000])
def test_only_the_run_whose_events_are_long_is_read_by_itself(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """What waits is bounded by its length: the longest goes, and where it is longer than is kept, in parts."""
    alone: list[str] = []
    parsed: Counter[str] = Counter()  # how often each event, by what it is
    fold_run, steps = folding.fold_run, folding._steps

    def noting(connection: sqlite3.Connection, run_id: str, *more: Any) -> folding.FoldedRun:
        alone.append(run_id)
        return fold_run(connection, run_id, *more)

    def counting(rows: Any) -> Any:
        made = steps(rows)
        parsed.update(kind for _, _, kind, _ in made)
        return made

    monkeypatch.setattr(folding, "fold_run", noting)
    monkeypatch.setattr(folding, "_steps", counting)
    monkeypatch.setattr(folding, "WAITING_LENGTH_MAX", 5_000)
    monkeypatch.setattr(folding, "KEPT_LENGTH_MAX", kept)
    monkeypatch.setattr(folding, "PAGE", 4)
    with ledgers() as book:
        book.append([launched(0, run=f"r{number}") for number in range(10)])
        book.append([annotated(step, run="long", note="x" * 900, tags=[f"t{step}"]) for step in range(12)])
        book.append([completed(1, run=f"r{number}") for number in range(10)])
        before = shown(book)
        book.replay()
        assert shown(book) == before
        assert alone == ["long"]
        assert parsed == {"launched": 10, "completed": 10, "annotated": 24 if kept == 1_000 else 12}
        assert book.verify(), book.verify().differences


@pytest.mark.parametrize("fails", [False, True])
def test_a_replay_leaves_the_connection_as_it_was(path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps more pages in memory only while it writes, also where that fails."""
    said: list[int] = []

    def asking(connection: sqlite3.Connection, *_: object) -> None:
        said.extend(connection.execute("PRAGMA cache_size").fetchone())
        if fails:
            raise ZeroDivisionError

    with Ledger(path) as book:
        book.append(some_runs(3))
        with book._database.write() as connection:
            before = connection.execute("PRAGMA cache_size").fetchone()
        monkeypatch.setattr(replay, "still_at_work", asking)
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            book.replay()
        with book._database.write() as connection:
            assert connection.execute("PRAGMA cache_size").fetchone() == before
    assert said[0] == -replay._PAGES_KIB != before[0]


@pytest.mark.usefixtures("small_parts")
def test_whoever_appends_fast_is_caught_up_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two turns of the replay come more events than it calls few, and it ends all the same."""
    with Ledger(path) as book, Ledger(path) as other:
        book.append(some_runs(20))
        turns = iter(range(1000))
        checkpoint = sqlite.SQLiteDatabase.checkpoint

        def append_and_checkpoint(database: sqlite.SQLiteDatabase) -> None:
            run = f"r{next(turns) % 25}"
            other.append([heartbeat(step, run=run, step=step) for step in range(10)])
            checkpoint(database)

        build = replay._build

        def build_and_begin(*given: Any) -> int:
            reached = build(*given)
            monkeypatch.setattr(sqlite.SQLiteDatabase, "checkpoint", append_and_checkpoint)
            return reached

        monkeypatch.setattr(replay, "_build", build_and_begin)
        book.replay()
        monkeypatch.undo()
        assert next(turns) < 30
        assert book.verify(), book.verify().differences


def made_of(place: str) -> dict[str, str]:
    """Return how everything in a ledger's schema was made, by its name."""
    if not is_url(place):
        return schema(place)
    asked = """
        SELECT c.relname, coalesce(CASE WHEN c.relkind = 'i' THEN pg_get_indexdef(c.oid) END,
         CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END,
         (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull,
           attcollation, col_description(c.oid, attnum)), ', ' ORDER BY attnum)
          FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) || c.reloptions::text, '')
        FROM pg_class c WHERE relnamespace = CAST('public' AS regnamespace)"""
    with behind(place, guarded=True) as db:
        return dict(db.execute(asked).fetchall())


@pytest.mark.parametrize("table", PROJECTION[:-1], ids=str)
def test_a_table_that_somebody_dropped_is_made_anew(
    bare_place: str, table: sa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that follows from events can be thrown away; whoever misses it is told of `ledger replay`."""
    with Ledger(bare_place) as book:
        book.append(some_runs(9))
        before, was = shown(book), made_of(bare_place)
    with behind(bare_place, guarded=True) as db:
        db.execute("DROP VIEW training_timeline")
        db.execute(f"DROP TABLE {table.name}")
    with Ledger(bare_place) as book:
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            for module in (replay, replaying):
                patch.setattr(module, "folded_runs", lambda _: iter([1 / 0]))
            book.replay()
        with pytest.raises(LedgerDamaged, match=f"{table.name}.*`ledger replay`"):
            book.verify()  # one that is empty would be taken for the truth
        assert book.replay() == 9
        assert (bool(book.verify()), shown(book), made_of(bare_place)) == (True, before, was)


@on_server
def test_two_replays_make_a_table_anew_once(bare_place: str) -> None:
    """The second waits for the first, and finds it made."""
    ended: list[object] = []

    def replay_it() -> None:
        with Ledger(bare_place) as book:
            try:
                ended.append(book.replay())
            except LedgerError as exc:
                ended.append(exc)

    with Ledger(bare_place) as book:
        book.append(some_runs(9))
        with behind(bare_place, guarded=True) as db:
            db.execute("DROP TABLE training_metrics")
        threads = [threading.Thread(target=replay_it) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [9, 9]
        assert book.verify()


def test_a_replay_without_heads_is_damage(bare_place: str) -> None:
    """Those follow from no event: that they are gone is evidence."""
    with Ledger(bare_place) as book:
        book.append(some_runs(3))
        with behind(bare_place, guarded=True) as db:
            db.execute("DROP TABLE training_heads")
        with pytest.raises(LedgerDamaged, match=r"training_heads.*(restore-backup|Restore it from a backup)"):
            book.replay()


@pytest.mark.parametrize("what", ["VIEW training_timeline", "INDEX training_metrics_by_name"])
def test_a_view_or_an_index_that_somebody_dropped_is_made_anew(bare_place: str, what: str) -> None:
    """A verification names it, and a replay makes it."""
    with Ledger(bare_place) as book:
        book.append(some_runs(9))
        was = made_of(bare_place)
        with behind(bare_place, guarded=True) as db:
            db.execute(f"DROP {what}")
        (difference,) = book.verify().differences
        assert what == f"{difference.kind.upper()} {difference.column}"
        assert book.replay() == 9
        assert (bool(book.verify()), made_of(bare_place)) == (True, was)


@pytest.mark.usefixtures("small_parts")
def test_runs_are_written_in_order_and_transactions_are_bounded_by_length(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours lie on the same pages; and long rows come a few at a time, for others wait for each transaction."""
    monkeypatch.setattr(replay, "_LENGTH_AT_ONCE", 2_000)
    monkeypatch.setattr(replay, "_ROWS_AT_ONCE", 100)
    written: list[str] = []
    sizes: list[int] = []
    checkpoints = [0]
    write, write_whole, checkpoint = replay._write, replay.write_whole, sqlite.SQLiteDatabase.checkpoint

    def bounded(rows: Sequence[StoredRow]) -> None:
        sizes.append(len(rows))
        assert sum(len(value) for row in rows[:-1] for value in row if isinstance(value, str)) < 2_000

    def noting(connection: sqlite3.Connection, tables: Projection, runs: Sequence[RunRows]) -> None:
        written.extend(run.run_id for run in runs)
        bounded([run.row or () for run in runs])
        write(connection, tables, runs)

    def noting_rows(connection: sqlite3.Connection, table: sa.Table, rows: Sequence[StoredRow]) -> None:
        bounded(rows)
        write_whole(connection, table, rows)

    def noting_checkpoints(database: sqlite.SQLiteDatabase) -> None:
        checkpoints.append(len(sizes))
        checkpoint(database)

    columns = {"scaffold_id": [str(number) for number in range(20)], "smiles": ["C" * 500] * 20}
    with Ledger(path) as book:
        runs = [f"r{number}" for number in Random(3).sample(range(100, 200), 12)]
        book.append([launched(run=run, config={"notes": "x" * 1_500 if run < "r150" else ""}) for run in runs])
        book.append([launched(run="scaffolded"), scaffolds_recorded(1, run="scaffolded", columns=columns)])
        monkeypatch.setattr(replay, "_write", noting)
        monkeypatch.setattr(replay, "write_whole", noting_rows)
        monkeypatch.setattr(sqlite.SQLiteDatabase, "checkpoint", noting_checkpoints)
        assert book.replay() == 13
        monkeypatch.undo()
        assert book.verify()
    assert written == [*sorted(runs[:6]), *sorted(runs[6:]), "scaffolded"]
    assert {2, 3} <= set(sizes) <= {1, 2, 3, 4}
    assert max(later - earlier for earlier, later in pairwise(checkpoints)) == 2


def test_progress_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many events are done of how many, up to the end."""
    monkeypatch.setattr("ledger.progress.TOLD_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(replay, "_RUNS_AT_ONCE", 3)
    monkeypatch.setattr(replaying, "_RUNS_AT_ONCE", 3)
    told_so_far: list[Progress] = []
    with Ledger(path) as book:
        events = book.append(some_runs(9))
        book.replay(progress=told_so_far.append)

    done = [progress.done for progress in told_so_far]
    assert done == sorted(done)
    assert len(set(done)) > 4
    assert (done[-1], told_so_far[-1].total) == (len(events), len(events))
