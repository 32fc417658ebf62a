"""What a process says of its own end to the one that watches it, in a file between the two.

`ledger exec` makes the file and names it in its child's environment. Who has recorded an end in the child
leaves a line there, so that the watcher does not contradict it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ledger.settings import witness_file

__all__ = ["RUNNING", "Word", "leave_word", "read_word"]

RUNNING = "running"  # said at a start, which takes back what was said of an earlier end
_SAYABLE = (RUNNING, "completed", "failed", "crashed")


@dataclass(frozen=True)
class Word:
    """An end that was recorded of a run: its status, and what else was said of it."""

    run_id: str
    status: str
    end_reason: str | None = None
    exit_code: int | None = None
    error_log: str | None = None  # where a file with it lies


def leave_word(
    status: str,
    *,
    run_id: str,
    end_reason: str | None = None,
    exit_code: int | None = None,
    error_log: str | os.PathLike[str] | None = None,
) -> bool:
    """Say to whoever watches this process that an end, or a start (`running`), was recorded; never raises.

    Return whether somebody watches.
    """
    path = witness_file()
    if path is None:
        return False
    word = Word(run_id, status, end_reason, exit_code, None if error_log is None else os.fspath(error_log))
    line = json.dumps({name: value for name, value in asdict(word).items() if value is not None}) + "\n"
    try:
        # No O_CREAT: where the watcher has gone, its file has, too. O_APPEND: several processes may say it.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(file, line.encode("ascii")) == len(line)
    except OSError:
        return False
    finally:
        os.close(file)


def read_word(path: str | os.PathLike[str], run_id: str) -> Word | None:
    """Return what was said last of this run in the file; None where that is nothing."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    words = (_word(line) for line in reversed(lines))
    last = next((word for word in words if word is not None and word.run_id == run_id), None)
    return None if last is None or last.status == RUNNING else last


def _word(line: str) -> Word | None:
    """A line as it can be meant; half a line of a process that died, and what a stranger wrote, is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("status") not in _SAYABLE or not isinstance(said.get("run_id"), str):
        return None
    exit_code = said.get("exit_code")
    return Word(
        said["run_id"],
        said["status"],
        _text(said.get("end_reason")),
        exit_code if isinstance(exit_code, int) and not isinstance(exit_code, bool) else None,
        _text(said.get("error_log")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
