"""Real processes on a server: writers that hold, take back and mix, and readers whose every line is kept in a file.

    python -m tests.postgres.hands VERB COUNT [ARGUMENT ...]

is `tests.store.crowd` with further verbs.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from ledger import Ledger
from ledger.events import Event, Fact, Recorded
from ledger.store import log
from tests.builders import heartbeat, started, wandb_attached
from tests.store import crowd
from tests.store.crowd import ROOT, Answer

SECONDS_MAX = 120
# What who follows by position asks beside it: nothing, or that no older transaction goes on.
CONDITIONS = {"by_position": "", "by_position_below_xmin": "AND transaction_id < ledger_horizon()"}


class Seen(NamedTuple):
    """What a reader says of an event."""

    position: int
    event_id: str
    run_id: str
    version: int


class Reader:
    """A process that follows, and the file in which it says what it has seen."""

    def __init__(self, process: subprocess.Popen[str], said: Path) -> None:
        self.process = process
        self._said = said

    def seen(self) -> list[Seen]:
        """Return what it has said so far, whole lines only."""
        whole, _, _ = self._said.read_text().rpartition("\n")
        return [Seen(*json.loads(line)) for line in whole.splitlines()]

    def seen_until(self, count: int) -> list[Seen]:
        """Wait until it has said so many lines."""
        until = time.monotonic() + SECONDS_MAX
        while self._said.read_text().count("\n") < count:
            assert self.process.poll() is None, f"the reader ended after {len(self.seen())}"
            assert time.monotonic() < until, f"{len(self.seen())} of {count} were seen"
            time.sleep(0.05)
        return self.seen()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Readers(ExitStack):
    """Starts readers, and ends them all."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._count = 0

    def start(self, verb: str, *arguments: object) -> Reader:
        self._count += 1
        said = self._folder / f"{verb}-{self._count}"
        with said.open("w") as file:
            process = subprocess.Popen(_command(verb, 0, *arguments), cwd=ROOT, stdout=file, text=True)
        made = Reader(process, said)
        self.callback(made.kill)
        return made


def hands(verb: str, count: int, *arguments: object) -> list[Answer]:
    """Let *count* processes begin together, and return what each says."""
    done = subprocess.run(
        _command(verb, count, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _command(verb: str, count: int, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.postgres.hands", verb, str(count), *map(str, arguments)]


class Undone(Exception):
    """A transaction that is taken back."""


@contextmanager
def holding(book: Ledger, *events: Event) -> Any:
    """Append events and leave the transaction open for as long as the block lasts; give what appends more to it."""
    with book._database.write() as connection:

        def more(*others: Event) -> list[int]:
            accepted = log.append(connection, [Fact.of(event, redacting=True) for event in others])
            return [row[0] for row in accepted.rows]

        more.positions = more(*events)  # type: ignore[attr-defined]
        yield more


def hold(number: int, url: str, count: str, share: str = "0.1") -> Answer:
    """Append to own runs and, now and then, to one that all share; hold some transactions open, and undo some."""
    chance = random.Random(number)
    committed = undone = held = 0
    with Ledger(url) as book:
        while committed < int(count):
            runs = [f"own-{number}-{chance.randrange(4)}", "shared" if chance.random() < 0.1 else f"own-{number}-0"]
            first = [heartbeat(run=runs[1]) for _ in range(chance.randint(1, 20))]
            last = [heartbeat(run=runs[0]) for _ in range(chance.randint(0, 20))]
            last = last[: max(0, int(count) - committed - len(first))]
            first = first[: int(count) - committed]
            holds, undoes = (chance.random() < of_all for of_all in (float(share), 0.1))
            with suppress(Undone), holding(book, *first) as more:
                if holds:
                    held += 1
                    time.sleep(chance.uniform(0.02, 0.2))
                more(*last)
                if undoes:
                    raise Undone
            if undoes:
                undone += 1
                continue
            committed += len(first) + len(last)
            book._database.checkpoint_after(range(1))
    return {"committed": committed, "undone": undone, "held": held}


def mix(number: int, url: str, rounds: str) -> Answer:
    """Append batches over many runs, in any order, whose W&B ids others hold, who are in others' batches."""
    chance = random.Random(number)
    with Ledger(url) as book:
        for step in range(int(rounds)):
            beating, wanted, *more = chance.sample(range(8), 4)
            rival = f"rival-{number}-{step % 5}"
            batch = [
                heartbeat(run=f"r{beating}"),
                wandb_attached(run=rival, wandb_run_id=f"w{wanted}"),
                wandb_attached(run=f"r{more[0]}", wandb_run_id=f"w{chance.choice([more[0], more[1]])}"),
                started(run=f"new-{chance.randrange(10**6)}"),
            ][: chance.choice([2, 2, 4])]
            chance.shuffle(batch)
            book.append(batch)
    return {"rounds": int(rounds)}


def _say(position: int, event_id: str, run_id: str, version: int) -> None:
    sys.stdout.write(f"{json.dumps([position, event_id, run_id, version])}\n")
    sys.stdout.flush()


def _say_event(event: Recorded, *_: object) -> None:
    _say(event.position, event.event_id, event.run_id, event.version)


def follow(url: str, after: str = "0") -> None:
    """Say every event that comes, as a follower sees it."""
    with Ledger(url) as book:
        for event in book.follow(int(after)):
            _say_event(event)


def consume(url: str, name: str) -> None:
    """The same under a name, for ever."""
    with Ledger(url) as book:
        book.subscription(name).for_each(_say_event, follow=True)


def keep(url: str, name: str) -> None:
    """The same in the ledger's transaction, into a table of one's own, which is there."""

    def keep(event: Recorded, connection: psycopg.Connection[Any]) -> None:
        connection.execute("INSERT INTO kept VALUES (%s)", (event.position,))
        _say_event(event)

    with Ledger(url) as book:
        book.subscription(name).for_each(keep, follow=True, together=True)


def naive_look(condition: str) -> str:
    """Return the statement of one look, in the order of positions."""
    return (
        f"SELECT position, event_id, run_id, version FROM training_events WHERE position > %s {condition}"
        " ORDER BY position LIMIT 500"
    )


def _naively(url: str, condition: str) -> None:
    sql, after = naive_look(condition), 0
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            rows: Iterable[Any] = connection.execute(sql, (after,)).fetchall()
            for row in rows:
                _say(*row)
                after = row[0]
            if not rows:
                time.sleep(0.01)


def by_position(url: str) -> None:
    """Follow as one would on a file: it skips what is committed late."""
    _naively(url, CONDITIONS["by_position"])


def by_position_below_xmin(url: str) -> None:
    """Take only what is older than every open transaction, but still by position: it skips, too."""
    _naively(url, CONDITIONS["by_position_below_xmin"])


VERBS: dict[str, Callable[..., Answer]] = {"hold": hold, "mix": mix}
ALONE: dict[str, Callable[..., None]] = {
    "follow": follow,
    "consume": consume,
    "keep": keep,
    "by_position": by_position,
    "by_position_below_xmin": by_position_below_xmin,
}

if __name__ == "__main__":
    crowd.VERBS.update(VERBS)
    crowd.ALONE.update(ALONE)
    crowd.main(*sys.argv[1:])
