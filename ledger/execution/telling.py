"""What was seen of a run's process, as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import origin
from ledger.errors import LedgerError

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.events import Event
    from ledger.execution.identity import Identity
    from ledger.execution.verdict import Verdict
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

        run_id = self.identity.run_id
        made = [*self._launched(ledger), *self._resumed(ledger)]
        if self.started:
            process = None if self.process is None else dict(self.process)
            made.append(Started(run_id=run_id, occurred_at=self.at, process=process))
            made.append(beat(run_id, self.heartbeat_seconds, self.at))
        return made

    def _launched(self, ledger: Ledger | None) -> list[Event]:
        from ledger.events import Launched

        said = {
            "chain_of_custody_id": self.identity.chain_of_custody_id,
            "run_name": self.identity.run_name,
            "config_file_path": self.identity.config_file_path,
            "host": origin.machine()[0],
            "instance_id": self.identity.instance_id,
            "resumes_run_id": self.identity.resumes_run_id,
        }
        row = _known(ledger, self.identity.run_id)
        if row is not None:
            lacks = any(value is not None and row.get(name) is None for name, value in said.items())
            if not lacks and not (self.config and row.get("config_json") in (None, "{}")):
                return []
        return [
            Launched(
                run_id=self.identity.run_id,
                occurred_at=self.at,
                config=dict(self.config),
                self_reported=True,
                **said,
            )
        ]

    def _resumed(self, ledger: Ledger | None) -> list[Event]:
        from ledger.events import Resumed

        old = self.identity.resumes_run_id
        if old is None or _known(ledger, old) is None:
            return []
        return [Resumed(run_id=old, resumed_by_run_id=self.identity.run_id, occurred_at=self.at)]


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


def _known(ledger: Ledger | None, run_id: str) -> Mapping[str, object] | None:
    """The run's row, where the ledger can be asked and knows it."""
    if ledger is None:
        return None
    try:
        return ledger.get_run(run_id)
    except LedgerError:
        return None
