"""`training_scaffolds`: what came of each scaffold of a run; of each field the latest that says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import JsonValue

from ledger.events.envelope import storable_text
from ledger.events.plain import NON_FINITE
from ledger.projections.columns import Column, Declared, JsonText, declared_columns
from ledger.projections.fits import Plain, fitting, projected_json, spelled_number

__all__ = ["SCAFFOLD_COLUMNS", "Scaffold", "Scaffolds", "is_score", "recorded", "scaffold_row", "with_earlier"]

# What is known of each scaffold, by its id: columns, and `scores` by objective.
Said = dict[str, JsonValue]
Scaffolds = dict[str, Said]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaffold:
    """One scaffold of one run."""

    run_id: Annotated[str, Column("The run.")]
    scaffold_id: Annotated[str, Column("What the run calls the scaffold.")]
    name: Annotated[str | None, Column("Name for people.")] = None
    smiles: Annotated[str | None, Column("Its structure as SMILES.")] = None
    scores_json: Annotated[JsonText | None, Column("Its score on each objective, a JSON object; null: not finite.")] = (
        None
    )
    pareto_rank: Annotated[int | None, Column("1 for those that none other dominates, and so on.")] = None
    cluster: Annotated[int | None, Column("The cluster that it is in.")] = None


SCAFFOLD_COLUMNS: dict[str, Declared] = declared_columns(Scaffold)
FIELDS = tuple(name for name in SCAFFOLD_COLUMNS if name not in ("run_id", "scaffold_id", "scores_json"))


def recorded(scaffolds: Scaffolds, payload: Mapping[str, JsonValue]) -> None:
    """Let one event act on what is known: what it says counts, what it leaves out stays."""
    columns, scores = _lists(payload.get("columns")), _lists(payload.get("scores"))
    for place, scaffold_id in enumerate(columns.get("scaffold_id", ())):
        if not isinstance(scaffold_id, str) or not scaffold_id.strip() or not storable_text(scaffold_id):
            continue
        said = scaffolds.setdefault(scaffold_id, {})
        for name in FIELDS:
            made = fitting(SCAFFOLD_COLUMNS[name], _at(columns.get(name), place))
            if made is not None:
                said[name] = made
        scored = {name: score for name, values in scores.items() if (score := _at(values, place)) is not None}
        if scored:
            before = said.get("scores")
            said["scores"] = {**(before if isinstance(before, dict) else {}), **scored}


def _lists(value: JsonValue) -> dict[str, list[JsonValue]]:
    said = value if isinstance(value, dict) else {}
    return {name: values for name, values in said.items() if isinstance(values, list)}


def _at(values: list[JsonValue] | None, place: int) -> JsonValue:
    return values[place] if values is not None and place < len(values) else None


def with_earlier(said: Said, row: Mapping[str, Plain]) -> Said:
    """Return what is known of a scaffold of which *row* is stored and *said* was said later."""
    text = row["scores_json"]
    before: Said = {name: row[name] for name in FIELDS if row[name] is not None}
    scores: JsonValue = json.loads(text) if isinstance(text, str) else None
    later = said.get("scores")
    if isinstance(scores, dict) or isinstance(later, dict):
        before["scores"] = {
            **(scores if isinstance(scores, dict) else {}),
            **(later if isinstance(later, dict) else {}),
        }
    return {**before, **{name: value for name, value in said.items() if name != "scores"}}


def scaffold_row(run_id: str, scaffold_id: str, said: Said) -> dict[str, Plain]:
    """Return the row of a scaffold."""
    scores = said.get("scores")
    made = (
        projected_json({name: _score(value) for name, value in sorted(scores.items())})
        if isinstance(scores, dict)
        else None
    )
    return {
        "run_id": run_id,
        "scaffold_id": scaffold_id,
        **{name: fitting(SCAFFOLD_COLUMNS[name], said.get(name)) for name in FIELDS},
        "scores_json": made,
    }


def is_score(value: JsonValue) -> bool:
    """Whether a score is a number, also one that is not finite or that is spelled."""
    if isinstance(value, str):
        return value in NON_FINITE or spelled_number(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _score(value: JsonValue) -> JsonValue:
    """A score as a number; null where it is none, or not finite."""
    if not is_score(value):
        return None
    return spelled_number(value) if isinstance(value, str) else value
