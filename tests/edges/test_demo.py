"""The demo keeps what it promises: a real little sweep, recorded by real processes, that can be asked afterwards."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from ledger import Ledger
from ledger.demo import digits, network
from ledger.demo.crash import Evidence, analyze
from ledger.demo.launch import environment
from ledger.demo.place import Place
from ledger.demo.plan import SWEEP
from ledger.demo.progress import Progress
from ledger.demo.report import TITLES, DemoResult
from ledger.demo.sweep import folder, run_demo
from ledger.errors import InvalidValue, MissingExtra

DOCUMENTED_SQL = (
    "SELECT run_id, status, gradient_method, duration_seconds/3600.0 as hours FROM training_runs "
    "ORDER BY created_at DESC LIMIT 20",
    "SELECT status, COUNT(*) FROM training_runs GROUP BY status",
    "SELECT gradient_method, COUNT(*), AVG(duration_seconds)/3600.0 as avg_hours FROM training_runs "
    "WHERE status = 'completed' GROUP BY gradient_method",
)


@dataclass(frozen=True)
class Kept:
    """A demo that has run, and the folder that it left."""

    root: Path
    result: DemoResult
    printed: str

    def sql(self, statement: str) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(self.root / "runs.db")) as conn:
            conn.row_factory = sqlite3.Row
            return conn.execute(statement).fetchall()

    def runs(self, status: str) -> list[sqlite3.Row]:
        return [run for run in self.sql("SELECT * FROM training_runs") if run["status"] == status]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("demo") / "kept"
    out = io.StringIO()
    result = run_demo(root, out=out, max_steps=500)
    return Kept(root, result, out.getvalue())


def test_every_method_completes_a_run(demo: Kept) -> None:
    """Of six runs or more, each of the four gradient methods completes at least one."""
    assert len(demo.result.runs) >= 6
    assert {run["gradient_method"] for run in demo.runs("completed")} == {
        "mgda",
        "pcgrad",
        "imtlg",
        "aligned_mtl",
    }


def test_no_run_is_left_open(demo: Kept) -> None:
    """Every run that was launched has completed, but for the one that crashed."""
    assert len(demo.runs("completed")) == len(demo.result.runs) - 1
    assert len(demo.runs("crashed")) == 1


def test_every_run_trains_in_a_process_of_its_own(demo: Kept) -> None:
    """The starts come from as many processes as there are runs, and none of them is the launcher."""
    found = demo.sql("SELECT json_extract(source, '$.pid') AS pid FROM training_events WHERE type = 'started'")
    pids = {row["pid"] for row in found}

    assert len(pids) == len(found) == len(demo.result.runs)
    assert os.getpid() not in pids


def test_processes_tell_of_their_progress(demo: Kept) -> None:
    """A completed run has beaten its heart, logged every step and saved checkpoints that are there."""
    run_id = demo.runs("completed")[0]["run_id"]
    events = demo.sql(f"SELECT type, payload FROM training_events WHERE run_id = '{run_id}' ORDER BY position")
    told = {row["type"]: json.loads(row["payload"]) for row in events}

    assert told["heartbeat"]["step"] == 500
    assert told["metrics_logged"]["columns"]["step"] == list(range(1, 501))
    assert Path(urlsplit(told["checkpoint_saved"]["uri"]).path).exists()


def test_the_crash_is_a_real_exception_and_is_explained(demo: Kept) -> None:
    """The crashed run's three keys lead to files: its true traceback, a report, and an analysis by rules."""
    (run,) = demo.runs("crashed")
    log, report, analysis = (
        (demo.root / run[key]).read_text()
        for key in ("error_log_s3_key", "crash_report_s3_key", "crash_analysis_s3_key")
    )

    assert (run["end_reason"], run["exit_code"]) == ("exception", 1)
    assert "Traceback (most recent call last)" in log
    assert "FloatingPointError: the loss became" in report
    assert "diverged" in analysis
    assert "rules" in analysis


def test_the_loss_that_killed_the_run_is_kept(demo: Kept) -> None:
    """The last loss that the crashed run logged is not finite, and the stored JSON is readable all the same."""
    (run,) = demo.runs("crashed")
    (logged,) = demo.sql(
        "SELECT payload FROM training_events "
        f"WHERE run_id = '{run['run_id']}' AND type = 'metrics_logged' ORDER BY position DESC LIMIT 1"
    )

    assert json.loads(logged["payload"])["columns"]["train/loss"][-1] in {"NaN", "Infinity"}


def test_the_crashed_chain_goes_on_to_a_post(demo: Kept) -> None:
    """The crash's remedy was launched in the same chain, completed, and is the one run with a post."""
    (crashed,) = demo.runs("crashed")
    (posted,) = (run for run in demo.runs("completed") if run["blog_post_url"])
    post = Path(urlsplit(posted["blog_post_url"]).path).read_text()

    assert posted["chain_of_custody_id"] == crashed["chain_of_custody_id"] == demo.result.crashed_chain
    assert posted["learning_rate"] == pytest.approx(crashed["learning_rate"] / 10)
    assert posted["run_id"] in post
    assert {entry["run_id"] for entry in demo.result.timeline} == {crashed["run_id"], posted["run_id"]}


def test_final_metrics_speak_of_every_objective(demo: Kept) -> None:
    """A completed run's final metrics carry four finite numbers for each objective of its config."""
    for run in demo.runs("completed"):
        metrics = json.loads(run["final_metrics_json"])
        for objective in json.loads(run["config_json"])["objectives"]:
            for kind in ("raw_mean", "normalized_mean", "raw_std", "normalized_std"):
                assert isinstance(metrics[f"objectives/{objective['alias']}/{kind}"], float)
        assert metrics["train/loss"] > 0


def test_what_was_learnt_beats_a_blind_answer(demo: Kept) -> None:
    """Every completed run names the digit far better than the commonest answer would."""
    for run in demo.runs("completed"):
        metrics = json.loads(run["final_metrics_json"])

        assert metrics["objectives/digit_accuracy_maximize/normalized_mean"] > 0.5


def test_the_ledger_holds_the_config_that_the_process_read(demo: Kept) -> None:
    """The config in the ledger is that of the YAML file whose path it names."""
    for run in demo.runs("completed"):
        assert json.loads(run["config_json"]) == yaml.safe_load(Path(run["config_file_path"]).read_text())


def test_every_run_has_its_conversation_and_wandb_run(demo: Kept) -> None:
    """Every run leads back to a conversation file, and no two share a W&B id or a name."""
    runs = demo.sql("SELECT * FROM training_runs")

    assert all((demo.root / run["conversation_s3_key"]).exists() for run in runs)
    assert len({run["wandb_run_id"] for run in runs} - {None}) == len(runs)
    assert len({run["run_name"] for run in runs}) == len(runs)


@pytest.mark.parametrize("statement", DOCUMENTED_SQL)
def test_the_documented_sql_runs(demo: Kept, statement: str) -> None:
    """The SQL that the API's document prints runs in the standard library's sqlite3."""
    assert demo.sql(statement)


def test_one_file_is_left(demo: Kept) -> None:
    """When all processes have closed it, the ledger is one file with no -wal beside it."""
    assert [path.name for path in demo.root.glob("runs.db*")] == ["runs.db"]


def test_the_ledger_verifies(demo: Kept) -> None:
    """After so many writers, every digest and chain holds and every row equals its fold."""
    with Ledger(demo.root / "runs.db") as book:
        verification = book.verify()

    assert verification.ok
    assert verification.runs == len(demo.result.runs)


def test_it_prints_what_a_user_would_ask(demo: Kept) -> None:
    """The runs, the crashed chain, the stats and the four example queries are printed, without terminal codes."""
    headings = (
        "The runs",
        f"The chain of custody {demo.result.crashed_chain}",
        "Stats",
        *TITLES.values(),
    )

    assert all(f"\n{heading}\n\n" in demo.printed for heading in headings)
    assert f"ledger --db {demo.root}/runs.db runs" in demo.printed
    assert "\x1b" not in demo.printed


def test_the_answers_agree_with_the_ledger(demo: Kept) -> None:
    """The example queries count what plain SQL counts."""
    compared = {row["gradient_method"]: row["completed"] for row in demo.result.answers["gradient_methods"]}
    counted = demo.sql(
        "SELECT gradient_method, COUNT(*) AS runs FROM training_runs WHERE status = 'completed' GROUP BY 1"
    )

    assert compared == {row["gradient_method"]: row["runs"] for row in counted}
    assert demo.result.answers["crashes_by_method"] == [{"gradient_method": "imtlg", "crashes": 1, "with_analysis": 1}]


def test_a_ledger_that_is_there_is_left_alone(demo: Kept) -> None:
    """A demo in a folder that holds a ledger is refused: runs in an append-only ledger stay for ever."""
    with pytest.raises(InvalidValue, match="no ledger yet"):
        run_demo(demo.root, out=io.StringIO())


def test_without_keep_nothing_stays() -> None:
    """The folder of a demo that keeps nothing is gone when the demo ends."""
    with folder(None) as root:
        assert root.is_dir()

    assert not root.exists()


def test_a_missing_extra_names_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the demo says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn", None)

    with pytest.raises(MissingExtra, match=r"pip install 'training-run-ledger\[demo\]'"):
        run_demo(out=io.StringIO())


def test_importing_the_demo_loads_nothing_heavy() -> None:
    """The command line can import the demo where its extra is not installed."""
    code = "import sys, ledger.demo.sweep; print(sorted({'numpy', 'sklearn', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_another_ledger_of_the_caller_is_not_handed_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo's processes record in the demo's ledger, whatever the caller's variables name."""
    monkeypatch.setenv("TRAINING_DB_URL", "postgresql://hub/real")
    handed_down = environment(Place(tmp_path), "r1", "ABC123")

    assert {name: value for name, value in handed_down.items() if name.startswith("TRAINING_DB_")} == {
        "TRAINING_DB_PATH": str(tmp_path / "runs.db")
    }


@pytest.mark.parametrize(
    ("evidence", "finding"),
    [
        (Evidence(-9, "", [1.0], 0.1), "Signal 9"),
        (
            Evidence(1, "Traceback (most recent call last):\nKeyError: 'x'\n", [1.0], 0.1),
            "No rule .* KeyError",
        ),
        (Evidence(3, "", [], 0.1), "No rule .* exit code 3"),
        (
            Evidence(1, "Traceback (most recent call last):\nFloatingPointError: inf\n", [2.0, 1.0, 9.0, 1e9], 0.1),
            "diverged. The loss was lowest at step 2",
        ),
    ],
)
def test_an_analysis_says_no_more_than_its_rules_know(evidence: Evidence, finding: str) -> None:
    """Signals, divergence and unknown ends are told apart; only divergence has a remedy."""
    analysis = analyze(evidence)

    assert re.search(finding, analysis.finding)
    assert (analysis.learning_rate is not None) == ("diverged" in finding)


def test_progress_is_one_rewritten_line_on_a_terminal() -> None:
    """On a terminal the line that passes is taken back, and what is said stays."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress = Progress(out)
    progress.show("1 of 2 ended")
    progress.say("completed  mgda")

    assert out.getvalue() == "\r\x1b[K1 of 2 ended\r\x1b[Kcompleted  mgda\n"


def test_backpropagation_equals_differences() -> None:
    """The hand-written slopes of trunk and head equal central differences, for a class and for a measure."""
    rng = np.random.default_rng(3)
    some = digits.pictures(rng.random((12, 64)), rng.integers(0, 10, 12).astype(float))
    for name, count in (("digit", 10), ("ink", 1)):
        net = network.new_network({name: count}, rng)
        found = network.slopes(net, name, network.look(net.trunk, some.pixels), some.questions[name])
        for parameters, slopes in (
            (net.trunk, found.trunk),
            (net.heads[name].reshape(-1), found.head.ravel()),
        ):
            for index in rng.choice(len(parameters), 25, replace=False):
                assert slopes[index] == pytest.approx(
                    difference(net, some, name, parameters, index), rel=1e-5, abs=1e-8
                )


def difference(net: network.Network, some: digits.Pictures, name: str, parameters: np.ndarray, index: int) -> float:
    losses, kept, step = [], parameters[index], 1e-5
    for shift in (step, -step):
        parameters[index] = kept + shift
        losses.append(network.loss_of(network.answers(net, some, name), some.questions[name])[0])
    parameters[index] = kept
    return (losses[0] - losses[1]) / (2 * step)


def test_names_in_the_sweep_are_unique() -> None:
    """No two entries of the sweep share a name, since names become run ids and files."""
    assert len({entry.name for entry in SWEEP}) == len(SWEEP) >= 6
