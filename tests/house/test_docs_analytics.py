"""The examples of the page on reports print what is printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.house.test_docs import DOCUMENTS, ROOT, fenced

PAGE = DOCUMENTS["docs/analytics.md"]


def run(folder: Path, *command: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRAINING_DB_PATH": str(folder / "runs.db"), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_page_on_reports_is_true(tmp_path: Path) -> None:
    """Its Python, run as one script, and then its commands print what is printed there."""
    assert run(tmp_path, sys.executable, "-c", "\n".join(fenced(PAGE, "python"))) == "".join(fenced(PAGE, "text"))

    (console,) = fenced(PAGE, "console")
    turns = [turn.partition("\n")[::2] for turn in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]]
    for command, answer in turns:
        assert run(tmp_path, sys.executable, "-m", *command.split()) == answer
    assert len(turns) == 5
