"""The runs that this process appended to last, each as it left it: their next event takes one statement.

The process knows head and row, so that nothing has to be asked for; that it is still so is a condition of the
statement. Who else writes a run writes its head, and a head bears the transaction that wrote it last (its `xmin`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache

import psycopg
import sqlalchemy as sa

from ledger import origin
from ledger.errors import LedgerBusy, LedgerUnreachable
from ledger.events.fact import Fact
from ledger.events.times import text_of
from ledger.projections.life import Row
from ledger.store.accepting import NUMBERED_BY, WRITTEN_BY
from ledger.store.log import Accepted, accept
from ledger.store.postgres.connection import ServerConnection
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.spelling import VERBATIM, postgresql_dialect
from ledger.store.statements import Statement, StoredRow, said
from ledger.store.tables import training_events, training_heads, training_runs
from ledger.store.tracked import HEAD, Tracked

__all__ = ["Remembered"]

RUNS_MAX = 32


class Remembered:
    """What one process knows of runs. Threads may share it: who takes a run has it for himself."""

    def __init__(self, at_once: Callable[[], AbstractContextManager[ServerConnection]]) -> None:
        """*at_once* gives a connection for one statement that is a transaction by itself."""
        self._at_once = at_once
        self._runs: OrderedDict[str, Tracked] = OrderedDict()
        self._mine = threading.Lock()

    def keep(self, grown: Sequence[Tracked]) -> None:
        """Remember a run as it was committed; of several together, none."""
        if len(grown) == 1 and grown[0].stored_in is training_runs and not grown[0].unreadable:
            with self._mine:
                self._runs[grown[0].run_id] = grown[0]
                if len(self._runs) > RUNS_MAX:
                    self._runs.popitem(last=False)

    def append(self, fact: Fact) -> Accepted | None:
        """Accept an event of a run that is remembered; None where that cannot be, and nothing was done, or is known.

        Then it has to be appended as any other.
        """
        with self._mine:
            tracked = self._runs.pop(fact.run_id, None)
        if tracked is None or fact.understood is None or not tracked.fold_onto([fact]):
            return None
        life = tracked.life
        if life is None or life.void_reason is not None or tracked.contested():
            return None
        before, recorded_at = (tracked.version, tracked.chain), text_of(origin.now())
        event = accept(tracked, fact, fact.digest(), recorded_at)
        row = tracked.row(life)
        changed = tracked.changes(row)
        values = {
            **tracked.head(),
            **_of_event(event),
            "version_before": before[0],
            "chain_before": before[1],
            **_of_transaction(tracked),
            **_of_row(changed),
        }
        found = self._said(_appending(tuple(changed)), values)
        if found is None:
            return None
        position, tracked.placed, tracked.followed_by, tracked.written_by = found
        tracked.saved(row, training_runs)
        return Accepted([(position, *event)], [position], [tracked])

    def _said(self, statement: Statement, values: Mapping[str, object]) -> StoredRow | None:
        """Return what the statement found, if it did something, and is known to have done it."""
        try:
            with self._at_once() as connection:
                found: StoredRow | None = statement.run(connection, values).fetchone()
        except LedgerBusy:
            raise  # others were waited for as long as anybody is to wait
        except (LedgerUnreachable, psycopg.errors.UniqueViolation):  # the event may be there, this one or another's
            return None
        return found


def _of_event(row: StoredRow) -> dict[str, object]:
    return dict(zip(EVENT_COLUMNS[1:], row, strict=True))


def _of_transaction(tracked: Tracked) -> dict[str, object]:
    return {"followed_by": tracked.followed_by, "written_by": tracked.written_by}


def _of_row(changed: Row) -> dict[str, object]:
    return {f"row_{name}": value for name, value in changed.items()}


@lru_cache(maxsize=256)
def _appending(changed: tuple[str, ...]) -> Statement:
    """Append an event and change head and row, all of it or nothing: what is not as remembered gives no row."""
    head = {name: _cast(training_heads.c[name].type, name) for name in HEAD}
    head["placed"] = f"ledger_placed(h.placed, numbered.position, {_cast(training_heads.c.chain.type, 'recorded_at')})"
    event = {name: _cast(training_events.c[name].type, name) for name in EVENT_COLUMNS[1:]}
    row = {VERBATIM.get(name, name): _cast(training_runs.c[name].type, f"row_{name}") for name in changed}
    # With a clock that stands still, or was set back, a late sign of life changes nothing of the row.
    kept = f"), kept AS (UPDATE training_runs SET {_set(row)} WHERE run_id = :run_id AND EXISTS (SELECT 1 FROM grown)"
    return said(
        f"WITH numbered AS (SELECT {NUMBERED_BY} AS position), grown AS ("
        f" UPDATE training_heads AS h SET {_set(head)} FROM numbered WHERE h.run_id = :run_id"
        # A server that lost commits gives the id of a transaction out again: the chain tells the two heads apart.
        " AND h.version = :version_before AND h.chain = :chain_before AND h.xmin = CAST(:written_by AS xid)"
        " AND NOT EXISTS (SELECT 1 FROM training_events e WHERE e.event_id = :event_id)"
        " RETURNING numbered.position, h.placed"
        "), accepted AS ("
        f" INSERT INTO training_events (position, transaction_id, {', '.join(event)})"
        f" SELECT position, greatest(ledger_transaction(), CAST(:followed_by AS bigint)), {', '.join(event.values())}"
        " FROM grown RETURNING transaction_id"
        f"{kept if row else ''}) SELECT position, placed, transaction_id, {WRITTEN_BY} FROM grown, accepted"
    )


def _cast(type_: sa.types.TypeEngine[object], name: str) -> str:
    return f"CAST(:{name} AS {type_.compile(dialect=postgresql_dialect())})"


def _set(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
