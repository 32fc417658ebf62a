"""How events get their positions, and which locks their writer holds: by the one lock on a file, or run by run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

import sqlalchemy as sa

from ledger.store.spelling import among
from ledger.store.statements import Connection, Cursor, StoredRow, compiled, inserting, is_sqlite, on_server, said
from ledger.store.tables import training_events, training_heads

__all__ = [
    "NOWHERE",
    "NUMBERED_BY",
    "WRITTEN_BY",
    "Numbers",
    "insert_events",
    "lock_rows",
    "lock_runs",
    "lock_wandb_ids",
    "locking",
    "release_runs",
    "reserving",
]

WANDB_ID_LOCKS = 256  # as many as a transaction takes at most: a server has room for a few thousand in all
_WANDB_IDS = 0x1ED6E2  # the space of advisory locks that are ours

_NAMES = [column.name for column in training_events.columns if column.name != "position"]
_HEAD_NAMES = training_heads.columns.keys()
_NUMBERED = ("position", "transaction_id", *_NAMES)
_ACCEPTING = f"INSERT INTO training_events ({', '.join(_NUMBERED)}) VALUES ({', '.join(['%s'] * len(_NUMBERED))})"
# SQL for both ways to append.
NUMBERED_BY = "nextval(pg_get_serial_sequence('training_events', 'position'))"
WRITTEN_BY = "CAST(CAST(pg_current_xact_id() AS xid) AS text)"
# Followers see a run's events in the order of their versions: who got its number before he got the run, and saw
# another go first, takes the other's number. Nobody has been led past that one, for our own is not above it.
_NUMBERING = said(
    f"SELECT {NUMBERED_BY}, ("
    " SELECT greatest(ledger_transaction(), max(before.transaction_id))"
    " FROM unnest(CAST(:runs AS text[]), CAST(:versions AS bigint[])) AS grown(run_id, version)"
    " JOIN training_events before ON before.run_id = grown.run_id AND before.version = grown.version"
    f"), {WRITTEN_BY} FROM generate_series(1, :count)"
)
_RUN_ID, _VERSION = _NAMES.index("run_id"), _NAMES.index("version")

_RESERVING = said(
    f"SELECT {NUMBERED_BY}, greatest(ledger_transaction(), ("
    " SELECT transaction_id FROM training_events WHERE run_id = :the_run ORDER BY version DESC LIMIT 1"
    f")), {WRITTEN_BY} FROM generate_series(1, :count)"
    " WHERE EXISTS (SELECT 1 FROM training_heads WHERE run_id = :the_run)"
    " AND NOT EXISTS (SELECT 1 FROM training_events WHERE event_id = ANY(CAST(:ids AS text[])))"
)


class Numbers(NamedTuple):
    """What new events got, in their order.

    On a server also the id of the transaction, which the rows written now have as their `xmin`.
    """

    positions: Sequence[int] = ()
    written_by: str = ""


NOWHERE = Numbers()


def insert_events(connection: Connection, rows: Sequence[StoredRow], reserved: Sequence[StoredRow] = ()) -> Numbers:
    """Insert rows without positions, and return what they got, which may be *reserved* already."""
    if not rows:
        return NOWHERE
    if not on_server(connection):
        return Numbers(_insert_into_file(connection, rows))
    if not reserved:
        grown = {row[_RUN_ID]: row[_VERSION] - 1 for row in reversed(rows)}
        values = {"count": len(rows), "runs": list(grown), "versions": list(grown.values())}
        reserved = _NUMBERING.run(connection, values).fetchall()
    whole = ((*number[:2], *row) for number, row in zip(reserved, rows, strict=True))
    if connection.is_pipelined:
        for row in whole:
            connection.execute(_ACCEPTING, row)
    else:
        connection.load("training_events", _NUMBERED, whole)
    return Numbers([position for position, _, _ in reserved], reserved[0][2])


def reserving(connection: Connection, run_id: str, event_ids: Sequence[str]) -> Cursor:
    """Ask a server for positions of a known run's events, behind its lock; it gives none where any is known."""
    values = {"count": len(event_ids), "the_run": run_id, "ids": list(event_ids)}
    return _RESERVING.run(connection, values)


def _insert_into_file(connection: Connection, rows: Sequence[StoredRow]) -> range:
    sql = inserting(training_events).on(connection).sql
    if len(rows) == 1:
        connection.execute(sql, rows[0])
    else:
        connection.executemany(sql, rows)
    (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    return range(last - len(rows) + 1, last + 1)  # the write lock makes them neighbours


_LOCKING_ONE = said("SELECT version FROM training_heads WHERE run_id = :the_run FOR NO KEY UPDATE")
_LOCKING = compiled(
    sa.select(training_heads.c.run_id)
    .where(among(training_heads.c.run_id, "the_runs"))
    .order_by(training_heads.c.run_id)
    .with_for_update(key_share=True)
)
# A run that is new gets a head of no events, for others to wait at.
_BEGUN = {"version": "0", "placed": "0", "unreadable": "0", "detailed": "0"}
_BEGINNING = said(
    f"INSERT INTO training_heads ({', '.join(_HEAD_NAMES)})"
    f" SELECT {', '.join('value' if name == 'run_id' else _BEGUN.get(name, chr(39) * 2) for name in _HEAD_NAMES)}"
    " FROM unnest(CAST(:the_runs AS text[])) AS named(value) ON CONFLICT DO NOTHING"
)
_RELEASING = compiled(
    sa.delete(training_heads).where(among(training_heads.c.run_id, "the_runs"), training_heads.c.version == 0)
)
_LOCKING_ROWS = said(
    "SELECT run_id FROM training_runs WHERE run_id IN ("
    " SELECT unnest(CAST(:the_runs AS text[]))"
    " UNION SELECT run_id FROM training_claims WHERE wandb_run_id = ANY(CAST(:the_ids AS text[]))"
    " UNION SELECT run_id FROM training_runs WHERE wandb_run_id = ANY(CAST(:the_ids AS text[]))"
    ") ORDER BY run_id FOR NO KEY UPDATE"
)
_LOCKING_IDS = said(
    f"SELECT pg_advisory_xact_lock({_WANDB_IDS}, slot) FROM unnest(CAST(:slots AS int[])) AS wanted(slot)"
)


def locking(connection: Connection, run_id: str) -> Cursor:
    """Ask a server for the lock of one run; there is a row where the run is there and locked."""
    return _LOCKING_ONE.run(connection, {"the_run": run_id})


def lock_runs(connection: Connection, run_ids: Iterable[str]) -> None:
    """Let nobody else append to these runs until the transaction ends. On a file, the writer is alone already.

    Everybody locks in the order of the ids, first those that are new and then those that are there, so that
    no two wait for each other; and before reading what the lock keeps.
    """
    if is_sqlite(connection):
        return
    ordered = sorted(set(run_ids))
    if len(ordered) == 1 and locking(connection, ordered[0]).fetchone() is not None:
        return
    _BEGINNING.run(connection, {"the_runs": ordered})
    _LOCKING.run(connection, {"the_runs": ordered}).fetchall()


def release_runs(connection: Connection, run_ids: Iterable[str]) -> None:
    """Remove the heads of runs that were locked and have no event after all."""
    if not is_sqlite(connection) and (named := list(run_ids)):
        _RELEASING.run(connection, {"the_runs": named})


def lock_wandb_ids(connection: Connection, ids: Iterable[str]) -> None:
    """Let nobody else settle these W&B ids until the transaction ends. All runs are to be locked before."""
    if is_sqlite(connection):
        return
    slots = sorted({crc32(wandb_run_id.encode()) % WANDB_ID_LOCKS for wandb_run_id in ids})
    if slots:
        _LOCKING_IDS.run(connection, {"slots": slots}).fetchall()


def lock_rows(connection: Connection, run_ids: Iterable[str], ids: Iterable[str]) -> None:
    """Take the rows of these runs, and of all that these W&B ids may be given to or taken from.

    The ids are to be locked before. Who writes rows takes them in the order of the run ids, or with this all at once.
    """
    if not is_sqlite(connection):
        _LOCKING_ROWS.run(connection, {"the_runs": list(run_ids), "the_ids": list(ids)}).fetchall()
