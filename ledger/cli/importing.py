"""The verbs that bring in what other systems kept of runs: import, adopt."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from ledger.cli.output import counted, say, say_document, watched
from ledger.cli.place import opened
from ledger.errors import shortened
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.adopting.comparing import Difference
    from ledger.integrations.wandb import ImportedRun

__all__ = ["adopt", "bring_in"]

NOT_ALL = 1  # the exit code of an import that did not take everything


def bring_in(said: Namespace) -> int:
    """Bring in what another system kept: `import wandb PATH` a W&B log, a run's folder, or a folder of several.

    The same again takes only what is new (docs/wandb.md). The exit code is 1 when a log tells of no run, or something
    was refused; a torn end is said, and is no fault. With --json: {"runs": [{"log", "run_id", "wandb_run_id", "new",
    "known", "refused", "rows", "end", "problems"}]}.
    """
    from ledger.integrations.wandb import import_wandb

    with opened(said) as ledger:
        imported = import_wandb(said.path, ledger=ledger, run_id=said.run_id)
    if said.as_json:
        say_document({"runs": [asdict(run) for run in imported.runs]})
    else:
        for run in imported.runs:
            _say(run)
    return 0 if imported.ok else NOT_ALL


def _say(run: ImportedRun) -> None:
    if run.run_id is None:
        say(visible(f"{run.log}: not imported"))
    else:
        refused = f", {run.refused} refused" if run.refused else ""
        counts = f"{counted(run.new + run.known, 'event')}, {run.new} new, {run.known} known{refused}"
        say(visible(f"{run.run_id}: {counts}; {counted(run.rows, 'row')} of history, {run.end}"))
    for problem in run.problems:
        say(visible(f"  {problem}"))


def adopt(said: Namespace) -> int:
    """Take over a training_runs.db of the earlier API, and compare every documented column; the file is only read.

    The same again takes only what is new (docs/adopting.md). Differences are told by column and reason. The exit code
    is 1 when a row or an event was refused, or a difference has no reason. With --json: {"old", "ok", "runs", "new",
    "known", "refused", "differences": [{"run_id", "column", "old", "new", "why"}]}.
    """
    with opened(said) as ledger, watched("adopt") as progress:
        adopted = ledger.adopt(said.old, progress=progress)
    if said.as_json:
        say_document({"old": said.old, "ok": adopted.ok, **asdict(adopted)})
        return 0 if adopted.ok else NOT_ALL
    events = f"{counted(adopted.new + adopted.known, 'event')}, {adopted.new} new, {adopted.known} known"
    refused = f"; {adopted.refused} refused" if adopted.refused else ""
    say(visible(f"{said.old}: {counted(adopted.runs, 'run')}; {events}{refused}"))
    if not adopted.differences:
        say("  every documented column is as it was")
    else:
        _say_differences(adopted.differences)
    return 0 if adopted.ok else NOT_ALL


def _say_differences(differences: Iterable[Difference]) -> None:
    """One paragraph for all that differs in one column for one reason, with the first few."""
    for (column, why), same in groupby(sorted(differences, key=_what), key=_what):
        found = list(same)
        say(visible(f"  {column}, {counted(len(found), 'run')}: {why or _UNKNOWN}"))
        for each in found[:_SHOWN_MAX]:
            values = f": {shortened(each.old, 60)} is {shortened(each.new, 60)} here" if column != "run_id" else ""
            say(visible(f"    {each.run_id}{values}"))
        if len(found) > _SHOWN_MAX:
            say(f"    and {len(found) - _SHOWN_MAX} more; --json lists all")


def _what(difference: Difference) -> tuple[str, str]:
    return difference.column, difference.why or ""


_SHOWN_MAX = 3
_UNKNOWN = "nobody knows why; the file may have changed meanwhile, so adopt it again, or see `ledger verify`"
