"""`ledger import wandb`: what the real SDK wrote offline becomes runs, and each row of it comes exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.cli.main import main
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, RunNotFound, WandbRunTaken
from ledger.events import WandbAttached
from ledger.integrations.wandb import finding, import_wandb
from ledger.integrations.wandb.finding import may_still_grow
from tests.builders import shown, trials
from tests.integrations.wandb_logs import begun, environment, framed, history, logs_below, pb, run_record, torn, written

LIVES = {
    "full": 0, "killed": -9, "terminated": -9, "exception": 1, "exception-within": 1, "exit": 3, "interrupted": -2,
    "finished-before-the-end": 1, "disabled": 0,
}  # fmt: skip
Homes = dict[str, Path]


def lived(place: Path, life: str, *words: str) -> Path:
    """Let a W&B process live, wait until nobody writes to its logs any more, and return its home."""
    process = begun(place, life, *words)
    assert process.wait(120) in {LIVES.get(life, 0), 130 if life == "interrupted" else None}
    host = origin.machine()[0]
    while any(may_still_grow(log, host) for log in logs_below(place)):  # W&B's own process ends a moment later
        time.sleep(0.05)
    return place


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Give a home for each life, in which the real SDK has written offline."""
    place = tmp_path_factory.mktemp("wandb")

    def twice() -> Path:
        lived(place / "resumed", "resumed", "wb", "3")
        return lived(place / "resumed", "resumed", "wb", "2")

    with ThreadPoolExecutor(3) as pool:
        made = {life: pool.submit(lived, place / life, life) for life in LIVES}
        made["resumed"] = pool.submit(twice)
        return {life: home.result() for life, home in made.items()}


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def ask(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        return main(["--db", str(path), *map(str, words)]), capsys.readouterr().out

    return ask


def log_of(home: Path) -> Path:
    (log,) = logs_below(home)
    return log


def rows_of(book: Ledger, run_id: str | None = None) -> list[dict[str, Any]]:
    """Return the rows that the ledger holds, in order of steps, without what is absent."""
    made = []
    for event in book.events(run_id, types="metrics_logged"):
        columns: dict[str, list[Any]] = event.columns
        for values in zip(*columns.values(), strict=True):
            made.append({name: value for name, value in zip(columns, values, strict=True) if value is not None})
    return sorted(made, key=lambda row: (row["step"], row["_timestamp"]))


def test_a_run_comes_with_all_that_wandb_kept(book: Ledger, homes: Homes) -> None:
    """Config as it was at the end, name, group, tags, notes, summary, times and exit state are those of the run."""
    imported = import_wandb(homes["full"], ledger=book)
    run = book.get_run("wb-full")
    config, metrics, metadata = (json.loads(run[f"{name}_json"]) for name in ("config", "final_metrics", "metadata"))
    entry = book.timeline(run_id="wb-full")[0]

    assert [(r.run_id, r.wandb_run_id, r.rows, r.end, r.problems) for r in imported.runs] == [
        ("wb-full", "wb-full", 6, "completed", ())
    ]
    assert (run["wandb_run_id"], run["run_name"], run["wandb_name"], run["note"]) == (
        "wb-full",
        "mgda",
        "mgda",
        "first try",
    )
    assert (run["status"], run["exit_code"], run["batch_size"], run["learning_rate"]) == ("completed", 0, 512, None)
    assert json.loads(run["tags_json"]) == ["a", "b", "c"]
    assert config == {"training": {"batch_size": 512}, "api_key": "[redacted]", "depth": 3, "nan": None, "seed": 5}
    assert metadata.items() >= {"wandb_project": "digits", "wandb_group": "sweep", "wandb_job_type": "train"}.items()
    assert (metrics["val"], metrics["score"], metrics["best"], metrics["up"]) == (
        {"loss": 4, "deep": {"er": 4}},
        {"mean": 1},
        None,
        None,
    )
    assert "_wandb" not in {*config, *metrics}
    assert run["started_at"] <= run["last_seen_at"] <= run["ended_at"] < run["created_at_db"]
    assert (entry["type"], entry["source"]) == ("imported", f"{origin.machine()[0]} wandb")
    assert book.verify()


def test_history_is_what_was_logged(book: Ledger, homes: Homes) -> None:
    """NaN and infinities are texts, a histogram an object, nested keys joined by dots; steps are W&B's own."""
    import_wandb(homes["full"], ledger=book)
    rows = rows_of(book)
    (event,) = book.events("wb-full", types="metrics_logged")

    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 10]
    first = {name: value for name, value in rows[0].items() if not name.startswith("_")}
    assert first.pop("hist")["_type"] == "histogram"
    assert first == {
        "step": 0, "logged.step": 0, "loss": 0.5, "nan": "NaN", "up": "Infinity", "down": "-Infinity",
        "val.loss": 0, "val.deep.er": 0,
    }  # fmt: skip
    assert rows[1]["logged.step"] == 10
    assert (rows[5]["first"], rows[5]["second"]) == (1, 2)
    assert (rows[5]["array"], rows[5]["yes"], "late" in rows[5]) == ([0, 1, 2], True, False)
    assert next(iter(event.columns)) == "step"
    assert event.occurred_at.timestamp() == pytest.approx(rows[5]["_timestamp"], abs=1e-5)


@pytest.mark.parametrize(
    ("life", "said"),
    [
        ("exception", ("crashed", "exception", 1)),
        ("exception-within", ("crashed", "exception", 1)),
        ("exit", ("failed", None, 3)),
        ("interrupted", ("failed", "user", 255)),
        ("finished-before-the-end", ("completed", None, 0)),
        ("killed", ("crashed", None, None)),
    ],
)
def test_an_end_is_what_the_exit_record_says(book: Ledger, homes: Homes, life: str, said: tuple[object, ...]) -> None:
    """An uncaught exception crashed, another exit code failed, Ctrl-C was the user; a kill leaves no record."""
    import_wandb(homes[life], ledger=book)
    run = book.get_run(f"wb-{life}")
    (end,) = book.events(run["run_id"], types=["completed", "failed", "crashed"])

    assert (run["status"], run["end_reason"], run["exit_code"]) == said
    assert end.occurred_at >= end.ended_at
    assert (getattr(end, "error_log", None) or "").endswith("ValueError: boom\n") == life.startswith("exception")
    assert (end.said()["presumed"] if life == "killed" else None) in {True, None}


def test_a_kill_loses_no_row_that_was_written(book: Ledger, homes: Homes, tmp_path: Path) -> None:
    """After kill -9 all rows that are whole arrive, as W&B's own reader shows them."""
    log = log_of(homes["killed"])
    (run,) = import_wandb(log, ledger=book).runs
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(log)]
    lines = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=60).stdout
    records = [json.loads(line) for line in lines.splitlines()]
    theirs = [record["history"]["item"] for record in records if record["type"] == "history"]

    assert len(theirs) > 100
    assert [{"_step": row.pop("step"), **row} for row in rows_of(book)] == theirs
    assert (run.rows, run.end) == (len(theirs), "presumed crashed")
    assert all(problem.startswith("torn at byte") for problem in run.problems)
    assert book.get_run("wb-killed")["final_metrics_json"] is not None


def test_a_resumed_run_is_one_run(book: Ledger, homes: Homes) -> None:
    """Two logs of one W&B id, from two processes, are two starts and two ends of one run."""
    imported = import_wandb(homes["resumed"] / "wandb", ledger=book)
    types = [event.type for event in book.events("wb-wb")]

    assert [run.run_id for run in imported.runs] == ["wb-wb", "wb-wb"]
    assert (types.count("started"), types.count("completed"), len(rows_of(book))) == (2, 2, 5)


def test_what_is_nothing_yet_is_said_and_no_fault(book: Ledger, homes: Homes) -> None:
    """A process that was killed before W&B wrote leaves a log that tells of no run; a disabled run leaves none."""
    imported = import_wandb(homes["terminated"], ledger=book)

    assert [(run.run_id, run.new, bool(run.problems)) for run in imported.runs] == [(None, 0, True)]
    assert imported.ok
    with pytest.raises(InvalidValue, match="a folder of several is wanted"):
        import_wandb(homes["disabled"], ledger=book)


def test_again_is_known(path: Path, homes: Homes, ask: Callable[..., tuple[int, str]]) -> None:
    """A second import finds everything known and changes nothing; the command says so for each run."""
    words = ("import", "wandb", homes["full"])
    first, second = ask(*words), ask(*words)
    with Ledger(path) as book:
        before = shown(book)
        import_wandb(homes["full"], ledger=book)

        assert shown(book) == before
    assert first == (0, "wb-full: 7 events, 7 new, 0 known; 6 rows of history, completed\n")
    assert second == (0, "wb-full: 7 events, 0 new, 7 known; 6 rows of history, completed\n")


def test_the_command_says_what_was_torn(tmp_path: Path, homes: Homes, ask: Callable[..., tuple[int, str]]) -> None:
    """A torn end is said in words and, with --json, in one object; it is no fault."""
    log = tmp_path / "run-cut.wandb"
    log.write_bytes(torn(log_of(homes["killed"]).read_bytes(), 40_000))
    code, out = ask("import", "wandb", log, "--json")
    (run,) = json.loads(out)["runs"]
    again = ask("import", "wandb", log)

    assert (code, run["run_id"], run["end"], run["ok"]) == (0, "wb-killed", "presumed crashed", True)
    assert (run["new"], run["known"], run["refused"]) == (6, 0, 0)
    assert "torn at byte 3" in run["problems"][0]
    assert again == (
        0,
        f"wb-killed: 6 events, 0 new, 6 known; {run['rows']} rows of history, presumed crashed\n  {run['problems'][0]}\n",
    )


def test_a_fault_ends_the_command_with_1(tmp_path: Path, homes: Homes, ask: Callable[..., tuple[int, str]]) -> None:
    """A file that is no log is named, the others are taken, and the exit code is 1."""
    for name, data in (("run-a", log_of(homes["exit"]).read_bytes()), ("run-b", b"no log at all")):
        (tmp_path / f"{name}.wandb").write_bytes(data)
    code, out = ask("import", "wandb", tmp_path)

    assert code == 1
    assert "wb-exit: 5 events, 5 new" in out
    assert "run-b.wandb: not imported" in out
    assert ask("import", "wandb", tmp_path / "nowhere")[0] == 2


def test_a_launched_run_gets_its_history(book: Ledger, homes: Homes) -> None:
    """A run that was launched without a W&B id is filled in later with --run-id; what its launch said stays."""
    book.insert_run("mine", None, {"training": {"batch_size": 8}}, host="ec2", run_name="launched so")
    import_wandb(homes["full"], ledger=book, run_id="mine")
    again = import_wandb(homes["full"], ledger=book)
    run = book.get_run("mine")

    assert (again.new, [run.run_id for run in again.runs]) == (0, ["mine"])
    assert (run["host"], run["run_name"], run["batch_size"]) == ("ec2", "launched so", 8)
    assert (run["wandb_run_id"], json.loads(run["tags_json"]), len(rows_of(book, "mine"))) == (
        "wb-full",
        ["a", "b", "c"],
        6,
    )
    assert book.count_runs() == 1


def test_the_holder_of_the_id_gets_its_log(book: Ledger, homes: Homes) -> None:
    """A run that stated the W&B id gets the history, and its own later end stands against a presumed crash."""
    book.insert_run("mine", "wb-killed", {})
    book.update_run_status("mine", "completed", exit_code=0)
    import_wandb(homes["killed"], ledger=book)

    assert (book.get_run("mine")["status"], book.count_runs()) == ("completed", 1)
    assert len(rows_of(book, "mine")) > 100


def test_a_run_that_goes_on_there_gets_the_second_log(book: Ledger, homes: Homes) -> None:
    """A log stays with the run that it was imported into, whoever holds its W&B id later."""
    first, second = logs_below(homes["resumed"])
    book.insert_run("one", "wb-wb", {})
    import_wandb(first, ledger=book)
    book.insert_run("two", "wb-wb", {}, resumes_run_id="one")
    runs = [import_wandb(log, ledger=book).runs[0] for log in (first, second)]

    assert [(run.run_id, run.new > 0) for run in runs] == [("one", False), ("two", True)]


def test_which_run_is_never_guessed(book: Ledger, homes: Homes) -> None:
    """An unknown run, another run's W&B id, and several W&B runs for one run are errors that name the mend."""
    with pytest.raises(RunNotFound, match="Record its launch"):
        import_wandb(homes["exit"], ledger=book, run_id="nobody")
    book.insert_run("mine", None, {})
    import_wandb(homes["exit"], ledger=book)
    with pytest.raises(WandbRunTaken, match="belongs to run 'wb-exit'"):
        import_wandb(homes["exit"], ledger=book, run_id="mine")
    with pytest.raises(AskedWrongly, match="2 W&B runs"):
        import_wandb(both(homes), ledger=book, run_id="mine")


def both(homes: Homes) -> Path:
    """Return a folder with the logs of two runs."""
    place = homes["exit"].parent / "both"
    place.mkdir(exist_ok=True)
    for life in ("exit", "exception"):
        (place / f"run-wb-{life}.wandb").write_bytes(log_of(homes[life]).read_bytes())
    return place


def test_a_run_id_in_the_config_and_a_taken_name(book: Ledger, tmp_path: Path) -> None:
    """A run that the config names gets the log; else a new run is named by the W&B id, unless that name is taken."""
    named = run_record("w1")
    named.run.config.update.add(key="run_id", value_json='"mine"')
    book.insert_run("mine", None, {})
    book.insert_run("w2", None, {})
    book.insert_run("w3", None, {})
    book.insert_run("wandb-w3", None, {})
    logs = [
        written(tmp_path / f"run-w{n}.wandb", r) for n, r in enumerate((named, run_record("w2"), run_record("w3")), 1)
    ]

    assert [import_wandb(log, ledger=book).runs[0].run_id for log in logs[:2]] == ["mine", "wandb-w2"]
    with pytest.raises(AskedWrongly, match="Say which run it is of with --run-id"):
        import_wandb(logs[2], ledger=book)


@pytest.fixture(scope="module", params=["full", "killed", "exception"])
def whole(request: pytest.FixtureRequest, homes: Homes) -> bytes:
    return log_of(homes[request.param]).read_bytes()


def imported_in_turn(path: Path, states: list[bytes]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Import a log in each of these states, and return the rows and the runs that the ledger then has."""
    with Ledger("sqlite://") as book:
        for state in states:
            path.write_bytes(state)
            found = import_wandb(path, ledger=book)
            assert not any(run.refused for run in found.runs)
        rows = rows_of(book)
        assert book.verify()
        runs = shown(book)
    for run in runs.values():  # a log that was cut elsewhere is told in other events
        for metric in run["details"]["training_metrics"].values():
            del metric["last_at"], metric["last_event_id"]
    return rows, runs


@settings(max_examples=trials(20, 500))
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=3).map(sorted))
def test_a_log_that_grows_comes_once(place: Path, whole: bytes, shares: list[float]) -> None:
    """Cut at any bytes and imported each time, then whole: each row is there once, and the run is as if imported once."""
    at_once = imported_in_turn(place, [whole])
    cuts = [whole[: round(share * len(whole))] for share in shares]

    assert imported_in_turn(place, [*cuts, whole]) == at_once
    assert imported_in_turn(place, [whole, *cuts]) == at_once


@settings(max_examples=trials(20, 500))
@given(share=st.floats(0, 1), byte=st.integers(1, 255))
def test_a_damaged_log_is_mended_by_a_good_copy(place: Path, whole: bytes, share: float, byte: int) -> None:
    """With one wrong byte what can be read is taken; the good copy brings the rest, and no row twice."""
    damaged = bytearray(whole)
    damaged[round(share * (len(whole) - 1))] ^= byte
    rows, _ = imported_in_turn(place, [whole])

    assert all(row in rows for row in imported_in_turn(place, [bytes(damaged)])[0])
    assert imported_in_turn(place, [bytes(damaged), whole])[0] == rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut") / "run-cut.wandb"


def test_two_ledgers_that_imported_one_log_merge(tmp_path: Path, homes: Homes) -> None:
    """Who imported after two blocks and who imported all tell the same events: a merge finds them known."""
    whole = log_of(homes["killed"]).read_bytes()
    for name, data in (("early", whole[: 2 * 32768]), ("late", whole)):
        log = tmp_path / "run-x.wandb"
        log.write_bytes(data)
        with Ledger(tmp_path / f"{name}.db") as book:
            import_wandb(log, ledger=book)
    with Ledger(tmp_path / "late.db") as book:
        before = rows_of(book)
        merged = book.merge(tmp_path / "early.db")

        assert (rows_of(book), merged.refused, merged.known > 2) == (before, 0, True)


def test_a_log_that_is_being_written_is_of_a_run_that_runs(tmp_path: Path, book: Ledger) -> None:
    """While a process has the log open, the run runs; when that is gone without an exit record, it is presumed crashed."""
    log = written(tmp_path / "run-abc.wandb", run_record(), history(1, 1_700_000_001.0, ("loss", "0.5")))
    here = run_record("here")
    here.run.host = origin.machine()[0]
    open_log = written(tmp_path / "run-here.wandb", here, history(1, 1_700_000_001.0, ("loss", "0.5")))

    with open_log.open("ab"):
        assert import_wandb(open_log, ledger=book).runs[0].end == "running"
    assert import_wandb(open_log, ledger=book).runs[0].end == "presumed crashed"
    assert import_wandb(log, ledger=book).runs[0].end == "running", "written to just now, on a machine that is not ours"


def test_a_log_of_elsewhere_is_over_when_it_is_quiet(
    tmp_path: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine than the one that wrote it, an hour without a word is the end; a later word revives the run."""
    records = [run_record(), *(history(n, 1_700_000_000.0 + n, ("loss", "0.5")) for n in range(1, 4))]
    log = written(tmp_path / "run-abc.wandb", *records[:3])
    monkeypatch.setattr(finding, "QUIET_SECONDS", 0)
    assert import_wandb(log, ledger=book).runs[0].end == "presumed crashed"
    crashed = book.get_run("abc")

    monkeypatch.setattr(finding, "QUIET_SECONDS", 3600)
    written(log, *records)
    assert import_wandb(log, ledger=book).runs[0].end == "running"
    assert (crashed["status"], crashed["duration_seconds"], book.get_run("abc")["status"]) == ("crashed", 2, "running")


def test_a_record_nobody_expects_stops_nothing(tmp_path: Path, book: Ledger) -> None:
    """Old plain keys, dots in names, values that are no JSON, a moment out of time and bytes of another kind are taken."""
    strange = history(
        2, 1e300, (("a", "b"), "1"), ("a.b", "2"), ("c", '{"d": {"e": 3}}'), ("cut", "{"), ("big", "1e400"),
        ("deep", "[" * 150 + "]" * 150), ("nul", '"\\u0000\\ud800"'), (("media", "_type"), '"image-file"'), (("media", "size"), "7"),
    )  # fmt: skip
    log = tmp_path / "run-abc.wandb"
    records = [run_record(display_name="a\0b", tags=["ok", " "]), strange, pb.Record(exit=pb.RunExitRecord(runtime=60))]
    log.write_bytes(
        framed([*(r.SerializeToString() for r in records[:2]), b"\xff\xff", records[2].SerializeToString()])
    )
    (run,) = import_wandb(log, ledger=book).runs
    (row,) = rows_of(book)

    assert (run.end, run.rows, run.refused, run.problems) == (
        "completed",
        1,
        0,
        ("records that the installed W&B SDK cannot read: 1",),
    )
    assert {name: row[name] for name in ("a.b", r"a\.b", "c.d.e", "cut", "big", "nul")} == {
        "a.b": 1, r"a\.b": 2, "c.d.e": 3, "cut": "{", "big": "Infinity", "nul": "\0\ud800",
    }  # fmt: skip
    assert row["deep"] == "[" * 150 + "]" * 150
    assert row["media"] == {"_type": "image-file", "size": 7}
    shown = book.get_run("abc")
    assert (shown["wandb_name"], json.loads(shown["tags_json"]), shown["duration_seconds"]) == ("a\ufffdb", ["ok"], 60)


def test_a_summary_is_what_its_changes_come_to(tmp_path: Path, book: Ledger) -> None:
    """Whole objects, nested keys and removals act in the order in which they were written; tokens leave no trace."""
    begun = run_record(git=pb.GitRepoRecord(remote_url="https://me:t0ken@git.example/a/b", commit="c0ffee"))
    changes = []
    for path, text in (
        (("a",), '{"x": 1, "y": 2}'),
        (("a", "x"), "5"),
        (("b",), "1"),
        (("b", "c"), "2"),
        (("_wandb", "n"), "1"),
    ):
        changes.append(pb.Record(summary=pb.SummaryRecord()))
        changes[-1].summary.update.add(value_json=text, nested_key=path)
    gone = pb.Record(summary=pb.SummaryRecord())
    gone.summary.remove.add(nested_key=["a", "y"])
    gone.summary.remove.add(nested_key=["never", "there"])
    log = written(tmp_path / "run-abc.wandb", begun, *changes, gone, pb.Record(exit=pb.RunExitRecord()))
    import_wandb(log, ledger=book)
    run = book.get_run("abc")

    assert json.loads(run["final_metrics_json"]) == {"a": {"x": 5}, "b": {"c": 2}}
    assert json.loads(run["metadata_json"]) == {"git_remote": "https://git.example/a/b", "git_commit": "c0ffee"}


def test_the_command_is_asked_rightly(homes: Homes, path: Path, ask: Callable[..., tuple[int, str]]) -> None:
    """Another system, and a run that is not known, are asked wrongly; a place that is no ledger cannot be used."""
    assert ask("import", "tensorboard", homes["exit"])[0] == 2
    assert ask("import", "wandb", homes["exit"], "--run-id", "nobody")[0] == 2
    assert not path.exists()
    assert ask("--db", f"spool://{path.parent}/spool", "import", "wandb", homes["exit"])[0] == 3
    with Ledger(path) as book:
        book.insert_run("mine", None, {})
    assert ask("import", "wandb", homes["exit"], "--run-id", "mine")[1].startswith("mine: 5 events, 5 new")


def test_without_the_sdk_the_extra_is_named(tmp_path: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where W&B's SDK is not installed, the error says what to install."""
    log = written(tmp_path / "run-abc.wandb", run_record())
    monkeypatch.setitem(sys.modules, "wandb.proto", None)
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[wandb\]"):
        import_wandb(log, ledger=book)


def test_the_default_ledger_is_the_one_that_is_named(path: Path, homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ledger, the one that the environment names takes it."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    import_wandb(homes["exit"])
    with Ledger(path) as book:
        assert book.get_run("wb-exit")["status"] == "failed"


def events_of(book: Ledger) -> Iterator[tuple[str, str]]:
    return ((event.event_id, event.digest) for event in book.events())


def test_ids_follow_from_what_was_read(tmp_path: Path, homes: Homes) -> None:
    """Two ledgers that import the same log have the same events, of UUID version 8 and of no process of theirs."""
    made = []
    for name in ("one", "two"):
        with Ledger(tmp_path / f"{name}.db") as book:
            import_wandb(homes["full"], ledger=book)
            made.append(sorted(events_of(book)))
            sources = [json.loads(event.source) for event in book.events()]

    assert made[0] == made[1]
    assert {event_id[14] for event_id, _ in made[0]} == {"8"}
    assert all(source["system"] == "wandb" and not source.keys() & {"pid", "user"} for source in sources)


def test_a_run_that_claims_it_on_the_way(book: Ledger, homes: Homes) -> None:
    """A run that stated the id, and lost it, may still be named for the log: its claim is then as old as the log."""
    book.insert_run("one", "wb-exit", {})
    book.append(WandbAttached(run_id="two", wandb_run_id="wb-exit"))
    assert import_wandb(homes["exit"], ledger=book, run_id="two").runs[0].run_id == "two"
    assert book.get_run("two")["wandb_run_id"] == "wb-exit"
    assert list(chain.from_iterable(event.columns["step"] for event in book.events("two", types="metrics_logged"))) == [
        0,
        1,
        2,
    ]
