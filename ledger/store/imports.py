"""What a ledger holds of a log that was imported before."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.events.fact import loaded
from ledger.projections.claims import settle
from ledger.store.projector import claims_to
from ledger.store.statements import Connection, said

__all__ = ["holder_of", "sources_of"]


_SOURCES = said("SELECT DISTINCT source FROM training_events WHERE run_id = :run_id AND type = :type")


def holder_of(connection: Connection, wandb_run_id: str) -> str | None:
    """Return the run that a W&B id belongs to."""
    return settle(claims_to(connection, wandb_run_id))


def sources_of(connection: Connection, run_id: str, type: str) -> Iterator[dict[str, object]]:
    """Yield who says a run's events of one type, each source once."""
    for (source,) in _SOURCES.run(connection, {"run_id": run_id, "type": type}).fetchall():
        yield dict(loaded(source))
