"""What a run logged, a page of its `metrics_logged` events at a time, in canonical order.

Which events there are is read once, without their payloads; events never change, so the pages that follow are of that
same moment however much is appended meanwhile, and no transaction stays open for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache

import sqlalchemy as sa
from pydantic import JsonValue

from ledger.events.fact import loaded_all
from ledger.events.upcast import understood
from ledger.store.bounds import Bounds, conditions
from ledger.store.statements import Connection, Statement, compiled
from ledger.store.tables import training_events

__all__ = ["batches"]

_LOGGED = "metrics_logged"
_PAGE = 50  # an event has up to a thousand steps
_PLACES = tuple(f"position_{place}" for place in range(_PAGE))
_NO_EVENT = 0  # fills the last page: positions begin at 1


def batches(read: Callable[[], AbstractContextManager[Connection]], run_id: str, bounds: Bounds) -> Iterator[JsonValue]:
    """Yield the columns of each event within the bounds; what this code cannot understand is left out."""
    with read() as connection:
        found = _events().ask(connection, bounds.values(the_run=run_id)).fetchall()
    positions = [position for _, _, position in sorted(found)]
    for begin in range(0, len(positions), _PAGE):
        with read() as connection:
            page = _page(connection, positions[begin : begin + _PAGE])
        yield from page


def _page(connection: Connection, positions: Sequence[int]) -> list[JsonValue]:
    places = [*positions, *[_NO_EVENT] * (_PAGE - len(positions))]
    rows = _payloads().ask(connection, dict(zip(_PLACES, places, strict=True))).fetchall()
    payloads = loaded_all([payload for _, _, payload in rows])
    said = {
        position: understood(_LOGGED, version, payload)
        for (position, version, _), payload in zip(rows, payloads, strict=True)
    }
    return [known["columns"] for position in positions if (known := said.get(position)) and "columns" in known]


@cache
def _events() -> Statement:
    """Their order is made of few bytes each: a database that sorted them would carry the payloads along."""
    events = training_events.c
    of_run = events.run_id == sa.bindparam("the_run", type_=sa.Text())
    chosen = sa.select(events.occurred_at, events.event_id, events.position)
    return compiled(chosen.where(of_run, events.type == _LOGGED, *conditions()))


@cache
def _payloads() -> Statement:
    events = training_events.c
    places = [sa.bindparam(place, None, type_=sa.BigInteger()) for place in _PLACES]
    chosen = sa.select(events.position, events.schema_version, events.payload)
    return compiled(chosen.where(events.position.in_(places)))
