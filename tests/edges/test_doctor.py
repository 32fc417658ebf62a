"""The doctor: it proves the operations elsewhere, then says what is wrong here and what is only worth knowing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger import Ledger, doctor
from ledger.cli.main import main
from ledger.doctor import Report, examine
from ledger.events import Launched, Started, WandbAttached
from ledger.events.envelope import UnknownEvent
from ledger.proof import STEPS, prove


@pytest.fixture(autouse=True)
def _a_mended_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no remark be due to the library that the tests happen to run on."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))


def examined(book: Ledger) -> Report:
    return examine(book.url)


def behind(path: Path, sql: str) -> None:
    """Do to the file what the ledger would not do."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def test_every_operation_is_proved() -> None:
    """On a sound installation each operation does what it has to."""
    proofs = list(prove())

    assert [proof.failure for proof in proofs] == [None] * len(STEPS)
    assert all(proof.claim for proof in proofs)


def test_a_ledger_that_is_configured_is_not_written_to(
    path: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof leaves the ledger of the environment as it is."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    assert main(["doctor"]) == 0

    assert list(book.events()) == []


def test_the_proof_makes_no_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names a file that is not there, it is not there afterwards."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    main(["doctor"])

    assert not path.exists()


def test_an_operation_that_lies_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An operation that does something else is named with what it did, and the exit code is 1."""
    monkeypatch.setattr(Ledger, "count_runs", lambda *_, **__: 7)
    assert main(["doctor", "--json"]) == 1
    failures = {proof["operation"]: proof["failure"] for proof in json.loads(capsys.readouterr().out)["proofs"]}

    assert failures["query_runs"] == "Unproved: count_runs: 7 instead of 2"
    assert failures["insert_run"] is None


def test_a_failed_operation_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """For people the operation stands there as FAILED, with what it did below it."""
    monkeypatch.setattr(Ledger, "replay", lambda *_, dry_run=False: [] if dry_run else 0)
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "FAILED" in line)

    assert lines[at].split()[:2] == ["FAILED", "replay"]
    assert lines[at + 1].strip() == "Unproved: what it would change: [] instead of ['status']"


def test_a_refusal_that_does_not_come_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that accepts what it has to refuse is not proved."""
    monkeypatch.setattr(Ledger, "insert_run", lambda *_, **__: None)

    assert {proof.operation for proof in prove() if not proof.ok} >= {"insert_run", "update_run_status"}


def test_without_a_ledger_the_mend_is_a_remark(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine on which no ledger is configured is in order, and learns how to configure one."""
    assert main(["doctor"]) == 0
    assert "export TRAINING_DB_PATH=" in capsys.readouterr().out


def test_half_set_variables_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of variables that is half set names what is missing."""
    monkeypatch.setenv("TRAINING_DB_HOST", "hub")
    (problem,) = examine().problems

    assert "TRAINING_DB_NAME" in problem


@pytest.mark.parametrize("place", ["off", ":memory:"])
def test_a_place_that_keeps_nothing_is_said(place: str) -> None:
    """There is nothing to inspect where nothing is kept."""
    assert examine(place).remarks[0].startswith("No ledger was inspected")


def test_a_file_that_is_not_there_is_a_problem(path: Path) -> None:
    """A ledger that is named and missing is a problem with its mend."""
    (problem,) = examine(str(path)).problems

    assert "`ledger init`" in problem


def test_a_sound_ledger_has_facts_and_nothing_else(book: Ledger) -> None:
    """Place, library, journal, counts and migrations are told; a sound ledger gives no further word."""
    book.insert_run("r1", None, {})
    book.insert_run("r2", None, {})
    book.void("r2", reason="bogus")
    report = examined(book)

    assert (report.problems, report.remarks) == ([], [])
    told = [report.facts[name] for name in ("place", "journal mode", "events", "runs", "verify")]
    assert told == [book.url, "wal", "3", "1, and 1 voided", "no difference"]
    assert "m001_the_ledger" in report.facts["migrations"]


def test_an_old_library_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite before the mend of the WAL-reset bug is named with what may do harm."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))

    assert "Let nothing else write to it" in examine("off").remarks[-1]


@pytest.mark.parametrize("found", ["problems", "remarks"])
def test_a_network_filesystem_is_told(book: Ledger, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    """On a network filesystem a WAL is a problem, and a rollback journal a remark."""
    monkeypatch.setattr(doctor, "on_network", lambda _: True)
    if found == "remarks":
        monkeypatch.setattr("ledger.store.sqlite.on_network", lambda _: True)
        book.close()
        behind(Path(book.url), "PRAGMA journal_mode = DELETE")

    assert any("network filesystem" in sentence for sentence in getattr(examined(book), found))


def test_a_contested_wandb_id_is_a_problem(book: Ledger) -> None:
    """Two runs that claim one W&B id are named with the one that holds it."""
    book.insert_run("r1", "w1", {})
    book.append([Launched(run_id="r2", config={}), WandbAttached(run_id="r2", wandb_run_id="w1")])
    (problem,) = examined(book).problems

    assert "W&B run w1 is claimed by several runs: r1 holds it, r2 cannot." in problem


def test_a_resumed_wandb_id_is_a_remark(book: Ledger) -> None:
    """A run that goes on from another, also step by step, holds its W&B id rightly."""
    for number, resumed in ((1, None), (2, "r1"), (3, "r2")):
        book.insert_run(f"r{number}", "w1", {}, resumes_run_id=resumed)
    report = examined(book)

    assert report.remarks == ["W&B run w1 is held by r3, which goes on from r2, r1."]
    assert report.problems == []


def test_events_from_the_future_code_are_a_remark(book: Ledger) -> None:
    """Events that this version cannot understand are counted, with their runs."""
    book.insert_run("r1", None, {})
    book.append([UnknownEvent(run_id="r1", type="teleported", payload={})])
    (remark,) = examined(book).remarks

    assert "Not understood by this version, and left out of the rows: 1 event(s) of r1." in remark


def test_events_far_ahead_are_a_remark(book: Ledger) -> None:
    """Events dated more than an hour after their acceptance are counted; those of a few minutes are not."""
    now = datetime.now(UTC)
    for minutes in (50, 90):
        book.append(Started(run_id=f"r{minutes}", occurred_at=now + timedelta(minutes=minutes)))
    (remark,) = examined(book).remarks

    assert "(1.5 h at most): 1 event(s) of r90." in remark


def test_a_second_launch_with_another_config_is_a_remark(book: Ledger) -> None:
    """Two launches of one run with different configs are named; with equal ones they are not."""
    for run_id, config in (("r1", 1), ("r1", 2), ("r2", 1), ("r2", 1)):
        book.append(Launched(run_id=run_id, config={"lr": config}))
    (remark,) = examined(book).remarks

    assert "with different configs: r1." in remark


def test_parked_events_are_a_problem(book: Ledger) -> None:
    """A subscription that went on without some events is named, with how many, and with the mend."""
    book.append([Started(run_id="r1"), Started(run_id="r2")])
    book.subscription("to slack", tries=1).for_each(lambda event: 1 / 0)
    (problem,) = examined(book).problems

    assert problem.startswith("Subscription 'to slack' gave up on 2 event(s)")
    assert "ledger subscriptions 'to slack'" in problem
    assert "Subscription.retry(handler)" in problem


def test_former_copies_are_a_remark(book: Ledger, path: Path) -> None:
    """What restores and migrations have left beside the file is listed, and of many only some."""
    for number in range(7):
        path.with_name(f"runs.db.before-m{number}").touch()
    (remark,) = examined(book).remarks

    assert f"{path}.before-m4 and 2 more" in remark


def test_what_verify_finds_is_a_problem(book: Ledger, path: Path) -> None:
    """A row that was changed behind the ledger's back is a problem, unless nobody looks."""
    book.insert_run("r1", None, {}, host="ec2")
    behind(path, "UPDATE training_runs SET host = 'elsewhere'")

    assert examined(book).problems == ["verify: row: run r1, host: stored 'elsewhere', computed 'ec2'"]
    assert examine(book.url, verify=False).problems == []


def test_a_damaged_file_is_a_problem(book: Ledger, path: Path) -> None:
    """A file that SQLite itself cannot read any more is a problem with its mend."""
    for number in range(200):
        book.insert_run(f"r{number}", None, {"text": "x" * 500})
    book.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 & ~4095)
        file.write(b"\xff" * 8192)

    assert "ledger restore-backup" in examined(book).problems[0]


def test_the_doctors_findings_in_json(book: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """--json has proofs, facts, problems and remarks."""
    main(["doctor", "--json", "--db", book.url])

    assert list(json.loads(capsys.readouterr().out)) == ["proofs", "facts", "problems", "remarks"]
