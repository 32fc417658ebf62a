"""The runs that this process appended to last, each as it left it: their next event takes one statement.

The process knows head and row, so that nothing has to be asked for; that it is still so is a condition of the
statement. Who else writes a run writes its head, and a head bears the transaction that wrote it last (its `xmin`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import sqlalchemy as sa

from ledger import origin
from ledger.events.fact import Fact
from ledger.events.times import text_of
from ledger.store.accepting import NUMBERED_BY, WRITTEN_BY
from ledger.store.log import Accepted, accept
from ledger.store.reading import EVENT_COLUMNS
from ledger.store.spelling import VERBATIM, postgresql_dialect
from ledger.store.statements import Connection, Statement, said
from ledger.store.tables import training_events, training_heads, training_runs
from ledger.store.tracked import HEAD, Tracked

__all__ = ["Remembered"]

RUNS_MAX = 32
LEFT_OUT_MAX = 64


@dataclass(slots=True)
class _Known:
    """A run as it was left, and, where others write it too, for how many appends that is not worth keeping."""

    tracked: Tracked | None = None
    left_out: int = 0
    leaving_out: int = 0


class Remembered:
    """What one process knows of runs. Threads may share it: who takes a run has it for himself."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, _Known] = OrderedDict()
        self._mine = threading.Lock()

    def keep(self, grown: Sequence[Tracked]) -> None:
        """Remember a run as it was committed; of several together, none."""
        if len(grown) != 1 or grown[0].stored_in is not training_runs or grown[0].unreadable:
            return
        (tracked,) = grown
        with self._mine:
            known = self._runs.setdefault(tracked.run_id, _Known())
            self._runs.move_to_end(tracked.run_id)
            if known.left_out:
                known.left_out -= 1
            elif known.tracked is None or known.tracked.version < tracked.version:
                known.tracked = tracked
            if len(self._runs) > RUNS_MAX:
                self._runs.popitem(last=False)

    def appending(self, fact: Fact) -> Callable[[Connection], Accepted | None] | None:
        """Return how to accept an event of a run that is remembered, in one statement that is a transaction by itself.

        It answers None where nothing was done. None in its place where the event needs more than the statement does.
        """
        with self._mine:
            known = self._runs.get(fact.run_id)
            if known is None or known.tracked is None:
                return None
            tracked, known.tracked = known.tracked, None
        if fact.understood is None or not tracked.fold_onto([fact]):
            return None
        if tracked.life is None or tracked.life.void_reason is not None or tracked.contested() or tracked.has_details():
            return None
        return partial(self._append, known, tracked, fact)

    def _append(self, known: _Known, tracked: Tracked, fact: Fact, connection: Connection) -> Accepted | None:
        before, recorded_at = tracked.chain, text_of(origin.now())
        event = accept(tracked, fact, fact.digest(), recorded_at)
        row = tracked.row()
        changed = tracked.changes(row)
        values = {
            **tracked.head(),
            **dict(zip(EVENT_COLUMNS[1:], event, strict=True)),
            **{f"row_{name}": value for name, value in changed.items()},
            "chain_before": before,
            "written_by": tracked.written_by,
        }
        found = _appending(tuple(changed)).run(connection, values).fetchone()
        with self._mine:
            # Whose memory was in vain asks for a while, and for longer each time: others write the run, too.
            known.leaving_out = 0 if found else min(LEFT_OUT_MAX, 2 * known.leaving_out or 1)
            known.left_out = known.leaving_out
        if found is None:
            return None
        position, tracked.placed, tracked.written_by = found
        tracked.saved(row, training_runs)
        return Accepted([(position, *event)], [position], [tracked])


@lru_cache(maxsize=256)
def _appending(changed: tuple[str, ...]) -> Statement:
    """Append an event and change head and row, all of it or nothing: what is not as remembered gives no row.

    Its transaction got its number after the one that wrote the head was committed, so followers have it behind that.
    """
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
        " AND h.chain = :chain_before AND h.xmin = CAST(:written_by AS xid)"
        " AND NOT EXISTS (SELECT 1 FROM training_events e WHERE e.event_id = :event_id)"
        " RETURNING numbered.position, h.placed"
        "), accepted AS ("
        f" INSERT INTO training_events (position, transaction_id, {', '.join(event)})"
        f" SELECT position, ledger_transaction(), {', '.join(event.values())} FROM grown"
        f"{kept if row else ''}) SELECT position, placed, {WRITTEN_BY} FROM grown"
    )


def _cast(type_: sa.types.TypeEngine[object], name: str) -> str:
    return f"CAST(:{name} AS {type_.compile(dialect=postgresql_dialect())})"


def _set(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
