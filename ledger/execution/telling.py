"""What was seen of a run's process, as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import origin

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.events import Event
    from ledger.execution.identity import Identity
    from ledger.execution.verdict import Verdict
    from ledger.tracking.entry import Said
    from ledger.witness_word import Word

__all__ = ["LEASES", "Ended", "Opening", "beat", "closing"]

LEASES = 5  # a lease is so many heartbeats
_DETECTED_BY = "exec"


@dataclass(frozen=True)
class Opening:
    """A run's beginning: who it is, when its command was launched, and in which process it runs (None: in none)."""

    identity: Identity
    config: Mapping[str, object]
    at: datetime
    process: Mapping[str, str | int] | None
    started: bool
    heartbeat_seconds: float

    def events(self, ledger: Ledger | None) -> Sequence[Event]:
        """Return what is to be recorded; a launch only if it says what the ledger does not know."""
        from ledger.events import Started
        from ledger.tracking.entry import Known, known_of, launch_events

        run_id, said = self.identity.run_id, self._said()
        made = launch_events(said, Known() if ledger is None else known_of(ledger, said), self.at)
        if self.started:
            process = None if self.process is None else dict(self.process)
            made.append(Started(run_id=run_id, occurred_at=self.at, process=process))
            made.append(beat(run_id, self.heartbeat_seconds, self.at))
        return made

    def _said(self) -> Said:
        from ledger.events.plain import plain_mapping
        from ledger.tracking.entry import Said

        fields = {"host": origin.machine()[0], **asdict(self.identity)}
        del fields["run_id"]
        stated = {name: value for name, value in fields.items() if value is not None}
        return Said(self.identity.run_id, plain_mapping(self.config), stated)


def beat(run_id: str, heartbeat_seconds: float, at: datetime | None = None) -> Event:
    """Return a sign of life that promises the next ones."""
    from ledger.events import Heartbeat

    lease = max(1, round(LEASES * heartbeat_seconds))
    return Heartbeat(run_id=run_id, lease_seconds=lease, **({} if at is None else {"occurred_at": at}))


@dataclass(frozen=True)
class Ended:
    """A run's end: when it was seen, what it comes to, what the run's process said of it, and the log that is kept."""

    run_id: str
    at: datetime
    verdict: Verdict
    word: Word | None = None
    error_log: Path | None = None
    last_lines: str | None = None

    def events(self, _: Ledger | None = None) -> Sequence[Event]:
        """Return what is to be recorded: of an end that the process has recorded itself, the exit code alone."""
        if self.word is not None:
            known = self.word.exit_code == self.verdict.exit_code
            return [] if known else [closing(self.run_id, self.word.status, self.at, exit_code=self.verdict.exit_code)]
        return [*self._attached(), self._end()]

    def _attached(self) -> list[Event]:
        from ledger.events import CrashDataAttached

        if self.error_log is None:
            return []
        path = str(self.error_log).encode("utf-8", "backslashreplace").decode("utf-8")
        return [CrashDataAttached(run_id=self.run_id, occurred_at=self.at, error_log_s3_key=path)]

    def _end(self) -> Event:
        verdict = self.verdict
        said: dict[str, object] = {"end_reason": verdict.end_reason, "exit_code": verdict.exit_code}
        if verdict.status != "completed":
            said["error_log"] = self.last_lines
        if verdict.status == "crashed":
            said |= {"detected_by": _DETECTED_BY, "presumed": False}
        return closing(self.run_id, verdict.status, self.at, **said)


def closing(run_id: str, status: str, at: datetime, **said: object) -> Event:
    """Return the end of that status."""
    from ledger.events import Completed, Crashed, Failed

    kinds: dict[str, type[Event]] = {"completed": Completed, "failed": Failed, "crashed": Crashed}
    return kinds[status](run_id=run_id, occurred_at=at, **said)
