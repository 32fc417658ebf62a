"""The database itself refuses to change or remove an event: the locks are tried by breaking in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from ledger import Ledger
from tests.behind import REFUSED, behind
from tests.builders import completed, launched, started
from tests.places import on_both, on_server
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


SERVER_ATTACKS = {
    **{f"update {name}": f"UPDATE training_events SET {name} = {name}" for name in [*COLUMNS, "transaction_id"]},
    "update none": "UPDATE training_events SET type = 'failed' WHERE false",
    "delete one": "DELETE FROM training_events WHERE position = 1",
    "delete all": "DELETE FROM training_events",
    "delete none": "DELETE FROM training_events WHERE false",
    "delete with a CTE": "WITH gone AS (DELETE FROM training_events RETURNING 1) SELECT * FROM gone",
    "truncate": "TRUNCATE training_events",
    "truncate with others": "TRUNCATE training_runs, training_events",
    "truncate in cascade": "CREATE TABLE mine (event_id text REFERENCES training_events (event_id)); TRUNCATE training_events CASCADE",
    "upsert": f"INSERT INTO training_events ({ROW}) SELECT {ROW} FROM training_events ON CONFLICT (event_id) DO UPDATE SET payload = '{{}}'",
    "upsert by version": f"INSERT INTO training_events ({ROW}) SELECT {ROW.replace('event_id', 'run_id || version', 1)} FROM training_events ON CONFLICT (run_id, version) DO UPDATE SET payload = '{{}}'",
    "merge that updates": "MERGE INTO training_events e USING training_heads h ON e.run_id = h.run_id WHEN MATCHED THEN UPDATE SET payload = '{}'",
    "merge that deletes": "MERGE INTO training_events e USING training_heads h ON e.run_id = h.run_id WHEN MATCHED THEN DELETE",
    "update as a replica": "SET session_replication_role = replica; UPDATE training_events SET payload = '{}'",
    "delete as a replica": "SET session_replication_role = replica; DELETE FROM training_events",
    "truncate as a replica": "SET session_replication_role = replica; TRUNCATE training_events",
    "update through a cursor": "BEGIN; DECLARE c CURSOR FOR SELECT * FROM training_events FOR UPDATE; FETCH c; UPDATE training_events SET payload = '{}' WHERE CURRENT OF c",
    "delete by a cascade": "CREATE TABLE mine (id text PRIMARY KEY); INSERT INTO mine SELECT event_id FROM training_events; ALTER TABLE training_events ADD FOREIGN KEY (event_id) REFERENCES mine ON DELETE CASCADE; DELETE FROM mine",
    "update through a view": "CREATE VIEW mine AS SELECT * FROM training_events; UPDATE mine SET payload = '{}'",
    "delete through what inherits it": "CREATE TABLE mine () INHERITS (training_events); DELETE FROM training_events",
}  # fmt: skip
AGAIN = {
    "insert again": f"INSERT INTO training_events ({ROW}) SELECT {ROW} FROM training_events",
    "insert at a position": f"INSERT INTO training_events (position, {ROW}) SELECT position, 'x' || version, 'x', {ROW.split(', ', 2)[2]} FROM training_events",
    "insert at a version": f"INSERT INTO training_events ({ROW}) SELECT 'x' || version, {ROW.split(', ', 1)[1]} FROM training_events",
}  # fmt: skip


@on_server
@pytest.mark.parametrize("attack", SERVER_ATTACKS.values(), ids=SERVER_ATTACKS)
def test_nobody_rewrites_the_log_on_a_server(place: str, attack: str) -> None:
    """Not even its owner, by whatever statement, and not as who replicates."""
    refused_on_server(place, attack, "append-only: amend or void the run instead")


@on_server
@pytest.mark.parametrize("attack", AGAIN.values(), ids=AGAIN)
def test_nothing_is_in_the_log_twice_on_a_server(place: str, attack: str) -> None:
    """No id, no position and no version of a run."""
    refused_on_server(place, attack, "duplicate key")


def refused_on_server(place: str, attack: str, words: str) -> None:
    """Attack as the owner of the tables, and see that it is refused with these words, and that nothing is changed."""
    with Ledger(place) as book:
        book.append([launched(0), started(1), completed(2), launched(0, run=RUN_IDS[3])])
        before = list(book.events())
    with behind(place, guarded=True) as db, pytest.raises(psycopg.Error, match=words):
        db.execute(attack)

    with Ledger(place) as book:
        assert list(book.events()) == before
        assert book.verify().differences == ()


@on_server
def test_what_is_ignored_changes_nothing_on_a_server(place: str) -> None:
    """ON CONFLICT DO NOTHING is let through, for it changes nothing."""
    with Ledger(place) as book:
        book.append([launched(0), started(1)])
        before = list(book.events())
        with behind(place, guarded=True) as db:
            insert = f"INSERT INTO training_events ({ROW}) SELECT {ROW} FROM training_events ON CONFLICT DO NOTHING"
            assert db.execute(insert).rowcount == 0
        assert (list(book.events()), book.verify().differences) == (before, ())


@on_both
def test_positions_are_never_given_out_twice(place: str) -> None:
    """Also when somebody removed the newest event behind the ledger's back, its position is gone."""
    with Ledger(place) as book:
        book.append([launched(0), started(1)])
    with behind(place) as db:
        db.execute("DELETE FROM training_events WHERE position = 2")

    with Ledger(place) as book:
        assert book.append(launched(0, run="s")).position == 3


@on_both
def test_the_tables_are_strict(place: str) -> None:
    """A value of another type is refused by the database too."""
    with Ledger(place) as book:
        book.append(launched(0))
    words = "cannot store TEXT|invalid input syntax for type bigint"
    with behind(place) as db, pytest.raises(REFUSED, match=words):
        db.execute("UPDATE training_runs SET batch_size = 'many'")


@on_both
def test_no_two_runs_have_one_wandb_id(place: str) -> None:
    """The database refuses what settling never does."""
    with Ledger(place) as book:
        book.append([launched(0), launched(0, run="s")])
    with behind(place) as db, pytest.raises(REFUSED, match="(?i)unique"):
        db.execute("UPDATE training_runs SET wandb_run_id = 'w'")
