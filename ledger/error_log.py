"""What a run said last, kept: as a file on its machine, and its end in the event that tells of its end."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ledger import origin
from ledger.settings import state_folder

__all__ = ["LINES_LENGTH_MAX", "error_log_folder", "keep_error_log", "last_lines"]

LINES_LENGTH_MAX = 16_384  # characters that go into an event
_NAME_LENGTH_MAX = 150
_UNSTORABLE = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}


def error_log_folder(run_id: str) -> Path:
    """Return where a run's error logs lie on this machine: `crash-reports/RUN` in our state folder."""
    name = quote(run_id, safe=" +,=@")[:_NAME_LENGTH_MAX]
    return state_folder() / "crash-reports" / (name.replace(".", "%2E", 1) if name.startswith(".") else name)


def keep_error_log(run_id: str, text: str) -> Path | None:
    """Write a file of its own and return its path; None where there is nothing to write, or no room for it."""
    if not text.strip():
        return None
    path = error_log_folder(run_id) / f"error-{origin.now():%Y%m%dT%H%M%S.%fZ}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path


def last_lines(text: str) -> str | None:
    """Return the end of *text*, whole lines, as every database can keep it; None where there is none."""
    end = text.translate(_UNSTORABLE)
    if len(end) > LINES_LENGTH_MAX:
        end = end[-LINES_LENGTH_MAX:]
        end = end.partition("\n")[2] or end
    return end if end.strip() else None
