"""Heads that say something else than the events do: somebody cut events off, and a replay must not hide that."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from ledger.store.tables import PROJECTION, Projection

__all__ = ["keep_evidence", "suspects"]

_BOOKKEEPING = ("version", "chain", "newest_occurred_at", "newest_event_id", "first_recorded_at", "placed")


def suspects(connection: sqlite3.Connection, tables: Projection) -> list[str]:
    """Return the runs whose head in *tables*, made from their events, differs from the ledger's own.

    Runs that were appended to meanwhile are among them; those differ no more once they are caught up with.
    """
    ours, made = PROJECTION.heads.name, tables.heads.name
    differs = " OR ".join(f"o.{name} IS NOT m.{name}" for name in _BOOKKEEPING)
    asked = (
        f"SELECT o.run_id FROM {ours} o LEFT JOIN {made} m ON m.run_id = o.run_id WHERE {differs}"
        f" UNION SELECT m.run_id FROM {made} m LEFT JOIN {ours} o ON o.run_id = m.run_id WHERE o.run_id IS NULL"
    )
    return [run_id for (run_id,) in connection.execute(asked)]


def keep_evidence(connection: sqlite3.Connection, tables: Projection, run_ids: Iterable[str]) -> None:
    """Let the heads of these runs say in *tables* what they say in the ledger, but for what the fold gives."""
    ours, made = PROJECTION.heads.name, tables.heads.name
    listed = ", ".join(_BOOKKEEPING)
    for run_id in run_ids:
        connection.execute(
            f"UPDATE {made} SET ({listed}) = (SELECT {listed} FROM {ours} o WHERE o.run_id = {made}.run_id)"
            f" WHERE run_id = ? AND EXISTS (SELECT 1 FROM {ours} o WHERE o.run_id = {made}.run_id)",
            (run_id,),
        )
        connection.execute(
            f"DELETE FROM {made} WHERE run_id = ? AND run_id NOT IN (SELECT run_id FROM {ours})", (run_id,)
        )
        connection.execute(f"INSERT OR IGNORE INTO {made} SELECT * FROM {ours} WHERE run_id = ?", (run_id,))
