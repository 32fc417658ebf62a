"""Run launches side by side, follow them through the ledger, and act on how each ends.

How it ended is recorded by then: by the process itself, or by the exec around it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ledger import Ledger
from ledger.demo.configs import Config
from ledger.demo.crash import Analysis, handle_crash
from ledger.demo.kill import kill
from ledger.demo.launch import Launch, launch
from ledger.demo.place import Place
from ledger.demo.plan import Entry
from ledger.demo.post import write_up
from ledger.demo.progress import Progress
from ledger.events import Heartbeat

AT_ONCE_MAX = 4
LOOK_SECONDS = 0.05
STOP_SECONDS_MAX = 10.0  # in which a process that is asked to end says that it does


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
    steps: dict[str, int] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)
    position: int = 0

    def run(self, entries: Iterable[Entry]) -> None:
        at_once = min(os.cpu_count() or 1, AT_ONCE_MAX)
        self.waiting.extend((entry, self.book.new_chain_of_custody_id()) for entry in entries)
        try:
            while self.waiting or self.running:
                self.fill(at_once)
                time.sleep(LOOK_SECONDS)
                self.reap()
                self.follow()
                self.kill_some()
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
            each.kill_what_is_left()
            if self.place.spool.exists():  # where the ledger was locked for too long, some of it waits there
                self.book.sync(self.place.spool, clear=True)
            if each.process.returncode == 0:
                self.completed(each)
            else:
                self.crashed(each)

    def completed(self, each: Launch) -> None:
        self.progress.say(f"completed  {each.entry.name}")
        run = self.book.get_run(each.run_id)
        if each.entry.is_retry and run is not None:
            url = write_up(self.book, self.place, run, Config.model_validate(each.config))
            self.progress.say(f"written up {each.entry.name}: {url}")

    def crashed(self, each: Launch) -> None:
        analysis = handle_crash(self.book, self.place, each.run_id)
        finding = "not analysed" if analysis is None else analysis.finding
        self.progress.say(f"crashed    {each.entry.name}: {finding}")
        if analysis is not None and analysis.learning_rate is not None and not each.entry.is_retry:
            self.waiting.append((retry(each.entry, analysis), each.chain_of_custody_id))

    def follow(self) -> None:
        """Learn how far the processes are from their own heartbeats, as anyone could who follows the ledger."""
        for recorded in self.book.events(after=self.position, types=["heartbeat"]):
            self.position = recorded.position
            if isinstance(recorded.event, Heartbeat) and isinstance(recorded.event.step, int):
                self.steps[recorded.run_id] = recorded.event.step

    def kill_some(self) -> None:
        """Kill the runs that the plan has somebody kill, once each is as far as that."""
        for each in self.running:
            after, step = each.entry.killed_after_step, self.steps.get(each.run_id, 0)
            if after is not None and step >= after and each.run_id not in self.killed:
                self.killed.add(each.run_id)
                if (pid := kill(self.book, each.run_id)) is not None:
                    self.progress.say(f"killed     {each.entry.name} at step {step}: kill -9 {pid}")

    def show(self) -> None:
        total = self.ended + len(self.running) + len(self.waiting)
        now = "; ".join(each.entry.name + self.reached(each.run_id) for each in self.running)
        self.progress.show(f"{self.ended} of {total} ended; {now}")

    def reached(self, run_id: str) -> str:
        return f" at step {self.steps[run_id]}" if run_id in self.steps else ""

    def stop(self) -> None:
        """Leave no process behind when the sweep itself is interrupted: exec hands on SIGTERM, but not SIGKILL."""
        for each in self.running:
            each.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        try:
            for each in self.running:
                with suppress(subprocess.TimeoutExpired):
                    each.process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for each in self.running:
                each.kill_what_is_left()
                each.process.wait()


def retry(entry: Entry, analysis: Analysis) -> Entry:
    return replace(
        entry,
        name=f"{entry.name}_retry",
        wish=analysis.advice,
        training={**entry.training, "learning_rate": analysis.learning_rate},
        is_retry=True,
    )
