"""How runs end: counts by status, success rates, crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ledger.analytics.groups import Row, by_names, grouped, rank
from ledger.analytics.numbers import quantile, wilson
from ledger.projections.run import STATUSES

__all__ = ["crashes", "outcomes", "time_to_crash"]

Rows = Iterable[Sequence[object]]

_MINUTE, _HOUR = 60, 3600
_BUCKETS = (
    ("under 1 min", 0, _MINUTE),
    ("1 to 10 min", _MINUTE, 10 * _MINUTE),
    ("10 min to 1 h", 10 * _MINUTE, _HOUR),
    ("1 to 6 h", _HOUR, 6 * _HOUR),
    ("6 to 24 h", 6 * _HOUR, 24 * _HOUR),
    ("over 24 h", 24 * _HOUR, None),
)


def outcomes(tally: Rows, names: Sequence[str]) -> list[Row]:
    """Return the rows of outcomes; *tally* has the values, a status, and a number of runs."""
    made = []
    for key, rests in grouped(tally, len(names)):
        counts: Counter[object] = Counter()
        for status, number in rests:
            counts[status] += int(str(number))
        made.append((key, _outcome(counts)))
    made.sort(key=lambda group: (-int(str(group[1]["runs"])), *map(rank, group[0])))
    return [{**by_names(names, key), **row} for key, row in made]


def _outcome(counts: Counter[object]) -> Row:
    completed = counts["completed"]
    ended = completed + counts["failed"] + counts["crashed"]
    low, high = wilson(completed, ended)
    return {
        "runs": counts.total(),
        **{status: counts[status] for status in STATUSES},
        "ended": ended,
        "success_rate": completed / ended if ended else None,
        "success_low": low,
        "success_high": high,
    }


def crashes(rows: Rows, names: Sequence[str]) -> list[Row]:
    """Return the rows of crashes; *rows* have the values, status, key of the analysis, and duration in seconds."""
    groups = grouped(rows, len(names))
    total = sum(len(rests) for _, rests in groups)
    groups.sort(key=lambda group: (-len(group[1]), *map(rank, group[0])))
    return [{**by_names(names, key), **_crashes(rests, total)} for key, rests in groups]


def _crashes(rests: Sequence[Sequence[object]], total: int) -> Row:
    seconds = sorted(duration for *_, duration in rests if isinstance(duration, int))
    failed = sum(status == "failed" for status, *_ in rests)
    return {
        "crashed": len(rests) - failed,
        "failed": failed,
        "share": len(rests) / total if total else None,
        "with_analysis": sum(analysis is not None for _, analysis, _ in rests),
        "median_seconds": quantile(seconds, 0.5),
        "p90_seconds": quantile(seconds, 0.9),
        "unknown": len(rests) - len(seconds),
    }


def time_to_crash(rows: Rows, names: Sequence[str]) -> list[Row]:
    """Return the rows of time_to_crash; *rows* have the values, status, and duration in seconds."""
    groups = grouped(rows, len(names))
    groups.sort(key=lambda group: (-len(group[1]), *map(rank, group[0])))
    return [{**by_names(names, key), **row} for key, rests in groups for row in _by_time(rests)]


def _by_time(rests: Sequence[Sequence[object]]) -> Iterable[Row]:
    counts = Counter((_bucket(duration), status) for status, duration in rests)
    for bucket, low, high in (*_BUCKETS, ("unknown", None, None)):
        crashed, failed = counts[bucket, "crashed"], counts[bucket, "failed"]
        share = (crashed + failed) / len(rests) if rests else None
        yield {
            "time": bucket,
            "from_seconds": low,
            "below_seconds": high,
            "crashed": crashed,
            "failed": failed,
            "share": share,
        }


def _bucket(duration: object) -> str:
    if not isinstance(duration, int):
        return "unknown"
    return next((bucket for bucket, _, high in _BUCKETS if high is None or duration < high), "unknown")
