"""A copy is the same ledger elsewhere: wholly, or not at all."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import InvalidValue, LedgerUnreachable, NoLedger, NotConfigured, NotTheSame
from ledger.events import Event
from ledger.progress import Progress
from ledger.store import copying
from tests.builders import completed, heartbeat, launched, shown, started, trials
from tests.store.crowd import killed, writing
from tests.store.test_merge import behind, filled
from tests.strategies import batched, histories

TABLES = (
    "training_events", "training_heads", "training_runs", "voided_runs", "training_claims", "training_conflicts",
    "ledger_subscriptions", "ledger_parked", "ledger_state", "sqlite_sequence",
)  # fmt: skip


def stored(path: str | Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, as SQLite has it."""
    with closing(sqlite3.connect(path)) as connection:
        return {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES}


@settings(max_examples=trials(25, 200))
@given(histories().flatmap(batched), st.data())
def test_a_copy_is_the_same_row_by_row(batches: list[list[Event]], data: st.DataObject) -> None:
    """Positions, versions, recorded_at, chains, heads and every projected row are those of the original."""
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "one.db")) as book:
        book.init_db()
        for batch in batches:
            book.append(batch)
        book.copy(Path(folder, "two.db"))
        with Ledger(Path(folder, "two.db")) as other:
            assert stored(other.url) == stored(book.url)
            assert list(other.events()) == list(book.events())
            assert other.verify().differences == ()


def test_conflicts_subscriptions_and_parked_events_go_along(book: Ledger, path: Path, tmp_path: Path) -> None:
    """What belongs to the ledger beside its events is carried over too."""
    book.append([completed(0, number=1, exit_code=0), started(1)])
    book.merge(filled(tmp_path / "other.db", completed(0, number=1, exit_code=1)))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO ledger_subscriptions VALUES ('slack', 1, 2, 'some day', NULL, NULL)")
        connection.execute("INSERT INTO ledger_parked VALUES ('slack', 1, 'no', 'some day')")
        connection.execute("INSERT INTO ledger_state VALUES ('a name', 'a value')")
    book.copy(tmp_path / "copy.db")

    assert stored(tmp_path / "copy.db") == stored(path)
    assert [len(stored(path)[table]) for table in TABLES[5:9]] == [1, 1, 1, 2]


def test_a_copy_goes_on_as_the_original_would(book: Ledger, tmp_path: Path) -> None:
    """The next event gets the next position, version and link of the chain."""
    book.append([launched(0), started(1)])
    made = book.copy(tmp_path / "copy.db")
    with Ledger(tmp_path / "copy.db") as other:
        event = completed(5)
        one, theirs = book.append(event), other.append(event)

        assert (made.events, made.runs) == (2, 1)
        assert (one.position, one.version, one.chain) == (theirs.position, theirs.version, theirs.chain)
        assert (other.verify().ok, shown(other)) == (True, shown(book))


def test_an_empty_ledger_and_one_in_memory_are_copied_too(book: Ledger, tmp_path: Path) -> None:
    """Nothing is a ledger, too; what was only in memory is in a file afterwards."""
    assert book.copy(tmp_path / "empty.db").events == 0
    with Ledger(":memory:") as memory, Ledger(tmp_path / "empty.db") as kept:
        memory.append([launched(0), started(1)])
        assert memory.copy(tmp_path / "empty.db").events == 2  # an empty ledger is a place for a copy
        assert (shown(kept), kept.verify().ok) == (shown(memory), True)


def test_a_ledger_with_events_is_not_written_over(book: Ledger, path: Path, tmp_path: Path) -> None:
    """It is left as it is, and the mend is named; so is the ledger itself."""
    book.append(launched(0))
    other = filled(tmp_path / "other.db", started(0, run="precious"))
    before = stored(other)

    with pytest.raises(InvalidValue, match=r"other\.db.*merge"):
        book.copy(other)
    with pytest.raises(InvalidValue, match="another place"):
        book.copy(path)
    assert stored(other) == before
    assert book.count_runs() == 1


@pytest.mark.parametrize(
    ("to", "error"),
    [("off", NotConfigured), (":memory:", InvalidValue), ("postgresql://me:x@hub/runs", LedgerUnreachable)],
)
def test_a_place_that_keeps_nothing_takes_no_copy(book: Ledger, to: str, error: type[Exception]) -> None:
    """An error says so."""
    with pytest.raises(error):
        book.copy(to)


def test_there_is_nothing_to_copy_without_a_ledger(path: Path, tmp_path: Path) -> None:
    """And nothing is made."""
    with Ledger(path) as book, pytest.raises(NoLedger):
        book.copy(tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_of_one_moment_while_writers_write(path: Path, tmp_path: Path) -> None:
    """Each is whole, and each knows more than the one before."""
    writer = writing(path, "r")
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        with Ledger(path) as book:
            made = [book.copy(tmp_path / f"copy-{number}.db").events for number in range(4)]
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()

    for number, events in enumerate(made):
        with Ledger(tmp_path / f"copy-{number}.db") as copy:
            assert (copy.verify().ok, copy.verify().events) == (True, events)
    assert made == sorted(made)


def test_a_row_that_is_not_its_fold_stops_the_copy(book: Ledger, path: Path, tmp_path: Path) -> None:
    """The first difference is named, nothing is written, and after a replay the same copy succeeds."""
    book.append([launched(0), started(1), launched(0, run="s")])
    behind(path, "UPDATE training_runs SET host = 'elsewhere' WHERE run_id = 's'")

    with pytest.raises(NotTheSame, match="run 's', column host of training_runs"):
        book.copy(tmp_path / "copy.db")
    assert all(rows == [] for table, rows in stored(tmp_path / "copy.db").items() if table != "ledger_state")

    book.replay()
    assert book.copy(tmp_path / "copy.db").runs == 2


def test_rows_of_other_rules_are_not_copied_but_replayed(book: Ledger, path: Path, tmp_path: Path) -> None:
    """Where a replay is due, nobody changed anything: the error names it, and not the search for a culprit."""
    book.append(launched(0))
    behind(path, "UPDATE training_runs SET host = 'older'", "UPDATE ledger_state SET value = 'older rules'")
    with pytest.raises(NotTheSame, match="do `ledger replay` there, then do the same again"):
        book.copy(tmp_path / "copy.db")

    book.replay()
    assert book.copy(tmp_path / "copy.db").runs == 1


@pytest.mark.parametrize("table", ["training_events", "training_heads", "training_claims"])
def test_what_did_not_arrive_is_found(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """A row that is missing at the end of a table is a difference."""
    book.insert_run("r1", "w1", {})
    rebuild = copying.replay.rebuild

    def losing(connection: sqlite3.Connection, *more: Any) -> int:
        runs = rebuild(connection, *more)
        connection.execute("DROP TRIGGER training_events_no_delete")
        connection.execute(f"DELETE FROM {table}")
        return runs

    monkeypatch.setattr(copying.replay, "rebuild", losing)
    with pytest.raises(NotTheSame, match=table):
        book.copy(tmp_path / "copy.db")


def test_a_cut_tail_is_copied_as_it_is(book: Ledger, path: Path, tmp_path: Path) -> None:
    """A copy hides nothing: what verify says of the original it says of the copy."""
    book.append([launched(0), started(1)])
    behind(path, "DELETE FROM training_events WHERE position = 2")
    said = [found.kind for found in book.verify().differences if found.kind != "trigger"]
    with pytest.raises(NotTheSame):
        book.copy(tmp_path / "copy.db")
    book.replay()
    book.copy(tmp_path / "copy.db")
    with Ledger(tmp_path / "copy.db") as copy:
        assert {"position", "head"} <= {found.kind for found in copy.verify().differences} <= set(said)


def test_progress_is_told(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event counts three times: carried over, folded, and compared."""
    monkeypatch.setattr("ledger.progress.TOLD_EVERY_SECONDS", 0)
    book.append([heartbeat(step, step=step) for step in range(3)])
    heard: list[Progress] = []
    book.copy(tmp_path / "copy.db", progress=heard.append)

    assert [progress.done for progress in heard] == [1, 2, 3, 6, 7, 8, 9, 9]
    assert {progress.total for progress in heard} == {9}


def test_kill_9_during_a_copy_leaves_an_empty_ledger(tmp_path: Path) -> None:
    """Killed at a random moment: all of it is there or nothing, and the same copy succeeds."""
    count, partial = trials(20, 50), 0
    events = [heartbeat(step, run=f"r{step % 50}", step=step) for step in range(4000)]
    one = filled(tmp_path / "one.db", *events)
    killed("copy", count, tmp_path / "two-{}.db", one)
    for number in range(count):
        to = tmp_path / f"two-{number}.db"
        partial += to.exists()
        with Ledger(one) as book, Ledger(to) as other:
            other.init_db()
            there = other.verify()
            assert (there.ok, there.events in (0, len(events))) == (True, True)
            if not there.events:
                assert book.copy(to).events == len(events)
                assert other.verify().events == len(events)
    assert partial
