"""The examples of the documents are scripts that run: offline, and against what stands in for AWS."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from ledger import Ledger
from tests.store.crowd import ROOT

EXAMPLES = ROOT / "docs" / "examples"
CHAT = {"messages": [{"role": "user", "content": "Try MGDA."}]}


@pytest.fixture
def desk(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a config and a conversation, and an environment that names a ledger which is not there yet."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    (tmp_path / "mgda.yaml").write_text("training: {batch_size: 384}\n")
    (tmp_path / "chat.json").write_text(json.dumps(CHAT))
    return tmp_path


def run(desk: Path, name: str, *words: str, code: int = 0, **handed: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **handed}
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(command, cwd=desk, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def row(path: Path, run_id: str) -> dict[str, Any]:
    with Ledger(path) as book:
        found = book.get_run(run_id)
    assert found is not None
    return found


def test_a_run_is_launched_trained_crashed_and_written_up(desk: Path, path: Path) -> None:
    """The four scripts, one after the other, tell the ledger one story; a folder stands in for the bucket."""
    said = (
        "--spool",
        "s3://team-spool/runs",
        "--conversation",
        "chat.json",
        "--folder",
        "kept",
        "--instance-id",
        "i-1",
    )
    launched = run(desk, "launch_ec2.py", "mgda.yaml", *said)
    train = [sys.executable, str(EXAMPLES / "train.py")]
    run(desk, "crash_handler.py", "--folder", "kept", "mgda_i-1", "--", *train, "--steps", "10")
    assert row(path, "mgda_i-1")["status"] == "completed"

    crash = run(desk, "crash_handler.py", "--folder", "kept", "mgda_i-1", "--", *train, "--diverge", code=1)
    (desk / "post.json").write_text(json.dumps({"slug": "mgda", "run_ids": ["mgda_i-1", "nobody"]}))
    post = run(desk, "submit_blog_post.py", "post.json", "https://example.org/posts/", code=1)
    after = row(path, "mgda_i-1")

    assert launched.stdout.startswith("#!/bin/bash\n")
    assert crash.stdout == "mgda_i-1 crashed; report: crash-reports/mgda_i-1/report.md\n"
    assert (after["status"], after["exit_code"], after["end_reason"]) == ("crashed", 1, "exception")
    assert after["blog_post_url"] == "https://example.org/posts/mgda"
    assert "nobody: no run 'nobody'" in post.stderr
    keys = [after[f"{name}_s3_key"] for name in ("conversation", "error_log", "crash_report", "crash_analysis")]
    texts = [(desk / "kept" / key).read_text() for key in keys]
    assert json.loads(texts[0]) == CHAT
    assert texts[1].splitlines()[-1] in texts[3]
    assert "OverflowError" in texts[1] or "FloatingPointError" in texts[1]
    with Ledger(path) as book:
        assert [event.type for event in book.events("mgda_i-1")] == [
            "launched", "conversation_attached", "started", "completed", "started", "crashed",
            "crash_data_attached", "blog_attached",
        ]  # fmt: skip


def test_an_instance_is_started_with_its_user_data(desk: Path, path: Path, bucket: Any) -> None:
    """On EC2 and S3: the instance's own id is the run's, and its script is one that bash can read."""
    said = ("--spool", "s3://team/spool", "--conversation", "chat.json", "--bucket", "team", "--image", "ami-12345678")
    done = run(desk, "launch_ec2.py", "mgda.yaml", *said)
    run_id = done.stderr.partition(",")[0]
    instance_id = run_id.removeprefix("mgda_")
    asked = boto3.client("ec2").describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
    script = base64.b64decode(asked["UserData"]["Value"]).decode()
    checked = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
    after = row(path, run_id)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"export CHAIN_OF_CUSTODY_ID={after['chain_of_custody_id']}\n" in script
    assert 'RUN_ID=mgda_"$INSTANCE_ID"\n' in script
    assert (after["instance_id"], after["status"]) == (instance_id, "launched")
    assert json.loads(bucket.Object(after["conversation_s3_key"]).get()["Body"].read()) == CHAT


def test_a_training_may_report_to_wandb(desk: Path, path: Path, book: Ledger) -> None:
    """Offline; its id and its summary are the ledger's."""
    book.insert_run("r", None, {})
    run(desk, "train.py", "--wandb", "--steps", "3", RUN_ID="r", WANDB_MODE="offline", WANDB_SILENT="true")
    after = row(path, "r")

    assert (after["status"], bool(after["wandb_run_id"])) == ("completed", True)
    assert 0 < json.loads(after["final_metrics_json"])["loss"] < 1


def test_the_page_on_integrations_is_true(
    bucket: Any, book: Ledger, desk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its snippets, one after the other, say to the ledger what the page says that they do."""
    page = (ROOT / "docs/integrations.md").read_text()
    launch, crash, blog, training = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    wandb = SimpleNamespace(run=SimpleNamespace(id="w", url=None, summary={"loss": 1}))
    told: list[Any] = []
    names: dict[str, Any] = {
        "messages": ["Try MGDA."],
        "stderr": "Killed\n",
        "tell_the_team": told.append,
        "wandb": wandb,
    }
    (desk / "configs").mkdir()
    (desk / "mgda.yaml").rename(desk / "configs/mgda.yaml")
    monkeypatch.chdir(desk)
    monkeypatch.setenv("RUN_ID", "mgda_i-abc123")
    team = boto3.resource("s3").create_bucket(Bucket="team-runs")
    for snippet in (launch, training, crash, blog):
        if snippet is crash:
            book.update_run_status("mgda_i-abc123", "running")
        exec(snippet, names)
    after = row(desk / "runs.db", "mgda_i-abc123")
    kept = sorted(found.key for found in team.objects.all())
    team.objects.delete()
    team.delete()

    assert (after["status"], after["exit_code"], after["end_reason"]) == ("crashed", 137, "oom")
    assert (after["wandb_run_id"], json.loads(after["final_metrics_json"])) == ("w", {"loss": 1})
    assert kept == sorted(after[f"{name}_s3_key"] for name in ("conversation", "error_log", "crash_report"))
    assert [problem.partition(":")[0] for problem in told[0].problems] == [
        "analyzing the crash"
    ]  # there is no such model
    assert names["published"].attached == ("mgda_i-abc123",)
    assert list(names["published"].failed) == ["pcgrad_i-def456"]
