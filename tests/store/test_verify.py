"""The night watch finds whatever somebody did behind the ledger's back, and nothing where nobody did."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.cli.main import main
from ledger.errors import LedgerDamaged
from ledger.events import Event, Recorded
from ledger.events.fact import chained, digested
from ledger.store import folding
from ledger.store import verify as verification
from ledger.store.guards import GUARDS as ON_FILE
from tests.behind import Stranger, behind, is_url
from tests.builders import (
    amended,
    annotated,
    completed,
    crashed,
    described,
    heartbeat,
    launched,
    started,
    trials,
    unknown,
    voided,
    wandb_attached,
)
from tests.places import GUARDS, SQLITE, on_both, on_server
from tests.postgres.cluster import Cluster
from tests.postgres.sharing import Session

HISTORY: tuple[Event, ...] = (
    launched(0, run="a", chain_of_custody_id="ABC123", config={"batch_size": 8, "lr": "1e-4"}),
    started(1, run="a"),
    wandb_attached(2, run="a", wandb_run_id="w1", wandb_url="https://w"),
    heartbeat(3, run="a", step=1, metrics={"loss": 0.5}),
    completed(9, run="a", final_metrics={"loss": 0.25}, exit_code=0),
    launched(0, run="b", host="ec2"),
    described(1, run="b", resumes_run_id="a"),
    wandb_attached(5, run="b", wandb_run_id="w1"),
    crashed(6, run="b", presumed=True, end_reason="preempted"),
    annotated(7, run="b", note="n", tags=["t"], metadata={"k": 1}),
    launched(0, run="c"),
    wandb_attached(1, run="c", wandb_run_id="w2"),
    voided(2, run="c", reason="a test"),
    unknown(0, run="d", type="moon_landed", payload={"crew": 3}),
    unknown(1, run="d", type="moon_left"),
    amended(3, run="e", host="h", note=None),
    started(2, run="e"),
)


def filled(place: str | Path) -> None:
    """Record the history there."""
    with Ledger(place) as book:
        for event in HISTORY:
            book.append(event)
        assert book.verify()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a ledger with which nobody tampered, as one closed file."""
    path = tmp_path_factory.mktemp("whole") / "runs.db"
    filled(path)
    return path


@pytest.fixture(scope="module")
def whole_on_server(
    pg_cluster: Cluster, pg_session: Session, pg_template: str
) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """Give copies of such a ledger on a server, each as a context."""
    name = pg_session.database()
    filled(pg_cluster.create_database(name, pg_template))

    @contextmanager
    def copied() -> Iterator[str]:
        copy = pg_session.database()
        yield pg_cluster.create_database(copy, name)
        pg_cluster.drop_database(copy)

    yield copied
    pg_cluster.drop_database(name)


@pytest.fixture
def copy(request: pytest.FixtureRequest, database_kind: str) -> Iterator[str]:
    """Name a copy of such a ledger, to tamper with."""
    if database_kind == SQLITE:
        yield str(shutil.copyfile(request.getfixturevalue("whole"), request.getfixturevalue("path")))
        return
    with request.getfixturevalue("whole_on_server")() as url:
        yield url


def kinds_found(place: str | Path) -> set[str]:
    with Ledger(place) as book:
        verified = book.verify()
        assert bool(verified) is verified.ok is (verified.differences == ())
        assert all(str(difference) for difference in verified.differences)
        return {difference.kind for difference in verified.differences}


# What somebody does with the guards out of the way, and one kind of difference that has to be among those found.
EVENTS, RUNS = "training_events", "training_runs"
DEEP = '{"a":' * 900 + "1" + "}" * 900
TAMPERINGS = {
    "a payload": (f"UPDATE {EVENTS} SET payload = '{{}}' WHERE position = 5", "digest"),
    "a payload that is no JSON": (f"UPDATE {EVENTS} SET payload = 'nonsense' WHERE position = 5", "digest"),
    "a payload that is no mapping": (f"UPDATE {EVENTS} SET payload = '[]' WHERE position = 5", "digest"),
    "a payload in another spelling": (f"UPDATE {EVENTS} SET payload = '{{ }}' WHERE position = 2", "digest"),
    "a time": (f"UPDATE {EVENTS} SET occurred_at = '2020-01-01T00:00:00.000000Z' WHERE position = 5", "digest"),
    "a start's time that is only a date": (f"UPDATE {EVENTS} SET occurred_at = '2020-01-01' WHERE position = 2", "digest"),
    "an end's time that is only a date": (f"UPDATE {EVENTS} SET occurred_at = '2020-01-01' WHERE position = 5", "digest"),
    "a number that is none": (f"UPDATE {EVENTS} SET payload = '{{\"config\":{{\"a\":NaN}}}}' WHERE position = 1", "digest"),
    "a number beyond all bounds": (f"UPDATE {EVENTS} SET payload = '{{\"config\":{{\"a\":1e400}}}}' WHERE position = 1", "digest"),
    "a metric beyond all bounds": (f"UPDATE {EVENTS} SET payload = '{{\"final_metrics\":{{\"a\":-1e400}}}}' WHERE position = 5", "digest"),
    "a duration beyond all bounds": (f"UPDATE {EVENTS} SET payload = '{{\"duration_seconds\":-{'9' * 40}}}' WHERE position = 4", "digest"),
    "a config that is too deep": (f"UPDATE {EVENTS} SET payload = '{{\"config\":{DEEP}}}' WHERE position = 1", "digest"),
    "metrics that are too deep": (f"UPDATE {EVENTS} SET payload = '{{\"final_metrics\":{DEEP}}}' WHERE position = 5", "digest"),
    "a source": (f"UPDATE {EVENTS} SET source = '{{}}' WHERE position = 5", "digest"),
    "a type": (f"UPDATE {EVENTS} SET type = 'failed' WHERE position = 5", "digest"),
    "a schema version": (f"UPDATE {EVENTS} SET schema_version = 2 WHERE position = 5", "digest"),
    "an event id": (f"UPDATE {EVENTS} SET event_id = upper(event_id) WHERE position = 5", "digest"),
    "a digest": (f"UPDATE {EVENTS} SET digest = 'x' WHERE position = 2", "digest"),
    "a chain": (f"UPDATE {EVENTS} SET chain = 'x' WHERE position = 2", "chain"),
    "the newest chain": (f"UPDATE {EVENTS} SET chain = 'x' WHERE position = 5", "chain"),
    "a version": (f"UPDATE {EVENTS} SET version = 99 WHERE position = 5", "version"),
    "all versions of a run": (f"UPDATE {EVENTS} SET version = version + 100 WHERE run_id = 'a'", "version"),
    "a run id": (f"UPDATE {EVENTS} SET run_id = 'b', version = 9 WHERE position = 5", "digest"),
    "the newest position": (f"UPDATE {EVENTS} SET position = 1000 WHERE position = 17", "position"),
    "the first position": (f"UPDATE {EVENTS} SET position = -1 WHERE position = 1", "position"),
    "positions within a run": (f"UPDATE {EVENTS} SET position = -position", "position"),
    "recorded_at in the middle of a run": (f"UPDATE {EVENTS} SET recorded_at = '2020-01-01T00:00:00.000000Z' WHERE position = 3", "placed"),
    "the positions of two runs' events": (f"UPDATE {EVENTS} SET position = CASE position WHEN 10 THEN -1 ELSE 10 END WHERE position IN (10, 11)\nUPDATE {EVENTS} SET position = 11 WHERE position = -1", "placed"),
    "the first event": (f"DELETE FROM {EVENTS} WHERE position = 1", "position"),
    "an event in the middle": (f"DELETE FROM {EVENTS} WHERE position = 3", "chain"),
    "the newest event of a run": (f"DELETE FROM {EVENTS} WHERE position = 10", "head"),
    "the newest event of all": (f"DELETE FROM {EVENTS} WHERE position = 17", "position"),
    "all events": (f"DELETE FROM {EVENTS}", "deleted run"),
    "the events of a run": (f"DELETE FROM {EVENTS} WHERE run_id = 'b'", "deleted run"),
    "an unknown event": (f"DELETE FROM {EVENTS} WHERE run_id = 'd'", "deleted run"),
    "a row's status": (f"UPDATE {RUNS} SET status = 'completed' WHERE run_id = 'b'", "row"),
    "a row's NULL": (f"UPDATE {RUNS} SET note = 'x' WHERE run_id = 'a'", "row"),
    "a row's local column": (f"UPDATE {RUNS} SET updated_at_db = NULL WHERE run_id = 'a'", "row"),
    "a voided row": ("UPDATE voided_runs SET host = 'x'", "row"),
    "a void's reason": ("UPDATE voided_runs SET reason = 'x'", "row"),
    "a row": (f"DELETE FROM {RUNS} WHERE run_id = 'e'", "missing row"),
    "all rows": (f"DELETE FROM {RUNS}", "missing row"),
    "a voided row's being there": ("DELETE FROM voided_runs", "missing row"),
    "a row of nobody": (f"INSERT INTO {RUNS} (run_id, created_at, status) VALUES ('x', '2024-01-01T00:00:00.000000Z', 'launched')", "extra row"),
    "a row of one not understood": (f"INSERT INTO {RUNS} (run_id, created_at, status) VALUES ('d', '2024-01-01T00:00:00.000000Z', 'failed')", "extra row"),
    "a voided run's row": (f"INSERT INTO {RUNS} ({{columns}}) SELECT {{columns}} FROM voided_runs", "extra row"),
    "a second row in voided_runs": (f"INSERT INTO voided_runs ({{columns}}, reason) SELECT {{columns}}, 'x' FROM {RUNS} WHERE run_id = 'a'", "extra row"),
    "a W&B id": (f"UPDATE {RUNS} SET wandb_run_id = 'w9' WHERE run_id = 'e'", "wandb id"),
    "a W&B id that is held": (f"UPDATE {RUNS} SET wandb_run_id = NULL", "wandb id"),
    "a voided run's W&B id": ("UPDATE voided_runs SET wandb_run_id = 'w2'", "wandb id"),
    "a claim": ("UPDATE training_claims SET occurred_at = '2020' WHERE run_id = 'b'", "claim"),
    "a claim's being there": ("DELETE FROM training_claims WHERE run_id = 'b'", "missing claim"),
    "a claim of nobody": ("INSERT INTO training_claims VALUES ('x', 'w', '2020', 'i', NULL)", "extra row"),
    "a voided run's claim": ("INSERT INTO training_claims VALUES ('c', 'w2', '2020', 'i', NULL)", "claim"),
    "a head's version": ("UPDATE training_heads SET version = 9 WHERE run_id = 'a'", "head"),
    "a head's chain": ("UPDATE training_heads SET chain = 'x' WHERE run_id = 'a'", "head"),
    "what lies beside a row": ("UPDATE training_heads SET beside = '' WHERE run_id = 'a'", "head"),
    "a count of what is not understood": ("UPDATE training_heads SET unreadable = 0 WHERE run_id = 'd'", "head"),
    "a head's being there": ("DELETE FROM training_heads WHERE run_id = 'd'", "missing head"),
    "a head of nobody": ("INSERT INTO training_heads SELECT 'x', version, chain, newest_occurred_at, newest_event_id, first_recorded_at, placed, unreadable, beside, detailed FROM training_heads WHERE run_id = 'a'", "deleted run"),
    "an index": ("DROP INDEX training_runs_wandb_run_id", "index"),
    "an index of its name on another column": ("DROP INDEX training_runs_wandb_run_id\nCREATE UNIQUE INDEX training_runs_wandb_run_id ON training_runs (run_id)", "index"),
    "an index of its name that is not unique": ("DROP INDEX training_runs_wandb_run_id\nCREATE INDEX training_runs_wandb_run_id ON training_runs (wandb_run_id)", "index"),
}  # fmt: skip
ON_SQLITE = {
    "a time that is none": (f"UPDATE {EVENTS} SET occurred_at = 'soon' WHERE position IN (2, 5)", "digest"),
    "an end's time that is none": (f"UPDATE {EVENTS} SET occurred_at = 'soon' WHERE position = 5", "digest"),
    "a run id with a NUL": (f"UPDATE {EVENTS} SET run_id = 'a' || char(0) || 'x' WHERE position = 5", "position"),
    "recorded_at that is no moment": (f"UPDATE {EVENTS} SET recorded_at = 'soon' WHERE position = 3", "recorded_at"),
    "the count of positions": ("UPDATE sqlite_sequence SET seq = 99", "position"),
    "no count of positions": ("DELETE FROM sqlite_sequence", "position"),
    "a trigger of one's own": (f"CREATE TRIGGER mine BEFORE INSERT ON {EVENTS} BEGIN SELECT RAISE(IGNORE); END", "trigger"),
    "a guard that lets through": (f"CREATE TRIGGER training_events_no_update BEFORE UPDATE ON {EVENTS} BEGIN SELECT 1; END", "trigger"),
    "bytes for a payload": (f"UPDATE {EVENTS} SET payload = CAST(x'7bff7d' AS TEXT) WHERE position = 5", "digest"),
    "bytes for a source": (f"UPDATE {EVENTS} SET source = CAST(x'7bff7d' AS TEXT) WHERE position = 5", "digest"),
    "bytes for a digest": (f"UPDATE {EVENTS} SET digest = CAST(x'7bff7d' AS TEXT) WHERE position = 5", "digest"),
    "bytes for a chain": (f"UPDATE {EVENTS} SET chain = CAST(x'7bff7d' AS TEXT) WHERE position = 5", "chain"),
    "bytes for a moment": (f"UPDATE {EVENTS} SET recorded_at = CAST(x'ff' AS TEXT) WHERE position = 2", "recorded_at"),
    "bytes for a run id": (f"UPDATE {EVENTS} SET run_id = CAST(x'7bff7d' AS TEXT) WHERE position = 5", "position"),
    "bytes for a row's text": (f"UPDATE {RUNS} SET note = CAST(x'7bff7d' AS TEXT) WHERE run_id = 'a'", "row"),
    "bytes for a row's run id": (f"UPDATE {RUNS} SET run_id = CAST(x'7bff7d' AS TEXT) WHERE run_id = 'a'", "missing row"),
}  # fmt: skip
REFUSING = "CREATE OR REPLACE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {}; END $$"
ON_POSTGRESQL = {
    "a guard that lets through": (REFUSING.format("NEW"), "function"),
    "a guard that lets through what is deleted": (REFUSING.format("OLD"), "function"),
    "a guard that is no more always on": (f"ALTER TABLE {EVENTS} ENABLE TRIGGER training_events_no_delete", "trigger"),
    "a guard that is off": (f"ALTER TABLE {EVENTS} DISABLE TRIGGER training_events_no_truncate", "trigger"),
    "a guard of each row only": (f"DROP TRIGGER training_events_no_update ON {EVENTS}\nCREATE TRIGGER training_events_no_update BEFORE UPDATE ON {EVENTS} FOR EACH ROW EXECUTE FUNCTION ledger_refuse()\nALTER TABLE {EVENTS} ENABLE ALWAYS TRIGGER training_events_no_update", "trigger"),
    "a guard of one column only": (f"DROP TRIGGER training_events_no_update ON {EVENTS}\nCREATE TRIGGER training_events_no_update BEFORE UPDATE OF type ON {EVENTS} FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()\nALTER TABLE {EVENTS} ENABLE ALWAYS TRIGGER training_events_no_update", "trigger"),
    "a trigger of one's own": (f"CREATE TRIGGER mine BEFORE INSERT ON {EVENTS} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "trigger"),
    "a rule": (f"CREATE RULE mine AS ON INSERT TO {EVENTS} DO INSTEAD NOTHING", "rule"),
    "another horizon": ("CREATE OR REPLACE FUNCTION ledger_horizon(elsewhere xid[] DEFAULT '{}') RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT 9 $$", "function"),
    "a key": (f"ALTER TABLE {EVENTS} DROP CONSTRAINT training_events_version", "index"),
    "a primary key": ("ALTER TABLE training_runs DROP CONSTRAINT training_runs_pkey", "index"),
    "an index in another order": ("DROP INDEX training_runs_newest\nCREATE INDEX training_runs_newest ON training_runs (created_at, run_id)", "index"),
    "an index of fewer rows": ("DROP INDEX training_runs_newest\nCREATE INDEX training_runs_newest ON training_runs (created_at DESC, run_id) WHERE host = 'x'", "index"),
    "what is folded from a document": ("UPDATE training_runs SET config_json_text = '{}' WHERE run_id = 'a'", "row"),
}  # fmt: skip
# Positions have holes on a server, for transactions are rolled back: there a cut is found by the heads.
FOUND_ON_SERVER = {"the newest position": "placed", "the first event": "version", "the newest event of all": "head"}


def tampered(place: str, sql: str) -> set[str]:
    """Run statements behind a ledger's back, and return what kinds of difference are found."""
    with behind(place) as db:
        columns = ", ".join(db.columns(RUNS))
        for statement in sql.replace("{columns}", columns).split("\n"):
            db.execute(statement)
    return kinds_found(place)


@on_both
@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_tampering_is_found(copy: str, what: str) -> None:
    """What was changed, removed or slipped in is named by its kind, and verifying never fails for it."""
    sql, kind = TAMPERINGS[what]
    assert (FOUND_ON_SERVER.get(what, kind) if is_url(copy) else kind) in tampered(copy, sql)


@pytest.mark.parametrize(("sql", "kind"), ON_SQLITE.values(), ids=ON_SQLITE)
def test_a_tampering_that_only_sqlite_allows_is_found(copy: str, sql: str, kind: str) -> None:
    """Bytes that are no text, times that are none, its own triggers and its count of positions."""
    assert kind in tampered(copy, sql)


@on_server
@pytest.mark.parametrize(("sql", "kind"), ON_POSTGRESQL.values(), ids=ON_POSTGRESQL)
def test_a_tampering_with_a_servers_schema_is_found(copy: str, sql: str, kind: str) -> None:
    """Guards that are there and do nothing, keys and indexes that are others, and rules."""
    with behind(copy, guarded=True) as db:
        for statement in sql.split("\n"):
            db.execute(statement)
    assert kind in kinds_found(copy)


def test_bytes_that_are_no_text_are_damage_to_whoever_needs_them(copy: str, path: Path) -> None:
    """Verifying finds where, with exit code 1; the rest says so instead of failing in the driver's words."""
    with behind(path) as db:
        db.execute(f"UPDATE {EVENTS} SET payload = CAST(x'7bff7d' AS TEXT) WHERE position = 15")
        db.execute(f"UPDATE {RUNS} SET note = CAST(x'7bff7d' AS TEXT) WHERE run_id = 'b'")

    with Ledger(path) as book, Ledger(path.with_name("copy.db")) as target:
        for use in (
            book.replay,
            lambda: list(book.replay(dry_run=True)),
            lambda: book.export(path.with_name("all.jsonl")),
            lambda: book.copy(target.url),
            lambda: list(book.events()),
            lambda: book.get_run("b"),
            lambda: book.as_of("9999-01-01").get_stats(),
        ):
            with pytest.raises(LedgerDamaged, match="no UTF-8.*`ledger verify`"):
                use()
        found = {difference.kind: difference for difference in book.verify().differences}
        assert (found["digest"].run_id, found["row"].run_id) == ("d", "b")
        assert "no UTF-8" in str(found["row"].stored)
        book.append(started(99, run="c"))
        assert book.get_run("a") is not None
    assert main(["--db", str(path), "verify"]) == 1


@on_both
@pytest.mark.parametrize("number", range(3))
def test_a_guard_that_is_gone_is_found(copy: str, number: int) -> None:
    """Whoever takes a trigger away and leaves it so is found out before he does anything."""
    with behind(copy, guarded=True) as db:
        if is_url(copy):
            db.execute(f"DROP TRIGGER {GUARDS[number]} ON {EVENTS}")
        else:
            db.execute(f"DROP TRIGGER {[*ON_FILE][number]}")

    assert kinds_found(copy) == {"trigger"}


@on_both
def test_an_event_that_was_slipped_in_is_found(copy: str) -> None:
    """Made with all care, with a right digest, chain, version and position, it has not gone through the projector."""
    with Ledger(":memory:") as forge:
        made = forge.append(completed(99, run="b"))
    with behind(copy) as db:
        _forge(db, made)

    assert {"head", "row"} <= kinds_found(copy)


@on_both
def test_a_fault_behind_the_last_run_that_was_folded_is_found(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of very many events is folded when its first is met, and its other events are met after that."""
    monkeypatch.setattr(folding, "KEPT_MAX", 1)
    monkeypatch.setattr(folding, "PAGE", 2)
    monkeypatch.setattr(verification, "_RUNS_AT_ONCE", 1)
    with Ledger(place) as book:
        book.append([heartbeat(step, step=step) for step in range(9)])
    with behind(place) as db:
        db.execute(f"UPDATE {EVENTS} SET source = '{{}}' WHERE position = 7")

    assert kinds_found(place) == {"digest"}


def test_events_under_an_id_that_is_cut_to_another_are_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's functions end a text at a NUL; what was slipped in under such an id is counted for nobody."""
    monkeypatch.setattr(folding, "WAITING_MAX", 10)
    monkeypatch.setattr(folding, "PAGE", 8)
    with Ledger(path) as book:
        for run in "ab":
            book.append([launched(0, run=run), *(heartbeat(step, run=run, step=step) for step in range(1, 8))])
    with behind(path) as db:
        names = db.columns(EVENTS)
        chain = ""
        for stored in db.execute(f"SELECT * FROM {EVENTS} WHERE run_id = 'a' ORDER BY position").fetchall():
            row = dict(zip(names, stored, strict=True))
            row |= {"position": None, "event_id": f"f{row['event_id'][1:]}", "run_id": "a\0x"}
            maker = ("event_id", "occurred_at", "payload", "run_id", "schema_version", "source", "type")
            row["digest"] = digested(*(row[name] for name in maker))
            row["chain"] = chain = chained(chain, row["digest"])
            db.execute(f"INSERT INTO {EVENTS} VALUES ({', '.join('?' * len(row))})", list(row.values()))
    with Ledger(path) as book:
        for make in (launched, heartbeat):
            book.append([make(1, run=f"later-{number}") for number in range(40)])

    assert "position" in kinds_found(path)


def _forge(db: Stranger, made: Recorded) -> None:
    version, chain = db.execute("SELECT version, chain FROM training_heads WHERE run_id = 'b'").fetchone()
    names = db.columns(EVENTS)
    (template,) = db.execute(f"SELECT {', '.join(names)} FROM {EVENTS} WHERE position = 10")
    row = dict(zip(names, template, strict=True))
    row |= {name: getattr(made, name) for name in ("event_id", "type", "source", "payload", "digest")}
    row |= {"position": 18, "version": version + 1, "occurred_at": made.fact().occurred_at}
    row["chain"] = chained(chain, made.digest)
    db.execute(f"INSERT INTO {EVENTS} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


@on_both
@pytest.mark.parametrize("table", ["training_claims", "training_heads", "training_runs", "voided_runs"])
def test_a_table_that_is_gone_is_damage(copy: str, table: str) -> None:
    """A part of the ledger that is not there is an error that says what to do."""
    with behind(copy, guarded=True) as db:
        db.execute("DROP VIEW training_timeline")
        db.execute(f"DROP TABLE {table}")

    mend = "`ledger replay`" if table != "training_heads" else "restore-backup|Restore it from a backup"
    with Ledger(copy) as book, pytest.raises(LedgerDamaged, match=mend):
        book.verify()


@on_both
def test_a_conflict_that_somebody_changed_is_found(book: Ledger, place: str, tmp_path: Path) -> None:
    """It is kept verbatim, and is what its digest says; who looks at it, or merges it, would be told something else."""
    book.append([completed(0, number=1, exit_code=0)])
    with Ledger(tmp_path / "other.db") as other:
        other.append([completed(0, number=1, exit_code=1)])
        book.merge(other.url)
    assert book.verify()
    with behind(place) as db:
        db.execute("UPDATE training_conflicts SET payload = '{}'")
    (difference,) = book.verify().differences
    assert (difference.kind, difference.run_id) == ("conflict", "r")


@on_both
def test_only_the_first_of_each_kind_is_named(copy: str) -> None:
    """Where all rows differ, one is named, with what is stored and what was computed."""
    with behind(copy) as db:
        db.execute(f"UPDATE {RUNS} SET instance_id = 'forged'")

    with Ledger(copy) as book:
        (difference,) = book.verify().differences
        assert (difference.kind, difference.run_id, difference.column) == ("row", "a", "instance_id")
        assert (difference.stored, difference.computed) == ("forged", None)
        assert "stored 'forged', computed None" in str(difference)


@on_both
def test_a_replay_mends_what_is_projected_and_only_that(copy: str) -> None:
    """Rows and claims can be folded again; what was done to events stays to be seen."""
    with behind(copy) as db:
        db.execute(f"UPDATE {RUNS} SET note = 'forged'")
        db.execute("DELETE FROM training_claims")
        db.execute("DELETE FROM voided_runs")

    with Ledger(copy) as book:
        assert not book.verify()
        book.replay()
        assert book.verify().differences == ()
    with behind(copy) as db:
        db.execute(f"UPDATE {EVENTS} SET payload = '{{}}' WHERE position = 5")
    with Ledger(copy) as book:
        book.replay()
        assert {difference.kind for difference in book.verify().differences} == {"digest"}


Draw = Callable[[st.SearchStrategy[Any]], Any]


def _pick(draw: Draw, db: Stranger, table: str) -> tuple[str, str]:
    """Any row, by its key, and any of its columns whose change has to be found."""
    names = db.columns(table)
    rows = [value for (value,) in db.execute(f"SELECT {names[0]} FROM {table} ORDER BY 1")]
    column = draw(st.sampled_from(names))
    return f"{names[0]} = {draw(st.sampled_from(rows))!r}", column


def change_a_cell(draw: Draw, db: Stranger, table: str) -> None:
    """Put another value there: a neighbour's, a little more or less, or NULL."""
    row, column = _pick(draw, db, table)
    ((before,),) = db.execute(f"SELECT {column} FROM {table} WHERE {row}")
    others = [value for (value,) in db.execute(f"SELECT DISTINCT {column} FROM {table} ORDER BY 1")]
    changed = [f"{before} ", before[:-1]] if isinstance(before, str) else ["x", "", "{}"]
    numbers = [before + 1, before - 1] if isinstance(before, int | float) else [0, 7]
    after = draw(st.sampled_from([*others, *changed, *numbers, None]))
    assume(after != before)
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", (after,))
    if (table, column) != (EVENTS, "position") and db.columns(table)[0] != column:
        assume(db.execute(f"SELECT {column} FROM {table} WHERE {row}").fetchone() != (before,))


def delete_rows(draw: Draw, db: Stranger, table: str) -> None:
    """Remove one row, or all up to one, or all from one."""
    row, _ = _pick(draw, db, table)
    compare = draw(st.sampled_from(["=", ">=", "<="]))
    assume(db.execute(f"DELETE FROM {table} WHERE {row.replace('=', compare, 1)}").rowcount)


def copy_a_row(draw: Draw, db: Stranger, table: str) -> None:
    """Slip in a row that looks like another."""
    row, _ = _pick(draw, db, table)
    other = {"run_id": "'forged'", "event_id": "'forged'", "position": "position + 50", "wandb_run_id": "'w'"}
    names = db.columns(table)
    values = [other.get(name, name) for name in names]
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {table} WHERE {row}")


def swap_two_cells(draw: Draw, db: Stranger, table: str) -> None:
    """Exchange what two rows say. (Of positions only the order within a run can be known.)"""
    (one, column), (other, _) = _pick(draw, db, table), _pick(draw, db, table)
    assume((table, column) not in {(EVENTS, "position"), (EVENTS, "event_id")})
    key = db.columns(table)[0]
    both = dict(db.execute(f"SELECT {key}, {column} FROM {table} WHERE {one} OR {other}").fetchall())
    assume(len(set(both.values())) == 2)
    for row, value in zip(both, reversed(both.values()), strict=True):
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, row))


TABLES = (EVENTS, RUNS, "voided_runs", "training_claims", "training_heads")
TAMPERERS = (change_a_cell, delete_rows, copy_a_row, swap_two_cells)


def check_any_tampering(draw: Draw, place: str) -> None:
    """Tamper at random, past the guards, and look."""
    tamper, table = draw(st.sampled_from(TAMPERERS)), draw(st.sampled_from(TABLES))
    with behind(place) as db:
        try:
            tamper(draw, db, table)
        except (sqlite3.IntegrityError, psycopg.Error):  # a key, or what is no value of the column
            assume(False)

    with pytest.MonkeyPatch.context() as patch:
        for name, least in (("KEPT_MAX", 1), ("PAGE", 2), ("WAITING_MAX", 3)):
            patch.setattr(folding, name, draw(st.sampled_from([least, getattr(folding, name)])))
        assert kinds_found(place) != set()


@settings(max_examples=trials(200, 3000))
@given(data=st.data())
def test_any_tampering_is_found(whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever cell is changed, whatever row is removed, copied or swapped, verify says no, and never fails."""
    check_any_tampering(data.draw, str(shutil.copyfile(whole, tmp_path_factory.getbasetemp() / "tampered.db")))


@settings(max_examples=trials(30, 500), suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data())
def test_any_tampering_on_a_server_is_found(
    whole_on_server: Callable[[], AbstractContextManager[str]], data: st.DataObject
) -> None:
    """The same, with whatever its owner can do to the tables."""
    with whole_on_server() as url:
        check_any_tampering(data.draw, url)


@pytest.mark.parametrize(
    "ask", [lambda book: list(book.events()), lambda book: book.timeline(run_id="a")], ids=["events", "one"]
)
def test_a_time_that_is_none_is_damage(copy: str, ask: Callable[[Ledger], object]) -> None:
    """Whoever looks into it is told which event it is, and what tells more."""
    with behind(copy) as db:
        db.execute(f"UPDATE {EVENTS} SET occurred_at = 'yesterday' WHERE position = 2")
    with (
        Ledger(copy) as book,
        pytest.raises(LedgerDamaged, match=r"at position 2 of run 'a'.*'yesterday'.*`ledger verify`"),
    ):
        ask(book)


@on_both
def test_a_ledger_of_nothing_is_whole(book: Ledger) -> None:
    """No events, no runs, no differences."""
    verified: Any = book.verify()

    assert (verified.events, verified.runs, verified.differences, bool(verified)) == (0, 0, (), True)


@on_both
def test_verify_counts_what_it_checked(copy: str) -> None:
    """Every event and every run, also of those that nobody understands."""
    with Ledger(copy) as book:
        verified = book.verify()

    assert (verified.events, verified.runs) == (len(HISTORY), 5)
