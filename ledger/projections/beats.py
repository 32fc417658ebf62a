"""What heartbeats show of a run that runs: its duration and metrics so far, and the lease that it holds.

Of each the latest that says it counts, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ledger.events import LEASE_SECONDS
from ledger.projections.fits import fitting
from ledger.projections.life import Life
from ledger.projections.run import COLUMNS

__all__ = ["beat", "beat_in_a_row"]

Payload = dict[str, JsonValue]
Key = tuple[str, str]  # (occurred_at, event_id): canonical order

_DURATION = COLUMNS["duration_seconds"]
_SMALL = 2**62  # an integer nearer to 0 fits; most durations are seen to fit at a glance


def beat(life: Life, key: Key, payload: Payload) -> None:
    """Let one heartbeat act on a run that runs; of one that has ended it shows nothing."""
    if life.row["status"] == "running":
        _hold_lease(life, key, payload)
        _show_duration(life, key, payload)
        _show_metrics_so_far(life, key, payload)


def beat_in_a_row(life: Life, beats: Sequence[tuple[Key, Payload]]) -> None:
    """Let heartbeats in canonical order act on a run that is running: each that counts is the latest of its kind."""
    for show in (_hold_lease, _show_duration, _show_metrics_so_far):
        any(show(life, key, said) for key, said in reversed(beats))


def _hold_lease(life: Life, key: Key, payload: Payload) -> bool:
    """Return whether the run now holds the lease of this heartbeat or of a later one; one of 0 s promises nothing."""
    said = payload.get("lease_seconds", LEASE_SECONDS)
    if type(said) is not int:  # not finite, or a stranger's
        said = LEASE_SECONDS
    if said <= 0:
        return False
    if life.lease_from is None or key > life.lease_from:
        life.lease, life.lease_from = said, key
    return True


def _show_duration(life: Life, key: Key, payload: Payload) -> bool:
    """Return whether the row now shows the duration of this heartbeat or of a later one."""
    if "duration_seconds" not in payload:
        return False
    if life.duration_from is None or key > life.duration_from:
        said = payload["duration_seconds"]
        duration = said if type(said) is int and -_SMALL < said < _SMALL else fitting(_DURATION, said)
        if duration is None:
            return False
        life.row["duration_seconds"], life.duration_from = duration, key
        life.said_duration, life.unknown_duration = None, False
    return True


def _show_metrics_so_far(life: Life, key: Key, payload: Payload) -> bool:
    """Return whether the row now shows the metrics of this heartbeat or of a later one."""
    metrics = payload.get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        return False
    if life.metrics_from is None or key > life.metrics_from:
        life.show_metrics(metrics)
        life.metrics_from = key
    return True
