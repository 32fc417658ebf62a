"""The last that a tracked process says: its error log, its end, and where what could not be written is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ledger.error_log import keep_error_log, last_lines
from ledger.errors import LedgerError
from ledger.events import Completed, CrashDataAttached, Crashed, Event, Fact, Failed
from ledger.events.plain import plain_mapping
from ledger.settings import is_spool
from ledger.tracking.endings import Ending
from ledger.tracking.plan import Plan
from ledger.witness_word import leave_word

__all__ = ["Last", "save"]

_KINDS: dict[str, Callable[..., Event]] = {"completed": Completed, "failed": Failed, "crashed": Crashed}

_log = logging.getLogger("ledger")


class Last:
    """How the run ended, told once all else is written."""

    def __init__(self, plan: Plan, ending: Ending, metrics: Mapping[str, object], ended_at: datetime) -> None:
        self._plan = plan
        self._ending = ending
        self._metrics = metrics
        self._ended_at = ended_at
        self._log: Path | None = None

    def events(self) -> list[Event]:
        """Return the end, and before it where its error log lies; of another rank only a crash is the run's end."""
        run_id, ending = self._plan.said.run_id, self._ending
        if not self._plan.is_first and ending.status != "crashed":
            return []
        made: list[Event] = []
        self._log = keep_error_log(run_id, ending.error_log)
        if self._log is not None:
            made.append(CrashDataAttached(run_id=run_id, error_log_s3_key=str(self._log)))
        told = {} if ending.status == "completed" else {"error_log": last_lines(ending.error_log)}
        made.append(
            _KINDS[ending.status](
                run_id=run_id,
                ended_at=self._ended_at,
                end_reason=ending.end_reason,
                exit_code=ending.exit_code,
                final_metrics=plain_mapping(self._metrics) or None,
                **told,
            )
        )
        return made

    def leave_word(self) -> None:
        """Tell who watches this process from outside how the run ended, so that nobody contradicts it."""
        ending = self._ending
        if self._plan.is_first or ending.status == "crashed":
            leave_word(
                ending.status,
                run_id=self._plan.said.run_id,
                end_reason=ending.end_reason,
                exit_code=ending.exit_code,
                error_log=self._log,
            )


def save(plan: Plan, events: Sequence[Event]) -> None:
    """Put what could not be written in time into the spool; what is known already will be known there too."""
    if not events or plan.is_off:
        return
    from ledger.spool.places import spool_writer

    settings = plan.settings
    place = settings.url if is_spool(settings.url) else settings.spooling().spool
    try:
        writer = spool_writer(place or "")
        writer.append([Fact.of(event, redacting=settings.redact) for event in events])
        writer.close()
    except (LedgerError, OSError) as exc:
        _log.error("run %s: %d event(s) are lost: %s", plan.said.run_id, len(events), exc)
        return
    _log.warning(
        "run %s: %d event(s) could not be written in time and wait in the spool %s; `ledger sync` moves them in",
        plan.said.run_id, len(events), writer.place,
    )  # fmt: skip
