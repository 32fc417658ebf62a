"""The page on history and getting it out shows what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.house.test_docs import ROOT, fenced

PAGE = (ROOT / "docs/getting-it-out.md").read_text(encoding="utf-8")


def answered(command: list[str] | str, home: Path) -> str:
    """Run a command in a folder whose runs.db is the default ledger, and return what it prints."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": places, "TRAINING_DB_PATH": str(home / "runs.db")}
    made = subprocess.run(
        command, cwd=home, env=env, capture_output=True, text=True, check=False, shell=isinstance(command, str)
    )
    assert (made.returncode, made.stderr) == (0, "")
    return made.stdout


def test_the_page_is_true(tmp_path: Path) -> None:
    """Its script prints what is printed there, and so do its commands on the ledger that the script leaves."""
    script = answered([sys.executable, "-c", "\n".join(fenced(PAGE, "python"))], tmp_path)
    turns = [turn for block in fenced(PAGE, "console") for turn in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    said = [turn.partition("\n")[::2] for turn in turns]

    assert script == "".join(fenced(PAGE, "text"))
    assert [answered(command, tmp_path) for command, _ in said] == [printed for _, printed in said]
    assert {"runs.parquet", "curve.svg", "chain.png"} <= {path.name for path in tmp_path.iterdir()}
