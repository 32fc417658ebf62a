"""How long runs take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ledger.analytics.groups import Row, by_names, grouped, rank
from ledger.analytics.numbers import mean, quantile
from ledger.analytics.spans import SECOND, instant

__all__ = ["durations"]


def durations(rows: Iterable[Sequence[object]], names: Sequence[str], now: int) -> list[Row]:
    """Return the rows of durations; *rows* have the values, status, start, and duration in seconds."""
    groups = grouped(rows, len(names))
    groups.sort(key=lambda group: (-len(group[1]), *map(rank, group[0])))
    return [{**by_names(names, key), **_summary(rests, now)} for key, rests in groups]


def _summary(rests: Sequence[Sequence[object]], now: int) -> Row:
    running = [
        max(now - instant(started), 0) / SECOND
        for status, started, _ in rests
        if status == "running" and isinstance(started, str)
    ]
    ended = [seconds for status, _, seconds in rests if status != "running" and isinstance(seconds, int)]
    known = sorted([*ended, *running])
    return {
        "runs": len(rests),
        "count": len(known),
        "running": len(running),
        "unknown": len(rests) - len(known),
        "mean_seconds": mean(known),
        "median_seconds": quantile(known, 0.5),
        "p90_seconds": quantile(known, 0.9),
        "min_seconds": known[0] if known else None,
        "max_seconds": known[-1] if known else None,
        "total_seconds": math.fsum(known),
    }
