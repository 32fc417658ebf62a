"""What the documented functions do in detail: repeat, refuse, filter, sort, correct."""

import json
import re
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ledger import Ledger, LedgerError
from ledger.errors import (
    InvalidValue,
    RunAlreadyExists,
    RunNotFound,
    UnknownColumn,
    UnknownFilter,
    UnknownKeyword,
    UnknownOrder,
    WandbRunTaken,
)
from ledger.events import Heartbeat, Launched
from tests.behind import behind
from tests.places import on_both

CONFIG: dict[str, Any] = {
    "training": {"batch_size": 384, "learning_rate": 1.0e-4, "num_processes": 4, "max_steps": 2000},
    "reward": {"gradient_method": "mgda", "beta": 0.05},
    "objectives": [{"name": "COMT_activity"}, {"name": "toxicity"}],
    "generation": {"scaffolds": [{"name": "benzene"}]},
}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOON_TEXT = "2026-01-02T12:00:00.000000Z"


pytestmark = on_both


def row(book: Ledger, run_id: str = "r1") -> dict[str, Any]:
    """Give the row of a run that is there."""
    found = book.get_run(run_id)
    assert found is not None
    return dict(found)


def launch(book: Ledger, *run_ids: str, config: Mapping[str, Any] | None = None, **said: Any) -> None:
    for run_id in run_ids:
        book.insert_run(run_id, None, config, **said)


def method(name: str) -> dict[str, Any]:
    return {"reward": {"gradient_method": name}}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [found["run_id"] for found in rows]


def found(book: Ledger, filters: dict[str, Any]) -> list[str]:
    """Give the ids of the runs that *filters* let through, in alphabetical order."""
    assert book.count_runs(filters) == len(book.query_runs(filters))
    return sorted(ids(book.query_runs(filters)))


def types(book: Ledger, run_id: str = "r1") -> list[str]:
    """Give the types of a run's events, in canonical order."""
    return [entry["type"] for entry in book.timeline(run_id=run_id)]


def hours_ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def everything(place: str) -> dict[str, list[str]]:
    """Give every row of every table."""
    with behind(place, guarded=True) as db:
        return {name: sorted(map(repr, db.execute(f'SELECT * FROM "{name}"'))) for name in db.tables()}


@contextmanager
def refused(*words: str, kind: type[LedgerError] = LedgerError) -> Iterator[None]:
    """Expect an error that is a LedgerError and a ValueError, with *words* in its message."""
    with pytest.raises(kind) as caught:
        yield
    assert isinstance(caught.value, ValueError)
    assert [word for word in words if word not in str(caught.value)] == []


# insert_run


def test_a_launch_may_have_no_config(book: Ledger) -> None:
    """config_dict=None means {}."""
    book.insert_run("r1", None, None)

    assert json.loads(row(book)["config_json"]) == {}


def test_a_launch_returns_nothing(book: Ledger) -> None:
    """insert_run gives None."""
    insert: Callable[..., object] = book.insert_run

    assert insert("r1", None, {}) is None


@pytest.mark.parametrize(("keyword", "value"), [("instance_type", "g5.xlarge"), ("resumes_run_id", "r0")])
def test_a_launch_takes_further_keywords(book: Ledger, keyword: str, value: Any) -> None:
    """insert_run also takes instance_type and resumes_run_id."""
    launch(book, "r0")
    launch(book, "r1", **{keyword: value})

    assert row(book)[keyword] == value


@pytest.mark.parametrize("said", [NOON, NOON.replace(tzinfo=None), "2026-01-02T12:00:00Z"])
def test_a_launch_can_be_backfilled(book: Ledger, said: datetime | str) -> None:
    """`at=` of insert_run is when the run was created."""
    launch(book, "r1", at=said)

    assert row(book)["created_at"] == NOON_TEXT


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("batch_size", 8),
        ("learning_rate", 0.5),
        ("beta", 0.25),
        ("gradient_method", "pcgrad"),
        ("num_gpus", 1),
        ("num_objectives", 7),
        ("num_scaffolds", 3),
    ],
)
def test_a_hyperparameter_given_by_name_wins_over_the_config(book: Ledger, column: str, value: Any) -> None:
    """Any hyperparameter column is a keyword of insert_run and wins over the config, which stays whole."""
    launch(book, "r1", config=CONFIG, **{column: value})

    assert row(book)[column] == value
    assert json.loads(row(book)["config_json"]) == CONFIG


@pytest.mark.parametrize(
    ("column", "value", "config"),
    [
        ("batch_size", 2, {"batch_size": 2}),
        ("batch_size", 1, {"training": {"batch_size": 1}, "batch_size": 2}),
        ("learning_rate", 0.3, {"training": {"lr": 0.3}, "lr": 0.4}),
        ("learning_rate", 0.2, {"learning_rate": 0.2, "training": {"lr": 0.3}}),
        ("learning_rate", 0.4, {"lr": 0.4}),
        ("learning_rate", 1e-4, {"training": {"learning_rate": "1e-4"}}),
        ("beta", 0.2, {"training": {"beta": 0.2}, "beta": 0.3}),
        ("gradient_method", "mgda", {"gradient_method": "mgda"}),
        ("num_gpus", 4, {"training": {"num_processes": 4}}),
        ("num_gpus", 2, {"num_gpus": 2, "training": {"num_gpus": 3, "num_processes": 4}}),
        ("num_gpus", 8, {"distributed": {"num_processes": 8}}),
        ("num_scaffolds", 2, {"scaffolds": ["a", "b"]}),
        ("num_objectives", 0, {"objectives": []}),
    ],
)
def test_the_first_path_that_fits_gives_the_column(
    book: Ledger, column: str, value: Any, config: dict[str, Any]
) -> None:
    """A hyperparameter is read from the first of its paths that is there and fits."""
    launch(book, "r1", config=config)

    assert row(book)[column] == value


@pytest.mark.parametrize(
    ("column", "config"),
    [
        ("batch_size", {"batch_size": 10**30}),
        ("batch_size", {"batch_size": True}),
        ("batch_size", {"batch_size": "many"}),
        ("learning_rate", {"lr": [0.1, 0.2]}),
        ("gradient_method", {"gradient_method": {"name": "mgda"}}),
        ("num_objectives", {"objectives": 5}),
        ("num_gpus", {"training": None}),
        ("num_gpus", {"training": ["a"]}),
    ],
)
def test_a_value_that_does_not_fit_stays_in_the_json(book: Ledger, column: str, config: dict[str, Any]) -> None:
    """A stranger's value that does not fit its column leaves it NULL and stays whole in config_json."""
    launch(book, "r1", config=config)

    assert row(book)[column] is None
    assert json.loads(row(book)["config_json"]) == config


def test_the_same_launch_again_changes_nothing(book: Ledger, place: str) -> None:
    """insert_run again with equal content is a no-op."""
    for _ in range(2):
        book.insert_run("r1", "w1", CONFIG, "ABC123", host="ec2", batch_size=8)
    before = everything(place)
    book.insert_run("r1", "w1", CONFIG, "ABC123", host="ec2", batch_size=8)

    assert everything(place) == before
    assert types(book).count("launched") == 1


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("host", {"host": "expanse"}),
        ("config", {"config_dict": {"training": {"batch_size": 9}}}),
        ("chain_of_custody_id", {"chain_of_custody_id": "XYZ789"}),
        ("run_name", {"run_name": "another"}),
        ("wandb_run_id", {"wandb_run_id": "w2"}),
    ],
)
def test_another_launch_of_the_same_run_is_an_error(book: Ledger, place: str, named: str, said: dict[str, Any]) -> None:
    """insert_run again with other content is RunAlreadyExists naming what differs, and changes nothing."""
    first: dict[str, Any] = {
        "wandb_run_id": "w1",
        "config_dict": CONFIG,
        "chain_of_custody_id": "ABC123",
        "run_name": "first",
        "host": "ec2",
    }
    book.insert_run("r1", **first)
    before = everything(place)
    with pytest.raises(RunAlreadyExists, match=named):
        book.insert_run("r1", **(first | said))

    assert everything(place) == before


def test_only_what_differs_is_named(book: Ledger) -> None:
    """RunAlreadyExists does not name what is equal."""
    launch(book, "r1", config=CONFIG, host="ec2", run_name="first")
    with pytest.raises(RunAlreadyExists) as caught:
        launch(book, "r1", config=CONFIG, host="expanse", run_name="first")

    assert "run_name" not in str(caught.value)


def test_a_launch_adds_what_the_run_itself_did_not_know(book: Ledger) -> None:
    """insert_run on a run whose launch was only recorded by its own process adds what is missing."""
    book.append(Launched(run_id="r1", config=CONFIG, self_reported=True))
    book.insert_run("r1", None, CONFIG, "ABC123", host="ec2")
    run = row(book)

    assert (run["chain_of_custody_id"], run["host"], run["batch_size"]) == ("ABC123", "ec2", 384)


def test_a_launch_may_follow_an_early_heartbeat(book: Ledger) -> None:
    """insert_run may come after the run's first sign of life, and does not take it back."""
    book.append(Heartbeat(run_id="r1", step=1))
    book.insert_run("r1", None, CONFIG, "ABC123")

    assert (row(book)["status"], row(book)["chain_of_custody_id"]) == ("running", "ABC123")


@pytest.mark.parametrize("chain", ["X", "a longer one, with spaces", "chain-🚀-ö"])
def test_any_text_is_a_chain_of_custody_id(book: Ledger, chain: str) -> None:
    """Any non-empty text is accepted as a chain of custody id."""
    book.insert_run("r1", None, {}, chain)

    assert [entry["run_id"] for entry in book.timeline(chain_of_custody_id=chain)] == ["r1"]


def test_an_empty_chain_of_custody_id_is_an_error(book: Ledger, place: str) -> None:
    """An empty chain of custody id is refused, and nothing is written."""
    before = everything(place)
    with refused("chain_of_custody_id"):
        book.insert_run("r1", None, {}, "")

    assert everything(place) == before


def test_an_unknown_keyword_of_a_launch_is_an_error(book: Ledger, place: str) -> None:
    """A keyword that insert_run does not have is an error that names the nearest, and nothing is written."""
    before = everything(place)
    with refused("instance_id", kind=UnknownKeyword):
        launch(book, "r1", instance_idd="i-1")

    assert everything(place) == before


# update_run_status


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("run_name", "a better name"),
        ("end_reason", "oom"),
        ("exit_code", 137),
        ("resumes_run_id", "r0"),
    ],
)
def test_an_update_takes_further_keywords(book: Ledger, keyword: str, value: Any) -> None:
    """update_run_status also takes run_name, end_reason, exit_code and resumes_run_id."""
    launch(book, "r0", "r1")
    book.update_run_status("r1", "crashed", **{keyword: value})

    assert row(book)[keyword] == value


def test_an_update_can_be_backfilled(book: Ledger) -> None:
    """`at=` of update_run_status is when it happened, and so when the run ended."""
    launch(book, "r1", at=NOON - timedelta(hours=1))
    book.update_run_status("r1", "completed", at=NOON)

    assert row(book)["ended_at"] == NOON_TEXT


@pytest.mark.parametrize(
    "said",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        "2026-01-02T12:00:00Z",
        "2026-01-02T12:00:00",
        "2026-01-02T12:00:00+00:00",
        "2026-01-02T12:00:00+00:00Z",
        "2026-01-02T12:00:00.000000Z",
        "2026-01-02T07:00:00-05:00",
    ],
)
@pytest.mark.parametrize(("status", "column"), [("running", "started_at"), ("completed", "ended_at")])
def test_every_form_of_a_time_is_the_same_time(book: Ledger, said: Any, status: str, column: str) -> None:
    """Times are aware or naive (UTC) datetimes, or ISO text with Z, an offset, or both."""
    launch(book, "r1")
    book.update_run_status("r1", status, **{column: said})

    assert row(book)[column] == NOON_TEXT


@pytest.mark.parametrize("said", ["yesterday", "", "2026-13-45", 5])
def test_what_is_no_time_is_an_error(book: Ledger, place: str, said: Any) -> None:
    """A time that cannot be meant is an error that names its keyword, and nothing is written."""
    launch(book, "r1")
    before = everything(place)
    with refused("ended_at"):
        book.update_run_status("r1", "completed", ended_at=said)

    assert everything(place) == before


@pytest.mark.parametrize(("said", "seconds"), [(3600, 3600), (3599.6, 3600), (3600.4, 3600), (0.2, 0)])
def test_a_duration_is_rounded(book: Ledger, said: float, seconds: int) -> None:
    """duration_seconds takes a float and rounds it to a whole number."""
    launch(book, "r1")
    book.update_run_status("r1", "completed", duration_seconds=said)

    assert (row(book)["duration_seconds"], type(row(book)["duration_seconds"])) == (seconds, int)


class SummaryOfTheApi:
    """A W&B summary as the public API has it."""

    _json_dict = {"loss": 0.5}


class SummaryOfALiveRun:
    """A W&B summary as a live run has it."""

    def _as_dict(self) -> dict[str, float]:
        return {"loss": 0.5}


@pytest.mark.parametrize(
    "said",
    [
        {"loss": 0.5},
        MappingProxyType({"loss": 0.5}),
        UserDict({"loss": 0.5}),
        SummaryOfTheApi(),
        SummaryOfALiveRun(),
        '{"loss": 0.5}',
    ],
    ids=lambda said: type(said).__name__,
)
def test_final_metrics_may_come_in_many_shapes(book: Ledger, said: Any) -> None:
    """final_metrics_json is any mapping, a W&B summary object, or the JSON text of an object."""
    launch(book, "r1")
    book.update_run_status("r1", "completed", final_metrics_json=said)

    assert json.loads(row(book)["final_metrics_json"]) == {"loss": 0.5}


@pytest.mark.parametrize("said", ["[0.5]", "loss: 0.5", "", 0.5])
def test_final_metrics_that_are_no_object_are_an_error(book: Ledger, place: str, said: Any) -> None:
    """Metrics that are no object are an error that names the keyword, and nothing is written."""
    launch(book, "r1")
    before = everything(place)
    with refused("final_metrics_json"):
        book.update_run_status("r1", "completed", final_metrics_json=said)

    assert everything(place) == before


NOT_FINITE = {"loss": float("nan"), "top": float("inf"), "low": -float("inf"), "step": 2}


@pytest.mark.parametrize("said", [NOT_FINITE, json.dumps(NOT_FINITE)], ids=["mapping", "text"])
def test_a_metric_that_is_not_finite_is_null_in_the_row(book: Ledger, said: Any) -> None:
    """NaN and infinities are null in the row's JSON and texts in the event."""
    launch(book, "r1")
    book.update_run_status("r1", "completed", final_metrics_json=said)
    (ended,) = book.events("r1", types=["completed"])

    assert json.loads(row(book)["final_metrics_json"]) == dict.fromkeys(("loss", "top", "low")) | {"step": 2}
    assert ended.final_metrics == {"loss": "NaN", "top": "Infinity", "low": "-Infinity", "step": 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=repr)
def test_a_number_that_is_not_finite_refuses_no_call(book: Ledger, value: float) -> None:
    """A duration, an exit code or a hyperparameter that is not finite is recorded, and its column stays as it was."""
    launch(book, "r1", learning_rate=value, batch_size=value, config={"batch_size": 8})
    launch(book, "r1", learning_rate=value, batch_size=value, config={"batch_size": 8})
    book.update_run_status("r1", "running", duration_seconds=60)
    book.update_run_status("r1", "running", duration_seconds=value)
    book.update_run_status("r1", "failed", exit_code=3, duration_seconds=90)
    book.update_run_status("r1", "failed", exit_code=value, duration_seconds=value)  # type: ignore[arg-type]

    shown = [row(book)[name] for name in ("learning_rate", "batch_size", "duration_seconds", "exit_code", "status")]
    assert shown == [None, 8, 90, 3, "failed"]


def test_a_launch_takes_a_path_and_the_number_of_a_job(book: Ledger) -> None:
    """config_file_path=Path(...) and instance_id=12345 are their texts, and again they are the same launch."""
    for path, job in ((Path("/data/a.yaml"), 12345), ("/data/a.yaml", "12345")):
        book.insert_run("r1", None, {}, config_file_path=path, instance_id=job)

    assert (row(book)["config_file_path"], row(book)["instance_id"]) == ("/data/a.yaml", "12345")
    assert types(book) == ["launched"]


def test_several_concerns_become_several_events(book: Ledger) -> None:
    """Fields of several concerns become several events."""
    launch(book, "r1")
    book.update_run_status("r1", "running", wandb_run_id="w1", wandb_url="https://wandb.ai/w1")

    assert sorted(types(book)) == ["launched", "started", "wandb_attached"]


def test_several_concerns_are_one_transaction(book: Ledger, place: str) -> None:
    """When one of several concerns is refused, none is recorded."""
    book.insert_run("r0", "w1", {})
    launch(book, "r1")
    before = everything(place)
    with pytest.raises(WandbRunTaken, match="r0"):
        book.update_run_status("r1", "completed", final_metrics_json={"loss": 1}, wandb_run_id="w1")

    assert everything(place) == before


@pytest.mark.parametrize("said", [{"duration_seconds": 60}, {"final_metrics_json": {"loss": 0.5}}])
def test_running_with_progress_is_a_heartbeat_too(book: Ledger, said: dict[str, Any]) -> None:
    """'running' with a duration or metrics also records a heartbeat that carries them."""
    launch(book, "r1")
    book.update_run_status("r1", "running", **said)
    (beat,) = book.events("r1", types=["heartbeat"])

    assert beat.duration_seconds == said.get("duration_seconds")
    assert beat.metrics == said.get("final_metrics_json")
    assert row(book)["status"] == "running"


def test_running_alone_is_no_heartbeat(book: Ledger) -> None:
    """'running' without a duration or metrics records a start only."""
    launch(book, "r1")
    book.update_run_status("r1", "running")

    assert types(book) == ["launched", "started"]


@pytest.mark.parametrize(
    ("status", "named"), [("launched", "insert_run"), ("banana", "running"), ("complete", "completed")]
)
def test_only_the_four_statuses_can_be_set(book: Ledger, place: str, status: str, named: str) -> None:
    """'launched' and unknown statuses are errors that name the mend, and nothing is written."""
    launch(book, "r1")
    before = everything(place)
    with refused(status, named):
        book.update_run_status("r1", status)

    assert everything(place) == before


@pytest.mark.parametrize(
    ("wrong", "named"),
    [("duration", "duration_seconds"), ("final_metrics", "final_metrics_json"), ("wandb_id", "wandb_run_id")],
)
def test_an_unknown_keyword_of_an_update_is_an_error(book: Ledger, place: str, wrong: str, named: str) -> None:
    """A keyword that update_run_status does not have is an error that names the nearest one."""
    launch(book, "r1")
    before = everything(place)
    said: dict[str, Any] = {wrong: 1}
    with refused(wrong, named, kind=UnknownKeyword):
        book.update_run_status("r1", "completed", **said)

    assert everything(place) == before


def test_an_end_reason_that_does_not_exist_is_an_error(book: Ledger) -> None:
    """end_reason is one of the documented words."""
    launch(book, "r1")
    with refused("end_reason", "preempted"):
        book.update_run_status("r1", "crashed", end_reason="preemptd")


@pytest.mark.parametrize(("status", "column"), [("completed", "started_at"), ("running", "ended_at")])
def test_a_keyword_is_never_dropped_in_silence(book: Ledger, status: str, column: str) -> None:
    """A documented keyword with any status is recorded or refused, never ignored."""
    launch(book, "r1")
    said: dict[str, Any] = {column: NOON}
    try:
        book.update_run_status("r1", status, **said)
    except LedgerError:
        assert types(book) == ["launched"]
    else:
        assert row(book)[column] == NOON_TEXT


def test_a_run_that_runs_again_has_not_ended(book: Ledger) -> None:
    """'running' after an end clears ended_at and duration_seconds."""
    launch(book, "r1")
    book.update_run_status("r1", "crashed", duration_seconds=60)
    book.update_run_status("r1", "running")
    run = row(book)

    assert (run["status"], run["ended_at"], run["duration_seconds"]) == ("running", None, None)


@pytest.mark.parametrize("unsaid", ["wandb_run_id", "wandb_url", "run_name", "final_metrics_json", "started_at"])
def test_none_clears_nothing(book: Ledger, unsaid: str) -> None:
    """An argument of None clears nothing."""
    book.insert_run("r1", "w1", CONFIG, run_name="name")
    book.update_run_status("r1", "running", wandb_url="https://wandb.ai/w1", started_at=NOON)
    book.update_run_status("r1", "completed", final_metrics_json={"loss": 1})
    before = row(book)[unsaid]
    book.update_run_status("r1", "completed", **{unsaid: None})

    assert before is not None
    assert row(book)[unsaid] == before


def test_your_own_word_counts(book: Ledger) -> None:
    """What a status call said is shown, also when another machine's clock is hours ahead."""
    launch(book, "r1")
    book.append(Heartbeat(run_id="r1", occurred_at=datetime.now(UTC) + timedelta(hours=5)))
    for status in ("completed", "running", "crashed"):
        book.update_run_status("r1", status)
        assert row(book)["status"] == status


# attach_crash_data


def test_a_crash_needs_at_least_one_key(book: Ledger, place: str) -> None:
    """attach_crash_data without any key is an error that names them, and nothing is written."""
    launch(book, "r1")
    before = everything(place)
    with refused("error_log_s3_key"):
        book.attach_crash_data("r1")

    assert everything(place) == before


@pytest.mark.parametrize("key", ["error_log_s3_key", "crash_report_s3_key", "crash_analysis_s3_key"])
def test_one_key_is_enough(book: Ledger, key: str) -> None:
    """attach_crash_data records what it is given, and leaves the other keys."""
    launch(book, "r1")
    book.attach_crash_data("r1", **{key: "crash-reports/r1"})
    keys = {name: value for name, value in row(book).items() if name.endswith("_s3_key") and value}

    assert keys == {key: "crash-reports/r1"}


def test_a_crash_comes_before_its_data(book: Ledger) -> None:
    """attach_crash_data on a run that has not ended records `crashed` before `crash_data_attached`."""
    launch(book, "r1")
    book.attach_crash_data("r1", "error.log")

    assert types(book) == ["launched", "crashed", "crash_data_attached"]
    assert row(book)["status"] == "crashed"


@pytest.mark.parametrize("status", ["completed", "failed", "crashed"])
def test_a_run_that_has_ended_is_left_as_it_ended(book: Ledger, status: str) -> None:
    """attach_crash_data on a run that has already ended says nothing of its status."""
    launch(book, "r1")
    book.update_run_status("r1", status)
    ended = row(book)["ended_at"]
    book.attach_crash_data("r1", "error.log")

    assert (row(book)["status"], row(book)["ended_at"]) == (status, ended)
    assert types(book) == ["launched", status, "crash_data_attached"]


# query_runs: filters


@pytest.fixture
def three(book: Ledger) -> Ledger:
    """Give three runs: a finished mgda run, a crashed pcgrad run, and one that says nothing of itself."""
    book.insert_run(
        "done",
        "w1",
        CONFIG,
        "ABC123",
        run_name="mgda 100%_sure",
        host="ec2",
        instance_id="i-1",
        instance_type="g5.xlarge",
        config_file_path="/configs/mgda.yaml",
        at=datetime(2026, 1, 1, 23, tzinfo=UTC),
    )
    book.update_run_status("done", "running", wandb_url="https://wandb.ai/w1", started_at="2026-01-01T23:30:00Z")
    book.update_run_status(
        "done",
        "completed",
        duration_seconds=5400,
        ended_at=datetime(2026, 1, 2, 1, tzinfo=UTC),
        final_metrics_json={"train/loss": 0.25, "note": "flat", "broken": float("nan")},
        end_reason="user",
        exit_code=0,
    )
    book.attach_blog_post("done", "https://example.org/post")
    book.annotate("done", note="the good one", tags=["baseline", "paper"], reviewer="Ada", score=3)
    book.insert_run("dead", "w2", {"batch_size": 16, "reward": {"gradient_method": "pcgrad"}}, host="expanse")
    book.attach_crash_data("dead", "error.log", "report.md", "analysis.md")
    book.annotate("dead", tags=["baseline"])
    book.insert_run("bare", None, {}, at=datetime(2026, 1, 3, tzinfo=UTC))
    return book


def comparable(book: Ledger) -> dict[str, Any]:
    """Give the columns of the run `done` that have a plain value."""
    voids = {"voided", "reason"}
    return {
        column: value
        for column, value in row(book, "done").items()
        if value is not None and not column.endswith("_json") and column not in voids
    }


def test_the_example_run_fills_most_columns(three: Ledger) -> None:
    """The run that the next tests filter by says something in at least 25 columns."""
    assert len(comparable(three)) >= 25


def test_every_column_is_a_filter(three: Ledger) -> None:
    """`<column>` with the value that a row shows finds the row."""
    missed = [column for column, value in comparable(three).items() if "done" not in found(three, {column: value})]

    assert missed == []


def test_every_column_takes_a_list_of_values(three: Ledger) -> None:
    """`<column>` with a list finds the rows that have one of its values."""
    missed = [column for column, value in comparable(three).items() if "done" not in found(three, {column: [value]})]

    assert missed == []


def test_every_column_can_be_ruled_out(three: Ledger) -> None:
    """`not_<column>` leaves out the rows that have that value."""
    kept = [column for column, value in comparable(three).items() if "done" in found(three, {f"not_{column}": value})]

    assert kept == []


@pytest.mark.parametrize("bound", ["min_", "max_"])
def test_every_column_has_bounds(three: Ledger, bound: str) -> None:
    """`min_<column>` and `max_<column>` include the value itself."""
    missed = [
        column for column, value in comparable(three).items() if "done" not in found(three, {bound + column: value})
    ]

    assert missed == []


@pytest.mark.parametrize("has", [True, False])
def test_every_column_can_be_asked_for(three: Ledger, has: bool) -> None:
    """`has_<column>` tells rows with a value from rows without."""
    run = row(three, "done")
    wrong = [
        column
        for column in run
        if column not in {"voided", "reason"}
        and ("done" in found(three, {f"has_{column}": has})) != ((run[column] is not None) == has)
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": ["completed", "crashed"]}, ["dead", "done"]),
        ({"status": []}, []),
        ({"gradient_method": ("mgda", "pcgrad")}, ["dead", "done"]),
        ({"not_status": "launched"}, ["dead", "done"]),
        ({"not_status": ["launched", "crashed"]}, ["done"]),
        ({"min_batch_size": 17}, ["done"]),
        ({"max_batch_size": 17}, ["dead"]),
        ({"min_batch_size": 16, "max_batch_size": 384}, ["dead", "done"]),
        ({"max_learning_rate": 0.001}, ["done"]),
        ({"has_wandb_run_id": True}, ["dead", "done"]),
        ({"has_wandb_run_id": False}, ["bare"]),
        ({"run_name_contains": "100%"}, ["done"]),
        ({"run_name_contains": "%_"}, ["done"]),
        ({"run_name_contains": "m_d"}, []),
        ({"run_name_contains": "0%u"}, []),
        ({"note_contains": "good"}, ["done"]),
        ({"instance_type": "g5.xlarge"}, ["done"]),
        ({"started_at_after": "2026-01-01T23:00:00Z"}, ["done"]),
        ({"started_at_before": "2026-01-01T23:00:00Z"}, []),
        ({"ended_at_before": datetime(2026, 1, 2, 2)}, ["done"]),
        ({"ended_at_after": datetime(2026, 1, 2, 2, tzinfo=UTC)}, ["dead"]),
        ({"created_at_before": "2026-01-02"}, ["done"]),
        ({"created_at_after": "2026-01-02", "status": "launched"}, ["bare"]),
    ],
)
def test_filters_let_through_what_they_describe(three: Ledger, filters: dict[str, Any], expected: list[str]) -> None:
    """Filters compare values as their columns mean them."""
    assert found(three, filters) == expected


@pytest.mark.parametrize(
    "after",
    [
        "2026-01-02T00:00:00+02:00",
        "2026-01-01T17:00:00-05:00",
        "2026-01-01T22:00:00+00:00Z",
        "2026-01-01 22:00:00",
        datetime(2026, 1, 1, 22),
    ],
)
def test_times_are_parsed_and_never_compared_as_text(three: Ledger, after: datetime | str) -> None:
    """A run of 23:00 UTC was created after 22:00 UTC, however that is written."""
    assert "done" in found(three, {"created_after": after})


@pytest.mark.parametrize(
    ("ago", "expected"), [("7d", ["day", "hour", "week"]), ("36h", ["day", "hour"]), ("12h", ["hour"])]
)
def test_times_may_be_so_long_ago(book: Ledger, ago: str, expected: list[str]) -> None:
    """ "7d" and "12h" are times: so long ago."""
    for run_id, hours in [("hour", 1), ("day", 24), ("week", 160), ("month", 720)]:
        launch(book, run_id, at=hours_ago(hours))

    assert found(book, {"created_after": ago}) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"has_blog_post": "false"}, ["bare", "dead"]),
        ({"has_blog_post": "true"}, ["done"]),
        ({"has_crash_analysis": "1"}, ["dead"]),
        ({"min_duration_hours": "1.5"}, ["done"]),
        ({"min_duration_hours": "1.6"}, []),
        ({"batch_size": "384"}, ["done"]),
        ({"batch_size": ["16", "384"]}, ["dead", "done"]),
        ({"learning_rate": "1e-4"}, ["done"]),
        ({"exit_code": "0"}, ["done"]),
        ({"config.training.max_steps": "2000"}, ["done"]),
        ({"min_metrics.train/loss": "0.1"}, ["done"]),
    ],
)
def test_values_may_be_strings(three: Ledger, filters: dict[str, Any], expected: list[str]) -> None:
    """Values come as strings too, as a query string gives them."""
    assert found(three, filters) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"config.training.max_steps": 2000}, ["done"]),
        ({"config.training.max_steps": [1, 2000]}, ["done"]),
        ({"min_config.training.max_steps": 2001}, []),
        ({"max_config.training.max_steps": 2000}, ["done"]),
        ({"config.reward.gradient_method": "pcgrad"}, ["dead"]),
        ({"has_config.training": True}, ["done"]),
        ({"has_config.training.max_steps": False}, ["bare", "dead"]),
        ({"metrics.train/loss": 0.25}, ["done"]),
        ({"max_metrics.train/loss": 0.2}, []),
        ({"metrics.note_contains": "la"}, ["done"]),
        ({"has_metrics.train/loss": True}, ["done"]),
        ({"has_metrics.broken": True}, []),
        ({"min_metrics.broken": 0}, []),
        ({"metadata.reviewer": "Ada"}, ["done"]),
        ({"min_metadata.score": 3}, ["done"]),
        ({"config.no.such.path": 1}, []),
    ],
)
def test_paths_into_the_json_are_filters(three: Ledger, filters: dict[str, Any], expected: list[str]) -> None:
    """Paths into config, metrics and metadata filter as columns do."""
    assert found(three, filters) == expected


@pytest.mark.parametrize(
    ("tag", "expected"), [("baseline", ["dead", "done"]), ("paper", ["done"]), ("base", []), ("pap", [])]
)
def test_tags_are_asked_for_by_membership(three: Ledger, tag: str, expected: list[str]) -> None:
    """`tags` finds the runs that carry that very tag."""
    assert found(three, {"tags": tag}) == expected


@pytest.mark.parametrize(
    ("filters", "nearest"),
    [
        ({"gradient_metod": "mgda"}, "gradient_method"),
        ({"statuss": "running"}, "status"),
        ({"min_duration_hour": 1}, "min_duration_hours"),
        ({"has_blogpost": True}, "has_blog_post"),
        ({"created_aftr": "7d"}, "created_after"),
    ],
)
def test_an_unknown_filter_names_the_nearest(three: Ledger, filters: dict[str, Any], nearest: str) -> None:
    """An unknown filter is an UnknownFilter, and a ValueError, that names the nearest one."""
    with refused(*filters, nearest, kind=UnknownFilter):
        three.query_runs(filters)
    with refused(*filters, nearest, kind=UnknownFilter):
        three.count_runs(filters)


@pytest.mark.parametrize(
    "name", ["status", "batch_size", "created_after", "has_blog_post", "tags", "config.a", "min_batch_size"]
)
def test_a_filter_of_none_is_an_error(three: Ledger, name: str) -> None:
    """A filter of None is an error that names the filter."""
    with refused(name):
        three.query_runs({name: None})


def test_the_error_for_none_names_the_way_to_ask_for_nothing(three: Ledger) -> None:
    """Whoever asks for rows without a value is told of `has_<column>`."""
    with refused("has_"):
        three.query_runs({"wandb_run_id": None})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "banana"),
        ("status", ["running", "banana"]),
        ("status", 3),
        ("batch_size", "banana"),
        ("batch_size", [1, None]),
        ("min_batch_size", "many"),
        ("learning_rate", "fast"),
        ("min_duration_hours", "long"),
        ("created_after", "banana"),
        ("created_after", "7 bananas"),
        ("started_at_before", 7),
        ("has_blog_post", "banana"),
        ("has_blog_post", 2),
        ("batch_size", {"gt": 3}),
        ("learning_rate", float("nan")),
    ],
)
def test_a_value_that_cannot_be_meant_is_an_error(three: Ledger, name: str, value: Any) -> None:
    """A value that its filter cannot mean is an InvalidValue, and a ValueError, that names the filter."""
    with refused(name, kind=InvalidValue):
        three.query_runs({name: value})


def test_a_misspelt_status_names_the_nearest(three: Ledger) -> None:
    """A status that does not exist is refused with the one that was meant."""
    with refused("crash", "crashed", kind=InvalidValue):
        three.query_runs({"status": "crash"})


# query_runs: order and extent


@pytest.fixture
def sorted_runs(book: Ledger) -> Ledger:
    """Give five runs of two methods, with durations that repeat or are missing."""
    for run_id, name, seconds in [
        ("e", "mgda", 10),
        ("d", "pcgrad", 20),
        ("c", "mgda", 20),
        ("b", "mgda", None),
        ("a", "pcgrad", 10),
    ]:
        launch(book, run_id, config=method(name), at=NOON)
        if seconds is not None:
            book.update_run_status(run_id, "completed", duration_seconds=seconds)
    return book


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("duration_seconds ASC", "aecdb"),
        ("duration_seconds DESC", "cdaeb"),
        ("duration_seconds", "aecdb"),
        ("duration_seconds desc", "cdaeb"),
        ("gradient_method ASC, duration_seconds DESC", "cebda"),
        ("gradient_method DESC, duration_seconds ASC", "adecb"),
        ("gradient_method DESC, run_id DESC", "daecb"),
        ("run_id DESC", "edcba"),
        ("created_at DESC", "abcde"),
    ],
)
def test_rows_come_in_the_order_that_was_asked_for(sorted_runs: Ledger, order_by: str, expected: str) -> None:
    """order_by is one or several columns with ASC or DESC; NULLs come last, ties go by run_id."""
    assert "".join(ids(sorted_runs.query_runs(order_by=order_by))) == expected


@pytest.mark.parametrize(
    ("order_by", "named"),
    [
        ("duration_second DESC", "duration_seconds"),
        ("created", "created_at"),
        ("duration_seconds DOWN", "DESC"),
        ("", "created_at"),
        ("status,,run_id", "status"),
    ],
)
def test_an_order_that_does_not_exist_is_an_error(sorted_runs: Ledger, order_by: str, named: str) -> None:
    """An unknown column or direction in order_by is an UnknownOrder, and a ValueError, that names the mend."""
    with refused(named, kind=UnknownOrder):
        sorted_runs.query_runs(order_by=order_by)


def test_the_result_comes_in_pages(sorted_runs: Ledger) -> None:
    """limit and offset cut pages that together are the whole."""
    pages = [ids(sorted_runs.query_runs(order_by="run_id", limit=2, offset=start)) for start in (0, 2, 4, 6)]

    assert pages == [["a", "b"], ["c", "d"], ["e"], []]


def test_no_limit_gives_all(book: Ledger) -> None:
    """limit=None is all, also beyond the default hundred."""
    launch(book, *(f"r{number}" for number in range(105)))

    assert (len(book.query_runs()), len(book.query_runs(limit=None))) == (100, 105)
    assert book.count_runs() == 105


def test_offset_without_limit(sorted_runs: Ledger) -> None:
    """offset skips rows also when there is no limit."""
    assert ids(sorted_runs.query_runs(order_by="run_id", limit=None, offset=3)) == ["d", "e"]


@pytest.mark.parametrize("extent", [{"limit": -1}, {"offset": -1}, {"limit": "many"}])
def test_an_extent_that_cannot_be_meant_is_an_error(sorted_runs: Ledger, extent: dict[str, Any]) -> None:
    """A limit or offset that cannot be meant is an error that names it."""
    with refused(*extent):
        sorted_runs.query_runs(**extent)


# annotate


def test_a_note_tags_and_metadata_are_added(book: Ledger) -> None:
    """annotate records note, tags and any further metadata."""
    launch(book, "r1")
    book.annotate("r1", note="look again", tags=["paper"], reviewer="Ada", seen={"by": ["Bob"]})
    run = row(book)

    assert run["note"] == "look again"
    assert json.loads(run["tags_json"]) == ["paper"]
    assert json.loads(run["metadata_json"]) == {"reviewer": "Ada", "seen": {"by": ["Bob"]}}


def test_what_was_added_before_stays(book: Ledger) -> None:
    """A second annotate adds to the tags and the metadata of the first."""
    launch(book, "r1")
    book.annotate("r1", tags=["paper"], reviewer="Ada")
    book.annotate("r1", tags=["baseline"], checked=True)

    assert set(json.loads(row(book)["tags_json"])) == {"paper", "baseline"}
    assert json.loads(row(book)["metadata_json"]) == {"reviewer": "Ada", "checked": True}


def test_a_note_leaves_the_status(book: Ledger) -> None:
    """Annotations do not touch the status."""
    launch(book, "r1")
    book.update_run_status("r1", "completed")
    book.annotate("r1", note="fine")

    assert row(book)["status"] == "completed"


# amend


def test_a_column_is_amended(book: Ledger) -> None:
    """amend gives a named column a new value."""
    launch(book, "r1", config=CONFIG, host="ec2")
    book.amend("r1", reason="typed wrongly", host="expanse", batch_size=8)

    assert (row(book)["host"], row(book)["batch_size"]) == ("expanse", 8)


def test_only_an_amendment_clears_a_column(book: Ledger) -> None:
    """amend with None sets the column NULL."""
    launch(book, "r1", host="ec2")
    book.amend("r1", reason="unknown after all", host=None)

    assert row(book)["host"] is None


def test_history_keeps_what_was_amended(book: Ledger) -> None:
    """The launch keeps the old value, and the timeline says why there is a new one."""
    launch(book, "r1", host="ec2")
    book.amend("r1", reason="typed wrongly", host="expanse")
    launched, _ = book.events("r1")
    *_, amended = book.timeline(run_id="r1")

    assert launched.host == "ec2"
    assert (amended["type"], "typed wrongly" in amended["summary"]) == ("amended", True)


def test_an_amendment_needs_a_reason(book: Ledger) -> None:
    """amend and void without a reason are errors."""
    launch(book, "r1")
    amend: Callable[..., object] = book.amend
    void: Callable[..., object] = book.void
    with pytest.raises(TypeError):
        amend("r1", host="ec2")
    with pytest.raises(TypeError):
        void("r1")

    assert types(book) == ["launched"]


def test_an_unknown_column_cannot_be_amended(book: Ledger, place: str) -> None:
    """amend of a column that does not exist is an UnknownColumn that names the nearest, and nothing changes."""
    launch(book, "r1")
    before = everything(place)
    with refused("hosts", "host", kind=UnknownColumn):
        book.amend("r1", reason="typed wrongly", hosts="ec2")

    assert everything(place) == before


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("batch_size", "many"),
        ("status", "banana"),
        ("started_at", "yesterday"),
        ("batch_size", 10**30),
        ("learning_rate", float("nan")),
        ("duration_seconds", float("inf")),
        ("exit_code", float("nan")),
    ],
)
def test_a_column_cannot_be_amended_to_nonsense(book: Ledger, place: str, column: str, value: Any) -> None:
    """amend with a value that does not fit its column is an error that names the column."""
    launch(book, "r1")
    before = everything(place)
    with refused(column):
        book.amend("r1", reason="typed wrongly", **{column: value})

    assert everything(place) == before


# void and unvoid


def test_a_voided_run_leaves_tables_and_counts(three: Ledger, place: str) -> None:
    """void takes a run out of lists, counts and training_runs."""
    three.void("dead", reason="a test")

    assert sorted(ids(three.query_runs(limit=None))) == ["bare", "done"]
    assert (three.count_runs(), three.get_stats()["total_runs"], three.get_stats()["crashed"]) == (2, 2, 0)
    with behind(place, guarded=True) as db:
        assert db.execute("SELECT count(*) FROM training_runs WHERE run_id = 'dead'").fetchone() == (0,)
        assert db.execute("SELECT run_id, reason FROM voided_runs").fetchall() == [("dead", "a test")]


def test_get_run_still_finds_a_voided_run_and_says_so(three: Ledger) -> None:
    """get_run gives a voided run with `voided` and its reason."""
    before = row(three, "dead")
    three.void("dead", reason="a test")
    run = row(three, "dead")

    assert (run["voided"], run["reason"], run["status"]) == (True, "a test", before["status"])


def test_include_voided_lists_them_too(three: Ledger) -> None:
    """query_runs(include_voided=True) gives voided runs with the others, and tells them apart."""
    three.void("dead", reason="a test")
    rows = three.query_runs(include_voided=True, order_by="run_id")

    assert [(found["run_id"], bool(found["voided"]), found["reason"]) for found in rows] == [
        ("bare", False, None),
        ("dead", True, "a test"),
        ("done", False, None),
    ]


def test_voided_runs_are_filtered_like_others(three: Ledger) -> None:
    """Filters, order and limit hold for voided runs too."""
    three.void("dead", reason="a test")

    assert ids(three.query_runs({"status": "crashed"}, include_voided=True)) == ["dead"]
    assert ids(three.query_runs(order_by="run_id DESC", limit=2, include_voided=True)) == ["done", "dead"]


def test_a_voided_run_comes_back(three: Ledger) -> None:
    """unvoid puts a run back as it was; only updated_at_db has moved."""
    before = row(three, "dead")
    three.void("dead", reason="a test")
    three.unvoid("dead", reason="no test after all")
    after = row(three, "dead")

    assert {name for name in before if before[name] != after[name]} == {"updated_at_db"}
    assert "dead" in found(three, {})


def test_nothing_is_deleted_by_a_void(three: Ledger) -> None:
    """The events of a voided run stay, and its timeline gives the reason."""
    before = types(three, "dead")
    three.void("dead", reason="a test")
    *_, voided = three.timeline(run_id="dead")

    assert types(three, "dead") == [*before, "voided"]
    assert "a test" in voided["summary"]


def test_a_voided_run_gives_its_wandb_id_free(book: Ledger) -> None:
    """A voided run claims no W&B id, so another run can take it."""
    book.insert_run("bogus", "w1", {})
    book.void("bogus", reason="a test")
    book.insert_run("real", "w1", {})

    assert row(book, "real")["wandb_run_id"] == "w1"


# timeline


def test_a_timeline_tells_a_run_in_order(book: Ledger) -> None:
    """timeline gives a run's events in the order in which they happened."""
    launch(book, "r1", at=NOON)
    book.update_run_status("r1", "completed", at=NOON + timedelta(hours=2))
    book.update_run_status("r1", "running", at=NOON + timedelta(hours=1))

    assert types(book) == ["launched", "started", "completed"]


def test_an_entry_says_when_what_and_who(book: Ledger) -> None:
    """An entry has occurred_at, run_id, type, a summary a person can read, and its source."""
    launch(book, "r1", at=NOON, host="ec2")
    (entry,) = book.timeline(run_id="r1")

    assert (entry["occurred_at"], entry["run_id"], entry["type"]) == (NOON_TEXT, "r1", "launched")
    assert isinstance(entry["summary"], str)
    assert entry["summary"]
    assert entry["source"]


def test_a_chain_tells_all_its_runs(book: Ledger) -> None:
    """The timeline of a chain of custody weaves the events of its runs together."""
    book.insert_run("r1", None, {}, "ABC123", at=NOON)
    book.insert_run("r2", None, {}, "ABC123", at=NOON + timedelta(minutes=1))
    book.insert_run("r3", None, {}, "XYZ789", at=NOON + timedelta(minutes=2))
    book.update_run_status("r1", "crashed", at=NOON + timedelta(minutes=3))
    chain = book.timeline(chain_of_custody_id="ABC123")

    assert [(entry["run_id"], entry["type"]) for entry in chain] == [
        ("r1", "launched"),
        ("r2", "launched"),
        ("r1", "crashed"),
    ]


def test_a_chain_includes_what_a_run_said_before_its_launch(book: Ledger) -> None:
    """Events that say nothing of the chain belong to it through their run."""
    book.append(Heartbeat(run_id="r1", step=1, occurred_at=NOON))
    book.insert_run("r1", None, {}, "ABC123")

    assert [entry["type"] for entry in book.timeline(chain_of_custody_id="ABC123")] == [
        "heartbeat",
        "launched",
    ]


@pytest.mark.parametrize("asked", [{}, {"run_id": "r1", "chain_of_custody_id": "ABC123"}])
def test_a_timeline_is_of_a_run_or_of_a_chain(book: Ledger, asked: dict[str, str]) -> None:
    """timeline without a run and a chain, or with both, answers what was asked or refuses; it never fails otherwise."""
    book.insert_run("r1", None, {}, "ABC123")
    try:
        entries = book.timeline(**asked)
    except LedgerError as error:
        assert isinstance(error, ValueError)
    else:
        assert [entry["run_id"] for entry in entries] == ["r1"]


# new_chain_of_custody_id


def test_a_new_chain_is_six_characters(book: Ledger) -> None:
    """new_chain_of_custody_id gives six characters A-Z0-9."""
    assert re.fullmatch("[A-Z0-9]{6}", book.new_chain_of_custody_id())


def test_a_new_chain_is_new(book: Ledger) -> None:
    """new_chain_of_custody_id never gives one that this ledger has."""
    given = set[str]()
    for number in range(50):
        chain = book.new_chain_of_custody_id()
        assert chain not in given
        book.insert_run(f"r{number}", None, {}, chain)
        given.add(chain)


# get_stats


def test_stats_follow_the_runs(three: Ledger) -> None:
    """get_stats counts total_runs, every status, posts and analyses."""
    assert three.get_stats() == {
        "total_runs": 3,
        "launched": 1,
        "running": 0,
        "completed": 1,
        "failed": 0,
        "crashed": 1,
        "with_blog_posts": 1,
        "with_crash_analysis": 1,
    }


# What holds for every function that records


RECORDING: dict[str, Callable[..., object]] = {
    "update_run_status": lambda book, run_id, **at: book.update_run_status(run_id, "running", **at),
    "attach_blog_post": lambda book, run_id, **at: book.attach_blog_post(run_id, "https://example.org", **at),
    "attach_conversation": lambda book, run_id, **at: book.attach_conversation(run_id, "talk.json", **at),
    "attach_crash_data": lambda book, run_id, **at: book.attach_crash_data(run_id, "error.log", **at),
    "annotate": lambda book, run_id, **at: book.annotate(run_id, note="a note", **at),
    "amend": lambda book, run_id, **at: book.amend(run_id, reason="why", host="ec2", **at),
    "void": lambda book, run_id, **at: book.void(run_id, reason="why", **at),
    "unvoid": lambda book, run_id, **at: book.unvoid(run_id, reason="why", **at),
}


@pytest.mark.parametrize("name", RECORDING)
def test_an_unknown_run_is_an_error_that_names_the_mend(book: Ledger, place: str, name: str) -> None:
    """Recording something of a run that does not exist is RunNotFound, names the mend, and changes nothing."""
    launch(book, "r1")
    before = everything(place)
    with pytest.raises(RunNotFound, match=r"'r2'.*insert_run"):
        RECORDING[name](book, "r2")

    assert everything(place) == before


def test_the_timeline_of_an_unknown_run_is_an_error(book: Ledger) -> None:
    """timeline of a run that does not exist is RunNotFound, and not an empty story."""
    with pytest.raises(RunNotFound, match="'r2'"):
        book.timeline(run_id="r2")


@pytest.mark.parametrize("name", [name for name in RECORDING if name != "unvoid"])
def test_every_recording_can_be_backfilled(book: Ledger, name: str) -> None:
    """Every recording function takes `at=`, which is when it happened."""
    launch(book, "r1", at=NOON - timedelta(hours=1))
    RECORDING[name](book, "r1", at=NOON)
    *_, entry = book.timeline(run_id="r1")

    assert abs(datetime.fromisoformat(entry["occurred_at"]) - NOON) < timedelta(milliseconds=1)


@pytest.mark.parametrize("name", [name for name in RECORDING if name != "unvoid"])
def test_recording_returns_nothing(book: Ledger, name: str) -> None:
    """Functions that record give None."""
    launch(book, "r1")

    assert RECORDING[name](book, "r1") is None
