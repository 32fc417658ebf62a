"""How long runs take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ledger.analytics.groups import Row, by_names, grouped, rank
from ledger.analytics.numbers import mean, quantile
from ledger.analytics.spans import SECOND, span_of

__all__ = ["durations"]


def durations(rows: Iterable[Sequence[object]], names: Sequence[str], now: int) -> list[Row]:
    """Return the rows of durations; *rows* have the values, then what `span_of` takes."""
    groups = grouped(rows, len(names))
    groups.sort(key=lambda group: (-len(group[1]), *map(rank, group[0])))
    return [{**by_names(names, key), **_summary(rests, now)} for key, rests in groups]


def _summary(rests: Sequence[Sequence[object]], now: int) -> Row:
    spans = [span for rest in rests if rest[0] == "running" and (span := span_of(*rest, now=now)) is not None]
    running = [(span.end - span.begin) / SECOND for span in spans]
    ended = [seconds for status, _, _, seconds, *_ in rests if status != "running" and isinstance(seconds, int)]
    known = sorted([*ended, *running])
    return {
        "runs": len(rests),
        "count": len(known),
        "running": len(running),
        "lost": sum(span.lost for span in spans),
        "unknown": len(rests) - len(known),
        "mean_seconds": mean(known),
        "median_seconds": quantile(known, 0.5),
        "p90_seconds": quantile(known, 0.9),
        "min_seconds": known[0] if known else None,
        "max_seconds": known[-1] if known else None,
        "total_seconds": math.fsum(known),
    }
