"""The handle: what its calls record, and that none of them raises."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ledger
from ledger import Ledger
from ledger.errors import AskedWrongly, InvalidFact, InvalidValue, NotConfigured
from ledger.events import Event, Launched
from ledger.tracking import harmless
from ledger.tracking.harmless import NotRecorded
from tests.tracking.processes import Place


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep spool and error logs in a folder of the test's own, and say everything anew."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("RUN_ID", "CHAIN_OF_CUSTODY_ID", "RESUMES_RUN_ID", "RANK", "SLURM_PROCID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(harmless, "_said", set())


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "runs.db") as made:
        yield made


def said(book: Ledger, run_id: str = "r") -> list[Event]:
    return [recorded.event for recorded in book.events(run_id)]


def types(book: Ledger, run_id: str = "r") -> list[str]:
    return [event.type for event in said(book, run_id)]


def columns(book: Ledger) -> list[dict[str, list[Any]]]:
    return [event.columns for event in said(book) if event.type == "metrics_logged"]  # type: ignore[attr-defined]


def rows(book: Ledger) -> list[dict[str, Any]]:
    """Return what was logged, call by call."""
    made = []
    for found in columns(book):
        cells = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
        made += [{name: value for name, value in row.items() if value is not None} for row in cells]
    return made


def test_all_that_a_run_can_say(book: Ledger) -> None:
    """Launch, start, heartbeat, metrics, checkpoint, note and end are there; a batch of metrics occurs at its last."""
    with book.track("r", config={"batch_size": 8}, chain_of_custody_id="ABC123", run_name="first") as run:
        run.log({"loss": 0.5, "acc": 1}, step=3)
        run.checkpoint(Path("/models/3.pt"), step=3, metrics={"loss": 0.5})
        run.note("good", tags=["paper"], reviewer="Ada")
        run.log({"loss": 0.25})
        run.summary["objectives/x/raw_mean"] = 0.75
        assert book.get_run("r")["liveness"] == "alive"  # type: ignore[index]
    row = book.get_run("r")

    assert row is not None
    assert types(book)[:3] == ["launched", "started", "heartbeat"]
    assert {*types(book)[3:-1]} == {"metrics_logged", "checkpoint_saved", "annotated"}
    assert rows(book) == [{"step": 3, "loss": 0.5, "acc": 1}, {"step": 4, "loss": 0.25}]
    assert (row["batch_size"], row["chain_of_custody_id"], row["run_name"], row["note"]) == (
        8,
        "ABC123",
        "first",
        "good",
    )
    assert row["final_metrics_json"] == '{"loss":0.25,"acc":1,"objectives/x/raw_mean":0.75}'
    assert row["status"] == "completed"


def test_values_are_kept_as_they_are_at_the_call(book: Ledger) -> None:
    """What is logged is plain at once, however it changes later; NaN and its kin are kept as text."""
    array = np.zeros(2)
    with book.track("r") as run:
        run.log(
            {"array": array, "nan": float("nan"), "inf": -np.inf, "f32": np.float32(0.5), "n": np.int64(7)}, np.int64(1)
        )
        array[:] = 9
        run.log({"step": 5, "loss": None})
    first, second = columns(book)[0], columns(book)[-1]

    assert first["array"][0] == [0.0, 0.0]
    assert (first["nan"][0], first["inf"][0], first["f32"][0], first["n"][0]) == ("NaN", "-Infinity", 0.5, 7)
    assert second["step"][-1] == 5


@pytest.mark.parametrize(
    ("call", "mend"),
    [
        (lambda run: run.log(3), "a mapping of names to values is wanted"),
        (lambda run: run.log({"a": 1}, step="x"), "a whole number of 64 bits is wanted"),
        (lambda run: run.log({"a": 1}, step=True), "a whole number of 64 bits is wanted"),
        (lambda run: run.checkpoint(None), "TypeError"),
        (lambda run: run.checkpoint(" "), "text that is not empty"),
        (lambda run: run.note(), "needs a note, tags, or metadata"),
        (lambda run: run.note(tags=5), "a text or several are wanted"),
        (lambda run: run.log(), "missing 1 required positional argument"),
        (lambda run: run.log({"a": 1}, stpe=1), "unexpected keyword argument"),
    ],
)
def test_a_wrong_call_is_said_once_at_its_line_and_training_goes_on(book: Ledger, call: Any, mend: str) -> None:
    """Wrong arguments are a warning with the mend, at the line of the call, once; the run completes."""
    with warnings.catch_warnings(record=True) as found, book.track("r") as run:
        warnings.simplefilter("always")
        call(run)
        call(run)
    (warning,) = [one for one in found if issubclass(one.category, NotRecorded)]

    assert mend in str(warning.message)
    assert warning.filename == __file__
    assert book.get_run("r")["status"] == "completed"  # type: ignore[index]


def test_warnings_that_are_errors_stay_out_of_training(book: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Where a test run makes every warning an error, it goes to the log."""
    with warnings.catch_warnings(), book.track("r") as run:
        warnings.simplefilter("error")
        run.log(3)  # type: ignore[arg-type]

    assert "a mapping of names to values is wanted" in caplog.text


def test_a_wrong_start_raises(book: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At entry everything that is wrong is an error with the mend, and nothing was recorded."""
    with pytest.raises(InvalidValue, match="set RUN_ID"):
        book.track()
    with pytest.raises(InvalidFact, match="a mapping"):
        book.track("r", config=[1])
    with pytest.raises(InvalidFact), book.track(" "):
        pass
    with pytest.raises(InvalidValue, match="stopped_means"):
        book.track("r", stopped_means="crashed")
    with pytest.raises(InvalidValue, match="heartbeat_seconds"):
        book.track("r", heartbeat_seconds=0)
    with pytest.raises(TypeError, match="config"):
        book.track("r", confg={})  # type: ignore[call-arg]
    for name in ("TRAINING_DB_URL", "TRAINING_DB_PATH", "TRAINING_DB_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotConfigured):
        ledger.track("r")

    assert not (tmp_path / "runs.db").exists() or book.query_runs() == []


def test_who_has_launched_it_already_is_not_launched_again(book: Ledger) -> None:
    """A run that insert_run launched gets no second launch, unless its process knows more."""
    book.insert_run("r", None, {"lr": 1}, host="ec2", instance_id="i-1", chain_of_custody_id="ABC123")
    with book.track("r", config={"lr": 1}):
        pass
    assert types(book).count("launched") == 1

    book.insert_run("bare", None, {})
    with book.track("bare", config={"batch_size": 4}):
        pass
    assert types(book, "bare").count("launched") == 2
    assert book.get_run("bare")["batch_size"] == 4  # type: ignore[index]


def test_a_launch_afterwards_adds_what_is_missing(book: Ledger) -> None:
    """insert_run after the process has begun is no second launch that is refused."""
    with book.track("r", config={"batch_size": 4}):
        book.insert_run("r", None, {"batch_size": 4}, "ABC123", run_name="late")
    row = book.get_run("r")

    assert row is not None
    assert (row["run_name"], row["chain_of_custody_id"], row["batch_size"]) == ("late", "ABC123", 4)


def test_resuming_under_the_same_id_just_works(book: Ledger) -> None:
    """A second process goes on with the run: it runs again, and its first start stays."""
    with pytest.raises(KeyError), book.track("r", config={"a": 1}):
        raise KeyError("x")
    first = book.get_run("r")
    with book.track("r", config={"a": 1}) as run:
        run.log({"loss": 1})
        assert book.get_run("r")["status"] == "running"  # type: ignore[index]
    row = book.get_run("r")

    assert first is not None
    assert row is not None
    assert (first["status"], row["status"]) == ("crashed", "completed")
    assert row["started_at"] == first["started_at"]
    assert types(book).count("launched") == 1


def test_a_replacement_takes_over(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another id that goes on from the old one gets its W&B run, and both timelines say so."""
    book.insert_run("old", "w1", {})
    monkeypatch.setenv("RESUMES_RUN_ID", "old")
    with book.track("new"):
        pass
    old, new = book.get_run("old"), book.get_run("new")

    assert old is not None
    assert new is not None
    assert (old["wandb_run_id"], new["wandb_run_id"], new["resumes_run_id"]) == (None, "w1", "old")
    assert "run new goes on from here" in [entry.summary for entry in book.timeline(run_id="old")]
    assert any("going on from old" in entry.summary for entry in book.timeline(run_id="new"))


def test_going_on_from_nothing_makes_no_run_of_it(book: Ledger) -> None:
    """A mistyped id of the run that is resumed does not come into being by that."""
    book.init_db()
    with book.track("new", resumes="typo"):
        pass

    assert book.get_run("typo") is None
    assert book.get_run("new")["resumes_run_id"] == "typo"  # type: ignore[index]


def test_ids_come_from_the_environment_and_are_handed_down(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUN_ID and CHAIN_OF_CUSTODY_ID are read, set for child processes while the run is tracked, and put back."""
    monkeypatch.setenv("RUN_ID", "r")
    monkeypatch.setenv("CHAIN_OF_CUSTODY_ID", "XYZ789")
    with book.track():
        assert book.get_run("r")["chain_of_custody_id"] == "XYZ789"  # type: ignore[index]
    with book.track("other", chain_of_custody_id="ABC123"):
        assert (os.environ["RUN_ID"], os.environ["CHAIN_OF_CUSTODY_ID"]) == ("other", "ABC123")

    assert (os.environ["RUN_ID"], os.environ["CHAIN_OF_CUSTODY_ID"]) == ("r", "XYZ789")


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"])
def test_only_the_first_rank_records(book: Ledger, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Other ranks are silent, without a word of complaint."""
    book.init_db()
    monkeypatch.setenv(name, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with book.track("r") as run:
            run.log({"loss": 1})
            run.note("x")

    assert book.get_run("r") is None


def test_other_ranks_join_when_asked(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all_ranks another rank's metrics are recorded; the run begins and completes with the first alone."""
    book.insert_run("r", None, {})
    monkeypatch.setenv("RANK", "3")
    with book.track("r", all_ranks=True) as run:
        run.log({"loss": 1})
    with pytest.raises(ValueError, match="x"), book.track("r", all_ranks=True):
        raise ValueError("x")

    assert {"started", "completed"}.isdisjoint(types(book))
    assert "metrics_logged" in types(book)
    assert book.get_run("r")["status"] == "crashed"  # type: ignore[index]


def test_a_decorated_function_is_tracked_at_every_call(book: Ledger) -> None:
    """The decorator begins a run at each call, and inside `current_run` is it."""

    @book.track("r", config={"a": 1})
    def train(steps: int) -> int:
        ledger.current_run().log({"steps": steps})
        return steps

    assert (train(3), train(4)) == (3, 4)
    assert types(book).count("completed") == 2
    assert [found["steps"] for found in columns(book)] == [[3], [4]]


def test_without_a_run_the_current_one_takes_nothing_and_says_so() -> None:
    """Code that logs to the current run works where nothing is tracked."""
    with pytest.warns(NotRecorded, match="before the run has begun"):
        ledger.current_run().log({"a": 1})


def test_after_the_end_nothing_is_recorded(book: Ledger) -> None:
    """A late call is said once, a second end does nothing, and the end stays the last event."""
    run = book.start_run("r")
    run.finish("failed", end_reason="user", exit_code=3)
    with pytest.warns(NotRecorded, match="after the run has ended"):
        run.log({"a": 1})
    run.finish()
    row = book.get_run("r")

    assert row is not None
    assert types(book)[-1] == "failed"
    assert (row["status"], row["end_reason"], row["exit_code"]) == ("failed", "user", 3)


@pytest.mark.parametrize("wrong", [{"status": "done"}, {"end_reason": "bored"}])
def test_a_wrong_end_is_said_and_the_run_goes_on(book: Ledger, wrong: dict[str, Any]) -> None:
    """finish with a word that means nothing ends nothing."""
    run = book.start_run("r")
    with pytest.warns(NotRecorded, match="is wanted"):
        run.finish(**wrong)
    assert book.get_run("r")["status"] == "running"  # type: ignore[index]
    run.finish()


def test_a_cell_that_is_run_again_goes_on_with_its_run(book: Ledger) -> None:
    """The same id again in one process: the old handle is done, without an end in between."""
    first = book.start_run("r")
    first.log({"loss": 1})
    second = book.start_run("r")
    with pytest.warns(NotRecorded, match="after the run has ended"):
        first.log({"loss": 2})
    second.finish()

    assert [type for type in types(book) if type in ("completed", "failed", "crashed")] == ["completed"]
    assert columns(book) == [{"step": [0], "loss": [1]}]


def test_threads_may_all_log(book: Ledger) -> None:
    """Rows of many threads all arrive, each once."""
    with book.track("r") as run:
        threads = [
            threading.Thread(target=lambda n=n: [run.log({"n": n * 1000 + i}, step=i) for i in range(500)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(value for found in columns(book) for value in found["n"]) == sorted(
        n * 1000 + i for n in range(8) for i in range(500)
    )


FORKING = """
import multiprocessing, os, sys, warnings, ledger
def work(n):
    warnings.simplefilter("ignore")
    ledger.current_run().log({"child": n})
    run.log({"child": n})
    return n
if __name__ == "__main__":
    run = ledger.start_run("r")
    run.log({"loss": 1})
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.map(work, range(20)))
    child = os.fork()
    if child == 0:
        sys.exit(5)
    os.waitpid(child, 0)
    run.log({"loss": 2})
    run.finish()
"""


def test_forked_workers_neither_record_nor_end_the_run(tmp_path: Path) -> None:
    """Workers of a pool, which are ended by SIGTERM, and a forked child that exits leave the run alone."""
    place = Place(tmp_path)
    code, out, err = place.run(FORKING)
    with place.ledger() as book:
        logged = [value for found in columns(book) for value in found["loss"]]
        ends = [type for type in types(book) if type in ("completed", "failed", "crashed")]
        names = {name for found in columns(book) for name in found}

    assert (code, out) == (0, f"{list(range(20))}\n"), err
    assert (logged, ends, names) == ([1, 2], ["completed"], {"step", "loss"})


def test_what_is_known_is_not_asked_of_a_ledger_that_is_away(tmp_path: Path) -> None:
    """Where the place is of no use, the start is spooled within seconds, the launch with it."""
    (tmp_path / "runs.db").mkdir()
    with Ledger(tmp_path / "runs.db").track("r", config={"a": 1}) as run:
        run.log({"a": 1})
    (tmp_path / "runs.db").rmdir()
    with Ledger(tmp_path / "runs.db") as book:
        book.sync(tmp_path / "state" / "training-run-ledger" / "spool")

        assert types(book) == ["launched", "started", "heartbeat", "metrics_logged", "completed"]
        assert isinstance(said(book)[0], Launched)


def test_heartbeats_go_on_while_training_says_nothing(book: Ledger) -> None:
    """A run that is silent beats all the same, each promising the next."""
    import time

    with book.track("r", heartbeat_seconds=0.05) as run:
        run.log({"loss": 2})
        deadline = time.monotonic() + 60
        while types(book).count("heartbeat") < 12 and time.monotonic() < deadline:
            time.sleep(0.02)
    beats = [event for event in said(book) if event.type == "heartbeat"]

    assert len(beats) >= 12
    assert {event.lease_seconds for event in beats} == {1}  # type: ignore[attr-defined]
    assert [event.metrics for event in beats if event.metrics] != []  # type: ignore[attr-defined]
    assert types(book)[-1] == "completed"


def test_a_coroutine_is_tracked_as_long_as_it_runs(book: Ledger) -> None:
    """The run of a decorated coroutine ends when that ends; a generator, whose end nobody knows, is refused."""
    import asyncio

    @book.track("r")
    async def train() -> int:
        await asyncio.sleep(0)
        ledger.current_run().log({"loss": 1})
        return 3

    assert asyncio.run(train()) == 3
    assert "metrics_logged" in types(book)
    assert book.get_run("r")["status"] == "completed"  # type: ignore[index]
    with pytest.raises(AskedWrongly, match="generator"):

        @book.track("g")
        def steps() -> Iterator[int]:
            yield 1


def test_what_cannot_be_kept_of_a_summary_keeps_no_end_from_being_told(book: Ledger) -> None:
    """A value nested too deep is left out and said; the rest and the end are there."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with book.track("r") as run:
        run.summary.update(deep=deep, fine=2)
    row = book.get_run("r")

    assert row is not None
    assert (row["status"], row["final_metrics_json"]) == ("completed", '{"fine":2}')


def test_a_block_in_a_block_of_the_same_run_is_part_of_it(book: Ledger) -> None:
    """The inner one records to the same run and ends nothing; what happens afterwards is still recorded."""
    with pytest.raises(KeyError), book.track("r") as outer:
        with book.track("r") as inner:
            inner.log({"loss": 1})
        outer.log({"loss": 2})
        raise KeyError("x")

    assert [row["loss"] for row in rows(book)] == [1, 2]
    assert [type for type in types(book) if type in ("started", "completed", "crashed")] == ["started", "crashed"]


def test_ids_are_handed_down_as_long_as_their_run_is_tracked(book: Ledger) -> None:
    """However runs that overlap end, the environment names one that is tracked, and in the end none."""
    first, second = book.start_run("a"), book.start_run("b")
    assert os.environ["RUN_ID"] == "b"
    first.finish()
    assert os.environ["RUN_ID"] == "b"
    second.finish()

    assert "RUN_ID" not in os.environ


def test_a_wrong_value_that_differs_each_time_is_said_once(book: Ledger) -> None:
    """One line that is wrong a hundred times is one warning."""
    with warnings.catch_warnings(record=True) as found, book.track("r") as run:
        warnings.simplefilter("always")
        for step in range(100):
            run.log({"loss": 1}, step=step + 0.5)  # type: ignore[arg-type]

    assert len([one for one in found if issubclass(one.category, NotRecorded)]) == 1
