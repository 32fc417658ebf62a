"""What has to hold after every step, asked of what would be left if all that runs were killed now."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import Ledger
from ledger.events import Fact, Recorded
from ledger.spool.reading import SpoolFolder
from tests.builders import Window, shown, told

__all__ = ["Broken", "Promises", "Seen", "look_at"]


class Broken(AssertionError):
    """Something does not hold."""


@dataclass
class Seen:
    """A ledger as it was found: its events in order of acceptance, and its rows without what is local."""

    events: list[Recorded] = field(default_factory=list)
    window: Window = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        return {event.event_id: event.digest for event in self.events}


def look_at(path: Path, before: Seen) -> Seen:
    """Check one ledger by itself: window = ledger, nothing there twice, nothing of what was there gone or changed."""
    image = path.with_name("image.db")
    for end in ("", "-wal"):
        if path.with_name(f"{path.name}{end}").exists():
            shutil.copyfile(f"{path}{end}", f"{image}{end}")
    try:
        with Ledger(image) as book:
            seen = Seen(list(book.events()), shown(book))
            verified = book.verify()
            with closing(sqlite3.connect(image)) as connection:
                conflicts = connection.execute("SELECT event_id, came_from FROM training_conflicts").fetchall()
    finally:
        for end in ("", "-wal", "-shm"):
            Path(f"{image}{end}").unlink(missing_ok=True)
    place = path.parent.name
    _expect(not verified.differences, f"{place}: verify finds {verified.differences}")
    _expect(len(seen.digests) == len(seen.events), f"{place}: an event is there twice")
    _expect(seen.events[: len(before.events)] == before.events, f"{place}: what was accepted is gone or changed")
    _expect(not conflicts, f"{place}: an id has two contents: {conflicts}")
    _same_window(place, seen.window, told(seen.events))
    return seen


def _same_window(place: str, window: Window, wanted: Window) -> None:
    for run_id in sorted(window.keys() | wanted.keys()):
        row, fold = window.get(run_id, {}), wanted.get(run_id, {})
        for name in sorted(row.keys() | fold.keys()):
            _expect(
                row.get(name) == fold.get(name),
                f"{place}: run {run_id}, column {name} shows {row.get(name)!r}, and the fold says {fold.get(name)!r}",
            )


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


class Promises:
    """What was acknowledged: events by id and digest, and the crash reports, whose events may be others' ids."""

    def __init__(self) -> None:
        self.events: dict[str, str] = {}
        self.reports: dict[str, int] = {}

    def acknowledged(self, facts: list[Fact], report: str | None, copies: int) -> None:
        """Note what one call has said; a crash report may be there as often as it was committed unheard."""
        if report is None:
            self.events |= {fact.event_id: fact.digest() for fact in facts}
        else:
            self.reports[report] = copies

    def check(self, ledgers: list[Seen], spools: list[Path]) -> None:
        """Nothing is lost: it is in a ledger, or in a spool, whole and as it was acknowledged."""
        there = {(event.event_id, event.digest) for seen in ledgers for event in seen.events}
        payloads = [event.payload for seen in ledgers for event in seen.events if event.type == "crash_data_attached"]
        lost = set(self.events.items()) - there
        missing = {report for report in self.reports if not any(report in payload for payload in payloads)}
        if lost or missing:
            lines = [line for folder in spools if folder.exists() for line in _said_in(folder)]
            lost -= {(line["event_id"], line["digest"]) for line in lines}
            missing = {report for report in missing if not any(report in line["payload"] for line in lines)}
        _expect(not lost, f"acknowledged and lost: {sorted(lost)}")
        _expect(not missing, f"acknowledged and lost: {sorted(missing)}")
        for seen in ledgers:
            self._check_reports(seen)

    def _check_reports(self, seen: Seen) -> None:
        payloads = [event.payload for event in seen.events if event.type == "crash_data_attached"]
        for report, copies in self.reports.items():
            count = sum(report in payload for payload in payloads)
            _expect(count <= copies, f"{report} is there {count} times")


def _said_in(folder: Path) -> list[dict[str, Any]]:
    made = []
    for _, _, line in SpoolFolder(folder).lines():
        try:
            made.append(json.loads(line))
        except ValueError:  # what a power cut left of a line that was not acknowledged
            continue
    return made
