"""Processes that record until they are told to stop, and say what was acknowledged to them; who runs them hears it.

    python -m tests.postgres.writer URL RUN

appends to a run of its own and to one that all share, by `append` and by the documented functions, and prints a line
as soon as a call has returned: the event's id, or the note that was recorded. It ends well once its stdin ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ledger import Ledger
from ledger.events import Heartbeat

ROOT = Path(__file__).parents[2]
SHARED = "shared"
SECONDS_MAX = 60


class Writer:
    """One such process, and what was acknowledged to it so far."""

    def __init__(self, url: str, run_id: str, **env: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_DB_")}
        self.run_id = run_id
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.postgres.writer", url, run_id], cwd=ROOT, env={**kept, **env},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))

    def stop(self) -> str:
        """Let it end, which has to be well, and return what it said on stderr."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        err = self.process.stderr.read()
        assert self.process.wait(SECONDS_MAX) == 0, err
        self._hearing.join(SECONDS_MAX)
        return err

    def close(self) -> None:
        """Let nothing of it be left."""
        self.process.kill()
        self._hearing.join(SECONDS_MAX)
        self.process.__exit__(None, None, None)


@contextmanager
def writing(url: str, writers: int, **env: str) -> Iterator[Sequence[Writer]]:
    """Give so many writers at work; they are gone afterwards."""
    made = [Writer(url, f"run-{number}", **env) for number in range(writers)]
    try:
        yield made
    finally:
        for writer in made:
            writer.close()


def until(happened: Callable[[], bool], explain: Callable[[], str] = lambda: "it did not happen") -> None:
    end = time.monotonic() + SECONDS_MAX
    while not happened():
        assert time.monotonic() < end, explain()
        time.sleep(0.02)


def go_on(writers: Sequence[Writer], events: int) -> None:
    """Wait until each has acknowledged so many more; none may have ended."""
    wanted = [len(writer.said) + events for writer in writers]

    def reached() -> bool:
        for writer in writers:
            if writer.process.poll() is not None:
                assert writer.process.stderr is not None
                raise AssertionError(writer.process.stderr.read())
        return all(len(writer.said) >= there for writer, there in zip(writers, wanted, strict=True))

    until(reached)


def write(url: str, run_id: str) -> None:
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    with Ledger(url) as book:
        for each in (run_id, SHARED):
            book.insert_run(each, None, {"batch_size": 8}, at="2026-01-01")
        for step in count():
            event = Heartbeat(run_id=SHARED if step % 3 == 0 else run_id, step=step)
            book.append(event)
            print(event.event_id, flush=True)
            note = f"{run_id}/{step}"
            book.annotate(run_id, note)
            print(note, flush=True)
            if stopped.is_set():
                return


if __name__ == "__main__":
    write(*sys.argv[1:])
