"""Copy a whole ledger into an empty one: the same ledger elsewhere, and not only the same events."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
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
from ledger.store.statements import Connection, StoredRow, is_sqlite, on_server, said
from ledger.store.tables import (
    PROJECTION,
    conflicts,
    parked,
    subscriptions,
    training_events,
    training_heads,
)
from ledger.store.tables import state as states
from ledger.store.whole import TRANSACTION, read_whole, write_whole

__all__ = ["Copied", "copy"]

# What is carried over as it is; the rest is folded again from it.
_KEPT = (training_events, training_heads, conflicts, subscriptions, parked)
_COMPARED = (*_KEPT, *PROJECTION[:-1])

# Whoever appends comes by the heads first. Readers go on.
_LOCKING = said(f"LOCK TABLE {training_heads.name}, {subscriptions.name} IN EXCLUSIVE MODE")
_NUMBERING_FROM = said("SELECT setval(pg_get_serial_sequence('training_events', 'position'), :next, false)")
# What has to be added to the id of the oldest transaction that may still append, to lie behind every event.
_UNDERTAKING = said(
    "SELECT max(transaction_id) + 1 - CASE WHEN oldest < own THEN oldest ELSE own + 1 END, ledger_shift()"
    " FROM training_events, (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,"
    " pg_current_xact_id()::text::bigint AS own) AS running GROUP BY oldest, own"
)
# On a server a consumer goes by the order of transactions, so events before its position may be ahead of it.
_AHEAD = said(
    f"SELECT s.name, min(e.position) - 1 FROM {subscriptions.name} s CROSS JOIN LATERAL ("
    "  SELECT transaction_id, position FROM training_events WHERE position <= s.position"
    "  ORDER BY position DESC LIMIT 1"
    " ) AS seen JOIN training_events e ON (e.transaction_id, e.position) > (seen.transaction_id, seen.position)"
    " AND e.position < seen.position GROUP BY s.name"
)


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
        pace = Pace(3 * total, watcher)
        with target.write() as there:
            move = _Move(source, here, target, there, pace)
            move.begin()
            move.carry(total)
            runs = replay.rebuild(there, pace)
            move.compare()
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


class _Move:
    """One copy on its way, from the state that is read here into the transaction that is open there."""

    def __init__(self, source: Database, here: Connection, target: Database, there: Connection, pace: Pace) -> None:
        self._source = source
        self._here = here
        self._place = target.place
        self._there = there
        self._pace = pace
        # In between servers an event keeps its place among followers, too.
        self._further = (TRANSACTION,) if on_server(here) and on_server(there) else ()
        with source.translating():
            self._replay_is_due = replay_is_due(here)
            ahead = _AHEAD.ask(here).fetchall() if on_server(here) and is_sqlite(there) else []
        self._rewound: dict[str, int] = dict(ahead)

    def begin(self) -> None:
        """Make sure that the target is empty, and stays so for others."""
        if on_server(self._there):
            _LOCKING.ask(self._there)
            # A plan that was made while the tables were empty would serve until somebody analyzes them.
            self._there.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        self._refuse_filled()

    def carry(self, total: int) -> None:
        """Write what is kept as it is."""
        for table in _KEPT:
            with closing(self._rows_here(table)) as rows:
                self._write(table, self._counted(table, rows))
        self._carry_state()
        self._carry_newest_position(total)
        self._plan_for(_KEPT)

    def _plan_for(self, tables: Sequence[sa.Table]) -> None:
        """Let a server know at once how large these tables are, and not when it gets round to it."""
        if on_server(self._there):
            self._there.execute(f"ANALYZE {', '.join(table.name for table in tables)}")

    def _carry_state(self) -> None:
        """What a new ledger knows of itself gives way, but for what is its server's own."""
        of_server = (state.SHIFT, state.HOLES) if on_server(self._here) or on_server(self._there) else ()
        for name in state.named(self._there, ""):
            if name not in of_server:
                state.forget(self._there, name)
        for name, value in list(self._rows_here(states)):
            if name not in of_server:
                state.remember(self._there, name, value)

    def _refuse_filled(self) -> None:
        for table in _KEPT:
            if self._there.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone() is not None:
                wanted = (
                    "a place without a ledger, or an empty one, is wanted; a ledger with events takes in more by merge"
                )
                raise InvalidValue("to", self._place, wanted)

    def _rows_here(self, table: sa.Table) -> Generator[StoredRow, None, None]:
        """What the target has to hold of a table."""
        with self._source.translating():
            for row in read_whole(self._here, table, self._of(table)):
                yield self._rewinding(row) if table is subscriptions else row

    def _rewinding(self, row: StoredRow) -> StoredRow:
        """A file's consumers go by positions: one goes back to before the first that it has not seen."""
        name, position, _, updated_at, wanted, _ = row
        if name not in self._rewound:
            return row
        return name, min(position, self._rewound[name]), 0, updated_at, wanted, None

    def _of(self, table: sa.Table) -> Sequence[sa.Column[int]]:
        return self._further if table is training_events else ()

    def _counted(self, table: sa.Table, rows: Iterable[StoredRow]) -> Iterator[StoredRow]:
        for row in rows:
            yield row
            if table is training_events:
                self._pace.step()

    def _write(self, table: sa.Table, rows: Iterator[StoredRow]) -> None:
        there = self._there
        if not on_server(there):
            write_whole(there, table, rows)
            return
        try:
            write_whole(there, table, rows, self._of(table))
        except there.unfit as exc:  # no ledger has written such a value
            what = f"a value of {table.name} that PostgreSQL does not take ({' '.join(str(exc).split())})"
            raise NotTheSame(what, self._place) from exc

    def _carry_newest_position(self, total: int) -> None:
        """A file remembers the newest position apart from the events, and `verify` tells a cut tail by it."""
        there, newest = self._there, newest_position(self._here)
        if on_server(there):
            _NUMBERING_FROM.run(there, {"next": newest + 1})
            self._follow_on()
            return
        if on_server(self._here) and newest > total:  # there a transaction that was rolled back has left a hole
            state.remember(there, state.HOLES, str(newest - total))
        there.execute("DELETE FROM sqlite_sequence WHERE name = 'training_events'")
        if newest:
            there.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('training_events', ?)", (newest,))

    def _follow_on(self) -> None:
        """Let followers see every later event behind those that another server's transactions brought."""
        shift, present = _UNDERTAKING.ask(self._there).fetchone() or (0, 0)
        if shift > present:
            state.remember(self._there, state.SHIFT, str(shift))

    def compare(self) -> None:
        """Raise NotTheSame for the first row that is another there."""
        self._plan_for(PROJECTION[:-1])
        for table in _COMPARED:
            names = [*table.columns.keys(), *(column.name for column in self._of(table))]
            with (
                closing(self._rows_here(table)) as ours,
                closing(read_whole(self._there, table, self._of(table))) as theirs,
            ):
                for one, other in zip_longest(self._counted(table, ours), theirs):
                    if one != other:
                        what = f"{_first_difference(names, one, other)} of {table.name}"
                        raise NotTheSame(what, self._place, replay_is_due=self._replay_is_due)


def _first_difference(names: Sequence[str], ours: StoredRow | None, theirs: StoredRow | None) -> str:
    one, other = (dict(zip(names, row, strict=True)) if row else {} for row in (ours, theirs))
    column = next(name for name in names if one.get(name) != other.get(name))
    run_id = (one or other).get("run_id")
    return f"run {shortened(run_id)}, column {column}" if run_id is not None else f"column {column}"
