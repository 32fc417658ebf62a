"""The verb that moves events out of spools: sync."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from ledger.cli.output import counted, say, say_document
from ledger.cli.place import opened
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.syncing import Synced

__all__ = ["sync"]

REFUSED = 1  # the exit code of a sync that did not take everything


def sync(said: Namespace) -> int:
    """Move the events of spools into the ledger: of folders, copies of folders, or s3://bucket/prefix.

    The same again does nothing. --clear removes files that nobody writes to any more, once the ledger has all of them.
    The exit code is 1 when something was refused. With --json: {"spools": [{"spool", "files", "cleared", "events",
    "new", "known", "refused", "refusals": [{"where", "event_id", "reason"}]}]}.
    """
    from ledger.spool.places import require_spools

    synced: dict[str, Synced] = {}
    if len(said.spools) > 1:  # each is looked at when its turn comes
        require_spools(*said.spools)
    with opened(said) as ledger:
        for spool in said.spools:
            synced[spool] = ledger.sync(spool, clear=said.clear)
            if not said.as_json:
                _say_synced(spool, synced[spool], clear=said.clear)
    if said.as_json:
        say_document({"spools": [{"spool": spool, **asdict(found)} for spool, found in synced.items()]})
    return REFUSED if any(found.refused for found in synced.values()) else 0


def _say_synced(spool: str, synced: Synced, *, clear: bool) -> None:
    counts = f"{synced.new} new, {synced.known} known, {synced.refused} refused"
    say(visible(f"{spool}: {counted(synced.events, 'event')} in {counted(synced.files, 'file')}: {counts}"))
    if not synced.files:
        say("  no file of a spool, named *.jsonl, lies there")
    for refusal in synced.refusals:
        event = f", event {refusal.event_id}" if refusal.event_id else ""
        say(visible(f"  refused: {refusal.where}{event}: {' '.join(refusal.reason.split())}"))
    if synced.refused > len(synced.refusals):
        say(f"  and {synced.refused - len(synced.refusals)} more")
    if clear:
        left = synced.files - synced.cleared
        kept = f"; {counted(left, 'file')} left, which may still be written to or could not be taken" if left else ""
        say(f"  {counted(synced.cleared, 'file')} removed{kept}")
