"""The golden file of the earlier API: what its rows become, and what is said to differ."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.adopting.opening import opened_old
from ledger.adopting.rows import OldFile
from ledger.events import Heartbeat
from ledger.progress import Progress
from tests.adopting.old import LATER, ROWS, SCHEMA, inserted, made
from tests.builders import launched

DOCUMENTED = [line.split()[0] for line in SCHEMA.splitlines()[2:29]]  # the first 27 of its 29: two are its own clock's
MOMENTS = {"created_at", "started_at", "ended_at"}


def old_rows(path: Path) -> dict[str, dict]:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return {row["run_id"]: dict(row) for row in db.execute("SELECT * FROM training_runs")}


def meant(name: str, value: object) -> object:
    """Return what a column's value says, whichever of its spellings it has."""
    if value is None or not (name in MOMENTS or name.endswith("_json")):
        return value
    if name in MOMENTS:
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    try:
        return json.dumps(json.loads(str(value)))
    except ValueError:
        return value


def test_every_documented_column_comes_out_equal(book: Ledger, old: Path) -> None:
    """Each of the 27 columns of each row is as it was, but for the three that are listed."""
    adopted = book.adopt(old)

    differing = [
        (run_id, name)
        for run_id, row in old_rows(old).items()
        for name in DOCUMENTED
        if meant(name, row[name]) != meant(name, book.get_run(run_id)[name])
    ]
    assert len(DOCUMENTED) == 27
    assert sorted(differing) == [
        ("c_completed", "final_metrics_json"),
        ("e_not_running", "config_json"),
        ("e_not_running", "status"),
    ]
    assert sorted((found.run_id, found.column) for found in adopted.differences) == sorted(differing)
    assert (adopted.runs, adopted.known, adopted.refused, adopted.ok) == (6, 0, 0, True)
    assert adopted.new == sum(1 for _ in book.events())
    assert book.verify().ok


def test_what_differs_is_listed_with_both_values_and_the_reason(book: Ledger, old: Path) -> None:
    """A listed difference names the run, the column, what it was, what it is, and why."""
    by_column = {found.column: found for found in book.adopt(old).differences}

    status, config, metrics = (by_column[name] for name in ("status", "config_json", "final_metrics_json"))
    assert (status.run_id, status.old, status.new) == ("e_not_running", "not_running", "crashed")
    assert "presumed" in status.why
    assert (config.old, config.new, config.why) == ('{"cut": "off', None, "the column takes a JSON object or list")
    assert (metrics.run_id, "NaN" in metrics.old, "null" in metrics.new) == ("c_completed", True, True)
    assert "not finite" in metrics.why


def test_a_row_becomes_events_with_their_own_times(book: Ledger, old: Path) -> None:
    """Launch, start, W&B, end and attachments are told when they happened, as far as the row knows."""
    book.adopt(old)

    told = [(line.type, line.occurred_at) for line in book.timeline(run_id="c_completed")]
    assert told == [
        ("imported", "2025-11-11T09:59:59.999999Z"),
        ("launched", "2025-11-11T10:00:00.000000Z"),
        ("started", "2025-11-11T10:30:00.000000Z"),
        ("wandb_attached", "2025-11-11T10:30:00.000001Z"),
        ("completed", "2025-11-11T11:30:00.500000Z"),
        ("blog_attached", "2025-12-01T00:00:00.000000Z"),
        ("imported", "2025-12-01T00:00:00.000001Z"),
    ]
    assert {line.source for line in book.timeline(run_id="c_completed")} == {"training_db"}


def test_a_whole_row_needs_no_correction(book: Ledger, old: Path) -> None:
    """Where events can say all that a row has, nothing is amended."""
    book.adopt(old)

    assert [event.run_id for event in book.events(types="amended")] == ["d_crashed", "e_not_running", "f_running"]


def test_hyperparameters_are_the_row_s(book: Ledger, old: Path) -> None:
    """What the row says beside the config wins; what it says with the config stays to be read from there."""
    book.adopt(old)
    stated = {event.run_id: event.hyperparameters for event in book.events(types="launched")}

    assert book.get_run("b_running")["batch_size"] == 64
    assert (stated["a_launched"], stated["b_running"]) == (None, {"batch_size": 64})


def test_what_no_event_can_say_is_kept(book: Ledger, old: Path) -> None:
    """Later columns, objectives, the earlier database's own clock and what fits no column stand in `imported`."""
    book.adopt(old)
    kept: dict[str, dict] = {}
    for event in book.events(types="imported"):
        kept.setdefault(event.run_id, {}).update(event.row)

    c, e = kept["c_completed"], kept["e_not_running"]
    assert (c["mini_batch_size"], c["normalize_advantages"], c["final_loss"], c["total_training_steps"]) == (
        16,
        1,
        0.1,
        2000,
    )
    assert c["history_json"] == [{"step": 1, "loss": 0.9}, {"step": 2, "loss": "NaN"}]
    assert [(o["objective_alias"], o["raw_mean"]) for o in c["run_objectives"]] == [
        ("COMT_activity_maximize", 0.7),
        ("MAOB_activity_minimize", 0.2),
    ]
    assert c["updated_at_db"] == "2025-12-01 00:00:00"
    assert (e["status"], e["config_json"], e["created_at_db"]) == ("not_running", '{"cut": "off', "2025-11-11 10:00:00")
    assert json.loads(book.get_run("c_completed")["metadata_json"])["final_loss"] == 0.1


def test_a_file_of_the_first_version_is_adopted(book: Ledger, tmp_path: Path) -> None:
    """Without the later columns and the table of objectives there is simply less."""
    adopted = book.adopt(made(tmp_path / "first.db", SCHEMA, ROWS))

    assert (adopted.runs, adopted.ok, len(adopted.differences)) == (6, True, 3)


def test_a_table_of_run_ids_alone_is_adopted(book: Ledger, tmp_path: Path) -> None:
    """Columns that the table lacks are not compared; a run of which nothing is known is launched, in 1970."""
    adopted = book.adopt(
        made(tmp_path / "bare.db", "CREATE TABLE training_runs (RUN_ID TEXT); INSERT INTO training_runs VALUES ('r')")
    )

    row = book.get_run("r")
    assert (adopted.runs, adopted.differences) == (1, ())
    assert (row["status"], row["created_at"]) == ("launched", "1970-01-01T00:00:00.000000Z")


ENDS_OF_STATUS = {
    "not_running": ({"status": "not_running", "started_at": "2025-11-11 10:01:00"}, "crashed"),
    "a word that is none, ended": ({"status": "gone", "ended_at": "2025-11-11 10:01:00"}, "crashed"),
    "a word that is none, started": ({"status": "gone", "started_at": "2025-11-11 10:01:00"}, "running"),
    "a word that is none": ({"status": "queued"}, "launched"),
    "no status": ({"status": None}, "launched"),
    "another spelling": ({"status": " Completed"}, "completed"),
    "W&B's word for completed": ({"status": "finished"}, "completed"),
    "W&B's word for an abort": ({"status": "killed"}, "failed"),
}


@pytest.mark.parametrize(("row", "status"), ENDS_OF_STATUS.values(), ids=ENDS_OF_STATUS)
def test_a_status_that_is_none_becomes_the_nearest_honest_one(
    book: Ledger, tmp_path: Path, row: dict, status: str
) -> None:
    """It is listed with the reason, the word is kept, and the other columns stay equal."""
    old = inserted(made(tmp_path / "old.db", SCHEMA), [{"run_id": "r", "created_at": "2025-11-11 10:00:00", **row}])

    adopted = book.adopt(old)

    assert [(found.column, found.new) for found in adopted.differences] == [("status", status)]
    assert adopted.ok
    assert book.get_run("r")["ended_at"] == (row.get("ended_at") and "2025-11-11T10:01:00.000000Z")
    kept = [event.row["status"] for event in book.events(types="imported") if "status" in event.row]
    assert kept == ([] if row["status"] is None else [row["status"]])


def test_an_end_that_nobody_witnessed_yields_to_a_word_of_it(book: Ledger, tmp_path: Path) -> None:
    """A run that was merely not running is presumed crashed: its next sign of life revives it."""
    old = inserted(made(tmp_path / "old.db", SCHEMA), [{"run_id": "r", "status": "not_running"}])
    book.adopt(old)
    (crash,) = book.events(types="crashed")

    book.append(Heartbeat(run_id="r"))

    assert (crash.presumed, crash.testimony) == (True, "not_running")
    assert book.get_run("r")["status"] == "running"


def test_null_stays_null(book: Ledger, tmp_path: Path) -> None:
    """A run that ended nobody knows when, and one that started nobody knows when, get no invented times."""
    rows = [
        {"run_id": "ended", "status": "completed", "started_at": "2025-11-11 10:00:00"},
        {"run_id": "started", "status": "running"},
        {
            "run_id": "no duration",
            "status": "failed",
            "started_at": "2025-11-11 10:00:00",
            "ended_at": "2025-11-11 11:00:00",
        },
        {"run_id": "no batch", "status": "launched", "config_json": '{"batch_size": 4}'},
    ]
    adopted = book.adopt(inserted(made(tmp_path / "old.db", SCHEMA), rows))

    names = ("started_at", "ended_at", "duration_seconds", "active_seconds", "batch_size")
    known = {row["run_id"]: [name for name in names if row[name] is not None] for row in book.query_runs()}
    assert adopted.differences == ()
    assert known == {
        "ended": ["started_at"],
        "started": [],
        "no duration": ["started_at", "ended_at", "active_seconds"],
        "no batch": [],
    }


def test_secrets_are_redacted_and_that_is_the_reason(book: Ledger, tmp_path: Path) -> None:
    """A key in a config, in a later column or in a list of objectives does not get into the ledger."""
    rows = [{"run_id": "r", "config_json": '{"api_key": "sk-1", "lr": 1}', "history_json": '{"password": "sk-2"}'}]
    old = inserted(made(tmp_path / "old.db", SCHEMA, LATER), rows)
    inserted(old, [{"run_id": "r", "objective_name": '{"secret": "sk-3"}'}], "run_objectives")

    adopted = book.adopt(old)

    assert [(found.column, found.why) for found in adopted.differences if found.column == "config_json"] == [
        ("config_json", "secrets are redacted")
    ]
    assert not any("sk-" in event.payload for event in book.events())


REFUSED = {
    "NULL": [{"run_id": None}, {"run_id": None}],
    "a blob": [{"run_id": b"r"}],
    "blank": [{"run_id": " "}],
    "with a NUL": [{"run_id": "a\x00b"}],
}


@pytest.mark.parametrize("rows", REFUSED.values(), ids=REFUSED)
def test_a_row_without_a_run_id_is_refused_and_named(book: Ledger, tmp_path: Path, rows: list) -> None:
    """It can be of no run; the others are adopted, and the adoption is not all right."""
    old = inserted(made(tmp_path / "old.db", SCHEMA), [*rows, {"run_id": "good", "status": "launched"}])

    adopted = book.adopt(old)

    assert (adopted.runs, adopted.refused, adopted.ok) == (1, len(rows), False)
    assert [(found.column, "run_id" in found.why) for found in adopted.differences] == [("run_id", True)]


def test_two_rows_of_one_run_id_are_refused(book: Ledger, tmp_path: Path) -> None:
    """Nobody can say which is meant, and no order of theirs decides."""
    rows = [{"run_id": "r", "status": "launched"}, {"run_id": "r", "status": "running"}]
    adopted = book.adopt(inserted(made(tmp_path / "old.db", "CREATE TABLE training_runs (run_id, status)"), rows))

    assert (adopted.runs, adopted.new, adopted.refused) == (0, 0, 2)
    assert "keep the right one" in adopted.differences[0].why


def test_objectives_of_no_run_are_refused_and_named(book: Ledger, old: Path) -> None:
    """A row of run_objectives whose run is gone has no run that could keep it."""
    inserted(old, [{"run_id": "gone", "raw_mean": 0.5}], "run_objectives")

    adopted = book.adopt(old)

    assert (adopted.refused, adopted.ok) == (1, False)
    assert "run_objectives: its run is not in training_runs" in [found.why for found in adopted.differences]


def test_thousands_of_runs_come_in_pages(book: Ledger, tmp_path: Path) -> None:
    """However many rows there are, a page holds few of them, and a watcher is told how many are done."""
    rows = [
        {"run_id": f"r{number:04}", "status": "completed", "config_json": json.dumps({"n": number})}
        for number in range(1001)
    ]
    told: list[Progress] = []

    old = inserted(made(tmp_path / "old.db", SCHEMA), rows)

    adopted = book.adopt(old, progress=told.append)

    with opened_old(old) as connection:
        assert [len(page) for page in OldFile(connection, old).pages()] == [200] * 5 + [1]
    assert (adopted.runs, book.count_runs(), adopted.differences) == (1001, 1001, ())
    assert (told[-1].done, told[-1].total) == (2002, 2002)


def test_what_is_in_the_ledger_stays(book: Ledger, old: Path) -> None:
    """Other runs of the ledger are not touched."""
    book.append(launched(0))
    before = book.get_run("r")

    book.adopt(old)

    assert book.get_run("r") == before
