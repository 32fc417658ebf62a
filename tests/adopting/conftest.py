"""A file of the earlier API, and a ledger beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adopting.old import LATER, LATER_ROWS, ROWS, SCHEMA, made


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Give the golden file, as the newest version of the earlier API left it."""
    return made(tmp_path / "training_runs.db", SCHEMA, LATER, ROWS, LATER_ROWS)
