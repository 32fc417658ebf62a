"""The proof: every documented column of the earlier database beside the ledger's, and why the two are not the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ledger.adopting.knowing import Known, known_of, rows_shown
from ledger.adopting.rows import OldRow, Scalar
from ledger.adopting.wanted import DOCUMENTED, alike, kept, same, wanted_of
from ledger.events.redaction import redact

if TYPE_CHECKING:
    from ledger.adopting.front import Adopting
    from ledger.store.statements import Row

__all__ = ["Difference", "compared"]

_LENGTH_MAX = 200
_ANOTHER = (
    "training_runs: another row was adopted as this run before, by its created_at_db; give this one a run_id of its own"
)


@dataclass(frozen=True)
class Difference:
    """A column that is not as it was, and why; None where nobody knows. A long text is cut."""

    run_id: str
    column: str
    old: JsonValue
    new: JsonValue
    why: str | None


def compared(ledger: Adopting, page: Sequence[OldRow], *, redacting: bool) -> tuple[list[Difference], list[Difference]]:
    """Return which rows of a page are of another run than the ledger's, and all in which the others differ from it."""
    rows = rows_shown(ledger, page)
    others: list[Difference] = []
    made: list[Difference] = []
    for row in page:
        shown = rows.get(row.run_id)
        if shown is None:
            made.append(Difference(row.run_id, "run_id", row.run_id, None, None))
            continue
        differing = [
            name for name in DOCUMENTED if name in row.values and not same(name, row.values[name], shown[name])
        ]
        if not differing:
            continue
        known = known_of(ledger, [row])[row.run_id]
        if known.is_of_another(row):
            others.append(Difference(row.run_id, "run_id", row.run_id, row.run_id, _ANOTHER))
            continue
        reasons = _Reasons(ledger, row, shown, known, redacting=redacting)
        made += [
            Difference(
                row.run_id,
                name,
                _cut(_without_secrets(row.values[name], redacting=redacting)),
                _cut(shown[name]),
                reasons.of(name),
            )
            for name in differing
        ]
    return others, made


class _Reasons:
    """Why columns of one run differ."""

    def __init__(self, ledger: Adopting, row: OldRow, shown: Row, known: Known, *, redacting: bool) -> None:
        self._ledger = ledger
        self._shown = shown
        self._wanted = wanted_of(row, redacting=redacting)
        self._of_run = _of_run(known, row)

    def of(self, name: str) -> str | None:
        wanted, shown = self._wanted, self._shown[name]
        if alike(name, wanted.columns[name], shown):
            return wanted.reasons.get(name)
        if name == "wandb_run_id" and shown is None and (holder := self._holder(str(wanted.columns[name]))):
            return f"run {holder!r} has this W&B id here"
        return self._of_run

    def _holder(self, wandb_run_id: str) -> str | None:
        found = self._ledger.query_runs({"wandb_run_id": wandb_run_id}, limit=1)
        return str(found[0]["run_id"]) if found else None


def _of_run(known: Known, row: OldRow) -> str | None:
    """Why a run's row may be another altogether."""
    if known.is_later_than(row):
        return "a later state of this row was adopted before"
    if known.has_others:
        return "the ledger also knows of this run from elsewhere, and its row is what all its events say"
    return None


def _without_secrets(value: Scalar, *, redacting: bool) -> Scalar:
    """What may be printed of a column: a document's secrets are not, where the ledger keeps none."""
    if not redacting or not isinstance(value, str | bytes):
        return value
    try:
        redacted, count = redact(json.loads(value))
    except (ValueError, RecursionError):  # no document, and none that is kept
        return value
    return json.dumps(redacted) if count else value


def _cut(value: Scalar) -> JsonValue:
    made = value if isinstance(value, str) else kept(value)
    text = made if isinstance(made, str) else json.dumps(made)
    return made if len(text) <= _LENGTH_MAX else f"{text[:_LENGTH_MAX]}... ({len(text)} characters)"
