"""Fold a large ledger in two processes: in this one, and in one beside it.

Most of a fold is Python's own work, of which a process does one thing at a time. What events say never changes, so
that a second process, which reads them by itself up to the same position, folds what this one would have. Where there
is none to be had, or it ends in the midst of its work, this one does the rest alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import cast

from ledger.store.beside import File
from ledger.store.bounds import EVERYTHING, Bounds
from ledger.store.folding import ALL, Reading, Span
from ledger.store.forking import identity
from ledger.store.parts import Part, Plan, parts_of
from ledger.store.second import Second
from ledger.store.starting import may_start
from ledger.store.statements import Connection, is_sqlite, said

__all__ = ["folded_in_parts"]

SPAN = 20_000  # positions; the runs that go on behind them are read by themselves
SPANS_MIN = 6  # so more than 100,000 positions: to start a process takes as long as to fold one or two spans
SPANS_MAX = 1_000


def folded_in_parts(
    read: Reading, bounds: Bounds = EVERYTHING, *, witnessed: bool = False, runs_max: int
) -> Generator[Part]:
    """Fold every run that has an event within the bounds, some runs at a time, in no particular order.

    Each page is read in a `with read()` of its own, as by `folded_runs`. Where they are *witnessed*, the parts also
    say what is wrong with events. Close it where it is left early, or else a second process may stay.
    """
    with read() as connection:
        spans = _spans(connection, bounds)
        file = _file_of(connection) if len(spans) >= SPANS_MIN and may_start() else None
    if file is None:
        yield from parts_of(read, Plan(bounds, witnessed, runs_max), ALL)
        return
    plan = Plan(replace(bounds, position_max=spans[-1].last), witnessed, runs_max)
    with Second(file, plan) as second:
        yield from _shared(read, plan, spans, second)


_ENDS = said("SELECT min(position), max(position) FROM training_events")


def _spans(connection: Connection, bounds: Bounds) -> list[Span]:
    """All positions up to the newest within the bounds."""
    first, newest = _ENDS.ask(connection).fetchone()
    last = min(newest or 0, bounds.position_max)
    before = (first or 1) - 1
    # Somebody may have moved an event to a position beyond all others, behind the ledger's back.
    starts = range(before, last, max(SPAN, (last - before) // SPANS_MAX)) or [0]
    ends = (*starts[1:], last)
    return [
        Span(number, after if number else ALL.after, end)
        for number, (after, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _file_of(connection: Connection) -> File | None:
    """The file that a second process can read beside this connection.

    There has to be a WAL: without it a writer that waits for this process would let no other begin to read.
    """
    if not is_sqlite(connection) or cast("sqlite3.Connection", connection).text_factory is not str:
        return None
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        return None
    asked = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"  # its name may be no UTF-8
    path = os.fsdecode(connection.execute(asked).fetchone()[0] or b"")
    found = identity(path) if path else None
    return None if found is None else File(path, found)


def _shared(read: Reading, plan: Plan, spans: Sequence[Span], second: Second) -> Generator[Part]:
    left, known = deque(spans), dict[int, set[str]]()
    while left or second.asked:
        second.ask(left)
        if left:
            span = left.popleft()
            for part in parts_of(read, plan, span):
                yield _without(part, known.get(span.number))
                yield from second.ready()
                second.ask(left)
        else:
            yield from second.rest()
        for span, run_ids in second.given_back():
            left.append(span)
            known[span.number] = run_ids


def _without(part: Part, known: set[str] | None) -> Part:
    return part._replace(runs=[run for run in part.runs if run.run_id not in known]) if known else part
