"""What came of a run beside its own metrics: its objectives, as they are said by hand, and its scaffolds."""

from __future__ import annotations

from typing import Annotated, Literal, Self, SupportsFloat

from pydantic import BeforeValidator, Field, FiniteFloat, JsonValue, model_validator

from ledger.events.envelope import Event, Id, Text
from ledger.events.lifecycle import NotFinite
from ledger.events.plain import plain, plain_mapping

__all__ = ["Direction", "Number", "ObjectiveStated", "ScaffoldsRecorded"]

Direction = Literal["maximize", "minimize"]


def _number(value: SupportsFloat | str) -> JsonValue:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")  # noqa: TRY004 -- pydantic reports ValueErrors
    try:
        return plain(float(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number is wanted") from None


# Beyond a glance: how long a column has to be, another one says.
ScaffoldColumns = Annotated[dict[str, list[JsonValue]], BeforeValidator(plain_mapping), Field(title="of scaffolds")]
# A number of any library, or one that is not finite, as JSON has it.
Number = Annotated[Annotated[FiniteFloat, Field(strict=True)] | NotFinite, BeforeValidator(_number)]


class ObjectiveStated(Event):
    """Somebody says by hand what an objective is or what a run reached on it; what is not said stays as it is."""

    type: Literal["objective_stated"] = "objective_stated"
    objective_name: Id
    objective_alias: Id | None = None
    uniprot: Text | None = None
    weight: Number | None = None
    direction: Direction | None = None
    raw_mean: Number | None = None
    normalized_mean: Number | None = None
    raw_std: Number | None = None
    normalized_std: Number | None = None


class ScaffoldsRecorded(Event):
    """Results of scaffolds, in columns of one length; `scores` has a column for each objective.

    `{"scaffold_id": ["s1", "s2"], "smiles": ["c1ccccc1", "C1CCCCC1"], "pareto_rank": [1, 2]}`; null says nothing.
    """

    type: Literal["scaffolds_recorded"] = "scaffolds_recorded"
    columns: ScaffoldColumns
    scores: ScaffoldColumns = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        ids = self.columns.get("scaffold_id")
        if ids is None:
            raise ValueError("a column scaffold_id is wanted")
        if any(len(values) != len(ids) for values in (*self.columns.values(), *self.scores.values())):
            raise ValueError("columns of one length are wanted")
        return self
