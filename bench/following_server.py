"""Following on PostgreSQL: how long after a commit, busy and after a long silence, and at what cost to writers.

A server of its own, which commits as durably as any, on the disk that has TMPDIR.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import numbering
from bench.following import latencies
from tests.postgres.server import DURABLE, Server

SILENCE_SECONDS = 1.7  # longer than a follower looks often by itself
WAKINGS = 12


def lines(rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield the lines for results.md."""
    with Server.start(DURABLE) as server:
        yield _line("follow on a server: commit to delivery, worst", latencies(server.create_database("busy")))
        seldom = latencies(server.create_database("seldom"), SILENCE_SECONDS, WAKINGS)
        yield _line("follow on a server, woken after a silence: worst", seldom)
        yield from numbering.lines(server.create_database("numbered"), rounds)


def _line(what: str, found: tuple[float, float]) -> tuple[str, ...]:
    median, longest = found
    return what, f"{longest * 1000:.0f} ms", f"median {median * 1000:.0f} ms", "", "at most 50 ms"
