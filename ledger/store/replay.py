"""Throw the projected tables away and fold the ledger again, while readers and writers go on.

The tables are built beside the old ones, as of the position at which the replay began; what is
appended meanwhile is then folded onto them by the projector itself, and the last of it in the
transaction that exchanges old and new. So nobody ever sees a table that is half built, and nobody
waits for longer than a part of the work takes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import sqlalchemy as sa

from ledger.progress import Pace, Watcher
from ledger.projections.stamp import fold_stamp
from ledger.store import state
from ledger.store.bounds import Bounds, newest_position
from ledger.store.database import Database
from ledger.store.evidence import keep_evidence, suspects
from ledger.store.folding import folded_runs
from ledger.store.migrations import make_what_is_missing
from ledger.store.parts import Part, in_parts
from ledger.store.projector import Projector
from ledger.store.reading import EVENT_COLUMNS, FACT_COLUMNS, fact_of
from ledger.store.run_rows import RunRows
from ledger.store.sharing import folded_in_parts
from ledger.store.sqlite import MEMORY, SQLiteDatabase
from ledger.store.statements import Connection, StoredRow, compiled, updating
from ledger.store.swap import Beside, Copied, Unexchangeable, exchange, exchangeable, still_at_work
from ledger.store.tables import PROJECTION, Projection
from ledger.store.tracked import DERIVED
from ledger.store.whole import write_whole
from ledger.store.writing import detail_rows, write_details, write_heads, write_runs

if TYPE_CHECKING:
    from ledger.store.postgres.database import ServerDatabase

__all__ = ["rebuild", "replay"]

_RUNS_AT_ONCE = 250  # written in one transaction: for so long others wait
_ROWS_AT_ONCE = 1_500  # of a table that has several rows a run
_LENGTH_AT_ONCE = 2_000_000  # characters of either
_RUNS_A_PART = 50  # folded together, and handed over by the process that did
_RUNS_HELD = 2_000  # put in order before they are written
_LENGTH_HELD = 25_000_000  # what they weigh
_PAGES_KIB = 16_000
_TRANSACTIONS_A_CHECKPOINT = 6  # for the time of a checkpoint others wait, too
_FOLDING_SHARE = 2 / 3  # of the time that a run takes; the rest goes to writing it
_EVENTS_AT_ONCE = 500  # caught up with in the first turn, twice as many in the next
_TURNS_MAX = 6
_LAST_EVENTS_MAX = 50  # folded in the transaction that exchanges the tables


def replay(database: Database, watcher: Watcher | None = None) -> int:
    """Rebuild all projected tables, and return the number of runs that they hold.

    A replay that is killed leaves the tables as they were, and what it had built is removed by the next.
    """
    if isinstance(database, SQLiteDatabase):
        return _replay_file(database, watcher)
    from ledger.store.postgres.replaying import replay_on_server

    replay_on_server(cast("ServerDatabase", database), watcher)
    with database.read() as connection:
        return _counted(connection)


def _replay_file(database: SQLiteDatabase, watcher: Watcher | None) -> int:
    with database.write() as connection:
        lacked_tables = make_what_is_missing(connection)
        if lacked_tables:  # nobody may see them empty
            _rebuild_in_place(connection, watcher)
    with database.read() as connection:
        copied = exchangeable(connection) if database.path != MEMORY else None
    if not lacked_tables and (copied is None or not _exchanged(database, copied, watcher)):
        with database.write() as connection:  # then nobody else may write meanwhile
            _rebuild_in_place(connection, watcher)
    with database.read() as connection:
        return _counted(connection)


def _rebuild_in_place(connection: sqlite3.Connection, watcher: Watcher | None) -> None:
    (total,) = connection.execute("SELECT count(*) FROM training_events").fetchone()
    pace = Pace(total, watcher)
    rebuild(connection, pace)
    pace.finish()


def _exchanged(database: SQLiteDatabase, copied: Copied, watcher: Watcher | None) -> bool:
    try:
        with Beside(database, copied) as tables:
            _exchange_when_caught_up(database, tables, _build(database, tables, watcher))
    except Unexchangeable:
        return False
    return True


def _build(database: SQLiteDatabase, tables: Projection, watcher: Watcher | None) -> int:
    """Fold every run as of one position into *tables*, and return that position."""
    with database.read() as connection:
        reached = newest_position(connection)
    pace = Pace(reached, watcher)
    with closing(folded_in_parts(database.snapshot, Bounds(reached), runs_max=_RUNS_A_PART)) as parts:
        for some in in_parts(_folded(parts, pace), _RUNS_HELD, _LENGTH_HELD):
            _write_beside(database, tables, some, pace)
            del some  # not two of them at a time
    pace.finish()
    return reached


def _folded(parts: Iterable[Part], pace: Pace) -> Iterator[RunRows]:
    for part in parts:
        for run in part.runs:
            yield run
            pace.step(_of_folding(run))


def _of_folding(run: RunRows) -> int:
    """How many of a run's events count as done when it is folded and not written yet."""
    return int(run.events * _FOLDING_SHARE)


def _write_beside(database: SQLiteDatabase, tables: Projection, runs: list[RunRows], pace: Pace) -> None:
    runs.sort(key=attrgetter("run_id"))  # neighbours in the tables lie on the same pages: a third less is written
    for number, (write, into, rows) in enumerate(_writing(tables, runs, pace), 1):
        with database.write() as connection, _held_in_memory(connection):
            write(connection, into, rows)
            still_at_work(connection, tables)
        if number % _TRANSACTIONS_A_CHECKPOINT == 0:
            database.checkpoint()
    database.checkpoint()


def _writing(
    tables: Projection, runs: Sequence[RunRows], pace: Pace
) -> Iterator[tuple[Callable[..., None], object, object]]:
    """How, into what, and what is to be written in one transaction each."""
    for some in in_parts(runs, _RUNS_AT_ONCE, _LENGTH_AT_ONCE, lambda run: _length_of(run.row or ())):
        yield _write, tables, some
        pace.step(sum(run.events - _of_folding(run) for run in some))
    for table, rows in detail_rows(tables, runs):
        for some_rows in in_parts(rows, _ROWS_AT_ONCE, _LENGTH_AT_ONCE, _length_of):
            yield write_whole, table, some_rows


def _length_of(row: StoredRow) -> int:
    """Return how many characters there are in its texts."""
    return sum([len(value) for value in row if type(value) is str])


@contextmanager
def _held_in_memory(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the pages that are changed wait for the commit: beyond 2 MB, SQLite would write some, and read them again."""
    (before,) = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size = {before}")


def _exchange_when_caught_up(database: SQLiteDatabase, tables: Projection, reached: int) -> None:
    """Follow the appends until few are left, then fold those and exchange the tables in one transaction.

    Each turn takes more than the one before, so that whoever appends fast is caught up with all the same;
    where few are never left, the turn after the last takes what there is.
    """
    suspected: list[str] | None = None
    for turn in count():
        with database.write() as connection:
            behind = _behind(connection, reached)
            reached = _catch_up(connection, tables, reached, _EVENTS_AT_ONCE << turn)
            still_at_work(connection, tables)
            few = behind <= _LAST_EVENTS_MAX or (turn >= _TURNS_MAX and not _behind(connection, reached))
            if few and suspected is not None:
                keep_evidence(connection, tables, suspected)
                state.remember(connection, state.FOLDED_BY, fold_stamp())
                exchange(connection, tables)
                return
        if few:  # by now only what was appended just now differs without a cause
            with database.read() as connection:
                suspected = suspects(connection, tables)
        database.checkpoint()


def _behind(connection: sqlite3.Connection, reached: int) -> int:
    asked = "SELECT count(*) FROM (SELECT 1 FROM training_events WHERE position > ? LIMIT ?)"
    (found,) = connection.execute(asked, (reached, _LAST_EVENTS_MAX + 1)).fetchone()
    return int(found)


_LISTED = ", ".join(EVENT_COLUMNS)
_AFTER = f"SELECT {_LISTED} FROM training_events WHERE position > ? ORDER BY position LIMIT ?"


def _catch_up(connection: sqlite3.Connection, tables: Projection, reached: int, at_most: int) -> int:
    """Fold the next events behind *reached* onto *tables*, as the projector does with every append."""
    projector = Projector(connection, tables)
    for row in connection.execute(_AFTER, (reached, at_most)).fetchall():
        event = dict(zip(EVENT_COLUMNS, row, strict=True))
        fact, recorded_at = fact_of(*(event[name] for name in FACT_COLUMNS)), event["recorded_at"]
        reached = event["position"]
        tracked = projector.run(fact.run_id)
        tracked.accept(fact, event["version"], event["chain"], recorded_at)
        tracked.place(reached, recorded_at)
    projector.save()
    return reached


def rebuild(connection: Connection, pace: Pace) -> int:
    """Rebuild all projected tables in the open transaction, and return the number of runs they hold.

    Each event is a step of the *pace*.
    """
    for table in PROJECTION[:-1]:
        compiled(sa.delete(table)).ask(connection)
    for part in in_parts(folded_runs(lambda: nullcontext(connection)), _RUNS_AT_ONCE):
        _write(connection, PROJECTION, part)
        write_details(connection, PROJECTION, part)
        pace.step(sum(run.events for run in part))
    state.remember(connection, state.FOLDED_BY, fold_stamp())
    return _counted(connection)


def _write(connection: Connection, tables: Projection, runs: Sequence[RunRows]) -> None:
    write_runs(connection, tables, runs)
    if tables.heads is not PROJECTION.heads:
        write_heads(connection, tables, runs)
        return
    # Of the ledger's own heads only what follows from the fold is written: the rest is evidence.
    derived = updating(tables.heads, DERIVED)
    derived.many(connection, [{"the_run": run.run_id, **run.head_by_name()} for run in runs])


def _counted(connection: Connection) -> int:
    asked = "SELECT (SELECT count(*) FROM training_runs) + (SELECT count(*) FROM voided_runs)"
    (count,) = connection.execute(asked).fetchone()
    return int(count)
