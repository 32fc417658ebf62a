"""The correction behind a run's events: what none of them can say, and what changed in the row since it was adopted."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ledger.adopting.telling import Teller
from ledger.adopting.wanted import Wanted, alike
from ledger.events import Fact
from ledger.events.times import parse_moment
from ledger.projections.fold import fold_facts
from ledger.projections.run import COLUMNS

__all__ = ["correction"]


def correction(facts: Sequence[Fact], wanted: Wanted, teller: Teller) -> Fact | None:
    """Return the amendment that makes the fold of *facts* the wanted row; None where it is so, or cannot be made so."""
    behind = max(parse_moment(fact.occurred_at) for fact in facts)
    columns: dict[str, JsonValue] = {}
    wrong = _wrong(facts, wanted)
    # What is amended can move what is derived from it: a duration from its times, a hyperparameter from its config.
    while more := [name for name in wrong if name not in columns]:
        columns |= {name: wanted.said(name) for name in more}
        if any(columns.get(name, "") is None for name in ("started_at", "ended_at")):
            columns["active_seconds"] = None  # it would count from a moment that nobody said
        wrong = _wrong([*facts, teller.amended(columns, behind)], wanted)
    for name in wrong:
        del columns[name]
    return teller.amended(columns, behind) if columns else None


def _wrong(facts: Sequence[Fact], wanted: Wanted) -> list[str]:
    """The columns that could be amended, and in which the fold is not what is wanted."""
    life = fold_facts(facts)
    if life is None:
        return []
    shown = {**life.row, "wandb_run_id": life.claim}
    return [
        name
        for name, value in wanted.columns.items()
        if not alike(name, shown[name], value) and (value is not None or COLUMNS[name].nullable)
    ]
