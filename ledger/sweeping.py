"""Sweeping: runs that fell silent are ended, by the word of who knows or, if nobody does, as a presumption."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ledger import origin
from ledger.asking import present_of
from ledger.errors import InvalidValue, LedgerError, WrongExpectedVersion
from ledger.events import Fact
from ledger.handle import Handle

if TYPE_CHECKING:
    from ledger.store.silent import Silent
    from ledger.verdicts import Verdict, Word
    from ledger.witnesses.kinds import Row, Testimony, Witness

__all__ = ["Sweeping"]

_log = logging.getLogger("ledger")


class Sweeping(Handle):
    """What turns silence into an end."""

    def sweep(self, *, witnesses: Iterable[Witness] | None = None, dry_run: bool = False) -> list[Verdict]:
        """Ask *witnesses* (all that can be used here) about the runs that are lost or unknown, and end those that died.

        Their word makes an end witnessed. A lost run of which nobody knows is presumed to have crashed, and is running
        again by its next sign of life; an unknown one is left alone, and so is one that moves meanwhile. With *dry_run*
        nothing is recorded. Returns a verdict on each, with the reason (docs/sweeping.md).
        """
        from ledger.store.silent import silent_runs
        from ledger.verdicts import judged, moved_meanwhile

        if not dry_run:
            self._bring_in()
        present = present_of(self._settings, origin.utc_now())
        with self._database.snapshot() as connection:
            found = silent_runs(connection, present)
        words, unheard = _heard(_checked(witnesses), found)
        verdicts: list[Verdict] = []
        for run in found:
            verdict, end = judged(run, words.get(run.run_id, ()), unheard, origin.now())
            carried_out = end is None or dry_run or self._ended(Fact.of(end, redacting=True), run.version)
            verdicts.append(verdict if carried_out else moved_meanwhile(verdict))
        return verdicts

    def _bring_in(self) -> None:
        """Take in what processes of this machine that are gone have left in their spool: an end may lie there."""
        from ledger.spool.places import spool_writer
        from ledger.syncing import sync_files

        spool = spool_writer(self._settings.spooling().spool or "", of=self._settings.url)
        try:
            if left := spool.left_on_this_host():
                sync_files(self._database, left, spool.place)
        except LedgerError as exc:
            _log.warning("sweep: the spool %s could not be brought in: %s", spool.place, exc)

    def _ended(self, end: Fact, version: int) -> bool:
        """Record an end, unless anything else was recorded since the run was looked at."""
        try:
            self._sink.append([end], version)
        except WrongExpectedVersion:
            return False
        return True


def _checked(witnesses: Iterable[Witness] | None) -> Sequence[Witness]:
    from ledger.witnesses.installed import installed
    from ledger.witnesses.kinds import Witness

    if witnesses is None:
        return installed()
    listed = list(witnesses) if isinstance(witnesses, Iterable) else [witnesses]
    for witness in listed:
        if isinstance(witness, type) or not isinstance(witness, Witness):
            raise InvalidValue("witnesses", witness, "objects with a name and testify(runs) are wanted")
    return listed


def _heard(witnesses: Sequence[Witness], found: Sequence[Silent]) -> tuple[dict[str, list[Word]], list[str]]:
    """What the witnesses say of each run, and who of them could not be asked."""
    words: dict[str, list[Word]] = {}
    unheard: list[str] = []
    for witness in witnesses if found else ():
        said, failure = _asked(witness, found)
        if failure is not None:
            unheard.append(witness.name)
            _log.warning("sweep: %s has no word to say. %s", witness.name, failure)
        for run_id, testimony in said.items():
            words.setdefault(run_id, []).append((witness.name, testimony))
    return words, unheard


def _asked(witness: Witness, found: Sequence[Silent]) -> tuple[Mapping[str, Testimony], str | None]:
    """All that a witness says, or why it says nothing: whatever it fails with, the others are asked, too."""
    from ledger.store.own_tables import attempt

    said: dict[str, Testimony] = {}
    failure = attempt(lambda: said.update(_said(witness, [{**run.row, "process": run.process} for run in found])))
    if failure is None:
        return said, None
    return {}, str(failure) if isinstance(failure, LedgerError) else f"{type(failure).__name__}: {failure}"


def _said(witness: Witness, rows: Sequence[Row]) -> Mapping[str, Testimony]:
    from ledger.witnesses.kinds import Testimony

    said = witness.testify(rows)
    for testimony in said.values():
        if not isinstance(testimony, Testimony):
            raise InvalidValue("testimony", testimony, "a Testimony of ledger.witnesses.kinds is wanted")
    return said
