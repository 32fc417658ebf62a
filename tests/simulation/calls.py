"""What processes record: a documented function or an append, with something in it that no other call says."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ledger import Ledger
from ledger.events import Annotated, Event, Heartbeat, Started, UnknownEvent

__all__ = ["Call", "any_call"]

RUNS = ("r1", "r2", "r3")
WANDB_IDS = ("w1", "w2", "w3")


@dataclass
class Call:
    """One call; the *status* that it says, and the *report* of a crash by which it is known again."""

    said: str
    run_id: str
    do: Callable[[Ledger], object]
    status: str | None = None
    report: str | None = None


def any_call(chance: random.Random, number: int) -> Call:
    """Return any call; *number* is this one's alone."""
    run_id = chance.choice(RUNS)
    kind = chance.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
    made = _KINDS[kind][1](chance, run_id, f"t{number}")
    made.said = f"{made.said}({run_id}, t{number})"
    return made


def _launch(chance: random.Random, run_id: str, token: str) -> Call:
    config = {"batch_size": chance.randint(1, 99), "token": token}
    wandb_run_id = chance.choice([None, None, *WANDB_IDS])
    resumed = chance.choice([None, None, None, *RUNS])
    return Call(
        "insert_run", run_id, lambda book: book.insert_run(run_id, wandb_run_id, config, resumes_run_id=resumed)
    )


def _status(chance: random.Random, run_id: str, token: str) -> Call:
    status = chance.choice(["running", "running", "completed", "failed", "crashed"])
    wandb_run_id = chance.choice([None, None, None, None, *WANDB_IDS])

    def do(book: Ledger) -> None:
        metrics = {"token": token, "loss": float("nan")}
        book.update_run_status(run_id, status, final_metrics_json=metrics, wandb_run_id=wandb_run_id)

    return Call(status, run_id, do, status=status)


def _crash(chance: random.Random, run_id: str, token: str) -> Call:
    report = f"report of {token}."
    return Call("attach_crash_data", run_id, lambda book: book.attach_crash_data(run_id, report), report=report)


def _blog(chance: random.Random, run_id: str, token: str) -> Call:
    return Call("attach_blog_post", run_id, lambda book: book.attach_blog_post(run_id, token))


def _note(chance: random.Random, run_id: str, token: str) -> Call:
    return Call("annotate", run_id, lambda book: book.annotate(run_id, token, tags=[token], **{token: 1}))


def _amend(chance: random.Random, run_id: str, token: str) -> Call:
    columns = chance.choice(
        [{"host": token}, {"wandb_run_id": chance.choice([None, *WANDB_IDS])}, {"status": "failed"}]
    )
    return Call("amend", run_id, lambda book: book.amend(run_id, reason=token, **columns))


def _void(chance: random.Random, run_id: str, token: str) -> Call:
    if chance.random() < 0.5:
        return Call("void", run_id, lambda book: book.void(run_id, reason=token))
    return Call("unvoid", run_id, lambda book: book.unvoid(run_id, reason=token))


def _append(chance: random.Random, run_id: str, token: str) -> Call:
    """A batch, made once, that is appended twice."""
    size, version = chance.randint(1, 6), chance.choice([None, None, None, None, 0, 3])
    runs = [run_id] * size if version is not None or chance.random() < 0.5 else chance.choices(RUNS, k=size)
    step = chance.randint(0, 999)

    def do(book: Ledger) -> int:
        events: list[Event] = [Heartbeat(run_id=run, step=step, message=token) for run in runs]
        events += [Annotated(run_id=run_id, note=token), Started(run_id=run_id)]
        events.append(UnknownEvent(run_id=run_id, type="moon_landed", payload={"token": token}))
        book.append(events, version)
        return len(book.append(events[:2]))

    return Call("append", run_id, do)


_KINDS: dict[str, tuple[int, Callable[[random.Random, str, str], Call]]] = {
    "launch": (26, _launch),
    "status": (30, _status),
    "crash": (8, _crash),
    "blog": (5, _blog),
    "note": (8, _note),
    "amend": (6, _amend),
    "void": (4, _void),
    "append": (20, _append),
}
