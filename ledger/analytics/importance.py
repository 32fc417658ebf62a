"""Which hyperparameters a model needs to foretell a metric: permutation importance of a random forest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.analytics.groups import Row, rank, same
from ledger.analytics.numbers import spelled_value
from ledger.errors import AskedWrongly, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RUNS_MIN", "importance"]

RUNS_MIN = 30
_TREES = 100
_HELD_OUT = 0.3


def importance(
    parameters: Mapping[str, Sequence[object]], metric: Sequence[float], *, repeats: int, seed: int
) -> list[Row]:
    """Return the rows of importance, the most important first.

    The forest learns from seven runs in ten; on the others each parameter is shuffled *repeats* times.
    """
    varying = {name: _coded(values) for name, values in parameters.items()}
    varying = {name: codes for name, codes in varying.items() if len(set(map(str, codes))) > 1}
    _check(varying, metric)
    means, stds, score = _permuted(list(varying.values()), metric, repeats, seed)
    rows: list[Row] = [
        {"parameter": name, "importance": mean, "std": std, "r_squared": score, "runs": len(metric)}
        for name, mean, std in zip(varying, means, stds, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda place: (-means[place], str(rows[place]["parameter"])))
    return [rows[place] for place in order]


def _check(varying: Mapping[str, Sequence[float]], metric: Sequence[float]) -> None:
    if len(metric) < RUNS_MIN:
        raise AskedWrongly(
            f"importance needs at least {RUNS_MIN} runs that have the metric, and {len(metric)} have it. "
            "Ask for more runs with other filters or status=None, or for effects(...), which take any number."
        )
    if not varying:
        raise AskedWrongly("no hyperparameter varies among these runs, so none can matter. Ask for more runs.")
    if len(set(metric)) == 1:
        raise AskedWrongly("the metric is the same in all of these runs, so nothing can matter. Ask for another.")


def _coded(values: Sequence[object]) -> list[float]:
    """Each value by its place among the values, which is all that a forest looks at; NaN for what is not there."""
    spelled = [spelled_value(value) for value in values]
    ordered = sorted({same(value): value for value in spelled if value is not None}.values(), key=rank)
    codes = {same(value): float(place) for place, value in enumerate(ordered)}
    return [math.nan if value is None else codes[same(value)] for value in spelled]


def _permuted(
    columns: Sequence[Sequence[float]], metric: Sequence[float], repeats: int, seed: int
) -> tuple[list[float], list[float], float]:
    try:
        import numpy as np
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.inspection import permutation_importance
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingExtra("importance") from None
    table: NDArray[np.float64] = np.array(columns, dtype=float).T
    # Scaled: a forest compares squares, and those of a huge or tiny metric would be lost.
    target: NDArray[np.float64] = np.array(metric, dtype=float)
    target = target / np.abs(target).max() if np.abs(target).max() > 0 else target
    known, held_out, known_target, held_out_target = train_test_split(
        table, target, test_size=_HELD_OUT, random_state=seed
    )
    forest = RandomForestRegressor(n_estimators=_TREES, min_samples_leaf=2, random_state=seed)
    forest.fit(known, known_target)
    found = permutation_importance(forest, held_out, held_out_target, n_repeats=repeats, random_state=seed)
    score = float(forest.score(held_out, held_out_target))
    return [float(mean) for mean in found.importances_mean], [float(std) for std in found.importances_std], score
