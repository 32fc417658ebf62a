"""Copy a whole ledger into an empty one: the same ledger elsewhere, and not only the same events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path

import sqlalchemy as sa

from ledger.errors import InvalidValue, NotTheSame, shortened
from ledger.progress import Pace, Watcher
from ledger.store import replay, state
from ledger.store.database import Database
from ledger.store.following import newest_position
from ledger.store.inspect import replay_is_due
from ledger.store.sqlite import SQLiteDatabase
from ledger.store.statements import Connection, Statement, StoredRow, bound, compiled, on_server, said
from ledger.store.tables import (
    PROJECTION,
    conflicts,
    parked,
    subscriptions,
    training_events,
    training_heads,
)
from ledger.store.tables import state as states
from ledger.store.writing import load_rows

__all__ = ["Copied", "copy"]

# What is carried over as it is; the rest is folded again from it.
_KEPT = (training_events, training_heads, conflicts, subscriptions, parked)


_NUMBERING_FROM = said("SELECT setval(pg_get_serial_sequence('training_events', 'position'), :next, false)")


@dataclass(frozen=True)
class Copied:
    """How much was carried over, and compared with where it came from."""

    events: int
    runs: int


def copy(source: Database, target: Database, watcher: Watcher | None = None) -> Copied:
    """Carry everything over in one transaction of the target, fold it there, and compare both.

    Raises InvalidValue where the target has events, and NotTheSame where the fold there gives another row
    than stands here; nothing is written then.
    """
    _refuse_itself(source, target)
    with source.snapshot() as here:
        (total,) = here.execute("SELECT count(*) FROM training_events").fetchone()
        pace = Pace(2 * total, watcher)
        with target.write() as there:
            _refuse_filled(there, target.place)
            there.execute("DELETE FROM ledger_state")  # what a new ledger knows of itself gives way
            for table in (*_KEPT, states):
                _carry(here, there, table, pace)
            _carry_newest_position(here, there, total)
            runs = replay.rebuild(there)
            for table in (*_KEPT, PROJECTION.runs, PROJECTION.voided, PROJECTION.claims):
                _compare(here, there, table, target.place, pace)
        pace.finish()
    target.checkpoint_after(range(total + 1))
    return Copied(total, runs)


def _refuse_itself(source: Database, target: Database) -> None:
    if target.place == "memory":
        raise InvalidValue("to", target.place, "a ledger that lasts is wanted")
    if isinstance(source, SQLiteDatabase) and isinstance(target, SQLiteDatabase):
        here, there = Path(source.path), Path(target.path)
        same = here.exists() and there.exists() and there.samefile(here)
    else:
        same = getattr(source, "url", source) == getattr(target, "url", target)
    if same:
        raise InvalidValue("to", target.place, "another place than the ledger's own is wanted")


def _refuse_filled(there: Connection, place: str) -> None:
    for table in _KEPT:
        if there.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone() is not None:
            wanted = "a place without a ledger, or an empty one, is wanted; a ledger with events takes in more by merge"
            raise InvalidValue("to", place, wanted)


@cache
def _reading(table: sa.Table) -> Statement:
    return compiled(sa.select(*table.columns).order_by(*table.primary_key.columns))


@cache
def _carrying(table: sa.Table) -> Statement:
    return compiled(sa.insert(table).values(bound(table, table.columns.keys())))


def _carry(here: Connection, there: Connection, table: sa.Table, pace: Pace) -> None:
    rows = _reading(table).rows(here)
    counted = _counted(rows, pace) if table is training_events else rows
    if on_server(there):
        load_rows(there, table, table.columns.keys(), counted)
    else:
        there.executemany(_carrying(table).on(there).sql, counted)


def _counted(rows: Iterable[StoredRow], pace: Pace) -> Iterator[StoredRow]:
    for row in rows:
        yield row
        pace.step()


def _carry_newest_position(here: Connection, there: Connection, total: int) -> None:
    """A file remembers the newest position apart from the events, and `verify` tells a cut tail by it."""
    newest = newest_position(here)
    if on_server(there):
        _NUMBERING_FROM.run(there, {"next": newest + 1})
        return
    if on_server(here):  # there a transaction that was rolled back has left a hole
        state.remember(there, state.HOLES, str(newest - total))
    there.execute("DELETE FROM sqlite_sequence WHERE name = 'training_events'")
    if newest:
        there.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('training_events', ?)", (newest,))


def _compare(here: Connection, there: Connection, table: sa.Table, place: str, pace: Pace) -> None:
    names = table.columns.keys()
    for ours, theirs in zip_longest(_reading(table).rows(here), _reading(table).rows(there)):
        if ours != theirs:
            what = f"{_first_difference(names, ours, theirs)} of {table.name}"
            raise NotTheSame(what, place, replay_is_due=replay_is_due(here))
        if table is training_events:
            pace.step()


def _first_difference(names: Sequence[str], ours: StoredRow | None, theirs: StoredRow | None) -> str:
    one, other = (dict(zip(names, row, strict=True)) if row else {} for row in (ours, theirs))
    column = next(name for name in names if one.get(name) != other.get(name))
    run_id = (one or other).get("run_id")
    return f"run {shortened(run_id)}, column {column}" if run_id is not None else f"column {column}"
