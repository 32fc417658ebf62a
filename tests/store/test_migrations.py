"""The schema is made by named steps; what is newer, older or something else is refused and left as it is."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.errors import LedgerError, NewerLedger, NotALedger
from ledger.store import migrations
from ledger.store.migrations import STEPS, Step, schema_statements
from tests.behind import behind
from tests.builders import completed, launched, metrics_logged, shown, started, told, voided
from tests.places import on_both

Do = Callable[..., object]

NAMES = [step.name for step in STEPS]
GOLDEN = Path(__file__).parents[1] / "golden"


def fingerprints(folder: Path) -> dict[str, str]:
    """Return what lies in a folder, by name and content."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def schema(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())


def applied(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [name for (name,) in db.execute("SELECT name FROM ledger_migrations ORDER BY rowid")]


def test_creating_again_does_nothing(path: Path) -> None:
    """init_db() is idempotent: the second time nothing in the file changes."""
    with Ledger(path) as book:
        book.init_db()
        book.append(launched(0))
    before = fingerprints(path.parent)
    with Ledger(path) as book:
        book.init_db()
        book.init_db()

    assert fingerprints(path.parent) == before


def test_the_steps_make_the_declared_schema(path: Path) -> None:
    """What the steps leave behind is what the declarations say."""
    with Ledger(path) as book:
        book.init_db()
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in schema_statements():
            db.execute(statement)
        declared = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())

    assert schema(path) == declared
    assert applied(path) == [step.name for step in STEPS]


def _earlier_api(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE training_runs (run_id TEXT PRIMARY KEY, status TEXT)")
        db.execute("INSERT INTO training_runs VALUES ('old', 'running')")
        db.commit()


def _earlier_api_in_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    _earlier_api(path)


def _another_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.commit()


def _newer(path: Path) -> None:
    with Ledger(path) as book:
        book.append(launched(0))
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO ledger_migrations VALUES ('m999_from_the_future', '2099')")
        db.commit()


def _newer_on_a_network(path: Path) -> None:
    _newer(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")


STRANGERS = {
    "the earlier API's file": (_earlier_api, NotALedger, "adopt"),
    "the earlier API's file in WAL mode": (_earlier_api_in_wal, NotALedger, "adopt"),
    "another database": (_another_database, NotALedger, "recipes"),
    "text": (lambda path: path.write_text("not a database at all, " * 100), NotALedger, "no SQLite file"),
    "a newer ledger": (_newer, NewerLedger, "m999_from_the_future"),
    "a newer ledger with a rollback journal": (_newer_on_a_network, NewerLedger, "pip install --upgrade"),
}


@pytest.mark.parametrize("do", [Ledger.init_db, lambda book: book.append(launched(0)), Ledger.get_stats, Ledger.verify])
@pytest.mark.parametrize(("make", "error", "words"), STRANGERS.values(), ids=STRANGERS)
def test_what_is_no_ledger_of_ours_is_left_as_it_is(
    path: Path, make: Do, error: type[LedgerError], words: str, do: Do
) -> None:
    """Whoever reads or writes gets an error that names the mend, and not one byte of the file is changed."""
    make(path)
    before = fingerprints(path.parent)

    with Ledger(path) as book, pytest.raises(error, match=words):
        do(book)

    assert fingerprints(path.parent) == before


def test_the_first_ledgers_become_what_is_declared(path: Path) -> None:
    """A file as the first step alone made it is migrated on opening, keeps its events, and can be replayed."""
    with Ledger(path.with_name("new.db")) as book:
        book.append([launched(0, config={"batch_size": 8}), started(1)])
        events = [(event.event_id, event.chain) for event in book.events()]
    with closing(sqlite3.connect(path)) as db:
        db.executescript((GOLDEN / "schema_m001.sql").read_text(encoding="utf-8"))
        db.execute("INSERT INTO ledger_migrations VALUES ('m001_the_ledger', '2026-11-23T00:00:00.000000Z')")
        db.execute("ATTACH DATABASE ? AS new", (str(path.with_name("new.db")),))
        for table in ("training_events", "training_heads", "training_runs"):
            names = ", ".join(name for _, name, *_ in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        db.commit()

    with Ledger(path) as book:
        assert [(event.event_id, event.chain) for event in book.events()] == events
        assert book.verify()
    assert schema(path) == schema(path.with_name("new.db"))
    assert applied(path) == NAMES


@on_both
@pytest.mark.parametrize(
    "ask",
    [shown, lambda book: book.get_run_objectives("r"), lambda book: book.append(started(9))],
    ids=["list", "ask", "append"],
)
def test_a_ledger_of_before_has_the_tables_beside_filled(place: str, ask: Do) -> None:
    """One that knew no objectives, scaffolds and metrics: whoever comes first, its events are folded into them."""
    config = {"objectives": ["QED"]}
    events = [event for run in ("r", "s", "void") for event in (
        launched(0, run=run, config=config), metrics_logged(1, run=run, columns={"step": [1], "loss": [0.5]}),
        completed(2, run=run, final_metrics={"objectives/QED/raw_mean": 0.5}),
    )]  # fmt: skip
    events.append(voided(3, run="void", reason="bogus"))
    with Ledger(place) as book:
        book.append(events)
    with behind(place, guarded=True) as db:
        db.execute("DROP VIEW training_timeline")
        for table in ("training_objectives", "training_scaffolds", "training_metrics"):
            db.execute(f"DROP TABLE {table}")
        db.execute("ALTER TABLE training_heads DROP COLUMN detailed")
        db.execute("DELETE FROM ledger_migrations WHERE name = 'm003_results'")

    with Ledger(place) as book:
        ask(book)
        book.append(metrics_logged(1.5, run="s", columns={"step": [2], "loss": [0.25]}))
        assert [row["raw_mean"] for row in book.get_run_objectives("s")] == [0.5]
        there = list(book.events())
        assert shown(book) == told(there)
        assert book.verify()
    with behind(place, guarded=True) as db:
        assert db.execute("SELECT count(*) FROM training_timeline").fetchone()[0] == len(there)


@on_both
def test_a_consumer_of_before_goes_on(place: str) -> None:
    """Nobody knew then what it wants: it is said from now on, and it is where it was, with its failures."""
    with Ledger(place) as book:
        book.append([launched(0), started(1), completed(2)])
        book.subscription("slack").rewind(1)
    with behind(place, guarded=True) as db:
        for column in ("wanted", "begun_by"):
            db.execute(f"ALTER TABLE ledger_subscriptions DROP COLUMN {column}")
        db.execute("UPDATE ledger_subscriptions SET failures = 2")
        db.execute("DELETE FROM ledger_migrations WHERE name = 'm004_consumers'")

    with Ledger(place) as book:
        assert [one[:5] for one in book.subscriptions()] == [("slack", 1, 2, 2, 0)]
        assert book.subscription("slack", types="completed", tries=3).for_each(lambda event: 1 / 0) == 0
        assert [(one.parked, one.wanted) for one in book.subscriptions()] == [(1, "completed")]


def _add_a_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE further (x INTEGER)")


def _fail(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE half_done (x INTEGER)")
    raise RuntimeError("the step is wrong")


@pytest.fixture
def old(path: Path) -> Path:
    """Give a ledger as yesterday's code left it."""
    with Ledger(path) as book:
        book.append([launched(0, config={"batch_size": 8}), started(1)])
    return path


def steps(monkeypatch: pytest.MonkeyPatch, *more: Step) -> None:
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, *more))


def test_a_new_step_is_applied_on_opening(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word from anybody, once, and recorded; nothing else is left in the folder."""
    steps(monkeypatch, Step("m900_further", _add_a_table))
    for _ in range(2):
        with Ledger(old) as book:
            assert book.count_runs() == 1

    assert applied(old) == [*NAMES, "m900_further"]
    assert [file.name for file in old.parent.iterdir()] == [old.name]


def test_a_step_that_rewrites_keeps_a_copy(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as it was before lies beside it, a whole ledger that yesterday's code can read."""
    with Ledger(old) as book:
        before = shown(book)
    steps(monkeypatch, Step("m900_further", _add_a_table, rewrites=True))
    with Ledger(old) as book:
        assert shown(book) == before

    monkeypatch.setattr(migrations, "STEPS", STEPS)
    (copy,) = old.parent.glob("runs.db.before-*")
    assert "m900_further" in copy.name
    with Ledger(copy) as book:
        assert (shown(book), bool(book.verify())) == (before, True)
    assert applied(copy) == NAMES


def test_a_new_ledger_needs_no_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is stored yet, nothing can be rewritten."""
    steps(monkeypatch, Step("m900_further", _add_a_table, rewrites=True))
    with Ledger(path) as book:
        book.append(launched(0))

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_step_that_fails_leaves_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pending steps are one transaction: with a wrong one, the ledger is as it was."""
    steps(monkeypatch, Step("m900_further", _add_a_table), Step("m901_wrong", _fail))
    before = schema(old)
    with Ledger(old) as book, pytest.raises(RuntimeError, match="the step is wrong"):
        book.count_runs()

    assert (schema(old), applied(old)) == (before, NAMES)
    monkeypatch.setattr(migrations, "STEPS", STEPS)
    with Ledger(old) as book:
        assert book.verify()


def test_every_step_has_a_name_of_its_own() -> None:
    """Named m001_..., in order: the names are what ledgers remember."""
    names = [step.name for step in STEPS]

    assert names == sorted(set(names))
    assert [name.split("_")[0] for name in names] == [f"m{number:03}" for number in range(1, len(names) + 1)]


def test_a_ledger_in_memory_is_new_each_time() -> None:
    """What is in memory needs no file, and is gone when it is closed."""
    with Ledger(":memory:") as book:
        book.append(launched(0))
        assert book.count_runs() == 1
    with Ledger(":memory:") as book:
        assert book.count_runs() == 0


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    """A file that was only touched is no ledger to read, and one to write."""
    path.touch()
    with Ledger(path) as book:
        with pytest.raises(LedgerError, match="no ledger at"):
            book.get_stats()
        book.append(launched(0))
        assert book.count_runs() == 1


def test_a_ledger_that_is_created_between_two_looks_is_no_stranger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a file is a ledger is decided by one look at its tables: another process may be creating them."""
    looked = migrations._table_names

    def look_and_let_another_create(connection: sqlite3.Connection) -> set[str]:
        names = looked(connection)
        monkeypatch.setattr(migrations, "_table_names", looked)
        with Ledger(path) as other:
            other.init_db()
        return names

    monkeypatch.setattr(migrations, "_table_names", look_and_let_another_create)
    with Ledger(path) as book:
        book.init_db()
        assert book.verify().ok
