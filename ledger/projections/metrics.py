"""`training_metrics`: what a run logged of each metric, summed up; a row a run and metric.

It is a sum that does not ask for an order: whoever adds up the batches in another one, or in parts, gets the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, cast

from pydantic import JsonValue

from ledger.events.envelope import storable_text
from ledger.events.plain import NON_FINITE
from ledger.projections.columns import Column, Declared, Moment, declared_columns
from ledger.projections.fits import Plain, fitting

__all__ = ["METRIC_COLUMNS", "STATISTICS", "Metric", "add_up", "less_is_better"]

Key = tuple[str, str]  # (occurred_at, event_id): canonical order

# Words in the last part of a name that say of a metric that less of it is better.
LESS_IS_BETTER = frozenset(
    [
        "loss",
        "error",
        "err",
        "perplexity",
        "ppl",
        "nll",
        "mse",
        "mae",
        "rmse",
        "wer",
        "cer",
        "fid",
        "regret",
        "minimize",
    ]
)


@dataclass(kw_only=True, slots=True)
class Metric:
    """One metric of one run. A value that is not finite counts, and is passed over otherwise."""

    run_id: Annotated[str, Column("The run.")]
    name: Annotated[str, Column("The metric's name, as it was logged.")]
    last: Annotated[float | None, Column("The value that was logged last; NULL where that is not finite.")] = None
    last_step: Annotated[int | None, Column("The step of the last value.")] = None
    min: Annotated[float | None, Column("The smallest value.")] = None
    min_step: Annotated[int | None, Column("The first step with the smallest value.")] = None
    max: Annotated[float | None, Column("The largest value.")] = None
    max_step: Annotated[int | None, Column("The first step with the largest value.")] = None
    best: Annotated[
        float | None,
        Column("The smallest value where the name says that less is better (loss, error, ...), else the largest."),
    ] = None
    best_step: Annotated[int | None, Column("The first step with the best value.")] = None
    count: Annotated[int, Column("How many values were logged.")] = 0
    non_finite: Annotated[int, Column("How many of them were NaN or infinite.")] = 0
    last_at: Annotated[Moment, Column("When the event with the last value occurred.")]
    last_event_id: Annotated[str, Column("The event with the last value.")]

    @classmethod
    def restored(cls, row: Mapping[str, Plain]) -> Metric:
        make: Callable[..., Metric] = cls
        return make(**row)

    def take(
        self, key: Key, numbers: Sequence[float | None], logged: Sequence[float], steps: Sequence[int | None]
    ) -> None:
        """Take in what was logged by one event: *numbers* are its values, *logged* those that are any."""
        finite = logged if math.isfinite(sum(logged)) else [number for number in logged if math.isfinite(number)]
        self.count += len(logged)
        self.non_finite += len(logged) - len(finite)
        if finite:  # -0.0 equals 0.0, and is written otherwise
            least, most = min(finite), max(finite)
            if self.min is None or least <= self.min:
                self._lower(least + 0.0, _step_of(least, numbers, steps))
            if self.max is None or most >= self.max:
                self._raise(most + 0.0, _step_of(most, numbers, steps))
        if key > (self.last_at, self.last_event_id):
            last = logged[-1]
            self.last, self.last_step = last + 0.0 if math.isfinite(last) else None, _last_step(numbers, steps)
            self.last_at, self.last_event_id = Moment(key[0]), key[1]

    def _lower(self, value: float | None, step: int | None) -> None:
        if value is not None and (self.min is None or _first(value, step) < _first(self.min, self.min_step)):
            self.min, self.min_step = value, step

    def _raise(self, value: float | None, step: int | None) -> None:
        if value is not None and (self.max is None or _first(-value, step) < _first(-self.max, self.max_step)):
            self.max, self.max_step = value, step

    def add(self, other: Metric) -> None:
        """Take what is known of other events in."""
        self._lower(other.min, other.min_step)
        self._raise(other.max, other.max_step)
        self.count += other.count
        self.non_finite += other.non_finite
        if (other.last_at, other.last_event_id) > (self.last_at, self.last_event_id):
            self.last, self.last_step = other.last, other.last_step
            self.last_at, self.last_event_id = other.last_at, other.last_event_id

    def row(self) -> dict[str, Plain]:
        less = less_is_better(self.name)
        self.best, self.best_step = (self.min, self.min_step) if less else (self.max, self.max_step)
        return {name: getattr(self, name) for name in METRIC_COLUMNS}


@lru_cache(maxsize=4096)
def less_is_better(name: str) -> bool:
    """Whether a metric's name says so: by a word of its last part, or by an objective's `_minimize`."""
    parts = name.lower().replace("-", "_").replace(".", "/").split("/")
    words = {*parts[-1].split("_"), *(word for part in parts[:-1] for word in part.split("_")[-1:])}
    return not LESS_IS_BETTER.isdisjoint(words)


def _step_of(value: float, numbers: Sequence[float | None], steps: Sequence[int | None]) -> int | None:
    """The smallest step at which it was."""
    if numbers.count(value) == 1:
        return steps[numbers.index(value)]
    found = (step for number, step in zip(numbers, steps, strict=True) if number == value and step is not None)
    return min(found, default=None)


def _last_step(numbers: Sequence[float | None], steps: Sequence[int | None]) -> int | None:
    """The step of the last value."""
    place = len(numbers) - 1
    while numbers[place] is None:
        place -= 1
    return steps[place]


def _first(value: float, step: int | None) -> tuple[float, bool, int]:
    """What is smaller comes before: a smaller value, and of equal ones that of an earlier step."""
    return value, step is None, step or 0


METRIC_COLUMNS: dict[str, Declared] = declared_columns(Metric)
# What can be asked of a metric in a filter.
STATISTICS = ("last", "last_step", "min", "min_step", "max", "max_step", "best", "best_step", "count", "non_finite")


def add_up(metrics: dict[str, Metric], run_id: str, key: Key, columns: JsonValue) -> None:
    """Add what one event logged to what there is, by name: columns of values, of which `step` says where each was."""
    said = columns if isinstance(columns, dict) else {}
    steps = _steps(said.get("step"))
    for name, values in said.items():
        if name != "step" and isinstance(values, list) and _is_name(name):
            numbers, logged = _numbers(values)
            if logged:
                metric = metrics.get(name)
                if metric is None:
                    metric = metrics[name] = Metric(run_id=run_id, name=name, last_at=Moment(""), last_event_id="")
                metric.take(key, numbers, logged, steps if len(steps) == len(numbers) else [None] * len(numbers))


def _numbers(values: list[JsonValue]) -> tuple[Sequence[float | None], Sequence[float]]:
    """Each value as a number, where it is one, and those that are. What is not finite is a number, too."""
    if set(map(type, values)) == {float}:  # as nearly always
        numbers = cast("list[float]", values)
        return numbers, numbers
    made = [_number(value) for value in values]
    return made, [number for number in made if number is not None]


def _number(value: JsonValue) -> float | None:
    made = fitting(_VALUE, value)
    if made is None and isinstance(value, str | float) and str(value) in _NON_FINITE:
        return float(value)
    return float(made) if made is not None else None


def _steps(values: JsonValue) -> Sequence[int | None]:
    if isinstance(values, list) and set(map(type, values)) == {int}:
        steps = cast("list[int]", values)
        if min(steps) >= -(2**63) and max(steps) < 2**63:
            return steps
    made = [fitting(_STEP, value) for value in values] if isinstance(values, list) else []
    return [value if isinstance(value, int) else None for value in made]


_is_name = lru_cache(maxsize=4096)(storable_text)  # the same few, in every event
_NON_FINITE = {*NON_FINITE, "inf", "-inf", "nan"}
_VALUE, _STEP = METRIC_COLUMNS["last"], METRIC_COLUMNS["last_step"]
