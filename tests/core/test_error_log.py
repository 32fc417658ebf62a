"""Error logs: whole on the machine, their end in the event, and never a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.error_log import LINES_LENGTH_MAX, error_log_folder, keep_error_log, last_lines
from ledger.events import Crashed


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("run_id", ["r1", "../../etc", "a/b", "..", "ü" * 300, "x\ny"])
def test_every_run_has_a_folder_of_its_own(run_id: str, state: Path) -> None:
    """Whatever a run is called, its logs lie below our folder and nowhere else."""
    path = keep_error_log(run_id, "Traceback\n")

    assert path is not None
    assert path.resolve().parents[1] == (state / "training-run-ledger" / "crash-reports").resolve()
    assert path.parent == error_log_folder(run_id)
    assert path.read_text(encoding="utf-8") == "Traceback\n"


def test_a_second_log_leaves_the_first() -> None:
    """A run that crashes twice has two."""
    first, second = keep_error_log("r", "one"), keep_error_log("r", "two")

    assert first != second
    assert first is not None
    assert first.read_text(encoding="utf-8") == "one"


def test_nothing_is_kept_of_nothing_or_without_room(state: Path) -> None:
    """No file for an empty log, and no error where there is no place."""
    assert keep_error_log("r", " \n") is None
    (state / "training-run-ledger").write_text("in the way", encoding="utf-8")
    assert keep_error_log("r", "x") is None


@pytest.mark.parametrize("text", ["a\x00b\ud800c\n", "x" * 40_000, "line\n" * 10_000, "short"])
def test_the_end_fits_into_an_event(text: str) -> None:
    """It is bounded, begins with a whole line where there are lines, and is text that every database keeps."""
    end = last_lines(text)

    assert end is not None
    assert len(end) <= LINES_LENGTH_MAX
    assert Crashed(run_id="r", error_log=end).error_log == end
    assert end.startswith(("a", "x", "line", "short"))


def test_no_end_of_nothing() -> None:
    """Blank is not said."""
    assert last_lines(" \n") is None
