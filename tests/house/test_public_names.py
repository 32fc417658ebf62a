"""The front door shows what it says, the same as what lies behind it, and costs nothing to open."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ledger
from ledger import Ledger, LedgerError

ROOT = Path(__file__).parents[2]
FUNCTIONS = sorted({*ledger.__all__} - {"Ledger", "LedgerError", "current_run"})
DOCUMENT = (ROOT / "docs/training-runs-database-api.md").read_text(encoding="utf-8")

# Said before anything else in a fresh process: what is opened and reached from then on.
WATCH = """
import sys
touched = []
EVENTS = ("open", "sqlite3.connect", "os.mkdir", "socket.__new__", "subprocess.Popen")
sys.addaudithook(lambda event, said: touched.append((event, str(said[0]))) if event in EVENTS else None)
"""

USAGE = '''
"""What a user writes, with every documented call, and what must be refused before it runs."""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ledger import (
    Ledger, LedgerError, amend, annotate, attach_blog_post, attach_conversation, attach_crash_data, count_runs,
    get_history, get_run, get_stats, init_db, insert_run, new_chain_of_custody_id, query_runs, replay, start_run, timeline, track, unvoid,
    update_run_status, verify, void, current_run,
    compare_gradient_methods, get_objective_statistics, get_run_metrics, get_run_objectives, get_run_scaffolds, insert_objective,
    pareto_front, query_runs_by_objectives, record_scaffolds, update_objective_metric,
)
from ledger import (
    best_runs, config_diff, cost, crashes, durations, effects, importance, last_good_first_crashed, outcomes, throughput,
    time_to_crash,
)
from ledger.errors import RunNotFound
from ledger.events import Crashed, Event, Launched, Recorded, Started

CONFIG: dict[str, Any] = {"training": {"batch_size": 384}}


def record(run_id: str) -> None:
    init_db()
    chain: str = new_chain_of_custody_id()
    insert_run(run_id, None, CONFIG, chain, run_name="mgda", host="ec2", learning_rate=1e-4, at="2024-05-01T12:00Z")
    insert_run(run_id=run_id, wandb_run_id="w1", config_dict=CONFIG, chain_of_custody_id=None)
    attach_conversation(run_id, "conversations/c.json")
    update_run_status(run_id, "running", started_at=datetime.now(timezone.utc), wandb_url="https://wandb.ai/x")
    update_run_status(run_id, "completed", duration_seconds=3600.0, final_metrics_json={"loss": 0.1}, exit_code=0)
    attach_crash_data(run_id, error_log_s3_key="error.log")
    attach_blog_post(run_id, "https://example.org/post")
    annotate(run_id, "looks good", tags=("baseline",), reviewer="ana")
    amend(run_id, reason="wrong machine", host="expanse", instance_id=None)
    void(run_id, reason="a test")
    unvoid(run_id, reason="no test")


def reached(run_id: str) -> list[dict[str, Any]]:
    insert_objective(run_id, "QED", objective_alias="QED_maximize", uniprot=None, weight=2, direction="maximize")
    update_objective_metric(run_id, "QED", "raw_mean", 0.75)
    record_scaffolds(run_id, [{"scaffold_id": "s1", "scores": {"QED": 0.5}}], at="2024-05-01T12:00Z")
    record_scaffolds(run_id, [{"scaffold_id": 1}], at=None, cluster=2)  # type: ignore[call-arg]
    mean: float | None = get_objective_statistics("QED", gradient_method="mgda", status=None)["mean"]
    found = query_runs_by_objectives({"QED": {"min": mean or 0.5}}, "mgda", "completed", order_by="QED DESC", limit=None)
    rows = [*found, *compare_gradient_methods("QED"), *pareto_front({"QED": "maximize"}), *pareto_front(["QED", "SA"])]
    return [*rows, *get_run_objectives(run_id), *get_run_scaffolds(run_id), *get_run_metrics(run_id)]


def ask(run_id: str) -> list[str]:
    run = get_run(run_id)
    hours: float = 0.0 if run is None else run["duration_seconds"] / 3600
    runs = query_runs({"status": ["completed", "failed"], "has_blog_post": False}, order_by="run_name", limit=None)
    stats: dict[str, int] = get_stats()
    number: int = count_runs({"created_after": "7d"}) + stats["total_runs"] + replay()
    found = verify()
    with track("r", config={"lr": 1e-4}, resumes="old", stopped_means="completed") as training:
        training.log({"train/loss": 0.5}, step=1)
        training.checkpoint("s3://b/1.pt", step=1, metrics={"loss": 0.5})
        training.note("good", tags=["a"], reviewer="Ada")
        training.attach_wandb()
        training.summary["x"] = 1
    track("r", lr=1)  # type: ignore[call-arg]
    second = start_run("r2")
    second.log(5)  # type: ignore[arg-type]
    second.finish("failed", end_reason="user")
    current_run().log({"a": 1})

    @track("r3")
    def train(steps: int) -> int:
        return steps

    trained: int = train(3)
    lowest: float = min(get_history(run_id, names=["loss"], max_points=100)["loss"])
    lines = [entry.summary for entry in timeline(run_id=run_id)] if found else [str(d) for d in found.differences]
    return [run["run_name"] for run in runs] + [f"{hours} {lowest}", f"{number}", *lines]


def report(metric: str) -> list[dict[str, Any]]:
    rows = outcomes() + outcomes(["host", "config.training.lr"], {"created_after": "30d"}) + durations(by="host")
    rows += crashes(by="gradient_method") + time_to_crash() + throughput(per="month")
    rows += cost([{"instance_type": "g5.12xlarge", "price_per_hour": 5.672}], by=["instance_type", "month"])
    rows += cost({"g5.12xlarge": 5.672}) + cost("prices.csv")
    rows += config_diff("r1", "r2") + config_diff({"status": "completed"}, {"status": "crashed"})
    rows += effects(metric) + importance(metric, parameters=["learning_rate"], status=None) + best_runs(metric, limit=3)
    found = last_good_first_crashed({"host": "ec2"})
    return rows if found is None else [*rows, found]


def append(book: Ledger) -> Iterator[Event]:
    one: Recorded = book.append(Started(run_id="r1", started_at=datetime.now(timezone.utc)))
    many: list[Recorded] = book.append([Launched(run_id="r2"), Crashed(run_id="r2", exit_code=1)], expected_version=0)
    yield from (recorded.event for recorded in [one, *many])
    yield from (recorded.event for recorded in book.events(after=one.position, types=["crashed"]))


def keep() -> str:
    try:
        with Ledger("runs.db") as book:
            return str(book.backup("backup.db"))
    except RunNotFound as exc:
        return exc.run_id
    except LedgerError as exc:
        return str(exc)


def refused(book: Ledger) -> None:
    get_run(5)  # type: ignore[arg-type]
    insert_run("r1")  # type: ignore[call-arg]
    void("r1")  # type: ignore[call-arg]
    attach_blog_post("r1", blog_url=None)  # type: ignore[arg-type]
    update_run_status("r1", "completed", exit_code="137")  # type: ignore[arg-type]
    book.append(5)  # type: ignore[call-overload]
'''  # fmt: skip


def fresh(code: str) -> str:
    """Run *code* in a process that has imported nothing of ours, and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_front_door_shows_exactly_these_names() -> None:
    """dir(ledger) is __all__, before any name was used and after all were."""
    shown = {name for name in dir(ledger) if not name.startswith("_")}
    submodules = {name for name in shown if isinstance(getattr(ledger, name), ModuleType)}
    code = (
        "import ledger, json; print(json.dumps([n for n in dir(ledger) if not n.startswith('_') and n != 'version']))"
    )

    assert sorted(shown - submodules) == sorted(ledger.__all__)
    assert json.loads(fresh(code)) == sorted(ledger.__all__)


@pytest.mark.parametrize("name", ledger.__all__)
def test_every_name_is_there(name: str) -> None:
    """Each name resolves to a class or a function of its own name, with a docstring."""
    found = getattr(ledger, name)

    assert callable(found)
    assert found.__name__ == name
    assert inspect.getdoc(found)


def test_another_name_is_no_attribute() -> None:
    """A name that is not public is an AttributeError that says it."""
    with pytest.raises(AttributeError, match="has no attribute 'insert_runs'"):
        _ = ledger.insert_runs  # type: ignore[attr-defined]


def test_the_star_gives_exactly_these_names() -> None:
    """`from ledger import *`, the documented shim, gives __all__ and nothing else."""
    code = "before = set(globals()) | {'before'}\nfrom ledger import *\nprint(*sorted(set(globals()) - before))"
    assert fresh(code).split() == sorted(ledger.__all__)


def test_import_loads_nothing() -> None:
    """`import ledger` loads two modules of ours, and no pydantic, SQLAlchemy, driver or anything else heavy."""
    loaded = fresh(
        "import sys; before = set(sys.modules)\nimport ledger\nprint(*sorted(set(sys.modules) - before))"
    ).split()
    ours = {name for name in loaded if name.partition(".")[0] == "ledger"}
    heavy = {"pydantic", "sqlalchemy", "sqlite3", "numpy", "wandb", "typing", "asyncio", "logging", "dataclasses"}

    assert ours == {"ledger", "ledger.version"}
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_import_touches_nothing() -> None:
    """`import ledger` opens its own source and nothing else: no file, no folder, no database, no network."""
    touched = json.loads(fresh(f"import json{WATCH}import ledger\nprint(json.dumps(touched[:]))"))
    strangers = [(event, what) for event, what in touched if event != "open" or not re.search(r"\.pyc?(\.\d+)?$", what)]
    assert strangers == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_method_on_the_default_ledger(name: str) -> None:
    """A documented function has its method's parameters, answer and docstring, without self."""
    function, method = getattr(ledger, name), getattr(Ledger, name)
    said = inspect.signature(method)

    assert inspect.signature(function) == said.replace(parameters=list(said.parameters.values())[1:])
    assert inspect.getdoc(function) == inspect.getdoc(method)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_can_be_sent_to_another_process(name: str) -> None:
    """A pool pickles functions by their names: `pool.map(get_run, ids)` finds the same one again."""
    function = getattr(ledger, name)
    assert pickle.loads(pickle.dumps(function)) is function


def documented_signatures() -> list[tuple[str, str]]:
    return re.findall(r"^#### `(\w+)\((.*)\)`$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize(("name", "words"), documented_signatures())
def test_a_documented_signature_is_taken(name: str, words: str) -> None:
    """The parameters that the document prints come first, in its order, with its defaults."""
    documented = [part.partition("=")[::2] for part in re.split(r", ", words) if part and not part.startswith("**")]
    parameters = [p for p in inspect.signature(getattr(Ledger, name)).parameters.values() if p.name != "self"]

    assert [said for said, _ in documented] == [parameter.name for parameter in parameters[: len(documented)]]
    for (said, default), parameter in zip(documented, parameters, strict=False):
        assert not default or repr(parameter.default) == default, said


def test_what_users_write_passes_a_type_checker(tmp_path: Path) -> None:
    """mypy --strict takes a script with every documented call, and refuses its wrong calls (no ignore is unused)."""
    (tmp_path / "usage.py").write_text(USAGE)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(tmp_path / "cache"),
        "usage.py",
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout + found.stderr


def test_the_sample_has_every_name() -> None:
    """The typed sample leaves no public name out."""
    assert [name for name in ledger.__all__ if not re.search(rf"\b{name}\b", USAGE)] == []
    assert issubclass(LedgerError, Exception)
