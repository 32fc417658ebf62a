"""The triggers that make the ledger append-only. They stop accidents; `verify` shows intent."""

from __future__ import annotations

__all__ = ["GUARDS"]

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'training_events is append-only: amend or void the run instead'); END"

# INSERT OR REPLACE deletes the old row without firing DELETE triggers (unless recursive_triggers is on),
# so an insert that meets a known key is refused before it can replace anything.
GUARDS: dict[str, str] = {
    "training_events_no_update": f"CREATE TRIGGER training_events_no_update BEFORE UPDATE ON training_events {_REFUSE}",
    "training_events_no_delete": f"CREATE TRIGGER training_events_no_delete BEFORE DELETE ON training_events {_REFUSE}",
    "training_events_no_replace": (
        "CREATE TRIGGER training_events_no_replace BEFORE INSERT ON training_events WHEN"
        " EXISTS (SELECT 1 FROM training_events WHERE event_id = NEW.event_id)"
        " OR EXISTS (SELECT 1 FROM training_events WHERE run_id = NEW.run_id AND version = NEW.version)"
        " OR EXISTS (SELECT 1 FROM training_events WHERE position = NEW.position)"
        f" {_REFUSE}"
    ),
}
