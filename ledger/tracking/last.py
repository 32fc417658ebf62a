"""The last that a tracked process says: its error log, its end, and where what could not be written is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from ledger.error_log import keep_error_log, last_lines
from ledger.errors import InvalidFact, LedgerError
from ledger.events import Completed, CrashDataAttached, Crashed, Event, Fact, Failed
from ledger.events.plain import plain
from ledger.settings import is_spool, shown
from ledger.tracking.endings import Ending
from ledger.tracking.plan import Plan
from ledger.witness_word import leave_word

__all__ = ["Last", "save"]

_KINDS: dict[str, Callable[..., Event]] = {"completed": Completed, "failed": Failed, "crashed": Crashed}

_SAVE_SECONDS_MAX = 5.0

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
        if not self._plan.may_end(ending.status):
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
                final_metrics=_plain(self._metrics) or None,
                **told,
            )
        )
        return made

    def leave_word(self) -> None:
        """Tell who watches this process from outside how the run ended, so that nobody contradicts it."""
        ending = self._ending
        if self._plan.may_end(ending.status):
            leave_word(
                ending.status,
                run_id=self._plan.said.run_id,
                end_reason=ending.end_reason,
                exit_code=ending.exit_code,
                error_log=self._log,
            )


def _plain(metrics: Mapping[str, object]) -> dict[str, JsonValue]:
    """The metrics, without those that cannot be kept: no metric keeps an end from being told."""
    made: dict[str, JsonValue] = {}
    for name, value in metrics.items():
        try:
            made[str(name)] = plain(value)
        except InvalidFact as exc:
            _log.warning("the final metric %s was not recorded: %s", name, exc)
    return made


def save(plan: Plan, events: Sequence[Event]) -> bool:
    """Put what could not be written in time into a spool, if need be of this user; return whether that is done.

    What is known already will be known there too.
    """
    if not events or plan.is_off:
        return True
    settings = plan.settings
    named = settings.url if is_spool(settings.url) else settings.spooling().spool
    own = replace(settings, spool=None).spooling().spool
    places = [place for place in dict.fromkeys([named, own]) if place is not None]
    facts = [Fact.of(event, redacting=settings.redact) for event in events]
    place = next((place for place in places if _put(place, facts, of=settings.url)), None)
    if place is None:
        _log.error("run %s: %d event(s) are lost: no spool takes them", plan.said.run_id, len(events))
        return False
    _log.warning(
        "run %s: %d event(s) could not be written in time and wait in the spool %s; `ledger sync` moves them in",
        plan.said.run_id, len(events), shown(place),
    )  # fmt: skip
    return True


def _put(place: str, facts: Sequence[Fact], *, of: str) -> bool:
    """Append to a spool, for a bounded time: a bucket may never answer."""
    done: list[bool] = []

    def put() -> None:
        from ledger.spool.places import spool_writer

        try:
            writer = spool_writer(place, of=of)
            writer.append(facts)
            writer.close()
        except (LedgerError, OSError) as exc:
            _log.warning("the spool %s takes nothing: %s", shown(place), exc)
        else:
            done.append(True)

    thread = threading.Thread(target=put, name="ledger saves", daemon=True)
    thread.start()
    thread.join(_SAVE_SECONDS_MAX)
    return bool(done)
