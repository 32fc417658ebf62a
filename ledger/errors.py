"""Everything that is raised on purpose.

* LedgerError                    catch this to catch everything below
  x RunError                     this run does not allow it
    . RunNotFound
    . RunAlreadyExists
    . WandbRunTaken
  x AppendRefused                this event cannot be accepted
    . EventConflict              its id is known with other content
    . WrongExpectedVersion
    . AppendOnly                 somebody tried to change or remove an event
  x AskedWrongly                 also a ValueError; mend the call
    . UnknownName                the message offers the nearest that there is
      - UnknownFilter, UnknownOrder, UnknownColumn, UnknownKeyword, UnknownSubscription, UnknownWitness
    . InvalidValue               a filter's or an argument's value that cannot be meant
    . InvalidFact                an event that is not well formed
    . PositionUnknown            where a reader went on from is not of this ledger as it is now
  x Unreachable                  mend the place, then do the same again
    . NotConfigured
      - HalfConfigured
    . NoLedger, NotALedger, NewerLedger
    . OnlyASpool                 it takes what is recorded, and answers nothing
    . LedgerClosed
    . LedgerUnreachable          what a spool is there for: locked out, full, damaged or away
      - LedgerBusy, LedgerDamaged
      - FileUnreadable           one file of a spool; the others can be read
    . NotTheSame                 what was carried over is not what was read
    . NotKept                    a bucket or a folder did not take what it was to keep
    . WitnessUnreachable         a sweep goes on without its word
  x MissingExtra                 a part that needs one more installation
"""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from reprlib import Repr
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class LedgerError(Exception):
    """Catch this to catch everything that the ledger raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # A pool of processes pickles what its workers raise; our constructors take other words than `args`.
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[LedgerError], args: tuple[object, ...], state: dict[str, object]) -> LedgerError:
    made = kind.__new__(kind, *args)
    made.args = args
    made.__dict__.update(state)
    return made


class RunError(LedgerError):
    """What this run is does not allow the call."""


class AppendRefused(LedgerError):
    """The ledger cannot accept this event; nothing of its batch was written."""


class AskedWrongly(LedgerError, ValueError):
    """The call itself is wrong; nothing was changed."""


class Unreachable(LedgerError):
    """The ledger cannot be used as it stands; mend the place, then do the same again."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" for the names closest to *name*, else "" (never raises)."""
    close = get_close_matches(name[:100], list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def shortened(value: object, length_max: int = 120) -> str:
    """Return the repr of *value*, cut in length and depth so that a message stays one line."""
    cutting = Repr()
    cutting.maxstring = cutting.maxother = cutting.maxlong = length_max
    try:
        return cutting.repr(value)
    except ValueError:  # an integer that Python refuses to print
        return f"<{type(value).__name__}>"


class RunNotFound(RunError):
    def __init__(self, run_id: str, *, chain: bool = False, by_then: bool = False) -> None:
        self.run_id = run_id
        what = f"no run with chain_of_custody_id {shortened(run_id)}" if chain else f"no run {shortened(run_id)}"
        mend = "Ask as of a later moment or position" if by_then else "Record its launch with insert_run(...)"
        super().__init__(
            f"{what} in this ledger{' by then' if by_then else ''}. {mend}, "
            "or check that TRAINING_DB_URL or TRAINING_DB_PATH names the ledger you mean."
        )


class RunAlreadyExists(RunError):
    def __init__(self, run_id: str, differing: Iterable[str]) -> None:
        self.run_id = run_id
        self.differing = tuple(differing)
        super().__init__(
            f"run {shortened(run_id)} was launched before with another {', '.join(self.differing)}. "
            "Launch under a new run_id, or correct the old one with amend(run_id, reason=..., column=...)."
        )


class WandbRunTaken(RunError):
    def __init__(self, wandb_run_id: str, holder: str) -> None:
        self.wandb_run_id = wandb_run_id
        self.holder = holder
        super().__init__(
            f"W&B run {shortened(wandb_run_id)} belongs to run {shortened(holder)}. If this run goes on where that "
            f"one stopped, say so with resumes_run_id={shortened(holder)}; if that one is bogus, void it."
        )


class EventConflict(AppendRefused):
    def __init__(self, event_id: str, run_id: str) -> None:
        self.event_id = event_id
        self.run_id = run_id
        super().__init__(
            f"event {event_id} is known (of run {shortened(run_id)}) with other content, and the first stays. "
            "Record a changed fact as a new event, with an event_id of its own."
        )


class WrongExpectedVersion(AppendRefused):
    def __init__(self, run_id: str, expected: int, actual: int) -> None:
        self.run_id = run_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"run {shortened(run_id)} is at version {actual}, not at the expected {expected}. "
            f"Read what came in between, then append with expected_version={actual}."
        )


class AppendOnly(AppendRefused):
    def __init__(self) -> None:
        super().__init__(
            "events are append-only: the database refuses to change or remove them. "
            "Correct a run with amend(...), or take it out of the tables with void(...)."
        )


class UnknownName(AskedWrongly):
    """A name that does not exist here; the message offers the nearest."""

    kind = "name"

    def __init__(self, name: object, known: Iterable[str], hint: str = "") -> None:
        self.name = name
        known = sorted(known)
        near = nearest(str(name), known) or (f" There are: {', '.join(known)}." if known else "")
        super().__init__(f"unknown {self.kind} {shortened(name)}.{near}{hint}")


class UnknownFilter(UnknownName):
    kind = "filter"


class UnknownOrder(UnknownName):
    kind = "order"


class UnknownColumn(UnknownName):
    kind = "column"


class UnknownKeyword(UnknownName, TypeError):
    kind = "keyword"


class UnknownSubscription(UnknownName):
    kind = "subscription"


class UnknownWitness(UnknownName):
    kind = "witness"


class InvalidValue(AskedWrongly):
    def __init__(self, name: str, value: object, wanted: str, near: str = "") -> None:
        self.name = name
        self.value = value
        super().__init__(f"{name}={shortened(value)} cannot be meant: {wanted}.{near}")


class InvalidFact(AskedWrongly):
    """An event that is not well formed; the message names the field and what it takes."""


class PositionUnknown(AskedWrongly):
    def __init__(self, position: int, newest: int, way: str) -> None:
        self.position = position
        self.newest = newest
        super().__init__(
            f"position {position} is not of this ledger as it is now (its newest is {newest}): an earlier state, or "
            f"another ledger, was put in its place. Go on from where they part, with {way}"
        )


class NotConfigured(Unreachable):
    """No variable says where the ledger is."""


class HalfConfigured(NotConfigured):
    """A variable that says where the ledger is has no meaning, or a group of them is half set."""


class NoLedger(Unreachable):
    def __init__(self, place: str) -> None:
        super().__init__(
            f"no ledger at {place}. Create it with `ledger init` or init_db(), "
            "or check TRAINING_DB_URL and TRAINING_DB_PATH."
        )


class OnlyASpool(Unreachable):
    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} is a spool: it takes what is recorded and answers nothing. Move it into its ledger with "
            f"`ledger --db LEDGER sync {shlex.quote(place)}`, and ask that ledger."
        )


class NotALedger(Unreachable):
    """The file is something else; it was left as it is."""


class NewerLedger(Unreachable):
    def __init__(self, place: str, steps: Iterable[str]) -> None:
        super().__init__(
            f"the ledger at {place} was written by a newer version (it has {', '.join(sorted(steps))}). "
            "Nothing was changed. Update with: pip install --upgrade training-run-ledger"
        )


class LedgerUnreachable(Unreachable):
    """The database is away, full or not writable; its subclasses say what else keeps it from being used."""


class LedgerBusy(LedgerUnreachable):
    def __init__(self, place: str, seconds: float | None = None, by: str = "another process") -> None:
        since = "" if seconds is None else f" for {round(seconds, 1):g} s"
        found = (
            "in the server's pg_locks and pg_stat_activity" if "://" in place else "with `fuser` or `lsof` on that file"
        )
        super().__init__(
            f"the ledger at {place} was locked by {by}{since}; nothing was written. "
            f"Do the same again; if it stays so, find the holder {found}, "
            "or let TRAINING_DB_SPOOL name a folder to record to meanwhile."
        )


class LedgerDamaged(LedgerUnreachable):
    """The database itself says that the file is damaged."""


class FileUnreadable(LedgerUnreachable):
    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} cannot be read ({why}). See to its rights and its disk, then do the same again.")


class LedgerClosed(Unreachable):
    def __init__(self, what: str = "Ledger", again: str = "Ledger(url)") -> None:
        super().__init__(f"this {what} was closed. Open a new one with {again}.")


class NotTheSame(Unreachable):
    def __init__(self, what: str, place: str, *, replay_is_due: bool = False) -> None:
        why = (
            "What was read was folded by other rules than this version's: do `ledger replay` there"
            if replay_is_due
            else "Somebody changed one of the two, now or before: find the difference with `ledger verify` on both"
        )
        super().__init__(
            f"{what} was carried over to {place}, and is not the same there. {why}, then do the same again."
        )


class NotKept(Unreachable):
    def __init__(self, key: str, place: str, why: str, mend: str) -> None:
        self.key = key
        super().__init__(f"{key} was not kept in {place} ({why}). {mend}, then do the same again.")


class WitnessUnreachable(Unreachable):
    """A witness that cannot be asked; the message says why, and what to do so that it can."""


class MissingExtra(LedgerError):
    def __init__(self, extra: str) -> None:
        self.extra = extra
        super().__init__(f"this needs more than the core. Install it with: pip install 'training-run-ledger[{extra}]'")
