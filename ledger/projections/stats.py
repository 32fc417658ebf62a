"""Counts, from what the tables say of each status."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.projections.run import STATUSES

__all__ = ["stats"]


def stats(counted: Iterable[tuple[str, int, int, int]]) -> dict[str, int]:
    """Return the documented counts, from (status, runs, with a blog post, with a crash analysis) of each status."""
    made = {"total_runs": 0, **dict.fromkeys(STATUSES, 0), "with_blog_posts": 0, "with_crash_analysis": 0}
    for status, runs, posts, analyses in counted:
        made[status] += runs
        made["total_runs"] += runs
        made["with_blog_posts"] += posts
        made["with_crash_analysis"] += analyses
    return made
