"""What a replay would change is what it changes: seen before it is done, and nothing is done by looking."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import NoLedger
from ledger.events import Event
from ledger.projections.run import HYPERPARAMETERS
from ledger.store import prepared
from ledger.store.dry_run import A_ROW, Change
from ledger.store.statements import updating
from ledger.store.tables import training_runs
from tests.behind import behind
from tests.builders import annotated, launched, started, unvoided, voided, wandb_attached
from tests.places import Ledgers, on_both, tried
from tests.strategies import RUN_IDS, WANDB_IDS, batched, histories

pytestmark = on_both

CONFIG = {"optim": {"batch": 64}, "batch_size": 32}


def edit(place: str, *statements: str) -> None:
    """Do behind the ledger's back what nobody should do."""
    with behind(place) as db:
        columns = ", ".join(db.columns("training_runs"))
        for sql in statements:
            assert db.execute(sql.replace("COLUMNS", columns)).rowcount > 0, sql


def read_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batch_size be read from where nobody looked before."""
    column = HYPERPARAMETERS["batch_size"]
    better = replace(column, column=replace(column.column, config=("optim.batch", *column.column.config)))
    monkeypatch.setitem(HYPERPARAMETERS, "batch_size", better)


def rows(book: Ledger) -> list[dict[str, object]]:
    return book.query_runs(limit=None, include_voided=True, order_by="run_id")


def test_a_better_extraction_shows_before_it_is_replayed(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each column of each run that would change is there, and no other; the replay then changes just that."""
    book.append([launched(0, config=CONFIG), launched(0, run="s", config={"batch_size": 8}), started(1, run="s")])
    book.append([launched(0, run="t", config={"optim": {"batch": "16"}}), voided(1, run="t", reason="bogus")])
    read_better(monkeypatch)
    before = rows(book)

    assert list(book.replay(dry_run=True)) == [Change("r", "batch_size", 32, 64), Change("t", "batch_size", None, 16)]
    assert rows(book) == before
    book.replay()
    assert list(book.replay(dry_run=True)) == []
    assert [row["batch_size"] for row in rows(book)] == [64, 8, 16]


@tried(histories().flatmap(batched))
def test_with_the_same_rules_a_replay_changes_nothing(ledgers: Ledgers, batches: list[list[Event]]) -> None:
    """Whatever was appended, in whatever order: the tables are what they would be."""
    with ledgers() as book:
        for batch in batches:
            book.append(batch)
        assert list(book.replay(dry_run=True)) == []


EDITS: dict[str, tuple[str, list[Change]]] = {
    "a status": ("UPDATE training_runs SET status = 'failed' WHERE run_id = 'r'", [Change("r", "status", "failed", "running")]),
    "a text": ("UPDATE training_runs SET note = 'x' WHERE run_id = 'r'", [Change("r", "note", "x", None)]),
    "a local column": (
        "UPDATE training_runs SET updated_at_db = '2000-01-01T00:00:00.000000Z' WHERE run_id = 's'",
        [Change("s", "updated_at_db", "2000-01-01T00:00:00.000000Z", "...")],
    ),
    "a W&B id": (
        "UPDATE training_runs SET wandb_run_id = NULL WHERE run_id = 'r'",
        [Change("r", "wandb_run_id", None, "w")],
    ),
    "the reason of a void": (
        "UPDATE voided_runs SET reason = 'none' WHERE run_id = 'void'",
        [Change("void", "reason", "none", "bogus")],
    ),
    "a removed row": ("DELETE FROM training_runs WHERE run_id = 'r'", [Change("r", "training_runs", None, A_ROW)]),
    "a removed void": ("DELETE FROM voided_runs", [Change("void", "voided_runs", None, A_ROW)]),
    "an added row": (
        "INSERT INTO training_runs (run_id, created_at, status) VALUES ('new', '2024-01-01T00:00:00.000000Z', 'running')",
        [Change("new", "training_runs", A_ROW, None)],
    ),
    "a row twice": (
        "INSERT INTO training_runs (COLUMNS) SELECT COLUMNS FROM voided_runs",
        [Change("void", "training_runs", A_ROW, None)],
    ),
    "a void taken back": (
        "UPDATE voided_runs SET run_id = 'r' WHERE run_id = 'void'",
        [Change("r", "voided_runs", A_ROW, None), Change("void", "voided_runs", None, A_ROW)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sql", "changes"), EDITS.values(), ids=EDITS)
def test_what_was_done_behind_the_ledgers_back_is_shown(
    book: Ledger, place: str, sql: str, changes: list[Change]
) -> None:
    """An edited, removed or added row: where, what is stored and what a replay would make of it."""
    book.append([launched(0), started(1), wandb_attached(2, wandb_run_id="w"), launched(0, run="s")])
    book.append([launched(0, run="void"), voided(1, run="void", reason="bogus")])
    right = {row["run_id"]: row for row in rows(book)}
    edit(place, sql)

    wanted = [replace(c, computed=right[c.run_id][c.column]) if c.computed == "..." else c for c in changes]
    assert list(book.replay(dry_run=True)) == wanted
    assert not book.verify()
    book.replay()
    assert (rows(book), list(book.replay(dry_run=True))) == ([*right.values()], [])


def test_a_void_that_moves_shows_where_it_goes(book: Ledger, place: str) -> None:
    """A run that is in the wrong table leaves it, comes into the other, and is compared across the two."""
    book.append([launched(0, host="ec2"), voided(1, reason="bogus")])
    edit(
        place,
        "INSERT INTO training_runs (COLUMNS) SELECT COLUMNS FROM voided_runs",
        "DELETE FROM voided_runs",
        "UPDATE training_runs SET host = 'moon'",
    )

    assert list(book.replay(dry_run=True)) == [
        Change("r", "training_runs", A_ROW, None),
        Change("r", "voided_runs", None, A_ROW),
        Change("r", "host", "moon", "ec2"),
        Change("r", "reason", None, "bogus"),
    ]


def test_a_claim_that_moves_shows_at_both_runs(book: Ledger, place: str) -> None:
    """Who loses a W&B id and who gets it are two changes."""
    book.append([launched(0), wandb_attached(1, wandb_run_id="w"), launched(0, run="s")])
    edit(
        place,
        "UPDATE training_runs SET wandb_run_id = NULL WHERE run_id = 'r'",
        "UPDATE training_runs SET wandb_run_id = 'w' WHERE run_id = 's'",
    )
    assert list(book.replay(dry_run=True)) == [
        Change("r", "wandb_run_id", None, "w"),
        Change("s", "wandb_run_id", "w", None),
    ]


@tried(histories(), st.data())
def test_a_replay_does_what_its_dry_run_said(ledgers: Ledgers, history: list[Event], data: st.DataObject) -> None:
    """For any rows emptied behind the ledger's back: the changes are the differences of before and after."""
    emptied = data.draw(st.lists(st.sampled_from(["wandb_run_id", "host", "config_json", "started_at"]), unique=True))
    runs = data.draw(st.lists(st.sampled_from(RUN_IDS), unique=True))
    with ledgers() as book:
        book.append(history)
        with book._database.write() as connection:
            for name in emptied:
                updating(training_runs, (name,)).many(connection, [{name: None, "the_run": run} for run in runs])
        before = {row["run_id"]: row for row in rows(book)}
        said = list(book.replay(dry_run=True))
        book.replay()
        after = {row["run_id"]: row for row in rows(book)}

        assert {(c.run_id, c.column, c.stored, c.computed) for c in said} == {
            (run, name, before[run][name], value)
            for run, row in after.items()
            for name, value in row.items()
            if before[run][name] != value
        }
        assert [c.run_id for c in said] == sorted(c.run_id for c in said)


def test_changes_are_of_one_moment(book: Ledger) -> None:
    """What is appended while they are read is not among them."""
    book.append([launched(n, run=f"r{n}", config=CONFIG) for n in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        read_better(patch)
        following = book.replay(dry_run=True)
        found = [next(following)]
        book.append([annotated(9, run="r3", note="later"), unvoided(9, run="r9", reason="later"), launched(9, run="z")])
        found += following

    assert [change.run_id for change in found] == [f"r{n}" for n in range(5)]


def test_where_there_is_no_ledger_nothing_is_looked_at(bare_place: str) -> None:
    """The call says so, not the first change."""
    with Ledger(bare_place) as book, pytest.raises(NoLedger):
        book.replay(dry_run=True)


def test_a_claim_is_settled_before_it_is_compared(book: Ledger) -> None:
    """A contested id is no difference: what is compared is the row as it is settled."""
    for run in RUN_IDS:
        book.append([launched(0, run=run), *(wandb_attached(1, run=run, wandb_run_id=w) for w in WANDB_IDS)])
    assert list(book.replay(dry_run=True)) == []


def test_nothing_is_left_behind(book: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables beside are dropped, also where they could not be filled or were not read to their end."""
    book.append([launched(n, run=f"r{n}", config=CONFIG) for n in range(3)])
    made: list[sqlite3.Connection] = []
    connect = prepared.connect
    monkeypatch.setattr(prepared, "connect", lambda place: made.append(connect(place)) or made[-1])
    read_better(monkeypatch)

    following = book.replay(dry_run=True)
    assert next(following).run_id == "r0"
    following.close()
    monkeypatch.setattr(prepared, "folded_runs", lambda *_: iter([None]))
    with pytest.raises(AttributeError):
        list(book.replay(dry_run=True))

    assert len(made) == 2
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    there = {file.name for file in path.parent.iterdir()} if path.exists() else set()
    assert there <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}
