"""What one call of `log` says, kept cheaply until its time comes, and rows of it as one event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue

from ledger.events import MetricsLogged
from ledger.events.plain import plain

__all__ = ["CELLS_MAX", "ROWS_MAX", "Logged", "batches", "plain_metrics"]

ROWS_MAX = 1000  # of one event
CELLS_MAX = 50_000  # of one event, where calls name different metrics and leave holes

# When the call was made, its step, and its metrics as plain data.
Logged = tuple[datetime, int, dict[str, JsonValue]]


def plain_metrics(metrics: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return the values as they are now: a tensor may change before it is written."""
    made: dict[str, JsonValue] = {}
    for name, value in metrics.items():
        # Most are floats, and this is called a hundred thousand times.
        made[str(name)] = value if type(value) is float and value - value == 0.0 else plain(value)
    return made


def batches(run_id: str, rows: Sequence[Logged]) -> list[MetricsLogged]:
    """Return the events that say all *rows*, each at the time of its last."""
    made: list[MetricsLogged] = []
    begun, names = 0, dict[str, None]()
    for place, (_, _, values) in enumerate(rows):
        grown = {**names, **dict.fromkeys(values)} if values.keys() - names.keys() else names
        held = place - begun
        if held >= ROWS_MAX or (held and (held + 1) * len(grown) > CELLS_MAX):
            made.append(_batch(run_id, rows[begun:place], names))
            begun, grown = place, dict.fromkeys(values)
        names = grown
    if rows:
        made.append(_batch(run_id, rows[begun:], names))
    return made


def _batch(run_id: str, rows: Sequence[Logged], names: Mapping[str, None]) -> MetricsLogged:
    """One event; what is plain already needs no validation, which would look at every value again."""
    columns: dict[str, list[JsonValue]] = {"step": [step for _, step, _ in rows]}
    for name in names:
        columns[name] = [values.get(name) for _, _, values in rows]
    return MetricsLogged.model_construct(run_id=run_id, occurred_at=rows[-1][0], columns=columns)
