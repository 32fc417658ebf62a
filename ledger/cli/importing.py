"""The verb that brings in what other systems kept of runs: import."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from ledger.cli.output import counted, say, say_document
from ledger.cli.place import opened
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.integrations.wandb import ImportedRun

__all__ = ["bring_in"]

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
