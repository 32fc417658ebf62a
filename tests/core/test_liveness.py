"""Liveness: derived at reading time from a run's row and the lease that its heartbeats hold."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import Ledger
from ledger.events import LEASE_SECONDS, Event
from ledger.projections.fold import fold_facts
from ledger.projections.liveness import LEASES_MAX, LIVENESS, Present, liveness
from tests.builders import (
    HOUR,
    amended,
    annotated,
    checkpoint_saved,
    clock,
    completed,
    crashed,
    heartbeat,
    launched,
    lives,
    metrics_logged,
    moment,
    started,
)

DAY = 24 * HOUR
LOST = LEASES_MAX * LEASE_SECONDS


def at(seconds: float, *events: Event) -> str:
    """Return the liveness of the run "r" so many seconds after NOON, as the fold says it and as SQL does."""
    present = Present(moment(seconds))
    by_fold = liveness(lives(events)["r"], clock(seconds), present)
    with Ledger(":memory:") as book:
        book.append(events)
        row = book._answers.get_run("r", present)
    assert row is not None
    assert row["liveness"] == by_fold
    return by_fold


CASES: dict[str, tuple[float, tuple[Event, ...], str]] = {
    "a launch is not known to live": (HOUR, (launched(),), "unknown"),
    "a launch without a sign of life is late after an hour": (HOUR + 1, (launched(),), "late"),
    "and still a day later": (DAY, (launched(),), "late"),
    "and then lost": (DAY + 1, (launched(),), "lost"),
    "what is attached is no sign of life": (DAY + 1, (launched(), annotated(DAY, note="x")), "lost"),
    "a run that never beat is unknown for ever": (400 * DAY, (launched(), started(1)), "unknown"),
    "progress that promises nothing leaves it so": (
        DAY,
        (started(1), heartbeat(2, step=1, lease_seconds=0)),
        "unknown",
    ),
    "metrics and checkpoints alone too": (
        DAY,
        (started(1), metrics_logged(2, columns={}), checkpoint_saved(3, uri="x")),
        "unknown",
    ),
    "a beat holds a lease": (LEASE_SECONDS, (started(), heartbeat(0)), "alive"),
    "which runs out": (LEASE_SECONDS + 1, (started(), heartbeat(0)), "late"),
    "and is late until three have": (LOST, (started(), heartbeat(0)), "late"),
    "and then lost ": (LOST + 1, (started(), heartbeat(0)), "lost"),
    "a beat may promise another": (60, (started(), heartbeat(0, lease_seconds=10)), "lost"),
    "any sign of life holds it": (60, (heartbeat(0, lease_seconds=10), metrics_logged(55, columns={})), "alive"),
    "the latest promise counts": (60, (heartbeat(0, lease_seconds=10), heartbeat(1, lease_seconds=100)), "alive"),
    "one of nothing changes none": (60, (heartbeat(0, lease_seconds=100), heartbeat(1, lease_seconds=0)), "alive"),
    "a promise that is no number is the usual one": (60, (heartbeat(0, lease_seconds=float("nan")),), "alive"),
    "a new start knows nothing of the old lease": (DAY, (heartbeat(0), started(1)), "unknown"),
    "a clock that is ahead is no silence": (0, (heartbeat(100),), "alive"),
    "what has ended": (DAY, (heartbeat(0), completed(1)), "ended"),
    "and what crashed": (DAY, (heartbeat(0), crashed(1, presumed=True)), "ended"),
    "a presumed crash that was none": (
        70,
        (heartbeat(0, lease_seconds=50), crashed(1, presumed=True), metrics_logged(20, columns={})),
        "alive",
    ),
    "an end takes the lease along": (DAY, (heartbeat(0), completed(1), amended(2, status="running")), "unknown"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_a_history_says_of_a_life(case: tuple[float, tuple[Event, ...], str]) -> None:
    """Each sentence on liveness, by the pure function and by SQL alike."""
    seconds, history, expected = case

    assert at(seconds, *history) == expected


@pytest.mark.parametrize("asked", LIVENESS)
def test_each_run_is_found_by_its_liveness(asked: str) -> None:
    """The filter finds what the rows show, alone, among several, and by its contrary."""
    histories: dict[str, list[Event]] = {
        "alive": [heartbeat(DAY, run="alive", lease_seconds=100)],
        "late": [launched(2 * HOUR, run="late")],
        "lost": [heartbeat(0, run="lost")],
        "ended": [launched(0, run="ended"), completed(1, run="ended")],
        "unknown": [started(0, run="unknown")],
    }
    with Ledger(":memory:") as book:
        book.append([event for history in histories.values() for event in history])
        view = book.as_of(moment(DAY + 10))

        def found(**filters: Any) -> set[str]:
            rows = view.query_runs(filters)
            assert view.count_runs(filters) == len(rows)
            assert all(row["run_id"] == row["liveness"] for row in rows)
            return {row["run_id"] for row in rows}

        assert found(liveness=asked) == {asked}
        assert found(liveness=[asked, "ended"]) == {asked, "ended"}
        assert found(not_liveness=asked) == set(LIVENESS) - {asked}
        assert found(not_liveness=[asked, "lost"]) == set(LIVENESS) - {asked, "lost"}


def test_who_needs_a_look_comes_first() -> None:
    """By liveness the lost come before the late, and those before the rest, whatever else orders them."""
    with Ledger(":memory:") as book:
        book.append([launched(9, run="new"), launched(5, run="late"), heartbeat(1, run="lost", lease_seconds=1)])
        book.append([launched(7, run="done"), completed(8, run="done")])
        view = book.as_of(moment(5 + HOUR + 1))

        ordered = [row["run_id"] for row in view.query_runs(order_by="liveness, created_at DESC")]
        backwards = [row["run_id"] for row in view.query_runs(order_by="liveness DESC, created_at DESC")]

    assert ordered == ["lost", "late", "new", "done"]
    assert backwards == ["new", "done", "late", "lost"]


def test_how_long_a_launch_may_be_silent_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says after how long a launch is late, and lost."""
    monkeypatch.setenv("TRAINING_DB_LATE_AFTER", "5m")
    monkeypatch.setenv("TRAINING_DB_LOST_AFTER", "600")
    with Ledger(":memory:") as book:
        book.append(launched(0))

        then = [book.as_of(moment(seconds)).query_runs()[0]["liveness"] for seconds in (300, 301, 600, 601)]

    assert then == ["unknown", "late", "late", "lost"]


def test_a_lease_is_carried_beside_the_row() -> None:
    """What a fold knows of a lease is there again when it goes on from a stored row."""
    life = lives([started(), heartbeat(3, lease_seconds=7)])["r"]

    assert type(life).restored(dict(life.row), life.beside()).lease == 7
    assert fold_facts([]) is None


def test_a_beat_that_comes_late_shows_nothing_over_a_newer_one() -> None:
    """Duration, metrics and lease are those of the latest beat that says them, in whatever order they come."""
    older = heartbeat(3, duration_seconds=3, metrics={"loss": 3}, lease_seconds=3)
    newer = heartbeat(5, duration_seconds=5, metrics={"loss": 5}, lease_seconds=500)
    with Ledger(":memory:") as book:
        for event in (started(0), newer, heartbeat(9, lease_seconds=0), older):
            book.append(event)
        row = book.as_of(moment(300)).query_runs()[0]

    assert (row["duration_seconds"], row["final_metrics_json"], row["liveness"]) == (5, '{"loss":5}', "alive")
