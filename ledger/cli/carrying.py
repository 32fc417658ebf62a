"""The verbs that carry events from one place to another: export, merge, copy."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from ledger.cli.output import counted, say, say_document, watched
from ledger.cli.place import opened
from ledger.errors import AskedWrongly
from ledger.settings import location, shown
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.store.merging import Merged

__all__ = ["copy", "export", "merge"]

REFUSED = 1  # the exit code of a merge that did not take everything


def export(said: Namespace) -> int:
    """Write all events as of one moment, one object a line (docs/exports.md).

    FILE is not there yet; where it ends in .gz it is zipped; - is the standard output, and then nothing else
    is printed. With --json: {"export": the file, "events": how many, "conflicts": how many that are
    kept aside}.
    """
    to_stdout = said.destination == "-"
    if to_stdout and sys.stdout is None:
        raise AskedWrongly("stdout is closed, so that no export can be written to it. Name a file.")
    with opened(said) as ledger, watched("export") as progress:
        made = ledger.export(sys.stdout.buffer if to_stdout else said.destination, progress=progress)
    if to_stdout:
        return 0
    if said.as_json:
        say_document({"export": str(made.path), "events": made.events, "conflicts": made.conflicts})
    else:
        kept = f", and {counted(made.conflicts, 'conflict')} kept aside" if made.conflicts else ""
        say(visible(f"{made.path}: {counted(made.events, 'event')}{kept}"))
    return 0


def merge(said: Namespace) -> int:
    """Take in all events of other ledgers, exports and spools, and prove that each is here; a source is never changed.

    The same again does what is left to do. The exit code is 1 when something was refused: a malformed event, or
    an id that is known with other content (that one is kept aside, see `ledger doctor`). With --json: {"sources":
    [{"source", "events", "new", "known", "refused", "refusals": [{"where", "event_id", "reason"}], "proved"}]}.
    """
    from ledger.sources import require_sources

    merged: dict[str, Merged] = {}
    require_sources(*said.sources)
    with opened(said) as ledger:
        for source in said.sources:
            with watched(f"merge {shown(source)}") as progress:
                merged[source] = ledger.merge(source, progress=progress)
            if not said.as_json:
                _say_merged(shown(source), merged[source])
    if said.as_json:
        say_document({"sources": [{"source": shown(source), **asdict(found)} for source, found in merged.items()]})
    return 0 if all(found.ok for found in merged.values()) else REFUSED


def _say_merged(source: str, merged: Merged) -> None:
    said = f"{counted(merged.events, 'event')}: {merged.new} new, {merged.known} known, {merged.refused} refused"
    say(visible(f"{source}: {said}"))
    for refusal in merged.refusals:
        event = f", event {refusal.event_id}" if refusal.event_id else ""
        say(visible(f"  refused: {refusal.where}{event}: {' '.join(refusal.reason.split())}"))
    if merged.refused > len(merged.refusals):
        say(f"  and {merged.refused - len(merged.refusals)} more")
    proved = "every event of it that was not refused is here, with the same digest"
    say(f"  {proved if merged.events else 'no event was there; of a folder, the files named *.jsonl are read'}")


def copy(said: Namespace) -> int:
    """Write the same ledger into an empty one: positions, versions, recorded_at and chains are kept.

    All of it, or nothing where it is interrupted. With --json: {"copy": the place, "events", "runs"}.
    """
    with opened(said) as ledger, watched("copy") as progress:
        made = ledger.copy(said.to, progress=progress)
    if said.as_json:
        say_document({"copy": shown(location(said.to)), **asdict(made)})
    else:
        place = visible(shown(location(said.to)))
        say(f"{place}: {counted(made.events, 'event')} of {counted(made.runs, 'run')}, compared with those here")
    return 0
