"""The crash handler says first that the run crashed, and nothing that fails behind it undoes or stops anything."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from ledger import Ledger
from ledger.errors import InvalidFact, NotKept, RunNotFound
from ledger.integrations.crash import CrashEvidence, CrashReport, evidence, handling, notify_and_analyze_crash
from ledger.spool import s3
from tests.store.test_fallback import locked

LOG = "step 1\nstep 2\nTraceback (most recent call last):\nFloatingPointError: the loss became nan\n"
CONFIG = {"training": {"batch_size": 384, "api_key": "hush"}, "reward": {"gradient_method": "mgda"}}
KEYS = ("error_log_s3_key", "crash_report_s3_key", "crash_analysis_s3_key")
DOCUMENTED = [f"crash-reports/mgda_i-1/{name}" for name in ("error.log", "report.md", "analysis.md")]


@pytest.fixture
def running(book: Ledger) -> Ledger:
    """Give a ledger with one run that is running."""
    book.insert_run("mgda_i-1", None, CONFIG, "ABC123", run_name="mgda", host="ec2", instance_id="i-1")
    book.update_run_status("mgda_i-1", "running", final_metrics_json={"loss": 0.5})
    return book


def row(book: Ledger, run_id: str = "mgda_i-1") -> dict[str, Any]:
    found = book.get_run(run_id)
    assert found is not None
    return found


def analysis(_: CrashEvidence) -> str:
    return "# Analysis\n\nIt diverged.\n"


def broken(*_: object) -> Any:
    raise ZeroDivisionError("no such thing")


def test_all_of_it_comes_into_the_bucket(running: Ledger, bucket: Any) -> None:
    """Log, report and analysis lie under the documented keys, and the row says so."""
    made = notify_and_analyze_crash(
        "mgda_i-1", error_log=LOG, exit_code=1, end_reason="exception", bucket="team", analyze=analysis, ledger=running
    )
    kept = {found.key: found.get()["Body"].read().decode() for found in bucket.objects.all()}
    after = row(running)

    assert [after[key] for key in KEYS] == [getattr(made, key) for key in KEYS] == DOCUMENTED
    assert kept == {DOCUMENTED[0]: LOG, DOCUMENTED[1]: made.report, DOCUMENTED[2]: "# Analysis\n\nIt diverged.\n"}
    assert (after["status"], after["exit_code"], after["end_reason"]) == ("crashed", 1, "exception")
    assert (made.status_recorded, made.problems) == (True, ())


def test_a_folder_is_as_good_as_a_bucket(running: Ledger, tmp_path: Path) -> None:
    """The same keys, as paths below it; without an analyzer there is no analysis, and none is attached."""
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG.encode(), folder=tmp_path / "kept", ledger=running)

    assert [row(running)[key] for key in KEYS] == [*DOCUMENTED[:2], None]
    assert (tmp_path / "kept" / DOCUMENTED[0]).read_text() == LOG
    assert (made.analysis, made.crash_analysis_s3_key, made.problems) == (None, None, ())
    assert not (tmp_path / "kept" / DOCUMENTED[2]).exists()


def test_the_crash_is_recorded_before_anything_is_kept(running: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first text is being kept, and while the analyzer is at work, the ledger says crashed already."""
    seen: list[tuple[str, str, int | None]] = []

    class Watching:
        def keep(self, key: str, data: bytes | str, content_type: str) -> str:
            seen.append((key.rpartition("/")[2], row(running)["status"], row(running)["exit_code"]))
            raise NotKept(key, "the test", "it keeps nothing", "Take another")

    def watch(_: CrashEvidence) -> str:
        seen.append(("analyzer", row(running)["status"], row(running)["exit_code"]))
        return "x"

    monkeypatch.setattr(handling, "keeper_of", lambda **_: Watching())
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, exit_code=1, folder="x", analyze=watch, ledger=running)

    steps = ["error.log", "report.md", "analyzer", "analysis.md"]
    assert seen == [(step, "crashed", 1) for step in steps]
    assert [row(running)[key] for key in KEYS] == [None] * 3
    assert len(made.problems) == 3


def test_a_log_that_is_a_file_is_read_behind_the_crash(
    running: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading may fail or hang; a text, which cannot, gives its end to the event itself."""
    seen: list[str] = []
    monkeypatch.setattr(evidence, "_end_of", lambda path: seen.append(row(running)["status"]) or (b"its log", 7))
    notify_and_analyze_crash("mgda_i-1", error_log=tmp_path / "a.log", folder=tmp_path, ledger=running)
    assert seen == ["crashed"]

    running.update_run_status("mgda_i-1", "running")
    notify_and_analyze_crash("mgda_i-1", error_log=LOG, ledger=running)
    crashes = [found.event for found in running.events("mgda_i-1", types="crashed")]
    assert [getattr(crash, "error_log", None) for crash in crashes] == [None, LOG]


@pytest.mark.parametrize("status", ["completed", "failed", "crashed"])
def test_a_run_that_has_ended_keeps_its_word(running: Ledger, tmp_path: Path, status: str) -> None:
    """Its end stays as it was said; what the handler keeps is attached all the same."""
    running.update_run_status("mgda_i-1", status, exit_code=0, end_reason="user")
    before = row(running)
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, exit_code=9, folder=tmp_path, ledger=running)
    after = row(running)

    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"error_log_s3_key", "crash_report_s3_key", "updated_at_db"}
    assert (after["status"], after["exit_code"], made.problems) == (status, 0, ())
    assert f"- status: {status}" in made.report


def test_an_unknown_run_is_an_error_and_nothing_is_done(book: Ledger, tmp_path: Path, bucket: Any) -> None:
    """Before anything is kept, analyzed or told."""
    with pytest.raises(RunNotFound):
        notify_and_analyze_crash("r", error_log=LOG, bucket="team", analyze=broken, notify=broken, ledger=book)
    with pytest.raises(InvalidFact, match="end_reason"):
        notify_and_analyze_crash("r", end_reason="bad luck", bucket="team", ledger=book)

    assert list(bucket.objects.all()) == []
    assert list(book.events()) == []


def no_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    return {"bucket": "nowhere"}


def no_rights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Moto asks nobody for rights, so an S3 that refuses stands in: no credentials are found at all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which has found some
    return {"bucket": "team"}


def no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "kept").write_text("a file where the folder should be")
    return {"folder": tmp_path / "kept"}


def two_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    return {"folder": tmp_path / "kept", "bucket": "team"}


@pytest.mark.parametrize("place", [no_bucket, no_rights, no_folder, two_places])
def test_what_cannot_be_kept_is_told(
    place: Callable[..., dict[str, Any]],
    running: Ledger,
    bucket: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The crash is recorded, the analysis made and the team told; the report and the log say what is missing."""
    told: list[CrashReport] = []
    where = place(monkeypatch, tmp_path)
    with caplog.at_level(logging.WARNING, "ledger"):
        made = notify_and_analyze_crash(
            "mgda_i-1", error_log=LOG, exit_code=1, analyze=analysis, notify=told.append, ledger=running, **where
        )

    assert (row(running)["status"], row(running)["exit_code"]) == ("crashed", 1)
    assert [getattr(made, key) for key in KEYS] == [row(running)[key] for key in KEYS] == [None] * 3
    assert len(made.problems) in {1, 3}
    assert all(problem in caplog.text for problem in made.problems)
    assert told == [made]
    assert made.analysis == analysis(CrashEvidence("r"))


def test_one_upload_that_fails_costs_only_itself(running: Ledger, tmp_path: Path) -> None:
    """What succeeded is attached in one event."""
    (tmp_path / "crash-reports/mgda_i-1/report.md/x").mkdir(parents=True)
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, folder=tmp_path, analyze=analysis, ledger=running)

    assert [row(running)[key] for key in KEYS] == [DOCUMENTED[0], None, DOCUMENTED[2]]
    assert [problem.partition(":")[0] for problem in made.problems] == ["keeping report.md"]
    assert len(list(running.events("mgda_i-1", types="crash_data_attached"))) == 1


@pytest.mark.parametrize("analyze", [broken, lambda _: "", lambda _: None, lambda _: b"bytes"])
def test_an_analyzer_that_gives_nothing_costs_only_the_analysis(analyze: Any, running: Ledger, tmp_path: Path) -> None:
    """Whatever it raises or returns in place of a text."""
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, folder=tmp_path, analyze=analyze, ledger=running)

    assert [row(running)[key] for key in KEYS] == [*DOCUMENTED[:2], None]
    assert [problem.partition(":")[0] for problem in made.problems] == ["analyzing the crash"]


def test_a_notifier_is_told_what_is_done_and_may_fail(running: Ledger, tmp_path: Path) -> None:
    """It comes last, sees the attached keys, and what it raises is one more problem."""
    told: list[tuple[Any, ...]] = []

    def notify(report: CrashReport) -> None:
        told.append((report.error_log_s3_key, row(running)["error_log_s3_key"]))
        broken()

    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, folder=tmp_path, notify=notify, ledger=running)

    assert told == [(DOCUMENTED[0], DOCUMENTED[0])]
    assert made.problems == ("notifying: ZeroDivisionError: no such thing",)


def test_a_locked_ledger_costs_no_evidence(
    running: Ledger, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Log, report and analysis are kept; that the crash is not recorded is the first problem, and not silent."""
    told: list[CrashReport] = []
    with Ledger(path, busy_seconds_max=0.1) as impatient, locked(path), caplog.at_level(logging.WARNING, "ledger"):
        made = notify_and_analyze_crash(
            "mgda_i-1", error_log=LOG, folder=tmp_path, analyze=analysis, notify=told.append, ledger=impatient
        )

    assert (made.status_recorded, told) == (False, [made])
    assert [problem.partition(":")[0] for problem in made.problems] == [
        "recording the crash",
        "attaching what was kept",
    ]
    assert "recording the crash" in caplog.text
    assert (tmp_path / DOCUMENTED[0]).read_text() == LOG
    assert row(running)["status"] == "running"


def test_a_ledger_that_comes_back_is_told_at_the_end(running: Ledger, path: Path, tmp_path: Path) -> None:
    """The crash, with all that was said of it, is recorded before its attachments."""
    with Ledger(path, busy_seconds_max=0.1) as impatient:
        lock = locked(path)
        lock.__enter__()

        def analyze(_: CrashEvidence) -> str:
            lock.__exit__(None, None, None)
            return "x"

        made = notify_and_analyze_crash(
            "mgda_i-1", error_log=LOG, exit_code=7, folder=tmp_path, analyze=analyze, ledger=impatient
        )

    assert (made.status_recorded, len(made.problems)) == (True, 1)
    assert (row(running)["status"], row(running)["exit_code"]) == ("crashed", 7)
    assert row(running)["crash_analysis_s3_key"] == DOCUMENTED[2]


def test_a_spool_takes_all_of_it(running: Ledger, tmp_path: Path) -> None:
    """Where nothing can be asked the crash is presumed: it gives way to an end that was witnessed."""
    running.update_run_status("mgda_i-1", "completed")
    with Ledger(f"spool://{tmp_path}/spool") as spool:
        made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, exit_code=9, folder=tmp_path, ledger=spool)
    running.sync(tmp_path / "spool")

    assert made.problems == ()
    assert "could not be asked" in made.report
    assert (row(running)["status"], row(running)["exit_code"]) == ("completed", None)
    assert row(running)["error_log_s3_key"] == DOCUMENTED[0]


def test_a_spool_ends_a_run_that_nobody_saw_end(running: Ledger, tmp_path: Path) -> None:
    """With the exit code and the end of the log."""
    with Ledger(f"spool://{tmp_path}/spool") as spool:
        notify_and_analyze_crash("mgda_i-1", error_log=LOG, exit_code=9, ledger=spool)
    running.sync(tmp_path / "spool")

    assert (row(running)["status"], row(running)["exit_code"]) == ("crashed", 9)


def test_where_nothing_is_recorded_the_texts_are_kept(tmp_path: Path) -> None:
    """TRAINING_DB_URL=off is no problem of the handler's."""
    with Ledger("off") as off:
        made = notify_and_analyze_crash("r", error_log=LOG, folder=tmp_path, ledger=off)

    assert made.problems == ()
    assert (tmp_path / "crash-reports/r/error.log").read_text() == LOG


def test_the_environment_names_the_ledger(running: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every documented function; where it names none, that is told, and the texts are kept."""
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG)
    assert not made.status_recorded
    assert made.problems[0].startswith("recording the crash: TRAINING_DB_PATH not set")

    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    assert notify_and_analyze_crash("mgda_i-1", error_log=LOG).problems == ()
    assert row(running)["status"] == "crashed"


def test_the_report_tells_what_is_known(running: Ledger) -> None:
    """Identity, times, hyperparameters, metrics, timeline and the last lines of the log."""
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, exit_code=1, end_reason="oom", ledger=running)

    for line in (
        "# Crash of mgda_i-1", "- chain of custody: ABC123", "- status: crashed", "- end reason: oom", "- exit code: 1",
        "- host: ec2", "- instance: i-1", "- duration: 0:00:00", "- batch_size: 384", "- gradient_method: mgda",
        "- loss: 0.5", "FloatingPointError: the loss became nan",
    ):  # fmt: skip
        assert line in made.report.splitlines()
    assert "crashed: crashed (end_reason oom, exit_code 1" in made.report


def test_a_log_cannot_leave_its_frame(running: Ledger) -> None:
    """Backticks in it make the fence longer; only its last lines are shown."""
    log = "\n".join(f"line {n}" for n in range(1000)) + "\n```\n# not a heading\n````\n"
    made = notify_and_analyze_crash("mgda_i-1", error_log=log, ledger=running)
    shown = made.report.partition("## Last lines of the log\n\n")[2].splitlines()

    assert shown[0] == shown[-1] == "`" * 5
    assert shown[-4:-1] == ["```", "# not a heading", "````"]
    assert 50 < len(shown) < 70


def test_the_analyzer_gets_the_evidence_without_secrets(running: Ledger) -> None:
    """Row, timeline, config and log; a config of the caller's is redacted as the ledger's own was."""
    seen: list[CrashEvidence] = []
    log = "export HF_TOKEN=hush123\n"

    def analyze(found: CrashEvidence) -> str:
        seen.append(found)
        return "x"

    notify_and_analyze_crash("mgda_i-1", error_log=log, exit_code=1, analyze=analyze, ledger=running)
    notify_and_analyze_crash("mgda_i-1", config={"password": "hush", "lr": 1}, analyze=analyze, ledger=running)
    first, second = seen

    assert first.config == {"training": {"batch_size": 384, "api_key": "[redacted]"}, "reward": CONFIG["reward"]}
    assert (first.run["status"], first.error_log, first.exit_code) == ("crashed", "export HF_TOKEN=[redacted]\n", 1)
    assert [entry.type for entry in first.timeline] == ["launched", "started", "heartbeat", "crashed"]
    assert second.config == {"password": "[redacted]", "lr": 1}
    assert "hush" not in json.dumps([event.payload for event in running.events()])


@pytest.mark.parametrize("config", [5, "text", object()])
def test_a_config_that_is_none_costs_nothing_else(config: object, running: Ledger, tmp_path: Path) -> None:
    """It is a problem, and the rest is done."""
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, config=config, folder=tmp_path, ledger=running)

    assert row(running)["crash_report_s3_key"] == DOCUMENTED[1]
    assert [problem.partition(":")[0] for problem in made.problems] == ["reading the config"]


def test_a_log_that_is_not_there_costs_nothing_else(running: Ledger, tmp_path: Path) -> None:
    """Neither a missing file nor a pipe keeps the report from being kept; no empty log is attached."""
    os.mkfifo(tmp_path / "pipe")
    for log in (tmp_path / "none.log", tmp_path, tmp_path / "pipe"):
        made = notify_and_analyze_crash("mgda_i-1", error_log=log, folder=tmp_path / "kept", ledger=running)
        assert [problem.partition(":")[0] for problem in made.problems] == ["reading the error log"]
    assert [row(running)[key] for key in KEYS] == [None, DOCUMENTED[1], None]


def test_of_a_long_log_the_end_is_taken(running: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lines, and a first one that says how much is left out; bytes that are no UTF-8 are written out."""
    monkeypatch.setattr(evidence, "LOG_BYTES_MAX", 100)
    (tmp_path / "long.log").write_bytes(b"".join(b"line %d \xff\n" % number for number in range(1000)))
    size = (tmp_path / "long.log").stat().st_size
    notify_and_analyze_crash("mgda_i-1", error_log=tmp_path / "long.log", folder=tmp_path, ledger=running)
    first, *lines = (tmp_path / DOCUMENTED[0]).read_text().splitlines()

    assert lines == [f"line {number} \\xff" for number in range(1000 - len(lines), 1000)]
    assert len(lines) == 9
    assert first == f"[the first {size - 9 * len(b'line 999 X.')} bytes of this log are left out]"


def test_odd_runs_are_handled_like_any(book: Ledger, tmp_path: Path, bucket: Any) -> None:
    """Their texts lie under quoted keys, which are the ones attached."""
    for run_id in ("../up", "a/b c", "ü" * 200, "x\ny"):
        book.insert_run(run_id, None, {})
        notify_and_analyze_crash(run_id, error_log=LOG, folder=tmp_path / "kept", ledger=book)
        notify_and_analyze_crash(run_id, error_log=LOG, bucket="team", ledger=book)
        key = row(book, run_id)["error_log_s3_key"]

        assert (tmp_path / "kept" / key).read_text() == LOG
        assert bucket.Object(key).get()["Body"].read() == LOG.encode()
    assert sorted(os.listdir(tmp_path / "kept")) == ["crash-reports"]


def test_a_report_that_cannot_be_written_costs_no_log(
    running: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever somebody has done to the row that it is written from."""
    monkeypatch.setattr(handling, "report_text", broken)
    made = notify_and_analyze_crash("mgda_i-1", error_log=LOG, folder=tmp_path, analyze=analysis, ledger=running)

    assert [row(running)[key] for key in KEYS] == [DOCUMENTED[0], None, DOCUMENTED[2]]
    assert made.problems == ("writing the report: ZeroDivisionError: no such thing",)


def test_a_spool_without_its_extra_costs_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that cannot be opened is a problem like one that is away."""
    monkeypatch.setenv("TRAINING_DB_URL", "s3://b/p")
    monkeypatch.setitem(sys.modules, "boto3", None)
    s3._client.cache_clear()
    made = notify_and_analyze_crash("r", error_log=LOG, folder=tmp_path)

    assert (made.status_recorded, made.error_log_s3_key) == (False, "crash-reports/r/error.log")
    assert "training-run-ledger[aws]" in made.problems[0]


def test_at_says_when_it_was(running: Ledger) -> None:
    """For a crash that is handled later."""
    running.insert_run("old", None, {}, at="2024-05-01T00:00:00Z")
    notify_and_analyze_crash("old", exit_code=1, ledger=running, at="2024-05-02T00:00:00Z")

    assert row(running, "old")["ended_at"] == "2024-05-02T00:00:00.000000Z"
