"""Run a command as a recorded run: start it, watch it, say how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import origin
from ledger.error_log import keep_error_log, last_lines
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra
from ledger.execution.child import NotStarted, start
from ledger.execution.configuration import read_config
from ledger.execution.identity import Identity, environment_of, identified
from ledger.execution.memory import kills
from ledger.execution.recorder import Left, Recorder
from ledger.execution.relay import Relay
from ledger.execution.signals import Death, Held, held_back, wait_for_end
from ledger.execution.telling import Ended, Opening, beat
from ledger.execution.verdict import Ending, judged
from ledger.settings import OFF, Settings
from ledger.tracking.surroundings import job_has_timed_out, rank, under_slurm
from ledger.witness_word import Word, leave_word, read_word

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["HEARTBEAT_SECONDS", "Outcome", "execute", "witness"]

HEARTBEAT_SECONDS = 60.0
Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Outcome:
    """What came of a command: its exit code as a shell has it, what its run ended as, and where the rest lies.

    *spool* holds what has not come to the ledger yet, *trouble* says why. *refusal* says why the command
    could not be started, *handler_exit_code* how the handler of its crash ended.
    """

    run_id: str
    status: str
    end_reason: str | None
    exit_code: int
    error_log: str | None = None
    spool: str | None = None
    trouble: str | None = None
    refusal: str | None = None
    handler_exit_code: int | None = None
    recorded: bool = True


def execute(
    command: Sequence[str],
    *,
    place: Place | None = None,
    run_id: str | None = None,
    config: Place | Mapping[str, object] | None = None,
    chain_of_custody_id: str | None = None,
    run_name: str | None = None,
    resumes_run_id: str | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    on_crash: str | None = None,
) -> int:
    """Run the command as a recorded run and return its exit code, 128 and the signal's number where one ended it.

    *config* is a mapping, or a file of YAML or JSON; *on_crash* a shell's command. Call it in the main thread
    of a process that has no other: it forks, and takes the signals. It raises only before it starts anything.
    """
    said = {name: value for name, value in locals().items() if name != "command"}
    return witness(command, **said).exit_code


def witness(
    command: Sequence[str],
    *,
    place: Place | None = None,
    run_id: str | None = None,
    config: Place | Mapping[str, object] | None = None,
    chain_of_custody_id: str | None = None,
    run_name: str | None = None,
    resumes_run_id: str | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    on_crash: str | None = None,
) -> Outcome:
    """As `execute`, and return all that is known of how it ended."""
    settings = Settings.read(place)  # NotConfigured, before anything starts
    _check(command, heartbeat_seconds)
    _check_extras(settings)
    from_file = config if isinstance(config, str | os.PathLike) else None
    identity = identified(
        command,
        run_id=run_id,
        chain_of_custody_id=chain_of_custody_id,
        run_name=run_name,
        resumes_run_id=resumes_run_id,
        config_path=from_file,
    )
    read = read_config(from_file) if from_file is not None else config
    said = read if isinstance(read, Mapping) else {}
    recorded_in = place if rank() == 0 else OFF  # the first of the processes that train together speaks for the run
    with held_back() as held, _file_for_a_word() as word_file:
        environment = environment_of(identity, place, word_file)
        attempt = _Attempt(identity, said, command, environment, held, heartbeat_seconds)
        seen = attempt.see_through(recorded_in, word_file)
        handler_exit_code = _handle(on_crash, seen, environment, held)
    return _outcome(seen, handler_exit_code, recorded=OFF not in (settings.url, recorded_in))


@dataclass(frozen=True)
class _Seen:
    """An end with all that was seen of it."""

    ended: Ended
    log: Path | None
    left: Left
    refusal: str | None

    @property
    def status(self) -> str:
        return self.ended.word.status if self.ended.word is not None else self.ended.verdict.status

    @property
    def end_reason(self) -> str | None:
        return self.ended.word.end_reason if self.ended.word is not None else self.ended.verdict.end_reason

    @property
    def error_log(self) -> str | None:
        said = self.ended.word.error_log if self.ended.word is not None else None
        return said or (None if self.log is None else str(self.log))


@dataclass(frozen=True)
class _Attempt:
    """A command that is about to be started, and who its run is."""

    identity: Identity
    config: Mapping[str, object]
    command: Sequence[str]
    environment: Mapping[str, str]
    held: Held
    heartbeat_seconds: float

    def see_through(self, place: Place | None, word_file: str | None) -> _Seen:
        run_id = self.identity.run_id
        relay = Relay.begin(self.held.signals)  # forks, so that it comes before the recorder's thread
        recorder = Recorder(place, lambda _: [beat(run_id, self.heartbeat_seconds)], self.heartbeat_seconds)
        origin.machine()  # which is then known, and the child can be looked at without a delay
        before = kills(os.getpid())
        at = origin.now()
        started = self._started(relay)
        child = started if isinstance(started, int) else None
        opening = self._opening(at, child)  # at once: of a child that has ended nobody can say which process it was
        recorder.start()
        recorder.tell(opening.events)
        if isinstance(started, int):
            death, at, tail = wait_for_end(started, self.held, before, relay), origin.now(), relay.end()
        else:
            death, tail = Death(exit_code=started.exit_code), started.why
        ended, log = self._judged(death, at, tail, read_word(word_file, run_id) if word_file else None)
        recorder.tell(ended.events)
        return _Seen(ended, log, recorder.finish(), None if isinstance(started, int) else started.why)

    def _started(self, relay: Relay) -> int | NotStarted:
        try:
            return start(self.command, self.environment, self.held, relay.inlet)
        finally:
            relay.close_inlet()

    def _opening(self, at: datetime, child: int | None) -> Opening:
        process = None if child is None else origin.process(child)
        return Opening(self.identity, self.config, at, process, child is not None, self.heartbeat_seconds)

    def _judged(self, death: Death, at: datetime, tail: str, word: Word | None) -> tuple[Ended, Path | None]:
        timed_out = job_has_timed_out(at.timestamp())
        ending = Ending(death.exit_code, death.signal, tail, death.out_of_memory, under_slurm(), timed_out)
        verdict = judged(ending)
        went_wrong = (verdict if word is None else word).status != "completed"
        log = keep_error_log(self.identity.run_id, tail) if went_wrong else None
        return Ended(self.identity.run_id, at, verdict, word, log, last_lines(tail)), log


def _outcome(seen: _Seen, handler_exit_code: int | None, *, recorded: bool) -> Outcome:
    ended = seen.ended
    exit_code = ended.verdict.exit_code
    if recorded:  # another witness may watch us, as where one recorded command runs another one
        leave_word(
            seen.status, run_id=ended.run_id, end_reason=seen.end_reason, exit_code=exit_code, error_log=seen.error_log
        )
    return Outcome(
        ended.run_id, seen.status, seen.end_reason, exit_code, seen.error_log, seen.left.spool, seen.left.trouble,
        seen.refusal, handler_exit_code, recorded,
    )  # fmt: skip


def _handle(on_crash: str | None, seen: _Seen, environment: Mapping[str, str], held: Held) -> int | None:
    """Run the handler of a crash and return its exit code; None where there is nothing to handle."""
    if on_crash is None or seen.status != "crashed":
        return None
    log = seen.error_log or ""
    told = {
        "ERROR_LOG": log,
        "EXIT_CODE": str(seen.ended.verdict.exit_code),
        "END_REASON": seen.end_reason or "",
    }
    command = ["sh", "-c", on_crash, "on-crash", seen.ended.run_id, log]
    before = kills(os.getpid())
    started = start(command, {**environment, **told}, held)
    if not isinstance(started, int):
        return started.exit_code
    death = wait_for_end(started, held, before)
    return Ending(death.exit_code, death.signal).shell_code


@contextlib.contextmanager
def _file_for_a_word() -> Iterator[str | None]:
    """Make the private file in which the child may say how it ended; where that cannot be, nothing is lost by it."""
    try:
        file, path = tempfile.mkstemp(prefix="ledger-witness-")
    except OSError:
        yield None
        return
    os.close(file)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def _check_extras(settings: Settings) -> None:
    """What the recorder will need is there; only the names are looked up, since nothing may delay the command."""
    in_s3 = any((place or "").startswith("s3:") for place in (settings.url, settings.spool))
    if in_s3 and find_spec("boto3") is None:
        raise MissingExtra("aws")


def _check(command: Sequence[str], heartbeat_seconds: float) -> None:
    if not command or not command[0]:
        raise AskedWrongly("no command is given. Say it behind two dashes: ledger exec -- python train.py")
    if any("\0" in word for word in command):
        raise InvalidValue("command", command, "words without NUL are wanted")
    if not 0 < heartbeat_seconds < 1e6:
        raise InvalidValue("heartbeat_seconds", heartbeat_seconds, 'more than nothing is wanted, such as "60s"')
    if not hasattr(signal, "sigwaitinfo"):
        raise AskedWrongly("this system cannot say where a signal comes from, which `exec` needs. Use Linux for it.")
