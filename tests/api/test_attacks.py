"""Attacks: whoever tries is refused, or is stored as he is; and in both cases nothing else changes."""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, LedgerError
from ledger.errors import UnknownColumn, UnknownFilter, UnknownOrder
from tests.behind import behind, is_url
from tests.places import in_a_file, on_both

NUL = "a\x00b"
SURROGATE = "a\ud800b"
INJECTIONS = (
    "'; DROP TABLE training_runs; --",
    '"; DROP TABLE training_runs; --',
    "' OR '1'='1",
    "1; DELETE FROM training_events",
    "x') UNION SELECT sql FROM sqlite_master --",
    "%",
    "\\",
    "?",
    ":run_id",
    "{0}",
    "[redacted]",
)


pytestmark = on_both


@pytest.fixture
def book(place: str) -> Iterator[Ledger]:
    """Give a ledger with a bystander, whom no attack may touch."""
    with Ledger(place) as book:
        config = {"training": {"batch_size": 8, "max_steps": 2000}, "reward": {"gradient_method": "mgda"}}
        book.insert_run("bystander", "w1", config, "ABC123", host="ec2", run_name="quiet")
        book.update_run_status("bystander", "completed", final_metrics_json={"train/loss": 0.5})
        book.annotate("bystander", note="a note", tags=["paper"], reviewer="Ada")
        yield book


def everything(place: str) -> dict[str, list[str]]:
    """Give the schema and every row of every table."""
    with behind(place, guarded=True) as db:
        rows = {name: sorted(map(repr, db.execute(f'SELECT * FROM "{name}"'))) for name in db.tables()}
        return rows | {"schema": [repr(entry) for entry in db.execute(SCHEMA[is_url(place)])]}


SCHEMA = {
    False: "SELECT name, sql FROM sqlite_master ORDER BY name",
    True: "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname",
}


def of_others(place: str, run_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Give the rows of all runs but *run_id*, in each table that has a run_id."""
    kept: dict[str, list[tuple[Any, ...]]] = {}
    with behind(place, guarded=True) as db:
        for table in db.tables():
            if "run_id" in db.columns(table):
                rows = db.execute(f'SELECT run_id, * FROM "{table}"').fetchall()
                kept[table] = sorted((row[1:] for row in rows if row[0] != run_id), key=repr)
    return kept


@contextmanager
def room_for_depth() -> Iterator[None]:
    """Let the reader's own json and == go as deep as the attack is."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(usual)


def refuses_or_does(place: str, call: Callable[[], object]) -> bool:
    """Say whether *call* was carried out; if it was refused, it was so on purpose and changed nothing."""
    before = everything(place)
    try:
        call()
    except LedgerError as error:
        assert len(str(error)) < 2_000
        assert everything(place) == before
        return False
    return True


# The log itself, through another driver


WRITES = [
    "UPDATE training_events SET payload = '{}'",
    "UPDATE training_events SET occurred_at = '2000-01-01T00:00:00.000000Z' WHERE position = 1",
    "UPDATE training_events SET run_id = 'another'",
    "UPDATE training_events SET position = position + 1000",
    "UPDATE training_events SET payload = payload",
    "UPDATE OR REPLACE training_events SET event_id = (SELECT min(event_id) FROM training_events)",
    "UPDATE OR IGNORE training_events SET type = 'failed'",
    "DELETE FROM training_events",
    "DELETE FROM training_events WHERE run_id = 'bystander'",
    "DELETE FROM training_events WHERE position = (SELECT max(position) FROM training_events)",
    "REPLACE INTO training_events SELECT * FROM training_events",
    "INSERT OR REPLACE INTO training_events SELECT * FROM training_events WHERE position = 1",
    "INSERT INTO training_events SELECT * FROM training_events WHERE true ON CONFLICT DO UPDATE SET type = 'failed'",
]


@in_a_file
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize("statement", WRITES)
def test_nobody_rewrites_the_log(book: Ledger, path: Path, statement: str, recursive: str) -> None:
    """UPDATE, DELETE and REPLACE on training_events are refused as append-only, and nothing changes."""
    before = everything(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            db.execute(statement)
        db.commit()

    assert everything(path) == before


@in_a_file
@pytest.mark.parametrize("keys", [["position"], ["event_id"], ["run_id", "version"]])
def test_nobody_replaces_an_event_by_one_of_its_keys(book: Ledger, path: Path, keys: list[str]) -> None:
    """INSERT OR REPLACE of a row that shares only one key with an event is refused as append-only too."""
    before = everything(path)
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        event = dict(db.execute("SELECT * FROM training_events ORDER BY position LIMIT 1").fetchone())
        fresh = {
            "position": 9_999,
            "event_id": "01900000-0000-7000-8000-000000000000",
            "run_id": "x",
            "version": 9_999,
        }
        forged = event | fresh | {key: event[key] for key in keys}
        marks = ", ".join("?" * len(forged))
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            db.execute(
                f"INSERT OR REPLACE INTO training_events ({', '.join(forged)}) VALUES ({marks})",
                list(forged.values()),
            )
        db.commit()

    assert everything(path) == before


@in_a_file
def test_the_ledger_still_appends_after_the_attacks(book: Ledger, path: Path) -> None:
    """Refused attacks leave the ledger in order: it takes the next event."""
    with closing(sqlite3.connect(path)) as db:
        for statement in WRITES:
            with pytest.raises(sqlite3.DatabaseError):
                db.execute(statement)
            db.rollback()
    book.update_run_status("bystander", "running")
    found = book.get_run("bystander")

    assert found is not None
    assert found["status"] == "running"


# SQL where a caller's text goes


@pytest.mark.parametrize(
    "order_by",
    [
        *INJECTIONS,
        "created_at DESC; DROP TABLE training_runs",
        "created_at DESC --",
        "created_at, (SELECT sql FROM sqlite_master)",
        "(CASE WHEN 1=1 THEN run_id ELSE host END)",
        "random()",
        "1",
        "created_at DESC NULLS FIRST",
        "training_runs.created_at",
        '"created_at"',
        "created_at/**/DESC",
        "rowid",
        "created_at COLLATE NOCASE",
        NUL,
        SURROGATE,
        "created_at " * 100_000,
    ],
    ids=count(),
)
def test_an_order_is_never_sql(book: Ledger, place: str, order_by: str) -> None:
    """Whatever is not a column and a direction is an UnknownOrder, and nothing changes."""
    before = everything(place)
    with pytest.raises(UnknownOrder):
        book.query_runs(order_by=order_by)

    assert everything(place) == before


@pytest.mark.parametrize(
    "name",
    [
        *INJECTIONS,
        "run_id = 'x' OR 1=1 --",
        "status; DROP TABLE training_runs",
        "min_status) OR (1=1",
        "not_",
        "min_",
        "has_",
        "_contains",
        "_after",
        "rowid",
        "",
        NUL,
        SURROGATE,
        "x" * 100_000,
    ],
    ids=count(),
)
def test_a_filter_name_is_never_sql(book: Ledger, place: str, name: str) -> None:
    """Whatever is not the name of a filter is an UnknownFilter, and nothing changes."""
    before = everything(place)
    with pytest.raises(UnknownFilter):
        book.query_runs(filters={name: "x"})

    assert everything(place) == before


@pytest.mark.parametrize("root", ["config", "metrics", "metadata"])
@pytest.mark.parametrize("key", [*INJECTIONS, '"', "a\"b'c", "$", "$.a", "[0]", "a[0]", "#", "*", "\n", "ö🚀"])
def test_a_path_into_the_json_is_never_sql(book: Ledger, place: str, root: str, key: str) -> None:
    """A path finds the run that has this very key, or is refused; never another run."""
    before = everything(place)
    try:
        found = book.query_runs(filters={f"has_{root}.{key}": True})
    except LedgerError as error:
        assert isinstance(error, ValueError)
    else:
        assert found == []

    assert everything(place) == before


@pytest.mark.parametrize("key", ["a\"b'c", "' OR '1'='1", "$", "[0]", "#", "*", "a b", "ö🚀", "%", "\\"])
def test_a_strange_key_is_found_by_its_path(book: Ledger, key: str) -> None:
    """A path with a strange key finds the run whose config has it, and only that; or it is refused."""
    book.insert_run("strange", None, {"top": {key: "here"}})
    try:
        found = book.query_runs({f"config.top.{key}": "here"})
    except LedgerError as error:
        assert isinstance(error, UnknownFilter)
        assert set(key) & set("\"'\\")
    else:
        assert [run["run_id"] for run in found] == ["strange"]


@pytest.mark.parametrize("name", ["run_id", "run_name", "host", "gradient_method", "note_contains", "tags"])
@pytest.mark.parametrize("value", [*INJECTIONS, NUL, SURROGATE, "x" * 1_000_000], ids=count())
def test_a_filter_value_is_never_sql(book: Ledger, place: str, name: str, value: str) -> None:
    """A value is compared as it is: it finds nothing here, or is refused; and nothing changes."""
    before = everything(place)
    try:
        found = book.query_runs(filters={name: value})
    except LedgerError as error:
        assert isinstance(error, ValueError)
        assert len(str(error)) < 2_000
    else:
        assert found == []

    assert everything(place) == before


@pytest.mark.parametrize("value", INJECTIONS)
def test_a_strange_value_is_found_by_itself(book: Ledger, value: str) -> None:
    """A run whose name looks like SQL is found by that name, and only that run."""
    book.insert_run("strange", None, {}, run_name=value)

    assert [run["run_id"] for run in book.query_runs({"run_name": value})] == ["strange"]
    assert [run["run_id"] for run in book.query_runs({"run_name_contains": value})] == ["strange"]


def test_many_values_are_no_trouble(book: Ledger) -> None:
    """A list longer than a statement may have parameters is answered or refused, not broken."""
    try:
        found = book.query_runs({"run_id": ["bystander", *map(str, range(100_000))]})
    except LedgerError as error:
        assert isinstance(error, ValueError)
    else:
        assert [run["run_id"] for run in found] == ["bystander"]


@pytest.mark.parametrize("name", [*INJECTIONS, "host = 'x', status", "rowid", NUL, SURROGATE], ids=count())
def test_an_amended_column_is_never_sql(book: Ledger, place: str, name: str) -> None:
    """amend of whatever is not a column is an UnknownColumn, and nothing changes."""
    before = everything(place)
    with pytest.raises(UnknownColumn):
        book.amend("bystander", reason="an attack", **{name: "x"})

    assert everything(place) == before


@pytest.mark.parametrize("key", [*INJECTIONS, "ö🚀", "a.b", "", NUL, SURROGATE], ids=count())
def test_a_metadata_key_is_stored_or_refused(book: Ledger, place: str, key: str) -> None:
    """annotate keeps a strange key as it is, or refuses it."""
    book.insert_run("strange", None, {})
    others = of_others(place, "strange")
    if refuses_or_does(place, lambda: book.annotate("strange", **{key: "here"})):
        found = book.get_run("strange")
        assert found is not None
        assert json.loads(found["metadata_json"]) == {key: "here"}

    assert of_others(place, "strange") == others


@pytest.mark.parametrize("word", [*INJECTIONS, "ö🚀", NUL, SURROGATE, "x" * 1_000_000], ids=count())
def test_notes_and_tags_are_stored_or_refused(book: Ledger, place: str, word: str) -> None:
    """annotate keeps a strange note and tag as they are, or refuses them."""
    book.insert_run("strange", None, {})
    others = of_others(place, "strange")
    if refuses_or_does(place, lambda: book.annotate("strange", note=word, tags=[word])):
        found = book.get_run("strange")
        assert found is not None
        assert json.loads(found["tags_json"]) == [word]
        assert found["note"] == word or word in (NUL, SURROGATE)

    assert of_others(place, "strange") == others


# Configs


def deep(levels: int, kind: type) -> Any:
    """Give a config of so many *levels*, of dicts or of lists."""
    inner: Any = "the bottom"
    for _ in range(levels - 1):
        inner = {"a": inner} if kind is dict else [inner]
    return {"a": inner}


CONFIGS: dict[str, Callable[[], Any]] = {
    "5 MB in one value": lambda: {"blob": "x" * 5_000_000},
    "5 MB in many keys": lambda: {f"key{number}": "x" * 40 for number in range(100_000)},
    "5 MB in a list": lambda: {"objectives": [{"name": f"o{number}"} for number in range(250_000)]},
    "1,000 levels": lambda: deep(1_000, dict),
    "1,000 levels of lists": lambda: deep(1_000, list),
    "NUL in a value": lambda: {"training": {"batch_size": 4}, "name": NUL},
    "a surrogate in a value": lambda: {"training": {"batch_size": 4}, "name": SURROGATE},
    "NUL in a key": lambda: {"training": {"batch_size": 4}, NUL: 1},
    "a surrogate in a key": lambda: {"training": {"batch_size": 4}, SURROGATE: 1},
    "NUL in a hyperparameter": lambda: {"gradient_method": NUL},
    "a surrogate in a hyperparameter": lambda: {"gradient_method": SURROGATE},
    "a surrogate pair": lambda: {"name": "\U0001f680", "other": "\\ud83d"},
    "a huge integer": lambda: {"batch_size": 10**400, "lr": 1e308},
    "SQL": lambda: {"gradient_method": "'; DROP TABLE training_runs; --"},
    "an empty key": lambda: {"": {"": 1}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_is_stored_whole_or_refused(book: Ledger, place: str, name: str) -> None:
    """A hostile config is refused with a clear error or given back unchanged, and nothing else changes."""
    config = CONFIGS[name]()
    others = of_others(place, "strange")
    if refuses_or_does(place, lambda: book.insert_run("strange", None, config)):
        found = book.get_run("strange")
        assert found is not None
        with room_for_depth():
            assert json.loads(found["config_json"]) == config

    assert of_others(place, "strange") == others


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_spoils_no_question(book: Ledger, place: str, name: str) -> None:
    """Beside a hostile config all questions are answered as before, also those that look into the JSON."""
    refuses_or_does(place, lambda: book.insert_run("strange", None, CONFIGS[name]()))

    for filters in (
        {"config.training.max_steps": 2000},
        {"min_config.training.max_steps": 1},
        {"metrics.train/loss": 0.5},
        {"metadata.reviewer": "Ada"},
        {"tags": "paper"},
        {"run_name_contains": "quiet"},
    ):
        assert [run["run_id"] for run in book.query_runs(filters)] == ["bystander"]
    assert book.get_stats()["completed"] == 1
    assert book.timeline(chain_of_custody_id="ABC123")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_can_be_said_again(book: Ledger, place: str, name: str) -> None:
    """Launching again with the same hostile config is a no-op, as with any other."""
    if refuses_or_does(place, lambda: book.insert_run("strange", None, CONFIGS[name]())):
        before = everything(place)
        book.insert_run("strange", None, CONFIGS[name]())
        assert everything(place) == before


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_metrics_are_stored_whole_or_refused(book: Ledger, place: str, name: str) -> None:
    """Hostile final metrics are refused with a clear error or given back unchanged."""
    book.insert_run("strange", None, {})
    metrics = CONFIGS[name]()
    others = of_others(place, "strange")
    if refuses_or_does(place, lambda: book.update_run_status("strange", "completed", final_metrics_json=metrics)):
        found = book.get_run("strange")
        assert found is not None
        with room_for_depth():
            assert json.loads(found["final_metrics_json"]) == metrics

    assert of_others(place, "strange") == others


def test_a_config_that_contains_itself_comes_to_an_end(book: Ledger, place: str) -> None:
    """A config that contains itself is refused, or stored as plain data; it never fails otherwise."""
    config: dict[str, Any] = {"training": {"batch_size": 4}}
    config["again"] = config
    if refuses_or_does(place, lambda: book.insert_run("strange", None, config)):
        found = book.get_run("strange")
        assert found is not None
        assert json.loads(found["config_json"])["training"] == {"batch_size": 4}


class Stranger:
    """Something that no JSON knows."""

    def __repr__(self) -> str:
        return "<a stranger>"


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=UTC),
        Path("/configs/mgda.yaml"),
        {1, 2, 3},
        b"bytes",
        1j,
        Stranger(),
        Stranger,
        float("nan"),
        {1: "an integer key", None: "no key", (1, 2): "a pair"},
        print,
    ],
    ids=count(),
)
def test_what_is_not_json_never_refuses_a_launch(book: Ledger, value: Any) -> None:
    """Whatever stands in a config is stored as plain data or as its text; the rest of the config stays."""
    book.insert_run("strange", None, {"training": {"batch_size": 4}, "stranger": value})
    found = book.get_run("strange")

    assert found is not None
    assert found["batch_size"] == 4
    assert "stranger" in json.loads(found["config_json"])


# Run ids


RUN_IDS = {
    "quotes": 'it\'s "quoted" `twice`',
    "newlines": "one\ntwo\r\nthree\ttabs",
    "emoji": "run-🚀-👩‍🔬-é",
    "10,000 characters": "r" * 10_000,
    "10,000 emoji": "🚀" * 10_000,
    "SQL": "'; DROP TABLE training_runs; --",
    "a path": "../../etc/passwd",
    "blanks": "  r1  ",
    "percent": "%_%",
    "number": "007",
    "right to left": "\u202erun",
    "two spellings": "e\u0301",
}


@pytest.mark.parametrize("name", RUN_IDS)
def test_a_strange_run_id_is_stored_as_it_is_or_refused(book: Ledger, place: str, name: str) -> None:
    """A strange run id is refused at launch, or every call takes it and gives it back unchanged."""
    run_id = RUN_IDS[name]
    others = of_others(place, run_id)
    if refuses_or_does(place, lambda: book.insert_run(run_id, None, {}, "XYZ789")):
        book.update_run_status(run_id, "running")
        book.attach_crash_data(run_id, "error.log")
        book.annotate(run_id, note="seen")
        found = book.get_run(run_id)
        assert found is not None
        assert (found["run_id"], found["status"], found["note"]) == (run_id, "crashed", "seen")
        assert book.query_runs({"run_id": run_id}) == [found]
        assert {entry["run_id"] for entry in book.timeline(chain_of_custody_id="XYZ789")} == {run_id}
        assert {stored.run_id for stored in book.events(run_id)} == {run_id}

    assert of_others(place, run_id) == others


@pytest.mark.parametrize("name", RUN_IDS)
def test_a_strange_run_can_be_voided(book: Ledger, place: str, name: str) -> None:
    """A run with a strange id goes out of the tables and comes back like any other."""
    run_id = RUN_IDS[name]
    if refuses_or_does(place, lambda: book.insert_run(run_id, None, {})):
        book.void(run_id, reason="an attack")
        assert [run["run_id"] for run in book.query_runs()] == ["bystander"]
        book.unvoid(run_id, reason="harmless")

        assert {run["run_id"] for run in book.query_runs()} == {"bystander", run_id}


@pytest.mark.parametrize("run_id", ["", NUL, SURROGATE, "\x00", "\udfff"], ids=ascii)
def test_an_id_with_nul_or_surrogates_is_refused(book: Ledger, place: str, run_id: str) -> None:
    """Ids that are empty or have NUL or surrogates are refused at launch, and nothing changes."""
    before = everything(place)
    with pytest.raises(LedgerError) as caught:
        book.insert_run(run_id, None, {})

    assert isinstance(caught.value, ValueError)
    assert everything(place) == before


@pytest.mark.parametrize("argument", ["wandb_run_id", "chain_of_custody_id", "resumes_run_id"])
@pytest.mark.parametrize("value", [NUL, SURROGATE], ids=["NUL", "surrogate"])
def test_other_ids_with_nul_or_surrogates_are_refused_too(book: Ledger, place: str, argument: str, value: str) -> None:
    """W&B ids, chains and resumed runs with NUL or surrogates are refused, and nothing changes."""
    before = everything(place)
    said: dict[str, Any] = {"run_id": "r1", "wandb_run_id": None, "config_dict": {}} | {argument: value}
    with pytest.raises(LedgerError) as caught:
        book.insert_run(**said)

    assert isinstance(caught.value, ValueError)
    assert everything(place) == before


ATTACHING: dict[str, Callable[[Ledger, str], object]] = {
    "blog_post_url": lambda book, value: book.attach_blog_post("bystander", value),
    "conversation_s3_key": lambda book, value: book.attach_conversation("bystander", value),
    "error_log_s3_key": lambda book, value: book.attach_crash_data("bystander", value),
}


@pytest.mark.parametrize("name", ATTACHING)
@pytest.mark.parametrize("value", [NUL, SURROGATE], ids=["NUL", "surrogate"])
def test_keys_with_nul_or_surrogates_are_refused_too(book: Ledger, place: str, name: str, value: str) -> None:
    """S3 keys and post URLs with NUL or surrogates are refused by name, and nothing changes."""
    before = everything(place)
    with pytest.raises(LedgerError, match=name) as caught:
        ATTACHING[name](book, value)

    assert isinstance(caught.value, ValueError)
    assert everything(place) == before


@pytest.mark.parametrize("run_id", [None, 7, b"r1", ["r1"], {"run_id": "r1"}, True], ids=repr)
def test_what_is_no_text_is_no_run_id(book: Ledger, place: str, run_id: Any) -> None:
    """A run id that is no text is a clear error, and nothing changes."""
    before = everything(place)
    with pytest.raises(LedgerError, match="run_id"):
        book.insert_run(run_id, None, {})

    assert everything(place) == before


@pytest.mark.parametrize("run_id", [NUL, SURROGATE, "", "'; DROP TABLE training_runs; --"], ids=ascii)
def test_asking_for_a_strange_run_is_harmless(book: Ledger, place: str, run_id: str) -> None:
    """get_run of an id that cannot exist gives None or a clear error, and nothing changes."""
    before = everything(place)
    try:
        found = book.get_run(run_id)
    except LedgerError as error:
        assert isinstance(error, ValueError)
    else:
        assert found is None

    assert everything(place) == before


def test_a_very_long_id_does_not_flood_the_message(book: Ledger) -> None:
    """An error about a run id of 10,000 characters stays short."""
    with pytest.raises(LedgerError) as caught:
        book.update_run_status("r" * 10_000, "running")

    assert len(str(caught.value)) < 1_000
