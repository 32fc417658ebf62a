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
from tests.builders import (
    annotated,
    clock,
    completed,
    launched,
    metrics_logged,
    scaffolds_recorded,
    shown,
    started,
    unvoided,
    voided,
    wandb_attached,
)
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


def test_what_the_ledger_keeps_for_itself_is_shown_too(place: str) -> None:
    """Claims, and what a head carries beside the row: `verify` finds it, a replay mends it, and so it is seen before."""
    with Ledger(place) as book:
        book.append([wandb_attached(number, run=f"r{number}", wandb_run_id=f"w{number}") for number in range(4)])
        with behind(place) as db:
            (beside,) = db.execute("SELECT beside FROM training_heads WHERE run_id = 'r0'").fetchone()
        edit(
            place,
            "UPDATE training_claims SET wandb_run_id = 'q' WHERE run_id = 'r1'",
            "DELETE FROM training_claims WHERE run_id = 'r2'",
            "UPDATE training_heads SET beside = '{}' WHERE run_id = 'r0'",
        )
        assert list(book.replay(dry_run=True)) == [
            Change("r1", "training_claims, wandb_run_id", "q", "w1"),
            Change("r2", "training_claims", None, A_ROW),
            Change("r0", "training_heads, beside", "{}", beside),
        ]
        assert not book.verify()
        book.replay()
        assert (list(book.replay(dry_run=True)), bool(book.verify())) == ([], True)


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


OBJECTIVES, SCAFFOLDS, METRICS = "training_objectives", "training_scaffolds", "training_metrics"
BESIDE: dict[str, tuple[str, list[Change], str]] = {
    "a value": (f"UPDATE {OBJECTIVES} SET raw_mean = 9 WHERE objective_name = 'QED' AND run_id = 'r'", [Change("r", f"{OBJECTIVES} 'QED', raw_mean", 9.0, 0.5)], f"row of {OBJECTIVES}"),
    "a NULL": (f"UPDATE {OBJECTIVES} SET uniprot = 'P1' WHERE objective_name = 'QED' AND run_id = 'r'", [Change("r", f"{OBJECTIVES} 'QED', uniprot", "P1", None)], f"row of {OBJECTIVES}"),
    "two columns": (
        f"UPDATE {OBJECTIVES} SET weight = NULL, objective_base = 'x' WHERE objective_name = 'QED' AND run_id = 'r'",
        [Change("r", f"{OBJECTIVES} 'QED', weight", None, 2.0), Change("r", f"{OBJECTIVES} 'QED', objective_base", "x", "QED")],
        f"row of {OBJECTIVES}",
    ),
    "a removed objective": (f"DELETE FROM {OBJECTIVES} WHERE run_id = 'r' AND objective_name = 'QED'", [Change("r", f"{OBJECTIVES} 'QED'", None, A_ROW)], f"row of {OBJECTIVES}"),
    "an added objective": (f"INSERT INTO {OBJECTIVES} (run_id, objective_name, objective_base) VALUES ('r', 'new', 'new')", [Change("r", f"{OBJECTIVES} 'new'", A_ROW, None)], f"row of {OBJECTIVES}"),
    "an objective of nobody": (f"INSERT INTO {OBJECTIVES} (run_id, objective_name, objective_base) VALUES ('x', 'new', 'new')", [Change("x", f"{OBJECTIVES} 'new'", A_ROW, None)], "extra row"),
    "an objective of a voided run": (f"INSERT INTO {OBJECTIVES} (run_id, objective_name, objective_base) VALUES ('void', 'QED', 'QED')", [Change("void", f"{OBJECTIVES} 'QED'", A_ROW, None)], f"row of {OBJECTIVES}"),
    "a renamed objective": (
        f"UPDATE {OBJECTIVES} SET objective_name = 'z' WHERE run_id = 'r' AND objective_name = 'QED'",
        [Change("r", f"{OBJECTIVES} 'QED'", None, A_ROW), Change("r", f"{OBJECTIVES} 'z'", A_ROW, None)],
        f"row of {OBJECTIVES}",
    ),
    "a rank": (f"UPDATE {SCAFFOLDS} SET pareto_rank = 1 WHERE scaffold_id = 's2'", [Change("r", f"{SCAFFOLDS} 's2', pareto_rank", 1, 2)], f"row of {SCAFFOLDS}"),
    "scores": (f"UPDATE {SCAFFOLDS} SET scores_json = NULL WHERE scaffold_id = 's1'", [Change("r", f"{SCAFFOLDS} 's1', scores_json", None, '{"QED":0.5}')], f"row of {SCAFFOLDS}"),
    "all scaffolds": (f"DELETE FROM {SCAFFOLDS}", [Change("r", f"{SCAFFOLDS} 's1'", None, A_ROW), Change("r", f"{SCAFFOLDS} 's2'", None, A_ROW)], f"row of {SCAFFOLDS}"),
    "an added scaffold": (f"INSERT INTO {SCAFFOLDS} (run_id, scaffold_id) VALUES ('s', 's9')", [Change("s", f"{SCAFFOLDS} 's9'", A_ROW, None)], f"row of {SCAFFOLDS}"),
    "a scaffold of nobody": (f"INSERT INTO {SCAFFOLDS} (run_id, scaffold_id) VALUES ('x', 's9')", [Change("x", f"{SCAFFOLDS} 's9'", A_ROW, None)], "extra row"),
    "a count": (f"UPDATE {METRICS} SET count = 3", [Change("r", f"{METRICS} 'loss', count", 3, 2)], f"row of {METRICS}"),
    "a moment": (f"UPDATE {METRICS} SET last_at = '2000-01-01T00:00:00.000000Z'", [Change("r", f"{METRICS} 'loss', last_at", "2000-01-01T00:00:00.000000Z", clock(3))], f"row of {METRICS}"),
    "a removed metric": (f"DELETE FROM {METRICS}", [Change("r", f"{METRICS} 'loss'", None, A_ROW)], f"row of {METRICS}"),
    "a metric of another run": (f"UPDATE {METRICS} SET run_id = 's'", [Change("r", f"{METRICS} 'loss'", None, A_ROW), Change("s", f"{METRICS} 'loss'", A_ROW, None)], f"row of {METRICS}"),
    "a metric of nobody": (f"UPDATE {METRICS} SET run_id = 'x'", [Change("r", f"{METRICS} 'loss'", None, A_ROW), Change("x", f"{METRICS} 'loss'", A_ROW, None)], "extra row"),
}  # fmt: skip


@pytest.mark.parametrize(("sql", "changes", "kind"), BESIDE.values(), ids=BESIDE)
def test_what_was_done_to_the_rows_beside_is_shown_and_found(
    book: Ledger, place: str, sql: str, changes: list[Change], kind: str
) -> None:
    """Objectives, scaffolds, metrics: which row, what a replay would make of it, what verify calls it; it is mended."""
    config = {"objectives": [{"name": "QED", "weight": 2}, "tox"]}
    for run in ("r", "s", "void"):
        book.append(
            [launched(0, run=run, config=config), completed(9, run=run, final_metrics={"objectives/QED/raw_mean": 0.5})]
        )
    book.append(
        scaffolds_recorded(1, columns={"scaffold_id": ["s1", "s2"], "pareto_rank": [1, 2]}, scores={"QED": [0.5, None]})
    )
    book.append(
        [metrics_logged(3, columns={"step": [1, 2], "loss": [0.5, 0.25]}), voided(10, run="void", reason="bogus")]
    )
    right = shown(book)
    assert book.verify()
    edit(place, sql)

    assert list(book.replay(dry_run=True)) == changes
    differences = book.verify().differences
    assert kind in {difference.kind for difference in differences}
    found = {difference.run_id for difference in differences}
    assert found & {changes[0].run_id, changes[-1].run_id}
    assert found <= {change.run_id for change in changes}
    assert all(
        any(change.column in str(difference) for difference in differences)
        for change in changes[:1]
        if kind != "extra row"
    )
    assert shown(book) != right or kind == "extra row"
    book.replay()
    assert (shown(book), list(book.replay(dry_run=True)), book.verify().differences) == (right, [], ())


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
    monkeypatch.setattr(prepared, "folded_in_parts", lambda *_, **__: (part for part in [None]))
    with pytest.raises(AttributeError):
        list(book.replay(dry_run=True))

    assert len(made) == 2
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    there = {file.name for file in path.parent.iterdir()} if path.exists() else set()
    assert there <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}
