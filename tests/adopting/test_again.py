"""Adopting again: the same file, a file that went on, an older one; and runs that the ledger knows from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import Ledger
from tests.adopting.old import SCHEMA, inserted, made
from tests.builders import launched

LIVE = {
    "run_id": "r",
    "created_at": "2025-11-11 10:00:00",
    "started_at": "2025-11-11 10:05:00",
    "status": "running",
    "created_at_db": "2025-11-11 10:00:00",
    "updated_at_db": "2025-11-11 10:05:00",
}
LATER = {"updated_at_db": "2025-11-12 10:00:00"}


def file(path: Path, **row: object) -> Path:
    """Make a file with the one row."""
    path.unlink(missing_ok=True)
    return inserted(made(path, SCHEMA), [{**LIVE, **row}])


def types(book: Ledger, run_id: str = "r") -> list[str]:
    return [line.type for line in book.timeline(run_id=run_id)]


def test_the_same_file_again_is_known(book: Ledger, old: Path) -> None:
    """Nothing is new, and the same differences are listed."""
    first = book.adopt(old)

    again = book.adopt(old)

    assert (again.new, again.known, again.differences) == (0, first.new, first.differences)


def test_a_copy_under_another_name_is_known(book: Ledger, old: Path, tmp_path: Path) -> None:
    """An event says what the row says, and nothing of the file."""
    book.adopt(old)

    assert book.adopt(shutil.copy(old, tmp_path / "backup_20251111.db")).new == 0


def test_two_ledgers_that_adopted_one_file_have_the_same_events(book: Ledger, old: Path, tmp_path: Path) -> None:
    """An id is made of what was read: what two ledgers made of one file merges into what either has."""
    with Ledger(tmp_path / "other.db") as other:
        other.adopt(old)
        book.adopt(old)

        assert (book.merge(tmp_path / "other.db").new, book.verify().ok) == (0, True)


CHANGES = {
    "it completed": (
        {"status": "completed", "ended_at": "2025-11-11 12:00:00", "duration_seconds": 6900, "final_metrics_json": '{"loss": 1}'},
        ["completed", "imported"],
    ),
    "it was written up": ({"blog_post_url": "https://posts/r"}, ["blog_attached", "imported"]),
    "it got its W&B id": ({"wandb_run_id": "w", "wandb_url": "https://wandb.ai/w"}, ["wandb_attached", "imported"]),
    "it was given another name": ({"run_name": "better"}, ["amended", "imported"]),
    "it has a config": ({"config_json": '{"batch_size": 4}', "batch_size": 4}, ["amended", "imported"]),
    "it started later": ({"started_at": "2025-11-11 10:06:00"}, ["amended", "imported", "started"]),
    "it was created later": ({"created_at": "2025-11-11 10:01:00"}, ["amended", "imported"]),
    "it has metrics while it runs": ({"final_metrics_json": '{"loss": 2}'}, ["imported", "imported"]),
}  # fmt: skip


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_what_changed_since_is_told_and_nothing_else(
    book: Ledger, tmp_path: Path, change: dict, told: list[str]
) -> None:
    """A row that went on yields only its new events, comes out as it is now, and is then known."""
    book.adopt(file(tmp_path / "old.db"))
    before = types(book)

    changed = file(tmp_path / "old.db", **LATER, **change)
    second, third = book.adopt(changed), book.adopt(changed)

    assert (second.new, second.differences, third.new) == (len(told), (), 0)
    assert sorted(types(book)) == sorted([*before, *told])


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"status": "completed", "ended_at": "2025-11-11 12:00:00"}, {"status": "running"}),
        (
            {"status": "crashed", "ended_at": "2025-11-11 12:00:00"},
            {"status": "failed", "ended_at": "2025-11-11 11:00:00"},
        ),
        ({"blog_post_url": "https://a"}, {"blog_post_url": None}),
        ({"wandb_run_id": "w1"}, {"wandb_run_id": "w2"}),
        ({"final_metrics_json": '{"loss": 1}'}, {"final_metrics_json": None}),
        ({"config_json": '{"batch_size": 4}', "batch_size": 4}, {"config_json": "{}", "batch_size": 8}),
        ({"started_at": None}, {"status": "launched", "started_at": None}),
    ],
)
def test_a_row_that_was_corrected_there_is_corrected_here(book: Ledger, tmp_path: Path, then: dict, now: dict) -> None:
    """The row as it is now wins, whatever was told of it before; and so it does when it is set back once more."""
    for number, row in enumerate([then, now, then, now], 1):
        path = file(tmp_path / "old.db", updated_at_db=f"2025-11-1{number} 10:00:00", **row)
        assert book.adopt(path).differences == ()
        assert book.adopt(path).new == 0

    assert book.verify().ok


def test_later_columns_that_change_or_go_show_as_they_are(book: Ledger, tmp_path: Path) -> None:
    """What only metadata shows follows the row, too."""
    extra = "ALTER TABLE training_runs ADD COLUMN final_loss REAL;"
    for loss in (0.5, 0.4, 0.5, None):
        book.adopt(made(file(tmp_path / "old.db"), extra, f"UPDATE training_runs SET final_loss = {loss or 'NULL'};"))
        shown = (
            book.query_runs({"metadata.final_loss": loss}) if loss else book.query_runs({"metadata.final_loss": 0.5})
        )
        assert len(shown) == (1 if loss else 0)


def test_another_row_of_the_same_run_id_is_refused(book: Ledger, tmp_path: Path) -> None:
    """A second team's run of the same name is not mixed with the first: it is named, and the first stays."""
    book.adopt(file(tmp_path / "old.db", run_name="ours"))

    adopted = book.adopt(file(tmp_path / "theirs.db", **LATER, run_name="theirs", created_at_db="2025-11-11 10:00:01"))

    assert (adopted.new, adopted.refused, adopted.ok, book.get_run("r")["run_name"]) == (0, 1, False, "ours")
    assert [(found.column, "created_at_db" in found.why) for found in adopted.differences] == [("run_id", True)]


def test_an_older_copy_changes_nothing(book: Ledger, tmp_path: Path) -> None:
    """A backup of the file from before is told by its updated_at_db: nothing is taken back, and the reason is listed."""
    book.adopt(
        file(tmp_path / "old.db", **LATER, status="completed", ended_at="2025-11-11 12:00:00", duration_seconds=6900)
    )

    adopted = book.adopt(file(tmp_path / "backup.db"))

    assert (adopted.new, adopted.ok, book.get_run("r")["status"]) == (0, True, "completed")
    assert {found.column: found.why for found in adopted.differences} == dict.fromkeys(
        ["ended_at", "duration_seconds", "status"], "a later state of this row was adopted before"
    )


Did = Callable[[Ledger], object]

ELSEWHERE: dict[str, tuple[Did, dict[str, object]]] = {
    "launched here too": (lambda book: book.insert_run("r", None, {}, host="ec2"), {"host": "ec2"}),
    "ended here": (
        lambda book: book.append(launched(run="r")) and book.update_run_status("r", "failed"),
        {"status": "failed"},
    ),
    "voided here": (lambda book: book.append(launched(run="r")) and book.void("r", reason="bogus"), {"voided": True}),
}


@pytest.mark.parametrize(("did", "stays"), ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("adopted_before", [False, True])
def test_what_the_ledger_knows_from_elsewhere_stays(
    book: Ledger, tmp_path: Path, did: Did, stays: dict, adopted_before: bool
) -> None:
    """Such a run is not corrected: its row is what all its events say, and each difference says so."""
    old = file(tmp_path / "old.db", run_name="name there", instance_id="")
    if adopted_before and did is not ELSEWHERE["launched here too"][0]:
        book.adopt(old)
    did(book)

    adopted = book.adopt(old)

    assert stays.items() <= book.get_run("r").items()
    assert adopted.differences
    assert all("elsewhere" in (found.why or "") for found in adopted.differences)
    assert (adopted.ok, book.adopt(old).new, book.verify().ok) == (True, 0, True)


def test_a_w_and_b_id_that_another_run_holds_is_listed(book: Ledger, tmp_path: Path) -> None:
    """The ledger gives an id to one run; the other's column is NULL, and the holder is named."""
    book.insert_run("mine", "w1", {}, at="2020-01-01")

    (found,) = book.adopt(file(tmp_path / "old.db", wandb_run_id="w1")).differences

    assert (found.column, found.old, found.new) == ("wandb_run_id", "w1", None)
    assert found.why == "run 'mine' has this W&B id here"


def test_an_adoption_that_was_killed_is_finished_by_the_same_command(book: Ledger, tmp_path: Path) -> None:
    """SIGKILL in the middle leaves a ledger in order, and adopting again tells what is left and nothing twice."""
    rows = [{**LIVE, "run_id": f"r{number:04}", "host": ""} for number in range(1500)]
    old = inserted(made(tmp_path / "old.db", SCHEMA), rows)
    process = subprocess.Popen([sys.executable, "-m", "ledger", "--db", book.url, "adopt", str(old)])
    while process.poll() is None and not book.count_runs():
        time.sleep(0.01)
    process.kill()
    process.wait()
    told = sum(1 for _ in book.events())

    assert book.verify().ok
    adopted = book.adopt(old)
    assert (adopted.runs, adopted.ok, adopted.differences) == (1500, True, ())
    assert (adopted.known, adopted.new) == (told, 1500 * 4 - told)
    assert book.adopt(old).new == 0
