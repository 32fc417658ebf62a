"""The verb that ends runs which fell silent: sweep, once or again and again."""

from __future__ import annotations

import signal
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from ledger.cli.output import counted, flush, say, say_document, say_error, say_record, status_paint, width
from ledger.cli.place import opened
from ledger.errors import LedgerUnreachable, NoLedger
from ledger.table import table

if TYPE_CHECKING:
    from ledger.verdicts import Verdict
    from ledger.witnesses.kinds import Witness

__all__ = ["sweep"]


def sweep(said: Namespace) -> int:
    """End the runs that fell silent: by the word of who knows of them or, of a lost one, as a presumption.

    Asked are the process (on this machine), Slurm, EC2 and plug-ins (docs/sweeping.md). A sign of life makes a run that
    was presumed dead running again. With --every only what was ended is printed, until Ctrl-C or SIGTERM; a
    ledger that is away is said on stderr and tried again. The exit code is 0 whether or not anything was found.
    With --json: {"verdicts": [{"run_id", "liveness", "action": crashed, completed, failed or left, "end_reason",
    "ended_at", "detected_by", "presumed", "exit_code", "why"}]}; with --every one line each time.
    """
    from ledger.witnesses.installed import installed

    witnesses = installed(said.witnesses, sacct=said.sacct, scontrol=said.scontrol, regions=said.regions)
    if said.every is None:
        verdicts = _swept(said, witnesses)
        if said.as_json:
            say_document({"verdicts": [asdict(verdict) for verdict in verdicts]})
        else:
            _say_verdicts(verdicts, dry_run=said.dry_run)
        return 0
    with _until_terminated() as terminated:
        _again_and_again(said, witnesses, terminated)
    return 0


def _swept(said: Namespace, witnesses: Sequence[Witness]) -> list[Verdict]:
    with opened(said) as ledger:
        return ledger.sweep(witnesses=witnesses, dry_run=said.dry_run)


def _again_and_again(said: Namespace, witnesses: Sequence[Witness], terminated: threading.Event) -> None:
    found = False
    while True:
        try:
            verdicts = _swept(said, witnesses)
        except (LedgerUnreachable, NoLedger) as exc:
            if isinstance(exc, NoLedger) and not found:
                raise  # it was never there: the place is mistyped, and no patience helps
            _say_away(exc, as_json=said.as_json)
        else:
            found = True
            _say_sweep(verdicts, said)
        flush()
        if terminated.wait(min(said.every, threading.TIMEOUT_MAX)):
            return


def _say_away(exc: Exception, *, as_json: bool) -> None:
    say_error(f"{exc} This sweep is left out.", type(exc).__name__, as_json=False)
    if as_json:
        say_record({"error": str(exc), "kind": type(exc).__name__})


def _say_sweep(verdicts: Sequence[Verdict], said: Namespace) -> None:
    if said.as_json:
        say_record({"verdicts": [asdict(verdict) for verdict in verdicts]})
        return
    ended = [verdict for verdict in verdicts if verdict.action != "left"]
    if ended:
        _say_verdicts(ended, dry_run=said.dry_run)


def _say_verdicts(verdicts: Sequence[Verdict], *, dry_run: bool) -> None:
    if not verdicts:
        say("no run is lost, and none is unknown")
        return
    shown = ("run_id", "liveness", "action", "why")
    rows = [{**{name: getattr(verdict, name) for name in shown}, "action": _action(verdict)} for verdict in verdicts]
    say(table(rows, shown, width=width(), gives_way="why", paint=status_paint))
    ended = sum(verdict.action != "left" for verdict in verdicts)
    say(
        f"{counted(ended, 'run')} would be ended; nothing was recorded" if dry_run else f"{counted(ended, 'run')} ended"
    )


def _action(verdict: Verdict) -> str:
    return f"presumed {verdict.action}" if verdict.presumed else verdict.action


@contextmanager
def _until_terminated() -> Iterator[threading.Event]:
    """Give what is set by SIGTERM, so that a sweep which is under way is finished first."""
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)
