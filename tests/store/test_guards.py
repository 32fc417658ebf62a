"""The database itself refuses to change or remove an event: the locks are tried by breaking in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from tests.builders import completed, launched, started
from tests.strategies import RUN_IDS

ROW = "event_id, run_id, version, type, schema_version, occurred_at, recorded_at, source, payload, digest, chain"
COLUMNS = ["position", *ROW.split(", ")]

ATTACKS = {
    **{f"update {name}": f"UPDATE training_events SET {name} = {name}" for name in COLUMNS},
    "update or ignore": "UPDATE OR IGNORE training_events SET payload = '{}'",
    "update or replace": "UPDATE OR REPLACE training_events SET payload = '{}'",
    "update by rowid": "UPDATE training_events SET type = 'failed' WHERE rowid = 1",
    "delete one": "DELETE FROM training_events WHERE position = 1",
    "delete all": "DELETE FROM training_events",
    "delete nothing conditionally": "DELETE FROM training_events WHERE 1",
    "replace": f"REPLACE INTO training_events SELECT position, {ROW} FROM training_events",
    "replace by position": f"INSERT OR REPLACE INTO training_events (position, {ROW}) SELECT position, 'x', 'x', {ROW.split(', ', 2)[2]} FROM training_events",
    "replace by event id": f"INSERT OR REPLACE INTO training_events ({ROW}) SELECT event_id, 'x', {ROW.split(', ', 2)[2]} FROM training_events",
    "replace by version": f"INSERT OR REPLACE INTO training_events ({ROW}) SELECT 'x', {ROW.split(', ', 1)[1]} FROM training_events",
    "replace by rowid": f"INSERT OR REPLACE INTO training_events (rowid, {ROW}) SELECT rowid, 'x', 'x', {ROW.split(', ', 2)[2]} FROM training_events",
    "upsert": f"INSERT INTO training_events ({ROW}) SELECT {ROW} FROM training_events WHERE true ON CONFLICT DO UPDATE SET payload = '{{}}'",
    "insert again": f"INSERT INTO training_events ({ROW}) SELECT {ROW} FROM training_events",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_nobody_rewrites_the_log(path: Path, attack: str, recursive: str) -> None:
    """UPDATE, DELETE, REPLACE and their kin abort with words that name the mend, and nothing is changed."""
    with Ledger(path) as book:
        book.append([launched(0), started(1), completed(2), launched(0, run=RUN_IDS[3])])
        before = list(book.events())
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.IntegrityError, match="append-only: amend or void the run instead"):
            db.execute(attack)
        db.commit()

    with Ledger(path) as book:
        assert list(book.events()) == before
        assert book.verify()


def test_positions_are_never_given_out_twice(path: Path) -> None:
    """Also when somebody removed the newest event behind the ledger's back, its position is gone."""
    with Ledger(path) as book:
        book.append([launched(0), started(1)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER training_events_no_delete")
        db.execute("DELETE FROM training_events WHERE position = 2")
        db.commit()

    with Ledger(path) as book:
        assert book.append(launched(0, run="s")).position == 3


def test_the_tables_are_strict(path: Path) -> None:
    """A value of another type is refused by the database too."""
    with Ledger(path) as book:
        book.append(launched(0))
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT"):
        db.execute("UPDATE training_runs SET batch_size = 'many'")


def test_no_two_runs_have_one_wandb_id(path: Path) -> None:
    """The database refuses what settling never does."""
    with Ledger(path) as book:
        book.append([launched(0), launched(0, run="s")])
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        db.execute("UPDATE training_runs SET wandb_run_id = 'w'")
