"""W&B logs into a ledger: which run each is of, and only what the ledger does not hold yet."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import AskedWrongly, InvalidValue, RunNotFound, WandbRunTaken
from ledger.events import Fact, MetricsLogged
from ledger.events.envelope import storable_text
from ledger.integrations.wandb.finding import logs_of, may_still_grow
from ledger.integrations.wandb.framing import Log
from ledger.integrations.wandb.records import Telling, rows
from ledger.integrations.wandb.telling import SYSTEM, Teller, ended_as
from ledger.store.bounds import EVERYTHING, stating
from ledger.store.imports import holder_of, sources_of
from ledger.store.merging import Arrival, Merged, merge_arrivals
from ledger.store.reading import run_is_known

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.store.database import Database
    from ledger.store.statements import Connection

__all__ = ["Imported", "ImportedRun", "import_wandb"]

_LOST = "the rest of that block of 32 KiB is lost"
_FAR = 2**63
_RUN_ID_KEYS = ("run_id", "RUN_ID")


@dataclass(frozen=True)
class ImportedRun:
    """What became of one log: its events, the rows of its history, how its run ended, and what could not be read.

    `end` is completed, failed, crashed, "presumed crashed", or running; None, as `run_id`, where it tells of no run.
    `ok` is false where something was refused, or a log that has something in it tells of no run.
    """

    log: str
    run_id: str | None
    wandb_run_id: str | None
    new: int
    known: int
    refused: int
    rows: int
    end: str | None
    problems: tuple[str, ...]
    ok: bool


@dataclass(frozen=True)
class Imported:
    """What became of the logs of a path."""

    runs: tuple[ImportedRun, ...]

    @property
    def new(self) -> int:
        return sum(run.new for run in self.runs)

    @property
    def known(self) -> int:
        return sum(run.known for run in self.runs)

    @property
    def ok(self) -> bool:
        """Whether all of it was taken."""
        return all(run.ok for run in self.runs)


def import_wandb(path: str | os.PathLike[str], *, ledger: Ledger | None = None, run_id: str | None = None) -> Imported:
    """Bring the W&B logs of *path* into the ledger; again, only what is new (docs/wandb.md).

    *run_id* names the run of the ledger that they are of. Raises MissingExtra without W&B's SDK, InvalidValue for a
    path without logs, RunNotFound for a *run_id* that is not known, WandbRunTaken where another run holds the W&B id.
    """
    if ledger is None:
        from ledger.default import default_ledger

        ledger = default_ledger()
    database, redacting = ledger._database, ledger._settings.redact  # noqa: SLF001 -- an importer is the ledger's own
    logs = [_Reading(log) for log in logs_of(path)]
    if run_id is not None:
        _refuse_several(run_id, logs)
    return Imported(tuple(reading.into(database, run_id, redacting=redacting) for reading in logs))


def _refuse_several(run_id: str, logs: list[_Reading]) -> None:
    told = sorted({reading.begun.wandb_run_id for reading in logs if reading.begun.wandb_run_id})
    if len(told) > 1:
        raise AskedWrongly(
            f"the logs are of {len(told)} W&B runs ({', '.join(told[:5])}), and {run_id!r} is one run. "
            "Give the folder of one of them."
        )


class _Reading:
    """One log on its way into a ledger; *begun* is what it says up to its first row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = Log(path)
        self._unreadable: str | None = None
        self.begun = Telling()
        try:
            next(rows(self._log, self.begun), None)
        except (OSError, InvalidValue) as exc:
            self._unreadable = str(exc)

    def into(self, database: Database, asked: str | None, *, redacting: bool) -> ImportedRun:
        """Bring it in. What cannot be read is said, and the rest is taken."""
        begun = self.begun
        if self._unreadable is not None:
            return self._of_no_run(self._unreadable)
        if not begun.wandb_run_id.strip() or not storable_text(begun.wandb_run_id):
            return self._of_no_run(*self._faults(begun), ok=not self._log.damages())
        run_id = _run_of(database, begun, asked)
        grows = may_still_grow(self._path, begun.host)  # asked before it is read: then nothing comes behind our back
        teller = Teller(run_id, Telling(), redacting)
        batches = _Batches(self._log, teller, _Told(database, run_id, begun.log_id))
        merged = merge_arrivals(database, batches.arrivals(), self._place)
        telling = teller.telling
        is_over = telling.exit_code is not None or not grows
        merged += merge_arrivals(database, map(_arrival, teller.life(is_over=is_over)), self._place)
        return self._imported(run_id, telling, merged, batches.known, is_over=is_over)

    @property
    def _place(self) -> str:
        return str(self._path)

    def _imported(self, run_id: str, telling: Telling, merged: Merged, known: int, *, is_over: bool) -> ImportedRun:
        end = ended_as(telling) or ("presumed crashed" if is_over else "running")
        return ImportedRun(
            log=self._place,
            run_id=run_id,
            wandb_run_id=telling.wandb_run_id,
            new=merged.new,
            known=merged.known + known,
            refused=merged.refused,
            rows=telling.rows,
            end=end,
            problems=(*self._faults(telling), *(refusal.reason for refusal in merged.refusals)),
            ok=not merged.refused,
        )

    def _of_no_run(self, *problems: str, ok: bool = False) -> ImportedRun:
        said = problems or ("W&B had written nothing of the run yet",)
        return ImportedRun(self._place, None, None, 0, 0, 0, 0, None, said, ok=ok)

    def _faults(self, telling: Telling) -> list[str]:
        """What could not be read, in words: a torn end is what a kill leaves, damage before it is not."""
        said = [
            f"damaged at byte {fault.offset}: {fault.what}; the rest of that block is lost"
            for fault in self._log.damages()
        ]
        if telling.unreadable:
            said.append(f"records that the installed W&B SDK cannot read: {telling.unreadable}")
        if (torn := self._log.torn()) is not None:
            said.append(f"torn at byte {torn.offset}: {torn.what}; all before it is here")
        return said


class _Batches:
    """The rows of the history that the ledger does not hold yet, an event for each block of the log.

    A block that is full never changes: a log that has grown is cut as its beginning was. Of one that was torn, or
    damaged, the ledger may hold a part.
    """

    def __init__(self, log: Log, teller: Teller, told: _Told) -> None:
        self._log = log
        self._teller = teller
        self._told = told
        self.known = 0  # batches that the ledger holds already

    def arrivals(self) -> Iterator[Arrival]:
        for _, of_block in groupby(rows(self._log, self._teller.telling), key=attrgetter("block")):
            batch = list(of_block)
            left = [row for row in batch if row.offset not in self._told]
            self.known += len(left) < len(batch)
            if left:
                yield _arrival(self._teller.history(left))


class _Told:
    """Where in a log the rows lie that the ledger holds, as the source of each of their events says it."""

    def __init__(self, database: Database, run_id: str, log_id: str) -> None:
        self._spans: list[tuple[int, int]] = []
        if database.exists():
            with database.read() as connection:
                sources = list(sources_of(connection, run_id, MetricsLogged.wire_name))
            ends = [str(s.get("records")).partition("-") for s in sources if s.get("log") == log_id]
            self._spans = sorted(
                (int(first), int(last)) for first, _, last in ends if first.isdigit() and last.isdigit()
            )
        # The furthest end of all spans up to each: two ledgers may have cut a torn block differently.
        self._reached = list(accumulate((last for _, last in self._spans), max))

    def __contains__(self, offset: int) -> bool:
        place = bisect_right(self._spans, (offset, _FAR))
        return place > 0 and offset <= self._reached[place - 1]


def _arrival(fact: Fact) -> Arrival:
    return Arrival(fact.type, len(fact.payload), 1, fact)


def _run_of(database: Database, telling: Telling, asked: str | None) -> str:
    """Return the run that a log is of."""
    if not database.exists():
        if asked is not None:
            raise RunNotFound(asked)
        return telling.wandb_run_id
    with database.snapshot() as connection:
        return _asked(connection, telling, asked) if asked is not None else _found(connection, telling)


def _asked(connection: Connection, telling: Telling, run_id: str) -> str:
    if not run_is_known(connection, run_id):
        raise RunNotFound(run_id)
    claimants = stating(connection, telling.wandb_run_id, EVERYTHING)
    before = _holding(connection, claimants, telling)
    holder = before or holder_of(connection, telling.wandb_run_id)
    if holder not in {None, run_id} and (before is not None or run_id not in claimants):
        raise WandbRunTaken(telling.wandb_run_id, str(holder))
    return run_id


def _found(connection: Connection, telling: Telling) -> str:
    """The run that this log came to before; else the one that holds the W&B id; else the one that the config names."""
    wandb_run_id = telling.wandb_run_id
    claimants = stating(connection, wandb_run_id, EVERYTHING)
    found = _holding(connection, claimants, telling) or holder_of(connection, wandb_run_id)
    if found is not None:
        return found
    named = [telling.config.get(key) for key in _RUN_ID_KEYS]
    known = [name for name in named if isinstance(name, str) and storable_text(name) and run_is_known(connection, name)]
    if known:
        return known[0]
    free = [name for name in (wandb_run_id, f"{SYSTEM}-{wandb_run_id}") if not run_is_known(connection, name)]
    if not free:
        raise AskedWrongly(
            f"W&B run {wandb_run_id!r}: runs {wandb_run_id!r} and '{SYSTEM}-{wandb_run_id}' are there, and neither "
            "says that it is this one. Say which run it is of with --run-id."
        )
    return free[0]


def _holding(connection: Connection, run_ids: list[str], telling: Telling) -> str | None:
    """The run to which this very log was imported before."""
    for run_id in run_ids:
        if any(source.get("log") == telling.log_id for source in sources_of(connection, run_id, "wandb_attached")):
            return run_id
    return None
