"""Which event gave each column its value, and what it took the place of: the fold, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ledger.events.fact import Fact
from ledger.projections.fits import Plain
from ledger.projections.fold import canonical, evolve
from ledger.projections.life import Life, Row
from ledger.projections.run import COLUMNS
from ledger.projections.timeline import who

__all__ = ["EXPLAINED", "Explanation", "Setting", "explain"]

# What is explained: the columns, and of a voided run also why it is void.
EXPLAINED = (*COLUMNS, "reason")


@dataclass(frozen=True)
class Setting:
    """A value that a column had (None: it was cleared), and the event that gave it."""

    value: Plain
    event_id: str
    type: str
    occurred_at: str
    source: str


@dataclass(frozen=True)
class Explanation:
    """A column's value as the row shows it, the event that gave it, and what it replaced, newest first.

    Of `wandb_run_id` alone: which id the run claims, and which other run holds that id.
    """

    column: str
    value: Plain
    event_id: str
    type: str
    occurred_at: str
    source: str
    replaced: tuple[Setting, ...] = ()
    claim: str | None = None
    held_by: str | None = None


def explain(accepted: Sequence[tuple[Fact, str]], holder: Callable[[str], str | None]) -> list[Explanation]:
    """Return an explanation of each column that anything was ever said of; none where nothing is understood.

    *accepted* are one run's facts, each with its `recorded_at`, in order of acceptance; *holder* says
    which run holds a W&B id.
    """
    settings: dict[str, list[Setting]] = {}
    before: Row = {}
    for fact, row in _steps(fact for fact, _ in accepted):
        for name, value in row.items():
            if value != before.get(name):
                settings.setdefault(name, []).append(_setting(fact, value))
        before = row
    if not settings:
        return []
    for name, (fact, recorded_at) in (("created_at_db", accepted[0]), ("updated_at_db", accepted[-1])):
        settings[name] = [_setting(fact, recorded_at)]
    made = {name: _explanation(name, settings[name]) for name in EXPLAINED if name in settings}
    if "wandb_run_id" in made:
        made["wandb_run_id"] = _settled(made["wandb_run_id"], accepted[0][0].run_id, holder)
    return list(made.values())


def _steps(facts: Iterable[Fact]) -> Iterator[tuple[Fact, Row]]:
    """Each fact that acts on the run, in canonical order, with the row as it then is."""
    life: Life | None = None
    for fact in sorted(facts, key=canonical):
        if fact.understood is not None:
            life = evolve(life, fact)
            yield fact, _shown(life)


def _shown(life: Life) -> Row:
    """The row, what the run claims as `wandb_run_id`, and the `reason` of a voided run."""
    claim = life.claimed()
    return {
        **life.sealed().row,
        "wandb_run_id": None if claim is None else claim.wandb_run_id,
        "reason": life.void_reason,
    }


def _setting(fact: Fact, value: Plain) -> Setting:
    return Setting(value, fact.event_id, fact.type, fact.occurred_at, who(fact.source))


def _explanation(column: str, settings: Sequence[Setting]) -> Explanation:
    *earlier, last = settings
    return Explanation(
        column, last.value, last.event_id, last.type, last.occurred_at, last.source, tuple(reversed(earlier))
    )


def _settled(claimed: Explanation, run_id: str, holder: Callable[[str], str | None]) -> Explanation:
    """The explanation of `wandb_run_id`, which the row shows only if this run holds what it claims."""
    claim = claimed.value
    if not isinstance(claim, str):
        return claimed
    holding = holder(claim)
    if holding == run_id:
        return replace(claimed, claim=claim)
    return replace(claimed, value=None, claim=claim, held_by=holding)
