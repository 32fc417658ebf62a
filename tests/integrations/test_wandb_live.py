"""The W&B run of a process: what is kept of it, and that its summary is taken just before W&B finishes it."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger.wandb_run import Attachment, current, described, summary_of, watch_finish
from tests.integrations.wandb_logs import begun

SCRIPT = r"""
import json, math, os, signal, sys
import ledger.wandb_run as live

assert live.current() is None and "wandb" not in sys.modules
import wandb

life = sys.argv[1]
said = {"taken": []}


def say():
    with open("said.json", "w") as file:
        json.dump(said, file)


def take(summary):
    said["taken"].append(summary)
    say()
    if life == "raises":
        raise ValueError("ours")


mode = "disabled" if life == "disabled" else "offline"
run = wandb.init(project="p", id="abc", name="n", group="g", tags=["a", "b"], mode=mode)
described = live.described(run)
said["described"] = None if described is None else vars(described)
said["current"] = live.current() is run
undo = live.watch_finish(run, take)
run.log({"loss": 0.5, "nan": math.nan, "hist": wandb.Histogram([1, 2]), "deep": {"er": 1}})
said["live"] = live.summary_of(run)
say()
if life in {"finish", "raises"}:
    run.finish()
elif life == "module":
    wandb.finish()
elif life == "within":
    with run:
        run.log({"loss": 0.25})
elif life == "exception":
    with run:
        raise ValueError("boom")
elif life == "exit":
    sys.exit(3)
elif life == "interrupted":
    os.kill(os.getpid(), signal.SIGINT)
elif life == "undone":
    undo()
    run.finish()
elif life == "again":
    run.finish()
    said["after"] = live.summary_of(run)
    second = wandb.init(project="p", id="def", mode="offline")
    live.watch_finish(second, take)
    second.log({"loss": 7})
    second.finish()
say()
"""
LIVES = (
    "finish", "raises", "module", "within", "exception", "exit", "interrupted", "undone", "again", "the end", "disabled",
)  # fmt: skip
CODES = {"exception": 1, "exit": 3, "interrupted": 130}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Give what each process wrote down, all with the real SDK, offline."""
    place = tmp_path_factory.mktemp("live")
    made: dict[str, dict[str, Any]] = {}
    for together in (LIVES[:4], LIVES[4:8], LIVES[8:]):
        processes = {life: begun(place / life, life, script=SCRIPT) for life in together}
        for life, process in processes.items():
            code = process.wait(120)
            assert code == CODES.get(life, 0) or (life, code) == ("interrupted", -2)
            made[life] = json.loads((place / life / "said.json").read_text())
    return made


def test_an_offline_run_is_described_without_a_url(said: dict[str, dict[str, Any]]) -> None:
    """Id, name, group and tags are those that the run was begun with, and it is the current one."""
    assert said["finish"]["described"] == {
        "wandb_run_id": "abc", "wandb_url": None, "wandb_name": "n", "group": "g", "tags": ["a", "b"],
    }  # fmt: skip
    assert said["finish"]["current"]


def test_a_disabled_run_is_none(said: dict[str, dict[str, Any]]) -> None:
    """What a disabled run calls itself means nothing."""
    assert said["disabled"]["described"] is None


def test_a_live_summary_is_plain_data(said: dict[str, dict[str, Any]]) -> None:
    """Not finite values are texts, a histogram is an object, nested ones stay nested, W&B's bookkeeping is left out."""
    summary = said["finish"]["live"]

    assert (summary["loss"], summary["nan"], summary["deep"], summary["hist"]["_type"]) == (
        0.5,
        "NaN",
        {"er": 1},
        "histogram",
    )
    assert "_wandb" not in summary


@pytest.mark.parametrize("life", ["finish", "raises", "module", "exception", "exit", "interrupted", "the end"])
def test_the_summary_is_taken_once(said: dict[str, dict[str, Any]], life: str) -> None:
    """However the run ends, it is taken before W&B empties it, once, and what the taker raises stops nothing."""
    (taken,) = said[life]["taken"]
    assert (taken["loss"], taken["_step"]) == (0.5, 0)


def test_what_was_logged_last_is_in_it(said: dict[str, dict[str, Any]]) -> None:
    """A row that is logged within `with wandb.init()` is in the summary that its end gives."""
    assert [taken["loss"] for taken in said["within"]["taken"]] == [0.25]


def test_each_run_of_a_process_has_its_own(said: dict[str, dict[str, Any]]) -> None:
    """A finished run has no summary any more, and the next one's is its own."""
    assert said["again"]["after"] is None
    assert [taken["loss"] for taken in said["again"]["taken"]] == [0.5, 7]


def test_a_watch_can_be_undone(said: dict[str, dict[str, Any]]) -> None:
    """After that, nothing is taken."""
    assert said["undone"]["taken"] == []


class Broken:
    """A stranger's object of which everything raises."""

    def __getattr__(self, name: str) -> object:
        raise ConnectionError(name)


@pytest.mark.parametrize("make", [lambda: None, Broken, SimpleNamespace, lambda: SimpleNamespace(id=" ", summary=[1])])
def test_a_stranger_breaks_nothing(make: Callable[[], object]) -> None:
    """What is no W&B run has no description, no summary and no end to wait for."""
    stranger = make()
    assert described(stranger) is None
    assert summary_of(stranger) is None
    watch_finish(stranger, lambda _: None)()


def test_the_public_api_is_taken_too() -> None:
    """A finished run as the public API gives it has a url, and a summary under another name."""
    run = SimpleNamespace(
        id="abc", url="https://wandb.example/e/p/runs/abc", name="n", group="", tags=["a", 5, ""],
        summary=SimpleNamespace(_json_dict={"loss": 0.5, "_wandb": {"runtime": 5}}),
    )  # fmt: skip

    assert described(run) == Attachment("abc", "https://wandb.example/e/p/runs/abc", "n", None, ("a",))
    assert summary_of(run) == {"loss": 0.5}


def finishing(taken: list[object]) -> tuple[Any, Callable[[], None]]:
    """Return a run of a W&B that knows no hooks, and what undoes the watch on it."""

    class Run:
        summary: dict[str, float] = {"loss": 0.5}

        def finish(self, exit_code: int = 0) -> int:
            type(self).summary = {}
            return exit_code

    run = Run()
    return run, watch_finish(run, taken.append)


def test_a_wandb_without_hooks_is_watched_at_finish() -> None:
    """`finish` takes the summary first, does what it did before, and is itself again afterwards."""
    taken: list[object] = []
    run, undo = finishing(taken)

    assert (run.finish(exit_code=4), taken) == (4, [{"loss": 0.5}])
    assert (run.finish(3), taken) == (3, [{"loss": 0.5}])
    undo()
    assert "finish" not in vars(run)


def test_undoing_leaves_nothing_for_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was registered for the end of the process is taken back."""
    kept: list[object] = []
    monkeypatch.setattr(atexit, "register", kept.append)
    monkeypatch.setattr(atexit, "unregister", kept.remove)
    run, undo = finishing([])

    assert len(kept) == 1
    undo()
    assert kept == []


def test_a_child_takes_nothing(tmp_path: Path) -> None:
    """A forked child that ends, or finishes the run, leaves the summary to its parent."""
    code = """
import os, sys
from types import SimpleNamespace
from ledger.wandb_run import watch_finish

run = SimpleNamespace(summary={"loss": 0.5}, finish=lambda: None)
watch_finish(run, lambda summary: print(os.getpid() == parent, summary, flush=True))
parent = os.getpid()
if os.fork() == 0:
    run.finish()
    sys.exit()
os.wait()
"""
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True
    )

    assert (made.stdout, made.stderr) == ("True {'loss': 0.5}\n", "")


def test_no_run_is_current_without_wandb(tmp_path: Path) -> None:
    """Asking for the current run never imports W&B."""
    code = "import sys, ledger.wandb_run as live; print(live.current(), 'wandb' in sys.modules)"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True
    )

    assert made.stdout == "None False\n"
    assert current() is None or "wandb" in sys.modules
