"""What a child has said of its own end is respected, and only completed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ledger.witness_word import Word, leave_word, read_word
from tests.execution.conftest import Ground

# A child that records its own end, as a tracker does, says so to exec, and then ends in another way.
TRACKED = """
import os, sys, time
from ledger import get_run, init_db, update_run_status
from ledger.witness_word import leave_word
init_db()
while not get_run(os.environ["RUN_ID"]):
    time.sleep(0.02)
update_run_status(os.environ["RUN_ID"], {status!r}, end_reason={reason!r}, exit_code={said!r})
assert leave_word({status!r}, run_id=os.environ["RUN_ID"], end_reason={reason!r}, exit_code={said!r})
{then}
"""


@pytest.mark.parametrize(
    ("status", "reason", "said", "then", "end", "added"),
    [
        ("completed", None, None, "", ("completed", None, 0), 1),
        ("completed", None, 0, "", ("completed", None, 0), 0),
        ("completed", None, None, "os.kill(os.getpid(), 11)", ("completed", None, 139), 1),
        ("completed", None, 0, "os.kill(os.getpid(), 11)", ("completed", None, 139), 1),
        ("crashed", "preempted", None, "sys.exit(75)", ("crashed", "preempted", 75), 1),
        ("failed", "user", 130, "os.kill(os.getpid(), 2)", ("failed", "user", 130), 0),
    ],
)
def test_the_childs_word_counts(
    status: str, reason: str | None, said: int | None, then: str, end: tuple, added: int, ground: Ground
) -> None:
    """Its status and reason stay; exec adds the exit code where that was not said, and nothing else."""
    ground.exec(sys.executable, "-c", TRACKED.format(status=status, reason=reason, said=said, then=then))

    assert ground.end() == end
    ends = [event.event for event in ground.events() if event.type in ("completed", "failed", "crashed")]
    assert len(ends) == 1 + added
    assert "crash_data_attached" not in ground.types()
    if added:
        assert ends[-1].said() == {"exit_code": end[2]}


def test_one_exec_within_another_says_it_once(ground: Ground) -> None:
    """Where the same run is watched twice, the outer witness takes the inner one's word."""
    inner = ground.words((), (sys.executable, "-c", "1/0"))
    ground.exec(*inner)

    assert ground.end() == ("crashed", "exception", 1)
    assert ground.types().count("crashed") == 1


def test_a_word_is_read_as_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one of the run counts; others' words and broken lines do not, and without a witness nothing happens."""
    monkeypatch.delenv("LEDGER_WITNESS_FILE", raising=False)
    assert not leave_word("completed", run_id="r")
    path = tmp_path / "word"
    monkeypatch.setenv("LEDGER_WITNESS_FILE", str(path))
    assert not leave_word("completed", run_id="r")
    assert read_word(path, "r") is None
    path.touch()
    assert leave_word("failed", run_id="r")
    assert leave_word("crashed", run_id="ü", end_reason="oom", exit_code=1, error_log=tmp_path)
    assert leave_word("completed", run_id="r", exit_code=0)
    with path.open("a") as file:
        file.write(
            '{"run_id": "r", "status": "launched"}\n[1]\nnull\n{"run_id": 5, "status": "failed"}\n{"run_id": "r"'
        )

    assert read_word(path, "r") == Word("r", "completed", None, 0)
    assert read_word(path, "ü") == Word("ü", "crashed", "oom", 1, str(tmp_path))
    assert read_word(path, "other") is None


@pytest.mark.parametrize("value", ['"1"', "true", "1.5", "null"])
def test_an_exit_code_that_is_none_is_not_taken(value: str, tmp_path: Path) -> None:
    """What a stranger writes is read as far as it can be meant."""
    path = tmp_path / "word"
    path.write_text(f'{{"run_id": "r", "status": "failed", "exit_code": {value}, "end_reason": 5}}')

    assert read_word(path, "r") == Word("r", "failed")
