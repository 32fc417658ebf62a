"""Real processes for tests: a crowd that begins at one moment, and writers that can be killed.

    python -m tests.store.crowd VERB COUNT [ARGUMENT ...]

imports the ledger once, opens nothing, and forks COUNT processes that wait for each other, and then do VERB.
Each prints one line of JSON: what it did, or the error that reached it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger import Ledger
from ledger.events import Heartbeat, Recorded, Started
from ledger.store import merging, sqlite

ROOT = Path(__file__).parents[2]

Answer = dict[str, Any]


def crowd(verb: str, count: int, *arguments: object, timeout: float = 300) -> list[Answer]:
    """Let a crowd do its work and return what each of it says."""
    done = subprocess.run(command(verb, count, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def writing(path: Path, run_id: str, *, heard: bool = True) -> subprocess.Popen[str]:
    """Return a process that appends for ever and prints each event's id after its append has returned.

    Where it is *heard*, it stands still after some 28,000 that nobody has read: a pipe is that long.
    """
    to, length = (subprocess.PIPE, 2**20) if heard else (subprocess.DEVNULL, -1)
    return subprocess.Popen(command("write_for_ever", 0, path, run_id), cwd=ROOT, stdout=to, pipesize=length, text=True)


def killed(verb: str, count: int, *arguments: object) -> None:
    """Let *count* processes begin a merge or a copy, each into a place of its own ({}), and kill each after a moment."""
    done = subprocess.run(
        command(f"killed_{verb}", count, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")


def command(verb: str, count: int, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.store.crowd", verb, str(count), *map(str, arguments)]


def create(number: int, path: str) -> Answer:
    """Open a ledger that may not be there yet, and record one event in it."""
    with Ledger(path) as book:
        book.init_db()
        return {"id": book.append(Started(run_id=f"run-{number}")).event_id}


def append(number: int, path: str, each: str) -> Answer:
    """Append events one by one, to a run of its own and to one that all share, and measure the longest wait."""
    ids, slowest = [], 0.0
    with Ledger(path) as book:
        for step in range(int(each)):
            event = Heartbeat(run_id="shared" if step % 2 else f"own-{number}", step=step)
            before = time.perf_counter()
            book.append(event)
            slowest = max(slowest, time.perf_counter() - before)
            ids.append(event.event_id)
    return {"ids": ids, "slowest_seconds": slowest}


def record(number: int, path: str, each: str) -> Answer:
    """Live a run by the documented functions, and read one's own word back after each."""
    with Ledger(path) as book:
        for step in range(int(each)):
            run_id = f"run-{number}-{step}"
            book.insert_run(run_id, f"wandb-{number}-{step}", {"batch_size": step})
            for status in ("running", "completed"):
                book.update_run_status(run_id, status)
                row = book.get_run(run_id)
                assert row is not None
                assert row["status"] == status
    return {"runs": int(each)}


def read(number: int, path: str, seconds: str) -> Answer:
    """Read for a while; each answer has to be whole, and no later one may know less."""
    asked, known, until = 0, 0, time.monotonic() + float(seconds)
    with Ledger(path) as book:
        while time.monotonic() < until:
            verified = book.verify()
            assert verified, verified.differences
            assert verified.events >= known
            asked, known = asked + 1, verified.events
    return {"asked": asked}


def following(path: Path) -> subprocess.Popen[str]:
    """Return a process that follows a ledger and prints each event's position and id."""
    return subprocess.Popen(command("follow", 0, path), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def consuming(path: Path, kind: str) -> subprocess.Popen[str]:
    """Return a process that handles events for ever, in the ledger's transaction or beside it, and prints each."""
    return subprocess.Popen(command("consume", 0, path, kind), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def follow(path: str) -> None:
    """Print what comes; whoever started this kills it."""
    with Ledger(path) as book:
        for event in book.follow():
            sys.stdout.write(f"{event.position} {event.event_id}\n")
            sys.stdout.flush()


def consume(path: str, kind: str) -> None:
    """Handle for ever: say which event it was, and with "together" also keep it in a table of one's own."""

    def say(event: Recorded) -> None:
        sys.stdout.write(f"{event.position}\n")
        sys.stdout.flush()

    def keep(event: Recorded, connection: Any) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS handled (position bigint)")
        connection.execute(f"INSERT INTO handled VALUES ({event.position})")
        say(event)

    with Ledger(path) as book:
        consumer = book.subscription(kind)
        if kind == "together":
            consumer.for_each(keep, follow=True, together=True)
        else:
            consumer.for_each(say, follow=True)


def write_for_ever(path: str, run_id: str) -> None:
    """Append, and acknowledge on the standard output; whoever started this kills it."""
    with Ledger(path) as book:
        for step in range(1_000_000):
            event = book.append(Heartbeat(run_id=run_id if step % 3 else "shared", step=step))
            sys.stdout.write(f"{event.event_id}\n")
            sys.stdout.flush()


def merge(path: str, *sources: str) -> None:
    """Merge in batches so small that a kill falls between some of them, or into one."""
    merging.BATCH_EVENTS_MAX = 20
    with Ledger(path) as book:
        book.merge(*sources)


def copy(to: str, path: str) -> None:
    """Copy the ledger at *path*."""
    with Ledger(path) as book:
        book.copy(to)


CARRYING: dict[str, Callable[..., None]] = {"killed_merge": merge, "killed_copy": copy}


def kill_each(carry: Callable[..., None], count: int, place: str, *arguments: str) -> None:
    """Begin, wait less than it takes here, which the first has shown, and kill, again and again."""
    began = time.monotonic()
    os.waitpid(_begun(carry, place.format("whole"), *arguments), 0)
    takes_seconds = time.monotonic() - began
    for number in range(count):
        child = _begun(carry, place.format(number), *arguments)
        time.sleep(random.uniform(0, takes_seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _begun(carry: Callable[..., None], *arguments: str) -> int:
    """Return the number of a child that carries."""
    child = os.fork()
    if child == 0:
        carry(*arguments)
        os._exit(0)
    return child


VERBS: dict[str, Callable[..., Answer]] = {"create": create, "append": append, "record": record, "read": read}
ALONE: dict[str, Callable[..., None]] = {"write_for_ever": write_for_ever, "follow": follow, "consume": consume}


def _in_a_child(verb: Callable[..., Answer], number: int, arguments: list[str], gate: int) -> None:
    os.read(gate, 1)  # returns when the parent has closed the other end: all begin at once
    try:
        said = verb(number, *arguments)
    except BaseException:  # noqa: BLE001 -- whatever reached the child is what the test wants to see
        said = {"error": traceback.format_exc()}
    os.write(1, f"{json.dumps(said)}\n".encode())
    os._exit(0)


def main(verb: str, count: str, *arguments: str) -> None:
    """Fork the crowd, let it begin, and wait for it."""
    if verb in ALONE:
        ALONE[verb](*arguments)
        return
    if verb in CARRYING:
        kill_each(CARRYING[verb], int(count), *arguments)
        return
    if os.environ.get("CROWD_ON_NETWORK"):
        sqlite.on_network = lambda path: True
    closed, opened = os.pipe()
    children = []
    for number in range(int(count)):
        child = os.fork()
        if child == 0:
            os.close(opened)
            _in_a_child(VERBS[verb], number, list(arguments), closed)
        children.append(child)
    os.close(opened)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
