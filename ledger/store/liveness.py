"""What `projections.liveness` says, as SQL: an expression over a run's row and its lease in `training_heads`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ledger.events.times import text_of
from ledger.projections.filters import Condition
from ledger.projections.lifecycle import ENDED
from ledger.projections.liveness import LEASES_MAX, LIVENESS, NEEDS_A_LOOK, Present
from ledger.projections.run import STATUSES
from ledger.store.spelling import MOMENT, lease_in, seconds_between
from ledger.store.tables import training_heads

__all__ = ["is_among", "liveness_of", "needs_a_look", "values_of"]

_MOMENT = sa.bindparam("the_moment", None, type_=MOMENT)
_LATE: sa.BindParameter[float] = sa.bindparam("launch_late_seconds", None, type_=sa.Double())
_LOST: sa.BindParameter[float] = sa.bindparam("launch_lost_seconds", None, type_=sa.Double())


def values_of(present: Present) -> dict[str, object]:
    """Return the values of the expression's parameters."""
    return {
        "the_moment": text_of(present.moment),
        "launch_late_seconds": present.launch_late_seconds,
        "launch_lost_seconds": present.launch_lost_seconds,
    }


def liveness_of(runs: sa.FromClause) -> sa.Label[str]:
    """Return the liveness of a row; the ended, which are most, cost it nothing."""
    heads = training_heads.alias("head")
    held = sa.select(lease_in(heads.c.beside)).where(heads.c.run_id == runs.c.run_id).scalar_subquery()
    launched, seen = (seconds_between(_MOMENT, runs.c[name]) for name in ("created_at", "last_seen_at"))
    words = {name: _word(name) for name in LIVENESS}
    is_launched = runs.c.status == _word("launched")
    return sa.case(
        (runs.c.status.in_([_word(status) for status in sorted(ENDED)]), words["ended"]),
        (is_launched & (launched > _LOST), words["lost"]),
        (is_launched & (launched > _LATE), words["late"]),
        (is_launched | held.is_(None) | runs.c.last_seen_at.is_(None), words["unknown"]),
        (seen <= held, words["alive"]),
        (seen <= sa.literal_column(f"{LEASES_MAX}") * held, words["late"]),
        else_=words["lost"],
    ).label("liveness")


def is_among(runs: sa.FromClause, condition: Condition) -> sa.ColumnElement[bool]:
    """Return whether a run's liveness meets the condition."""
    asked = [name for name in LIVENESS if _MEETS[condition.operator](name, condition.values)]
    found = liveness_of(runs).element.in_([_word(name) for name in asked])
    if "ended" in asked:
        return found
    alive = [_word(status) for status in STATUSES if status not in ENDED]
    return runs.c.status.in_(alive) & found  # so that an index leads past the ended, which are most


_MEETS: dict[str, Callable[[str, Sequence[str | float]], bool]] = {
    "is": lambda name, values: name in values,
    "is_not": lambda name, values: name not in values,
    "min": lambda name, values: name >= str(values[0]),
    "max": lambda name, values: name <= str(values[0]),
    "contains": lambda name, values: str(values[0]) in name,
    "has": lambda _, values: bool(values[0]),
}


def needs_a_look(runs: sa.FromClause) -> sa.ColumnElement[int]:
    """Return what orders the lost before the late, and those before all others."""
    return sa.case(
        *((liveness_of(runs) == _word(name), sa.literal_column(f"{place}")) for place, name in enumerate(NEEDS_A_LOOK)),
        else_=sa.literal_column(f"{len(NEEDS_A_LOOK)}"),
    )


def _word(name: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{name}'", sa.Text())
