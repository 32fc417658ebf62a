"""The demo keeps what it promises: a real little sweep, recorded by real processes, that can be asked afterwards."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from ledger import Ledger, origin
from ledger.cli.main import main
from ledger.demo import digits, network
from ledger.demo.crash import analyze
from ledger.demo.fleet import Fleet
from ledger.demo.kill import kill, training_process
from ledger.demo.launch import Launch, environment
from ledger.demo.place import Place
from ledger.demo.plan import SWEEP
from ledger.demo.progress import Progress
from ledger.demo.report import ALIAS, TITLES, DemoResult
from ledger.demo.sweep import folder, run_demo
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, NoLedger
from ledger.events import Started
from ledger.integrations.crash import CrashEvidence

PATIENCE_SECONDS = 60.0
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

    def crashed(self, end_reason: str) -> sqlite3.Row:
        """Return the one run that crashed by that."""
        (run,) = [run for run in self.runs("crashed") if run["end_reason"] == end_reason]
        return run

    def told(self, run_id: str, *types: str) -> list[dict[str, Any]]:
        """Return what the events of these types say of a run, in order, with the pid and program that said it."""
        marks = ", ".join("?" * len(types))
        where = f"run_id = ? AND type IN ({marks}) ORDER BY position"
        with closing(sqlite3.connect(self.root / "runs.db")) as conn:
            found = conn.execute(f"SELECT payload, source FROM training_events WHERE {where}", (run_id, *types))
            return [{**json.loads(payload), "source": json.loads(source)} for payload, source in found]


def files_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def until(met: Callable[[], object], what: str) -> None:
    """Wait until something has come about; that it does is the claim, and not how fast."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


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
    """Every run that was launched has completed, but for the one that diverged and the one that was killed."""
    assert len(demo.runs("completed")) == len(demo.result.runs) - 2
    assert {run["end_reason"] for run in demo.runs("crashed")} == {"exception", "signal"}
    assert len(demo.runs("crashed")) == 2


def test_every_run_trains_in_a_process_of_its_own(demo: Kept) -> None:
    """Every start is told by the training process and by the exec around it, of one and the same process."""
    trained, watching = set(), set()
    for run in demo.result.runs:
        starts = demo.told(run["run_id"], "started")
        (training,) = {start["process"]["pid"] for start in starts}
        trained.add(training)
        watching |= {start["source"]["pid"] for start in starts} - {training}

        assert len(starts) == 2

    assert len(trained) == len(watching) == len(demo.result.runs)
    assert not trained & watching
    assert os.getpid() not in trained | watching


def test_processes_tell_of_their_progress(demo: Kept) -> None:
    """A completed run has beaten its heart, logged every step once and saved checkpoints that are there."""
    run_id = demo.runs("completed")[0]["run_id"]
    logged = [step for told in demo.told(run_id, "metrics_logged") for step in told["columns"]["step"]]
    checkpoints = demo.told(run_id, "checkpoint_saved")

    assert logged == list(range(1, 501))
    assert [saved["step"] for saved in checkpoints] == [250, 500]
    assert all(Path(urlsplit(saved["uri"]).path).exists() for saved in checkpoints)
    assert {beat["source"]["pid"] for beat in demo.told(run_id, "heartbeat")} == {
        start["source"]["pid"] for start in demo.told(run_id, "started")
    }


def test_the_crash_is_a_real_exception_and_is_explained(demo: Kept) -> None:
    """The crashed run's three keys lead to files: its true traceback, a report, and an analysis by rules."""
    run = demo.crashed("exception")
    log, report, analysis = (
        (demo.root / run[key]).read_text()
        for key in ("error_log_s3_key", "crash_report_s3_key", "crash_analysis_s3_key")
    )

    assert run["exit_code"] == 1
    assert run["error_log_s3_key"] == f"crash-reports/{run['run_id']}/error.log"
    assert "Traceback (most recent call last)" in log
    assert "FloatingPointError: the loss became" in report
    assert "diverged" in analysis
    assert "rules" in analysis


def test_the_process_itself_tells_of_its_exception(demo: Kept) -> None:
    """What the crashed chain's timeline says of the crash is the training process's own word."""
    run_id = demo.crashed("exception")["run_id"]
    (training,) = {start["process"]["pid"] for start in demo.told(run_id, "started")}
    (told,) = [told for told in demo.told(run_id, "crashed") if "end_reason" in told]
    (entry,) = [entry for entry in demo.result.timeline if "end_reason exception" in entry["summary"]]

    assert told["source"]["pid"] == training
    assert f"train.py (pid {training})" in entry["source"]
    assert re.search(f"{re.escape(entry['source'])} +{re.escape(entry['summary'])}", demo.printed)


def test_a_kill_is_seen_from_outside(demo: Kept) -> None:
    """A run that somebody killed with SIGKILL crashed by a signal, with exit code 137, and by exec's word alone."""
    run = demo.crashed("signal")
    starts = demo.told(run["run_id"], "started")
    training = starts[0]["process"]["pid"]
    (watching,) = {start["source"]["pid"] for start in starts} - {training}
    (crash,) = demo.told(run["run_id"], "crashed")
    (note,) = demo.told(run["run_id"], "annotated")

    assert run["exit_code"] == 137
    assert (crash["detected_by"], crash["presumed"]) == ("exec", False)
    assert crash["source"]["pid"] == watching
    assert note["note"] == f"killed by hand: kill -9 {training}"
    assert len(demo.told(run["run_id"], "metrics_logged")) > 0


def test_a_kill_is_analysed_and_not_tried_again(demo: Kept) -> None:
    """The rules say that a signal ended it, and know no remedy: the chain has that one run."""
    run = demo.crashed("signal")

    assert "Signal 9 ended the process" in (demo.root / run["crash_analysis_s3_key"]).read_text()
    assert "train: run" in (demo.root / run["error_log_s3_key"]).read_text()
    assert [r["run_id"] for r in demo.result.runs if r["chain_of_custody_id"] == run["chain_of_custody_id"]] == [
        run["run_id"]
    ]
    assert demo.result.crashed_chain == demo.crashed("exception")["chain_of_custody_id"]


def test_the_loss_that_killed_the_run_is_kept(demo: Kept) -> None:
    """The last loss that the crashed run logged is not finite, and the stored JSON is readable all the same."""
    *_, logged = demo.told(demo.crashed("exception")["run_id"], "metrics_logged")

    assert logged["columns"]["train/loss"][-1] in {"NaN", "Infinity"}


def test_the_crashed_chain_goes_on_to_a_post(demo: Kept) -> None:
    """The crash's remedy was launched in the same chain, completed, and is the one run with a post."""
    crashed = demo.crashed("exception")
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
    """When all processes have closed it, the ledger is one file with no -wal beside it, and nothing waits in a spool."""
    assert [path.name for path in demo.root.iterdir() if path.is_file()] == ["runs.db"]
    assert not files_below(demo.root / "state" / "spool")


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
    assert demo.result.answers["crashes_by_method"] == [
        {"gradient_method": "pcgrad", "crashes": 1, "with_analysis": 1},
        {"gradient_method": "imtlg", "crashes": 1, "with_analysis": 1},
    ]


def test_reports_say_what_the_examples_computed(demo: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """The documented examples as verbs: best runs, methods compared, runs without posts, crashes by method."""

    def report(*words: str) -> list[dict[str, Any]]:
        assert main(["--db", f"{demo.root}/runs.db", "report", *words, "--json"]) == 0
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return rows

    shown, metric = demo.result.answers, f"objectives/{ALIAS}/raw_mean"
    best, methods = report("best", "--metric", metric), report("methods")
    crashes = report("crashes", "--by", "gradient_method")
    assert [f"{row[metric]:.4f}" for row in best] == [row[ALIAS] for row in shown["best_runs"]]
    assert {row["gradient_method"]: row["completed"] for row in methods} == {
        row["gradient_method"]: row["completed"] for row in shown["gradient_methods"]
    }
    assert {row["run_name"] for row in report("unposted", "--min-hours", "0")} == {
        row["run_name"] for row in shown["without_post"]
    }
    assert {(row["gradient_method"], row["crashed"], row["with_analysis"]) for row in crashes} == {
        (row["gradient_method"], row["crashes"], row["with_analysis"]) for row in shown["crashes_by_method"]
    }


def test_objectives_are_those_of_config_and_final_metrics(demo: Kept) -> None:
    """The table of objectives says what the configs list and what the runs reached, and compares methods by it."""
    with Ledger(demo.root / "runs.db") as book:
        runs = book.query_runs(limit=None)
        for run in runs:
            listed = json.loads(run["config_json"])["objectives"]
            metrics = json.loads(run["final_metrics_json"] or "{}")
            assert {
                (o["objective_name"], o["direction"], o["raw_mean"]) for o in book.get_run_objectives(run["run_id"])
            } == {
                (each["name"], each["direction"], metrics.get(f"objectives/{each['alias']}/raw_mean"))
                for each in listed
            }
        compared = book.compare_gradient_methods("digit_accuracy")
        reached = {
            run["run_id"]: book.get_run_objectives(run["run_id"]) for run in runs if run["status"] == "completed"
        }
        best = max(
            o["raw_mean"] for of_run in reached.values() for o in of_run if o["objective_name"] == "digit_accuracy"
        )

    assert (compared[0]["best"], sum(row["count"] for row in compared)) == (best, len(reached))


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


def test_a_system_without_exec_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where exec cannot work, no run is launched only to crash."""
    monkeypatch.delattr(signal, "sigwaitinfo")

    with pytest.raises(AskedWrongly, match="Use Linux"):
        run_demo(out=io.StringIO())


def test_importing_the_demo_loads_nothing_heavy() -> None:
    """The command line can import the demo where its extra is not installed."""
    code = "import sys, ledger.demo.sweep; print(sorted({'numpy', 'sklearn', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_what_the_caller_was_told_is_not_handed_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo's processes record in the demo's folder, whatever the caller's variables name."""
    told = {
        "TRAINING_DB_URL": "postgresql://hub/real",
        "TRAINING_DB_SPOOL": "s3://real",
        "XDG_STATE_HOME": "/home/ana/state",
        "TMPDIR": "/home/ana/tmp",
        "RESUMES_RUN_ID": "real",
        "SLURM_JOB_ID": "77",
        "LEDGER_WITNESS_FILE": "/tmp/real",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    handed_down = environment(Place(tmp_path), "r1", "ABC123")

    assert {name: handed_down[name] for name in (*told, "TRAINING_DB_PATH") if name in handed_down} == {
        "TRAINING_DB_PATH": str(tmp_path / "runs.db"),
        "TRAINING_DB_SPOOL": str(tmp_path / "state" / "spool"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path / "state"),
    }


def started(root: Path) -> list[str]:
    """Return the runs of a demo that have started by now; there may be no ledger yet."""
    with suppress(NoLedger), Ledger(root / "runs.db") as book:
        return [str(run["run_id"]) for run in book.query_runs(filters={"status": "running"})]
    return []


def processes_of(root: Path) -> list[str]:
    """Return the words of every process that was started for a folder: the demo, its execs, what they run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").replace("\0", " ")
            found += [words] if str(root) in words else []
    return found


def test_a_demo_that_is_told_to_end_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM ends the demo, the execs and what they run, and the runs say that a signal ended them."""
    kept = tmp_path / "kept"
    words = [sys.executable, "-m", "ledger", "demo", "--keep", str(kept)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as demo:
        until(lambda: started(kept), "a run that has started")
        assert len(processes_of(kept)) > 2
        demo.terminate()
        _, said = demo.communicate(timeout=PATIENCE_SECONDS)

    assert demo.returncode == 143
    assert b"Traceback" not in said
    until(lambda: not processes_of(kept), "the end of all processes")
    assert not started(kept)
    assert not list(kept.glob("runs.db-*"))


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet whose one run has started, and goes on for long."""
    place = Place(tmp_path)
    digits.prepare(place.pictures)
    entry = replace(SWEEP[-1], training={"learning_rate": 0.001, "max_steps": 1_000_000}, killed_after_step=None)
    with Ledger(place.ledger) as book:
        fleet = Fleet(book, place, Progress(io.StringIO()), 500)
        fleet.waiting.append((entry, "ABC123"))
        fleet.fill(1)
        try:
            run_id = fleet.running[0].run_id
            until(lambda: len(list(book.events(run_id, types="started"))) == 2, "a start that both have told of")
            yield fleet
        finally:
            fleet.stop()


def test_what_waits_in_the_spool_is_there_when_a_run_has_ended(tmp_path: Path) -> None:
    """An end that could not be recorded in the ledger is moved into it before anybody acts on it."""
    place = Place(tmp_path)
    with Ledger(place.ledger) as book, Ledger(f"spool://{place.spool}") as spool:
        book.insert_run("r1", None, {})
        spool.update_run_status("r1", "completed")
        spool.close()
        process = subprocess.Popen([sys.executable, "-c", ""], process_group=0)
        fleet = Fleet(book, place, Progress(io.StringIO()), 500)
        fleet.running.append(Launch("r1", "ABC123", SWEEP[0], {}, process))
        until(lambda: fleet.reap() or not fleet.running, "the end of the process")
        run = book.get_run("r1")

    assert run is not None
    assert run["status"] == "completed"
    assert not files_below(place.spool)


def test_without_its_exec_a_training_process_is_not_left_behind(patient: Fleet) -> None:
    """An exec that is killed itself leaves the training process to the fleet, which kills it and records the crash."""
    (launched,) = patient.running
    pid = training_process(patient.book, launched.run_id)
    assert pid is not None
    launched.process.kill()
    launched.process.wait()
    patient.reap()

    until(lambda: origin.process(pid) is None, "the end of the training process")
    run = patient.book.get_run(launched.run_id)
    assert run is not None
    assert (run["status"], run["exit_code"]) == ("crashed", None)
    assert not patient.waiting


def test_only_the_process_that_the_ledger_names_is_killed(patient: Fleet) -> None:
    """A pid that belongs to another process by now is left alone, and nothing is said of it."""
    (launched,) = patient.running
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        told = origin.process(other.pid)
        assert told is not None
        patient.book.append(Started(run_id=launched.run_id, process={**told, "started": 1}))

        assert kill(patient.book, launched.run_id) is None
        other.communicate(b"\n")

    assert other.returncode == 0
    assert not list(patient.book.events(run_id=launched.run_id, types="annotated"))


TRACEBACK = "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("evidence", "losses", "finding"),
    [
        (CrashEvidence("r", exit_code=137, end_reason="signal"), [1.0], "Signal 9"),
        (
            CrashEvidence("r", error_log=f"{TRACEBACK}KeyError: 'x'\n", exit_code=1, end_reason="exception"),
            [1.0],
            "No rule .* KeyError",
        ),
        (CrashEvidence("r", exit_code=3), [], "No rule .* exit code 3"),
        (
            CrashEvidence("r", {"learning_rate": 0.1}, error_log=f"{TRACEBACK}FloatingPointError: inf\n"),
            [2.0, 1.0, 9.0, 1e9],
            "diverged. The loss was lowest at step 2",
        ),
    ],
)
def test_an_analysis_says_no_more_than_its_rules_know(
    evidence: CrashEvidence, losses: list[float], finding: str
) -> None:
    """Signals, divergence and unknown ends are told apart; only divergence has a remedy."""
    analysis = analyze(evidence, losses)

    assert re.search(finding, analysis.finding)
    assert analysis.learning_rate == (pytest.approx(0.01) if "diverged" in finding else None)


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
