"""Fold a server's ledger again while readers and writers go on.

Every run is folded as of one snapshot and compared with what the tables have of it. What differs is written beside,
and in one transaction put in its place: readers see all of it at once, and only writers of those runs wait. A run
that grew meanwhile is folded again there; one that did not differ is kept right by whoever appends to it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import cache

import sqlalchemy as sa

from ledger.progress import Pace, Watcher
from ledger.projections.stamp import fold_stamp
from ledger.store import state
from ledger.store.accepting import lock_rows, lock_wandb_ids
from ledger.store.bounds import EVERYTHING
from ledger.store.details import details_of
from ledger.store.folding import fold_of, folded_runs
from ledger.store.parts import in_parts
from ledger.store.postgres.connection import ServerConnection
from ledger.store.postgres.database import ServerDatabase
from ledger.store.postgres.schema import lock_schema, missing
from ledger.store.postgres.translation import translating
from ledger.store.projector import settle_ids
from ledger.store.run_rows import HELD, RunRows, unsettled
from ledger.store.spelling import VERBATIM, among
from ledger.store.statements import Connection, Statement, compiled, said
from ledger.store.tables import PROJECTION, projection_named, training_events
from ledger.store.tracked import DERIVED
from ledger.store.verify import StoredRun, stored_rows
from ledger.store.writing import write_claims, write_details, write_heads, write_rows

__all__ = ["replay_on_server"]

_log = logging.getLogger("ledger")
_RUNS_AT_ONCE = 250
_LIVE = PROJECTION
_BESIDE = projection_named("replayed_")  # temporary tables, which nobody else sees and no crash leaves behind
_PAIRS = tuple(zip(_LIVE, _BESIDE, strict=True))[:-1]
_CLAIMED = _LIVE.claims.columns.keys().index("wandb_run_id")
_DERIVED = [_LIVE.heads.columns.keys().index(name) for name in DERIVED]


def replay_on_server(database: ServerDatabase, watcher: Watcher | None = None) -> None:
    """Make every projected row equal to its fold, and make anew the tables, indexes and view that somebody dropped."""
    with closing(database.connect()) as own, translating(database.place, 0):
        if _make_what_is_missing(own):  # in this transaction, for nobody may see tables that are empty
            _begin_beside(own)
            ids = _compare(own, own, watcher)
        else:
            _begin_beside(own)
            with database.snapshot() as ledger:
                ids = _compare(ledger, own, watcher)
            own.begin()
        _exchange(own, ids)
        own.execute("COMMIT")


def _make_what_is_missing(own: ServerConnection) -> bool:
    """Make tables, indexes and the view; return whether there were tables, with the transaction still open then."""
    if not missing(own)[0]:
        return False
    own.begin()
    lock_schema(own)
    making, lacks_tables = missing(own)  # another replay may have made it while we waited
    if lacks_tables:
        own.execute("LOCK TABLE training_heads IN EXCLUSIVE MODE")  # who appends comes by the heads first
        _log.warning(
            "tables are made anew, and nobody but their owner has a right to them: run what `ledger grants` prints"
        )
    for statement in making:
        own.execute(statement)
    if not lacks_tables:
        own.execute("COMMIT")
    return lacks_tables


def _begin_beside(own: ServerConnection) -> None:
    for live, beside in zip(_LIVE, _BESIDE, strict=True):
        own.execute(f"CREATE TEMPORARY TABLE {beside.name} (LIKE {live.name})")


def _compare(ledger: Connection, own: ServerConnection, watcher: Watcher | None) -> set[str]:
    """Write what differs beside, and return the W&B ids that have to be settled again."""
    (total,) = said("SELECT count(*) FROM training_events").ask(ledger).fetchone()
    pace = Pace(total, watcher)
    ids: set[str] = set()
    every = folded_runs(lambda: nullcontext(ledger))
    for part in in_parts(every, _RUNS_AT_ONCE):
        named = [folded.run_id for folded in part]
        stored, beside = stored_rows(ledger, named), details_of(ledger, _LIVE, named)
        differing = [run for run in part if _differs(run, stored[run.run_id], ids) or beside[run.run_id] != run.details]
        if differing:
            _write(own, differing)
        pace.step(sum(run.events for run in part))
    pace.finish()
    return ids


def _differs(run: RunRows, stored: StoredRun, ids: set[str]) -> bool:
    row, before = stored.get(_LIVE.runs) or stored.get(_LIVE.voided), stored.get(_LIVE.claims)
    held, claimed_before = row and row[HELD], before and before[_CLAIMED]
    claimed = run.claim and run.claim.wandb_run_id
    if before != run.claim_row() or held != claimed:
        ids |= {str(each) for each in (held, claimed, claimed_before) if each}
    home = run.home()
    wanted = {} if run.row is None or home is None else {home: run.row}
    present = {table: unsettled(stored[table]) for table in (_LIVE.runs, _LIVE.voided) if table in stored}
    head = stored.get(_LIVE.heads)
    of_head = head is None or any(head[place] != run.head[place] for place in _DERIVED)
    return of_head or wanted != present or before != run.claim_row()


def _write(own: Connection, runs: Sequence[RunRows]) -> None:
    """Write rows, claims and heads beside. Who holds a W&B id is settled when they are in their place."""
    write_rows(own, _BESIDE, runs, {})
    write_claims(own, _BESIDE, runs)
    write_details(own, _BESIDE, runs)
    write_heads(own, _BESIDE, runs)


_LOCKING = said(
    f"SELECT h.run_id FROM training_heads h JOIN {_BESIDE.heads.name} b ON b.run_id = h.run_id"
    " ORDER BY h.run_id FOR NO KEY UPDATE OF h"
)
_MOVED = said(
    f"SELECT h.run_id FROM training_heads h JOIN {_BESIDE.heads.name} b ON b.run_id = h.run_id"
    " WHERE h.version > b.version"
)
_REPLAYED = said(f"SELECT run_id FROM {_BESIDE.heads.name}")
_DERIVING = said(
    f"UPDATE training_heads h SET {', '.join(f'{name} = b.{name}' for name in DERIVED)} FROM {_BESIDE.heads.name} b"
    " WHERE b.run_id = h.run_id"
)


def _exchange(own: ServerConnection, ids: set[str]) -> None:
    """Put what is beside in its place, in the open transaction."""
    for _ in _LOCKING.rows(own):
        pass
    moved = [run_id for (run_id,) in _MOVED.ask(own).fetchall()]
    for beside in _BESIDE if moved else ():
        _removing(beside).run(own, {"the_runs": moved})
    again = [folded.rows() for run_id in moved if (folded := fold_of(own, run_id, EVERYTHING)) is not None]
    _write(own, again)
    ids |= {run.claim.wandb_run_id for run in again if run.claim}
    lock_wandb_ids(own, ids)
    lock_rows(own, [run_id for (run_id,) in _REPLAYED.rows(own)], ids)
    for live, beside in _PAIRS:
        for statement in _exchanging(live, beside):
            own.execute(statement)
    _DERIVING.ask(own)
    settle_ids(own, PROJECTION, ids)
    state.remember(own, state.FOLDED_BY, fold_stamp())


@cache
def _removing(table: sa.Table) -> Statement:
    return compiled(sa.delete(table).where(among(table.c.run_id, "the_runs")))


def _exchanging(live: sa.Table, beside: sa.Table) -> list[str]:
    """Remove what is no more, change what is there, and insert what is not. Who holds a W&B id is settled behind."""
    own = [column.name for column in live.columns if column.name != "wandb_run_id" or live is _LIVE.claims]
    names = [VERBATIM.get(name, name) for name in own]
    keys = live.primary_key.columns.keys()
    changed = ", ".join(f"{name} = b.{name}" for name in names if name not in keys)
    listed, same = ", ".join(names), " AND ".join(f"b.{name} = l.{name}" for name in keys)
    stale = f"l.run_id IN (SELECT run_id FROM {_BESIDE.heads.name})"
    no_row, no_other = (
        f"NOT EXISTS (SELECT 1 FROM {table} WHERE {same})" for table in (f"{live.name} l", f"{beside.name} b")
    )
    no_event = f"NOT EXISTS (SELECT 1 FROM {training_events.name} e WHERE e.run_id = l.run_id)"
    return [
        f"DELETE FROM {live.name} l WHERE ({stale} AND {no_other}) OR {no_event}",
        f"UPDATE {live.name} l SET {changed} FROM {beside.name} b WHERE {same}",
        f"INSERT INTO {live.name} ({listed}) SELECT {listed} FROM {beside.name} b WHERE {no_row}",
    ]
