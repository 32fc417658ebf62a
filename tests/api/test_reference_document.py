"""The reference document of the API that users already call: its snippets run, its sentences hold."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ledger
from ledger import Ledger, LedgerError
from ledger.errors import NoLedger, NotConfigured, UnknownFilter, WandbRunTaken

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "training-runs-database-api.md").read_text(encoding="utf-8")
DOCUMENTED_PATH = "/home/ubuntu/mango/data/training_runs.db"
LEDGER = f"{sys.executable} -m ledger "
COMT = "objectives/COMT_activity_maximize/raw_mean"

AS_USERS_WROTE_THEM = "293c67290ad4f5b0a28e5f433c8049b3353d47a79de962c0da80647de0dc7a9b"
METHODS = ("mgda", "pcgrad", "imtlg", "aligned_mtl")

CONFIG: dict[str, Any] = {
    "training": {"batch_size": 384, "learning_rate": 1.0e-4, "num_processes": 4, "max_steps": 2000},
    "reward": {"gradient_method": "mgda", "beta": 0.05},
    "objectives": [
        {"name": "COMT_activity", "alias": "COMT_activity_maximize", "weight": 2.0},
        {"name": "toxicity", "alias": "toxicity_minimize", "weight": 1.0},
    ],
    "generation": {"scaffolds": [{"name": "benzene", "smiles": "c1ccccc1"}]},
}

WANDB = f"""
class summary:
    _json_dict = {{{COMT!r}: 0.8312, "train/loss": float("nan")}}

class run:
    id = "1x2y3z4w"
    url = "https://wandb.ai/team/project/runs/1x2y3z4w"
    summary = summary
"""

WHAT_WAS_THERE = """
from apis.training_db import *

insert_run("train_i-777", None, config, run_name="wrapped", host="ec2")
for hours, method in enumerate(METHODS, start=2):
    theirs = {"training": {"batch_size": 64}, "reward": {"gradient_method": method}}
    insert_run(f"{method}_i-1", None, theirs, run_name=f"{method}_done", config_file_path=f"/configs/{method}.yaml")
    update_run_status(
        f"{method}_i-1", "completed", duration_seconds=hours * 3600, final_metrics_json={COMT: hours / 10}
    )
insert_run("mgda_i-2", None, config, run_name="mgda_died")
attach_crash_data("mgda_i-2", "crash-reports/error.log", "crash-reports/report.md", "crash-reports/analysis.md")
"""

SESSION = """
import contextlib, io, json, os, sys, time, traceback
from datetime import datetime
import wandb

script = json.load(sys.stdin)
names = dict(
    script["names"], __name__="__main__", os=os, time=time, datetime=datetime, wandb=wandb,
    start_time=time.time() - 9000,
)
told = {}
for title, code in script["code"]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            exec(compile(code, title, "exec"), names)
            fault = None
        except BaseException:
            fault = traceback.format_exc()
    told[title] = {"said": said.getvalue(), "fault": fault}
print(json.dumps(told))
"""


class Block(NamedTuple):
    """A fenced block of the document, under the heading it stands below, numbered where there are several."""

    title: str
    language: str
    text: str


def blocks() -> list[Block]:
    """Read the document's fenced blocks, in order."""
    found: list[Block] = []
    heading, language, lines = "", None, list[str]()
    for line in DOCUMENT.splitlines():
        if language is None and line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        elif language is None and line.startswith("```"):
            language, lines = line.removeprefix("```"), []
        elif language is not None and line == "```":
            before = sum(block.title.split(" / ")[0] == heading for block in found)
            title = f"{heading} / {before + 1}" if before else heading
            found.append(Block(title, language, "\n".join(lines) + "\n"))
            language = None
        else:
            lines.append(line)
    return found


BLOCKS = {block.title: block for block in blocks()}
EXPORT = "Missing environment variable"  # marked as Python, but its two lines are the shell's
SNIPPETS = [block for block in BLOCKS.values() if block.language == "python" and block.title != EXPORT]


class Bench:
    """A scratch directory of a user: `apis/training_db` in one line, a wandb, a path to a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "training_runs.db"
        package = folder / "apis" / "training_db"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from ledger import *\n")
        (folder / "wandb.py").write_text(WANDB)

    def run(self, *command: str, said: str = "", **environment: str | None) -> subprocess.CompletedProcess[str]:
        """Run *command* here, as a shell would that has read the documented `~/.bashrc`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_DB_")}
        kept |= {
            "TRAINING_DB_PATH": str(self.path),
            "RUN_ID": "train_i-777",
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(Path(ledger.__file__).parents[1])]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        for name, value in environment.items():
            kept.pop(name) if value is None else kept.update({name: value})
        return subprocess.run(
            command, cwd=self.folder, env=kept, input=said, capture_output=True, text=True, check=False
        )

    def session(self, *code: tuple[str, str]) -> dict[str, dict[str, str | None]]:
        """Run pieces of *code* one after the other in one process; give what each printed, or its fault."""
        names = {
            "config": CONFIG,
            "METHODS": METHODS,
            "COMT": COMT,
            "blog_post_metadata": {"run_ids": ["pcgrad_i-1", "imtlg_i-1"]},
            "blog_url": "https://example.org/posts/two-methods",
        }
        ended = self.run(sys.executable, "-c", SESSION, said=json.dumps({"code": code, "names": names}))
        assert ended.returncode == 0, ended.stderr
        return dict[str, dict[str, str | None]](json.loads(ended.stdout))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A user's folder in which the document's first command was given."""
    bench = Bench(tmp_path_factory.mktemp("document"))
    ended = bench.run("bash", "-ec", BLOCKS["Initialize Database"].text.replace("python3", sys.executable))
    assert (ended.returncode, ended.stderr) == (0, "")
    return bench


@pytest.fixture(scope="module")
def told(bench: Bench) -> dict[str, dict[str, str | None]]:
    """What every snippet of the document printed, all of them run in order in one session."""
    earlier = ("earlier", WHAT_WAS_THERE)
    told = bench.session(earlier, *((block.title, block.text) for block in SNIPPETS))
    assert told["earlier"]["fault"] is None, told["earlier"]["fault"]
    return told


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "runs.db") as book:
        book.init_db()
        yield book


def row(book: Ledger, run_id: str) -> dict[str, Any]:
    """Give the row of a run that is there."""
    found = book.get_run(run_id)
    assert found is not None
    return dict(found)


def launch(book: Ledger, *run_ids: str, **said: Any) -> None:
    for run_id in run_ids:
        book.insert_run(run_id, None, {}, **said)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [found["run_id"] for found in rows]


def found(book: Ledger, **filters: Any) -> list[str]:
    """Give the ids of the runs that *filters* let through, in alphabetical order."""
    return sorted(ids(book.query_runs(filters=filters)))


def hours_ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def documented_columns() -> list[str]:
    """Read the columns off the document's own list of them."""
    schema = DOCUMENT.split("### `training_runs` Table")[1].split("## API Reference")[0]
    lines = [line for line in schema.splitlines() if line.startswith("- `")]
    return [name for line in lines for name in re.findall(r"`(\w+)`", line.split(":")[0])]


# Snippets


def test_the_snippets_stand_as_they_do_in_the_scripts_of_users() -> None:
    """No formatter rewrites the Python snippets: what is run here is, byte for byte, what users wrote."""
    python = "".join(block.text for block in BLOCKS.values() if block.language == "python")

    assert sha256(python.encode()).hexdigest() == AS_USERS_WROTE_THEM


def test_the_document_has_the_snippets_that_this_file_runs() -> None:
    """Eighteen Python snippets are found, so that a change of layout cannot empty the tests below."""
    assert len(SNIPPETS) == 18


@pytest.mark.parametrize("title", [block.title for block in SNIPPETS])
def test_every_python_snippet_runs(told: dict[str, dict[str, str | None]], title: str) -> None:
    """Every Python snippet of the document runs as printed, in one session from top to bottom."""
    assert told[title]["fault"] is None


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("get_run(run_id)", "Status: completed, Batch size: 384"),
        ("query_runs(filters=None, order_by='created_at DESC', limit=100)", "Found 2 MGDA runs"),
        ("query_runs(filters=None, order_by='created_at DESC', limit=100)", "  mgda_done: 2.0h"),
        ("query_runs(filters=None, order_by='created_at DESC', limit=100)", "  mgda_test: 1.0h"),
        ("get_stats()", "Total runs: 8"),
        ("get_stats()", "Running: 1"),
        ("get_stats()", "Crashed: 1"),
        ("get_stats()", "With blog posts: 1"),
        ("Find Best Performing Runs", "Top 10 COMT performers:"),
        ("Find Best Performing Runs", "  wrapped: COMT=0.8312, gradient_method=mgda"),
        ("Find Best Performing Runs", "  aligned_mtl_done: COMT=0.5000, gradient_method=aligned_mtl"),
        ("Compare Gradient Methods", "mgda: 3 completed, 75.0% success, avg 1.8h"),
        ("Compare Gradient Methods", "pcgrad: 1 completed, 100.0% success, avg 3.0h"),
        ("Find Runs Without Blog Posts", "Found 3 completed runs without blog posts:"),
        ("Find Runs Without Blog Posts", "  aligned_mtl_done (5.0h)"),
        ("Find Runs Without Blog Posts", "    Config: /configs/aligned_mtl.yaml"),
        ("Find Runs Without Blog Posts", "    W&B: https://wandb.ai/team/project/runs/1x2y3z4w"),
        ("Analyze Crashes by Method", "  mgda: 1 crashes (1 with analysis)"),
    ],
)
def test_the_snippets_print_what_is_true(told: dict[str, dict[str, str | None]], title: str, line: str) -> None:
    """What the documented examples print is what the session recorded."""
    assert line in (told[title]["said"] or "").splitlines()


def test_the_best_performers_come_best_first(told: dict[str, dict[str, str | None]]) -> None:
    """The documented example sorts runs by an objective, best first."""
    values = re.findall(r"COMT=([\d.]+)", told["Find Best Performing Runs"]["said"] or "")

    assert values == ["0.8312", "0.5000", "0.4000", "0.3000", "0.2000"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=crashed", ["mgda_died"]),
        ("status=completed&has_blog_post=false&min_duration_hours=2.9", ["aligned_mtl_done"]),
        ("has_crash_analysis=true&status=crashed", ["mgda_died"]),
        ("gradient_method=imtlg&host=", ["imtlg_done"]),
    ],
)
def test_the_flask_route_filters_by_its_query_string(
    bench: Bench, told: dict[str, dict[str, str | None]], query: str, names: list[str]
) -> None:
    """The documented Flask route hands the query string's texts to query_runs and answers with JSON."""
    route = BLOCKS["Option B: Python Backend (Flask/FastAPI)"].text
    ask = f"answer = app.test_client().get('/api/runs?{query}')\n"
    ask += "assert answer.status_code == 200, answer.text\n"
    ask += "print(json.dumps(sorted(run['run_name'] for run in answer.get_json())))"
    asked = bench.session(("route", f"import json\n{route}{ask}"))["route"]

    assert asked["fault"] is None
    assert json.loads(asked["said"] or "") == names


def test_the_wrapper_lines_leave_a_finished_run(told: dict[str, dict[str, str | None]], bench: Bench) -> None:
    """The training wrapper's two calls give status, W&B ids, times, duration and final metrics."""
    with Ledger(bench.path) as book:
        run = row(book, "train_i-777")

    assert (run["status"], run["wandb_run_id"]) == ("completed", "1x2y3z4w")
    assert 9000 <= run["duration_seconds"] <= 9060
    assert run["started_at"] <= run["ended_at"]
    assert json.loads(run["final_metrics_json"]) == {COMT: 0.8312, "train/loss": None}


# Raw SQL


def documented_sql() -> str:
    """Give the SQL that the document types into the sqlite3 shell."""
    shell, _, statements = BLOCKS["View Database Contents"].text.partition("\n")
    assert shell == f"sqlite3 {DOCUMENTED_PATH}"
    return statements


def one_by_one(script: str) -> list[str]:
    """Part an SQL script into its statements."""
    return [part.strip() for part in script.split(";") if part.strip()]


def test_the_documented_sql_runs_through_the_standard_library(
    bench: Bench, told: dict[str, dict[str, str | None]]
) -> None:
    """The documented SQL runs as printed on the database file, without the ledger."""
    with closing(sqlite3.connect(bench.path)) as db:
        runs, statuses, methods = (db.execute(statement).fetchall() for statement in one_by_one(documented_sql()))

    assert len(runs) == 8
    assert ("mgda_i-1", "completed", "mgda", 2.0) in runs
    assert sorted(statuses) == [("completed", 6), ("crashed", 1), ("running", 1)]
    assert {("pcgrad", 1, 3.0), ("imtlg", 1, 4.0), ("aligned_mtl", 1, 5.0)} < set(methods)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="this machine has no sqlite3 shell")
def test_the_documented_sql_runs_in_the_sqlite3_shell(bench: Bench, told: dict[str, dict[str, str | None]]) -> None:
    """The documented SQL runs as printed in the sqlite3 shell."""
    ended = bench.run("sqlite3", "-bail", str(bench.path), said=documented_sql())

    assert (ended.returncode, ended.stderr) == (0, "")
    assert {"mgda_i-1|completed|mgda|2.0", "completed|6", "pcgrad|1|3.0"} <= set(ended.stdout.splitlines())


# Database location and environment


def test_the_environment_says_where_the_database_is(bench: Bench, tmp_path: Path) -> None:
    """TRAINING_DB_PATH decides which file the functions write to."""
    elsewhere = tmp_path / "elsewhere.db"
    code = "from apis.training_db import init_db, insert_run; init_db(); insert_run('r1', None, {})"
    ended = bench.run(sys.executable, "-c", code, TRAINING_DB_PATH=str(elsewhere))

    assert ended.returncode == 0, ended.stderr
    with Ledger(elsewhere) as book:
        assert row(book, "r1")["status"] == "launched"


def test_the_documented_export_line_is_what_a_shell_takes(bench: Bench, tmp_path: Path) -> None:
    """The documented `export` line, typed into a shell, is all the configuration there is."""
    here = tmp_path / "training_runs.db"
    line = BLOCKS["Environment Variables"].text.replace(DOCUMENTED_PATH, str(here))
    code = "from apis.training_db import init_db, get_stats; init_db(); print(get_stats()['total_runs'])"
    script = f"{line}\n{shlex.join([sys.executable, '-c', code])}"
    ended = bench.run("bash", "-ec", script, TRAINING_DB_PATH=None)

    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
    assert here.is_file()


def test_a_missing_variable_is_the_documented_error(bench: Bench) -> None:
    """Without any variable the error says what is not set and gives the `export` line to copy."""
    code = """
from apis.training_db import LedgerError, get_stats
try:
    get_stats()
except LedgerError as error:
    print(type(error).__name__, error)
"""
    ended = bench.run(sys.executable, "-c", code, TRAINING_DB_PATH=None)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(NotConfigured.__name__)
    assert "TRAINING_DB_PATH" in ended.stdout
    assert "not set" in ended.stdout
    assert "export TRAINING_DB_PATH=" in ended.stdout
    assert "~/.bashrc" in ended.stdout


def test_importing_needs_no_variable(bench: Bench) -> None:
    """The missing variable is an error of the first call, not of the import."""
    ended = bench.run(sys.executable, "-c", "from apis.training_db import *", TRAINING_DB_PATH=None)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_one_line_gives_every_documented_function() -> None:
    """`from ledger import *` brings every function that the document names."""
    headings = re.findall(r"^#### `(\w+)\(", DOCUMENT, flags=re.MULTILINE)

    assert len(headings) == 9
    assert set(headings) <= set(ledger.__all__)


@pytest.mark.parametrize("name", re.findall(r"^#### `(\w+)\(", DOCUMENT, flags=re.MULTILINE))
def test_every_documented_function_is_a_method_too(name: str) -> None:
    """What the document shows as a function, a `Ledger` has as a method."""
    assert callable(getattr(Ledger, name))
    assert callable(getattr(ledger, name))


def test_reading_a_database_that_is_not_there_names_the_mend(tmp_path: Path) -> None:
    """A database that does not exist is an error that names init_db(), and makes no file."""
    with Ledger(tmp_path / "none.db") as nowhere, pytest.raises(NoLedger, match=r"init_db\(\)"):
        nowhere.get_run("r1")

    assert list(tmp_path.iterdir()) == []


# init_db()


def test_init_db_creates_database_and_schema(tmp_path: Path) -> None:
    """init_db() creates the file, with its folders, and the table in it."""
    path = tmp_path / "new" / "folders" / "runs.db"
    with Ledger(path) as book:
        book.init_db()

    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM training_runs").fetchone() == (0,)


def test_init_db_is_idempotent(book: Ledger) -> None:
    """init_db() again changes nothing."""
    launch(book, "r1")
    before = row(book, "r1")
    book.init_db()
    book.init_db()

    assert row(book, "r1") == before


# Schema


def test_the_documented_columns_come_first_and_in_order(book: Ledger, tmp_path: Path) -> None:
    """training_runs begins with exactly the documented columns, in the documented order."""
    launch(book, "r1")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        columns = [column for _, column, *_ in db.execute("PRAGMA table_info(training_runs)")]

    assert len(documented_columns()) == 29
    assert columns[:29] == documented_columns()


def test_a_row_has_the_documented_columns_in_order(book: Ledger) -> None:
    """get_run gives a plain dict whose keys begin with the documented columns."""
    launch(book, "r1")
    found = book.get_run("r1")

    assert type(found) is dict
    assert list(found)[:29] == documented_columns()


def test_run_id_is_the_primary_key(book: Ledger, tmp_path: Path) -> None:
    """run_id is the primary key of training_runs."""
    launch(book, "r1")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        keys = [column for _, column, _, _, _, key in db.execute("PRAGMA table_info(training_runs)") if key]

    assert keys == ["run_id"]


def test_a_wandb_run_id_is_unique_at_launch(book: Ledger) -> None:
    """A second run cannot be launched with a W&B run ID that another holds."""
    book.insert_run("r1", "w1", {})
    with pytest.raises(WandbRunTaken, match="r1"):
        book.insert_run("r2", "w1", {})

    assert book.get_run("r2") is None


def test_a_wandb_run_id_is_unique_afterwards(book: Ledger) -> None:
    """A run cannot be given a W&B run ID that another holds, and is not changed by the attempt."""
    book.insert_run("r1", "w1", {})
    launch(book, "r2")
    with pytest.raises(WandbRunTaken, match="r1"):
        book.update_run_status("r2", "running", wandb_run_id="w1")

    assert (row(book, "r2")["status"], row(book, "r2")["wandb_run_id"]) == ("launched", None)


def test_the_table_itself_keeps_wandb_run_ids_unique(book: Ledger, tmp_path: Path) -> None:
    """wandb_run_id is UNIQUE in the schema."""
    launch(book, "r1")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        unique = [name for _, name, unique, *_ in db.execute("PRAGMA index_list(training_runs)") if unique]
        covered = [[column for *_, column in db.execute(f"PRAGMA index_info('{name}')")] for name in unique]

    assert ["wandb_run_id"] in covered


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("batch_size", 384),
        ("learning_rate", 1.0e-4),
        ("beta", 0.05),
        ("gradient_method", "mgda"),
        ("num_gpus", 4),
        ("num_objectives", 2),
        ("num_scaffolds", 1),
    ],
)
def test_key_hyperparameters_are_extracted(book: Ledger, column: str, value: Any) -> None:
    """The key hyperparameters are read from the config into columns."""
    book.insert_run("r1", None, CONFIG)

    assert row(book, "r1")[column] == value


def test_the_config_is_kept_whole(book: Ledger) -> None:
    """config_json is the full config dictionary, as JSON text."""
    book.insert_run("r1", None, CONFIG)
    text = row(book, "r1")["config_json"]

    assert isinstance(text, str)
    assert json.loads(text) == CONFIG


def test_final_metrics_are_kept_as_json_text(book: Ledger) -> None:
    """final_metrics_json is the final metrics, as JSON text."""
    launch(book, "r1")
    book.update_run_status("r1", "completed", final_metrics_json={COMT: 0.5, "step": 2000})

    assert json.loads(row(book, "r1")["final_metrics_json"]) == {COMT: 0.5, "step": 2000}


ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.mark.parametrize("column", ["created_at", "started_at", "ended_at", "created_at_db", "updated_at_db"])
def test_timestamps_are_utc_text_of_one_length(book: Ledger, column: str) -> None:
    """Every timestamp is text `YYYY-MM-DDTHH:MM:SS.ffffffZ`, so that text order is time order."""
    launch(book, "r1")
    book.update_run_status("r1", "running", started_at=datetime(2026, 1, 2, 3, 4, 5))
    book.update_run_status("r1", "completed", ended_at=datetime(2026, 1, 2, 4, 4, 5))

    assert ISO.fullmatch(row(book, "r1")[column])


def test_created_at_is_when_the_run_record_was_created(book: Ledger) -> None:
    """created_at is the time of the launch, and later calls leave it."""
    before = datetime.now(UTC)
    launch(book, "r1")
    after = datetime.now(UTC)
    created = row(book, "r1")["created_at"]
    book.update_run_status("r1", "running")

    assert before <= datetime.fromisoformat(created) <= after
    assert row(book, "r1")["created_at"] == created


def test_started_at_is_when_training_started(book: Ledger) -> None:
    """started_at is empty at launch and is what 'running' says."""
    launch(book, "r1")
    assert row(book, "r1")["started_at"] is None
    book.update_run_status("r1", "running", started_at=datetime(2026, 1, 2, 3, 4, 5))

    assert row(book, "r1")["started_at"] == "2026-01-02T03:04:05.000000Z"


def test_ended_at_is_when_training_finished_or_crashed(book: Ledger) -> None:
    """ended_at is empty until the run ends; without a word of its own it is the time of the call."""
    launch(book, "r1")
    assert row(book, "r1")["ended_at"] is None
    before = datetime.now(UTC)
    book.update_run_status("r1", "crashed")

    assert before <= datetime.fromisoformat(row(book, "r1")["ended_at"]) <= datetime.now(UTC)


def test_duration_seconds_is_the_total_runtime(book: Ledger) -> None:
    """duration_seconds is what the end said, else the time between start and end."""
    launch(book, "said", "counted")
    book.update_run_status("said", "completed", duration_seconds=3600)
    book.update_run_status("counted", "running", started_at=datetime(2026, 1, 1, 12))
    book.update_run_status("counted", "completed", ended_at=datetime(2026, 1, 1, 13))

    assert [row(book, run_id)["duration_seconds"] for run_id in ("said", "counted")] == [3600, 3600]


def test_the_record_was_inserted_once(book: Ledger) -> None:
    """created_at_db is when the record was inserted, and stays."""
    before = datetime.now(UTC)
    launch(book, "r1")
    inserted = row(book, "r1")["created_at_db"]
    book.update_run_status("r1", "running")

    assert before <= datetime.fromisoformat(inserted) <= datetime.now(UTC)
    assert row(book, "r1")["created_at_db"] == inserted


CALLS: list[Callable[[Ledger], None]] = [
    lambda book: book.update_run_status("r1", "running"),
    lambda book: book.attach_blog_post("r1", "https://example.org/post"),
    lambda book: book.attach_conversation("r1", "conversations/r1.json"),
    lambda book: book.attach_crash_data("r1", "error.log", "report.md", "analysis.md"),
    lambda book: book.annotate("r1", note="a second look"),
]


@pytest.mark.parametrize("call", CALLS)
def test_updated_at_db_moves_by_itself(book: Ledger, call: Callable[[Ledger], None]) -> None:
    """updated_at_db moves with every call that records something."""
    launch(book, "r1")
    before = row(book, "r1")["updated_at_db"]
    call(book)

    assert row(book, "r1")["updated_at_db"] > before


# insert_run()


def test_a_launch_needs_three_arguments_only(book: Ledger) -> None:
    """Of a launch that says nothing more, chain of custody and all keywords are empty."""
    book.insert_run("r1", None, {})
    run = row(book, "r1")
    unsaid = ["chain_of_custody_id", "run_name", "config_file_path", "host", "instance_id", "wandb_run_id"]

    assert [run[column] for column in unsaid] == [None] * 6


def test_a_new_run_is_launched(book: Ledger) -> None:
    """insert_run gives the status 'launched'."""
    launch(book, "r1")

    assert row(book, "r1")["status"] == "launched"


def test_a_launch_takes_the_documented_keywords(book: Ledger) -> None:
    """What the documented arguments of insert_run say stands in the columns of their names."""
    said = {
        "run_id": "mgda_i-abc123",
        "wandb_run_id": "w1",
        "chain_of_custody_id": "ABC123",
        "run_name": "mgda_test",
        "config_file_path": "/path/to/config.yaml",
        "host": "ec2",
        "instance_id": "i-abc123",
    }
    book.insert_run(config_dict=CONFIG, **said)
    run = row(book, "mgda_i-abc123")

    assert {column: run[column] for column in said} == said


def test_the_chain_of_custody_is_the_fourth_argument(book: Ledger) -> None:
    """insert_run takes run_id, wandb_run_id, config_dict and chain_of_custody_id by position."""
    book.insert_run("r1", "w1", {}, "ABC123")

    assert row(book, "r1")["chain_of_custody_id"] == "ABC123"


# update_run_status()


@pytest.mark.parametrize("status", ["running", "completed", "failed", "crashed"])
def test_the_documented_statuses(book: Ledger, status: str) -> None:
    """update_run_status sets each of the four documented statuses."""
    launch(book, "r1")
    book.update_run_status("r1", status)

    assert row(book, "r1")["status"] == status


@pytest.mark.parametrize(
    ("keyword", "value", "shown"),
    [
        ("duration_seconds", 3600, 3600),
        ("final_metrics_json", {"loss": 0.5}, '{"loss":0.5}'),
        ("ended_at", datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05.000000Z"),
        ("ended_at", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("wandb_run_id", "w1", "w1"),
        ("wandb_url", "https://wandb.ai/team/project/runs/w1", "https://wandb.ai/team/project/runs/w1"),
    ],
)
def test_an_end_takes_the_documented_keywords(book: Ledger, keyword: str, value: Any, shown: Any) -> None:
    """Each documented keyword of update_run_status reaches its column."""
    launch(book, "r1")
    book.update_run_status("r1", "completed", **{keyword: value})
    stored = row(book, "r1")[keyword]

    assert (stored.replace(" ", "") if keyword == "final_metrics_json" else stored) == shown


@pytest.mark.parametrize("said", [datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"])
def test_a_start_may_be_a_datetime_or_text(book: Ledger, said: datetime | str) -> None:
    """started_at is a datetime or a str."""
    launch(book, "r1")
    book.update_run_status("r1", "running", started_at=said)

    assert row(book, "r1")["started_at"] == "2026-01-02T03:04:05.000000Z"


# get_run()


def test_a_run_that_is_not_there_is_none(book: Ledger) -> None:
    """get_run gives None for a run that is not found."""
    assert book.get_run("nobody") is None


# query_runs()


def test_the_newest_run_comes_first(book: Ledger) -> None:
    """Without order_by, the run that was created last comes first."""
    launch(book, "middle", at=hours_ago(2))
    launch(book, "oldest", at=hours_ago(3))
    launch(book, "newest", at=hours_ago(1))

    assert ids(book.query_runs()) == ["newest", "middle", "oldest"]


def test_a_hundred_runs_are_enough_unless_more_are_asked_for(book: Ledger) -> None:
    """Without limit, query_runs gives the newest hundred."""
    for number in range(103):
        launch(book, f"r{number:03}", at=hours_ago(200 - number))

    assert ids(book.query_runs()) == [f"r{number:03}" for number in range(102, 2, -1)]
    assert len(book.query_runs(limit=102)) == 102


def test_the_three_arguments_may_come_by_position(book: Ledger) -> None:
    """query_runs takes filters, order_by and limit in the documented order."""
    launch(book, "a", "b", "c", host="ec2")

    assert ids(book.query_runs({"host": "ec2"}, "run_id DESC", 2)) == ["c", "b"]


def test_a_query_gives_the_rows_that_get_run_gives(book: Ledger) -> None:
    """query_runs gives a list of the dicts that get_run gives."""
    book.insert_run("r1", "w1", CONFIG, host="ec2")

    assert book.query_runs() == [book.get_run("r1")]


@pytest.fixture
def four(book: Ledger) -> Ledger:
    """Four runs that differ in everything that the documented filters ask for."""
    for run_id, host, method, hours, days in [
        ("long", "ec2", "mgda", 3, 1),
        ("short", "expanse", "mgda", 0.5, 2),
        ("dead", "ec2", "pcgrad", 1.5, 20),
    ]:
        config = {"reward": {"gradient_method": method}}
        book.insert_run(run_id, None, config, host=host, at=hours_ago(24 * days))
        end = "crashed" if run_id == "dead" else "completed"
        book.update_run_status(run_id, end, duration_seconds=hours * 3600)
    book.insert_run("new", None, {})
    book.attach_crash_data("dead", "error.log", "report.md", "analysis.md")
    book.attach_blog_post("long", "https://example.org/post")
    return book


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": "completed"}, ["long", "short"]),
        ({"status": "launched"}, ["new"]),
        ({"status": "crashed"}, ["dead"]),
        ({"host": "ec2"}, ["dead", "long"]),
        ({"host": "expanse"}, ["short"]),
        ({"gradient_method": "mgda"}, ["long", "short"]),
        ({"min_duration_hours": 1.5}, ["dead", "long"]),
        ({"min_duration_hours": 2}, ["long"]),
        ({"created_after": hours_ago(7 * 24).isoformat()}, ["long", "new", "short"]),
        ({"created_after": hours_ago(36).strftime("%Y-%m-%dT%H:%M:%SZ")}, ["long", "new"]),
        ({"has_blog_post": True}, ["long"]),
        ({"has_blog_post": False}, ["dead", "new", "short"]),
        ({"has_crash_analysis": True}, ["dead"]),
        ({"has_crash_analysis": False}, ["long", "new", "short"]),
        ({"status": "completed", "gradient_method": "mgda", "min_duration_hours": 1.0}, ["long"]),
        ({}, ["dead", "long", "new", "short"]),
    ],
)
def test_the_documented_filters(four: Ledger, filters: dict[str, Any], expected: list[str]) -> None:
    """Each documented filter lets through the runs that it describes, and several must all hold."""
    assert found(four, **filters) == expected


def test_the_documented_way_to_write_last_week(four: Ledger) -> None:
    """`(datetime.utcnow() - timedelta(days=7)).isoformat() + 'Z'` is a time."""
    last_week = hours_ago(7 * 24).replace(tzinfo=None).isoformat() + "Z"

    assert found(four, created_after=last_week) == ["long", "new", "short"]


def test_an_unknown_filter_is_an_error(four: Ledger) -> None:
    """An unknown filter is an error that names the nearest one there is."""
    with pytest.raises(UnknownFilter, match="gradient_method"):
        four.query_runs(filters={"gradient_metod": "mgda"})


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("duration_seconds DESC", ["long", "dead", "short", "new"]),
        ("duration_seconds ASC", ["short", "dead", "long", "new"]),
        ("created_at DESC", ["new", "long", "short", "dead"]),
        ("created_at ASC", ["dead", "short", "long", "new"]),
    ],
)
def test_the_order_is_as_asked(four: Ledger, order_by: str, expected: list[str]) -> None:
    """order_by sorts by its column and direction; rows without a value come last."""
    assert ids(four.query_runs(order_by=order_by)) == expected


# Attachments


def test_a_blog_post_is_attached(book: Ledger) -> None:
    """attach_blog_post sets blog_post_url, and leaves the status."""
    launch(book, "r1")
    book.attach_blog_post("r1", "https://example.org/post")

    assert (row(book, "r1")["blog_post_url"], row(book, "r1")["status"]) == (
        "https://example.org/post",
        "launched",
    )


def test_a_conversation_is_attached(book: Ledger) -> None:
    """attach_conversation sets conversation_s3_key, and leaves the status."""
    launch(book, "r1")
    book.attach_conversation("r1", "conversations/r1.json")

    assert (row(book, "r1")["conversation_s3_key"], row(book, "r1")["status"]) == (
        "conversations/r1.json",
        "launched",
    )


def test_crash_data_are_attached_in_the_documented_order(book: Ledger) -> None:
    """attach_crash_data takes error log, crash report and analysis, in that order."""
    launch(book, "r1")
    book.attach_crash_data("r1", "error.log", "report.md", "analysis.md")
    run = row(book, "r1")
    columns = ("error_log_s3_key", "crash_report_s3_key", "crash_analysis_s3_key")

    assert [run[column] for column in columns] == ["error.log", "report.md", "analysis.md"]


def test_a_crash_sets_the_status_and_then_the_keys(book: Ledger) -> None:
    """The crash integration: the status is 'crashed', then the keys are attached."""
    launch(book, "r1")
    book.update_run_status("r1", "crashed")
    book.attach_crash_data("r1", "error.log", "report.md", "analysis.md")

    assert (row(book, "r1")["status"], row(book, "r1")["error_log_s3_key"]) == ("crashed", "error.log")


# get_stats()


def test_the_stats_of_an_empty_ledger_are_zeros(book: Ledger) -> None:
    """get_stats gives every documented count, also when there is nothing to count."""
    assert book.get_stats() == {
        "total_runs": 0,
        "launched": 0,
        "running": 0,
        "completed": 0,
        "failed": 0,
        "crashed": 0,
        "with_blog_posts": 0,
        "with_crash_analysis": 0,
    }


def test_the_stats_count_runs_by_status(four: Ledger) -> None:
    """get_stats counts the runs, each status, posts and analyses."""
    assert four.get_stats() == {
        "total_runs": 4,
        "launched": 1,
        "running": 0,
        "completed": 2,
        "failed": 0,
        "crashed": 1,
        "with_blog_posts": 1,
        "with_crash_analysis": 1,
    }


# What records nothing says so


def test_an_update_of_an_unknown_run_is_no_success(book: Ledger) -> None:
    """A run that the ledger does not know is an error, and is not made by it."""
    with pytest.raises(LedgerError, match="insert_run"):
        book.update_run_status("nobody", "running")

    assert book.get_run("nobody") is None


# Maintenance, by the commands that the document gives


def test_ledger_doctor_stands_where_the_old_test_script_stood(
    bench: Bench, told: dict[str, dict[str, str | None]]
) -> None:
    """`ledger doctor` proves all operations and leaves the real ledger as it is."""
    with Ledger(bench.path) as book:
        before = (book.get_stats(), len(list(book.events())))
    ended = bench.run("bash", "-ec", BLOCKS["Testing"].text.replace("ledger ", LEDGER))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    with Ledger(bench.path) as book:
        assert (book.get_stats(), len(list(book.events()))) == before


def test_backup_and_restore_as_documented(tmp_path: Path) -> None:
    """The documented backup lines make a copy, and put it back in place of what came after."""
    bench = Bench(tmp_path)
    with Ledger(bench.path) as book:
        launch(book, "earlier")
    backup, restore = (
        lines.replace("/home/ubuntu/mango/data", str(tmp_path)).replace("ledger ", LEDGER)
        for lines in BLOCKS["Backup Database"].text.split("\n\n")
    )
    made = bench.run("bash", "-ec", backup)
    assert made.returncode == 0, made.stdout + made.stderr
    (copy,) = tmp_path.glob("training_runs_backup_*.db")
    copy.rename(tmp_path / "training_runs_backup_20251111.db")
    with Ledger(bench.path) as book:
        launch(book, "later")
    put_back = bench.run("bash", "-ec", restore)

    assert put_back.returncode == 0, put_back.stdout + put_back.stderr
    with Ledger(bench.path) as book:
        assert ids(book.query_runs()) == ["earlier"]


def test_ledger_schema_prints_the_table(bench: Bench) -> None:
    """`ledger schema` prints the schema with every documented column."""
    ended = bench.run(sys.executable, "-m", "ledger", "schema")

    assert ended.returncode == 0, ended.stderr
    assert set(documented_columns()) <= set(re.findall(r"\w+", ended.stdout))
