"""How far a work has come: told now and then, and at its end."""

from __future__ import annotations

import pytest

from ledger import progress
from ledger.progress import Pace, Progress


def test_the_rest_takes_as_long_as_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a quarter of the steps the rest takes three times as long as they took."""
    told: list[Progress] = []
    clock = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    pace = Pace(100, told.append)
    clock += 5
    pace.step(25)

    assert told == [Progress(25, 100, 15.0)]


def test_a_watcher_is_not_told_of_every_step() -> None:
    """Many steps within a moment are told once, at the end."""
    told: list[Progress] = []
    pace = Pace(0, told.append)
    for _ in range(1000):
        pace.step()
    pace.finish()

    assert told[-1] == Progress(1000, 1000, 0.0)
    assert len(told) < 10


def test_where_the_total_is_not_known_nobody_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a total there is no time left to be told; without a watcher nothing is told at all."""
    told: list[Progress] = []
    monkeypatch.setattr(progress, "TOLD_EVERY_SECONDS", 0)
    Pace(0, told.append).step()
    silent = Pace(5, None)
    silent.step()
    silent.finish()

    assert told == [Progress(1, 0, None)]
