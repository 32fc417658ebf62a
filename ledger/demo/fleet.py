"""Run launches side by side, follow them through the ledger, and act on how each ends."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ledger import Ledger
from ledger.demo.configs import Config
from ledger.demo.crash import Analysis, handle_crash
from ledger.demo.launch import Launch, launch
from ledger.demo.place import Place
from ledger.demo.plan import Entry
from ledger.demo.post import publish
from ledger.demo.progress import Progress
from ledger.events import Heartbeat

AT_ONCE_MAX = 4
LOOK_SECONDS = 0.05


@dataclass
class Fleet:
    """The runs that wait (each with its chain of custody), run and have ended.

    A run that the crash analysis knows a remedy for is launched once more, in the same chain,
    and written up when that goes well.
    """

    book: Ledger
    place: Place
    progress: Progress
    max_steps: int
    waiting: deque[tuple[Entry, str]] = field(default_factory=deque)
    running: list[Launch] = field(default_factory=list)
    ended: int = 0
    beats: dict[str, str] = field(default_factory=dict)
    position: int = 0

    def run(self, entries: Iterable[Entry]) -> None:
        at_once = min(os.cpu_count() or 1, AT_ONCE_MAX)
        self.waiting.extend((entry, self.book.new_chain_of_custody_id()) for entry in entries)
        try:
            while self.waiting or self.running:
                self.fill(at_once)
                time.sleep(LOOK_SECONDS)
                self.reap()
                self.show()
        finally:
            self.progress.clear()
            self.stop()

    def fill(self, at_once: int) -> None:
        while self.waiting and len(self.running) < at_once:
            entry, chain = self.waiting.popleft()
            self.running.append(launch(self.book, self.place, entry, chain, self.max_steps))
            self.progress.say(f"launched   {entry.name}")

    def reap(self) -> None:
        for each in [each for each in self.running if each.process.poll() is not None]:
            self.running.remove(each)
            self.ended += 1
            if each.process.returncode == 0:
                self.completed(each)
            else:
                self.crashed(each)

    def completed(self, each: Launch) -> None:
        self.progress.say(f"completed  {each.entry.name}")
        run = self.book.get_run(each.run_id)
        if each.entry.is_retry and run is not None:
            url = publish(self.book, self.place, run, Config.model_validate(each.config))
            self.progress.say(f"written up {each.entry.name}: {url}")

    def crashed(self, each: Launch) -> None:
        analysis = handle_crash(self.book, self.place, each)
        self.progress.say(f"crashed    {each.entry.name}: {analysis.finding}")
        if analysis.learning_rate is not None and not each.entry.is_retry:
            self.waiting.append((retry(each.entry, analysis), each.chain_of_custody_id))

    def show(self) -> None:
        """Show how far the processes are by their own heartbeats, as anyone could who follows the ledger."""
        for recorded in self.book.events(after=self.position, types=["heartbeat"]):
            self.position = recorded.position
            if isinstance(recorded.event, Heartbeat):
                self.beats[recorded.run_id] = f" at step {recorded.event.step}"
        total = self.ended + len(self.running) + len(self.waiting)
        now = "; ".join(each.entry.name + self.beats.get(each.run_id, "") for each in self.running)
        self.progress.show(f"{self.ended} of {total} ended; {now}")

    def stop(self) -> None:
        """Leave no process behind when the sweep itself is interrupted."""
        for each in self.running:
            each.process.kill()
        for each in self.running:
            each.process.wait()


def retry(entry: Entry, analysis: Analysis) -> Entry:
    return replace(
        entry,
        name=f"{entry.name}_retry",
        wish=analysis.advice,
        training={**entry.training, "learning_rate": analysis.learning_rate},
        is_retry=True,
    )
