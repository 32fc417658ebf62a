"""What numbers come to: finite values, quantiles, a proportion's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ledger.projections.fits import spelled_number

__all__ = ["finite", "mean", "quantile", "spelled_value", "wilson"]

_Z_95 = 1.959963984540054


def finite(value: object) -> float | None:
    """Return a number as a finite float, None for whatever else; a truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        made = float(value)
    except OverflowError:
        return None
    return made if math.isfinite(made) else None


def spelled_value(value: object) -> object:
    """Return the number that a text spells, as hyperparameters are read; whatever else as it is."""
    number = spelled_number(value) if isinstance(value, str) else None
    return value if number is None else number


def mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the quantile of ascending values, linear between neighbours; None where there are none."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    gap, part = high - low, place - below
    return low + gap * part if math.isfinite(gap) else low * (1 - part) + high * part  # the gap may be infinite


def wilson(successes: int, total: int) -> tuple[float | None, float | None]:
    """Return Wilson's 95 % interval of a proportion, (None, None) of nothing."""
    if total == 0:
        return None, None
    rate, square = successes / total, _Z_95**2
    centre = (rate + square / (2 * total)) / (1 + square / total)
    half = _Z_95 * math.sqrt(rate * (1 - rate) / total + square / (4 * total**2)) / (1 + square / total)
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    return low, 1.0 if successes == total else min(centre + half, 1.0)
