"""The tracker beside the other witnesses: `ledger exec` around it, the sweep after it, W&B within it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.events.times import parse_moment
from tests.tracking.processes import SECONDS_MAX, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def under_exec(place: Place, script: str) -> tuple[int, str]:
    """Run *script* as a child of `ledger exec`."""
    words = [sys.executable, "-m", "ledger", "exec", "--run-id", "r", "--", sys.executable, "-c", script]
    done = subprocess.run(words, env=place.environment(), capture_output=True, text=True, timeout=SECONDS_MAX)
    return done.returncode, done.stderr


TRACKED = """
import os, signal, sys, ledger
with ledger.track(config={{"batch_size": 8}}, {options}) as run:
    run.log({{"loss": 0.5}})
    {way}
{after}
"""


@pytest.mark.parametrize(
    ("options", "way", "after", "code", "status", "reason", "recorded"),
    [
        ("", "pass", "", 0, "completed", None, 0),
        ("", "raise ValueError('x')", "", 1, "crashed", "exception", None),
        ("", "sys.exit(3)", "", 3, "failed", None, 3),
        ("", "run.flush(); os.kill(os.getpid(), signal.SIGKILL)", "", 137, "crashed", "signal", 137),
        ("stopped_means='completed'", "os.kill(os.getpid(), signal.SIGINT)", "", 130, "completed", "user", 130),
        ("", "pass", "os.kill(os.getpid(), signal.SIGSEGV)", 139, "completed", None, 139),
    ],
)  # fmt: skip
def test_the_process_knows_best_how_it_ended_and_exec_knows_the_rest(
    place: Place, options: str, way: str, after: str, code: int, status: str, reason: str | None, recorded: int | None
) -> None:
    """What the process has said of its end stands; where it could say nothing, exec has seen it."""
    returned, err = under_exec(place, TRACKED.format(options=options, way=way, after=after))
    row = place.row()

    assert returned == code, err
    assert (row["status"], row["end_reason"]) == (status, reason), err
    assert row["exit_code"] in (recorded, code)
    assert row["batch_size"] == 8
    assert len([name for name in place.types() if name in ("completed", "failed", "crashed")]) <= 2


LOST = """
import os, signal, ledger
with ledger.track("r", heartbeat_seconds=0.2) as run:
    run.log({"loss": 0.5})
    run.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _wait_until_lost(place: Place) -> str:
    seen = place.row()["last_seen_at"]
    while (datetime.now(UTC) - parse_moment(seen)).total_seconds() < 3.5:  # three leases of a second
        signal.sigtimedwait([], 0.1)
    return str(seen)


def test_a_sweep_ends_a_killed_process_at_its_last_sign_of_life(place: Place) -> None:
    """The process that the start names is gone: witnessed, with the time at which it was last heard of."""
    place.run(LOST)
    seen = _wait_until_lost(place)
    with place.ledger() as book:
        assert book.get_run("r")["liveness"] == "lost"  # type: ignore[index]
        (verdict,) = book.sweep()
    row = place.row()

    assert (verdict.action, verdict.detected_by) == ("crashed", "process")
    assert (row["status"], row["ended_at"], row["liveness"]) == ("crashed", seen, "ended")


def test_a_sweep_presumes_where_no_witness_is_and_a_sign_of_life_revives(place: Place) -> None:
    """Without witnesses it is a presumption, which the next heartbeat takes back, with both on the timeline."""
    place.run(LOST)
    _wait_until_lost(place)
    with place.ledger() as book:
        (verdict,) = book.sweep(witnesses=[])
        crashed = book.get_run("r")
    place.run("import ledger\nrun = ledger.start_run('r')\nrun.finish('failed')")

    assert verdict.presumed
    assert crashed is not None
    assert crashed["status"] == "crashed"
    assert [name for name in place.types() if name in ("crashed", "started", "failed")] == [
        "started", "crashed", "started", "failed",
    ]  # fmt: skip


def test_an_end_that_lies_in_the_spool_is_heard_before_the_sweep_judges(place: Place) -> None:
    """A process that ended well while the ledger was away is not declared dead by the sweep of its machine."""
    with place.ledger() as book:
        book.insert_run("r", None, {})
    script = """
import os, sys, ledger
with ledger.track("r", heartbeat_seconds=0.2) as run:
    run.flush()
    os.rename(sys.argv[1], sys.argv[1] + ".away")
"""
    folder = str(place.path.parent)
    subprocess.run([sys.executable, "-c", script, folder], env=place.environment(), check=True, timeout=SECONDS_MAX)
    Path(f"{folder}.away").rename(folder)
    assert place.row()["status"] == "running"
    _wait_until_lost(place)
    environment = place.environment()
    swept = subprocess.run(
        [sys.executable, "-m", "ledger", "sweep", "--json"], env=environment, capture_output=True, text=True, check=True
    )

    assert json.loads(swept.stdout) == {"verdicts": []}
    assert place.row()["status"] == "completed"


def test_a_spool_of_ones_own_is_for_one_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was spooled for one ledger is not brought into another that the same user records to."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "first.db").mkdir()
    with Ledger(tmp_path / "first.db").track("one"):
        pass
    with Ledger(tmp_path / "second.db") as second:
        with second.track("two"):
            pass
        second.sweep()
        assert [row["run_id"] for row in second.query_runs()] == ["two"]


WANDB = """
import os, ledger, wandb
live = wandb.init(project="p", name="glad-sun", group="g", tags=["a", "b"], config={"lr": 1}, dir=os.environ["HERE"])
with ledger.track("r", config={"lr": 1}) as run:
    run.attach_wandb()
    for step in range(3):
        live.log({"loss": 1 / (step + 1)})
        run.log({"mine": step})
    live.summary["objectives/x/raw_mean"] = 0.75
    %s
"""


@pytest.mark.parametrize("way", ["pass", "live.finish()", "raise ValueError('x')"])
def test_an_offline_wandb_run_is_attached_and_its_summary_kept(place: Place, way: str) -> None:
    """Id, name, group and tags are those of the W&B run, and its summary is among the final metrics, whoever ends first."""
    offline = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    env = {**offline, "HERE": str(place.folder), "HOME": str(place.folder), "WANDB_DIR": str(place.folder)}
    _, _, err = place.run(WANDB % way, env=env)
    row = place.row()
    metrics = json.loads(row["final_metrics_json"])

    assert row["wandb_run_id"], err
    assert (row["wandb_name"], row["tags_json"]) == ("glad-sun", '["a","b"]')
    assert json.loads(row["metadata_json"]) == {"wandb_group": "g"}
    assert metrics["loss"] == pytest.approx(1 / 3), err
    assert (metrics["mine"], metrics["objectives/x/raw_mean"]) == (2, 0.75)
    assert row["status"] == ("crashed" if "raise" in way else "completed")


def test_a_disabled_wandb_run_is_none(place: Place) -> None:
    """With W&B switched off nothing is attached, and nothing goes wrong."""
    script = """
import os, ledger, wandb
live = wandb.init(mode="disabled")
with ledger.track("r") as run:
    run.attach_wandb(live)
    run.attach_wandb()
"""
    code, _, err = place.run(script, env={"HOME": str(place.folder), "WANDB_ERROR_REPORTING": "false"})

    assert code == 0, err
    assert place.row()["wandb_run_id"] is None
    assert "wandb_attached" not in place.types()


def test_a_replacement_under_exec_takes_over_too(place: Place) -> None:
    """A spot replacement that exec runs gets the W&B run of the one that stopped, and both timelines say so."""
    with place.ledger() as book:
        book.insert_run("old", "w1", {})
    words = [sys.executable, "-m", "ledger", "exec", "--run-id", "r", "--resumes", "old", "--", "true"]
    subprocess.run(words, env=place.environment(), check=True, timeout=SECONDS_MAX)

    assert (place.row("old")["wandb_run_id"], place.row()["wandb_run_id"]) == (None, "w1")
    assert place.types("old")[-1] == "resumed"
