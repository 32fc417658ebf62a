"""How often laws are tried, and a place where no test meets a real ledger."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ledger import Ledger

# A shell that starts the tests in its background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

# LEDGER_PROOF=full tries what is new each time, and far more of it.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=80, suppress_health_check=_SLOW)
settings.register_profile("full", deadline=None, max_examples=2000, suppress_health_check=_SLOW)
settings.load_profile("full" if os.environ.get("LEDGER_PROOF") == "full" else "ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the long proofs the time they take; the usual ones have pyproject.toml's limit, so that what hangs is named."""
    if os.environ.get("LEDGER_PROOF") == "full":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables away that could name somebody's ledger."""
    for name in [name for name in os.environ if name.startswith("TRAINING_DB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file in which there is no ledger yet."""
    return tmp_path / "runs.db"


@pytest.fixture
def book(path: Path) -> Iterator[Ledger]:
    """Give an empty ledger in a file."""
    with Ledger(path) as book:
        book.init_db()
        yield book
