"""Golden lives: for each sentence of the design on how the fold decides, a history and what its rows must show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest

from ledger.events import Event
from tests.builders import (
    HOUR,
    amended,
    annotated,
    blog_attached,
    checkpoint_saved,
    clock,
    completed,
    conversation_attached,
    crash_data_attached,
    crashed,
    described,
    failed,
    heartbeat,
    imported,
    launched,
    metrics_logged,
    moment,
    numbered,
    objective_stated,
    scaffolds_recorded,
    started,
    told,
    unknown,
    unvoided,
    voided,
    wandb_attached,
)


@dataclass(frozen=True)
class Golden:
    """A sentence, a history for which it decides, and what the rows of its runs must then show."""

    says: str
    history: tuple[Event, ...]
    rows: dict[str, dict[str, Any] | None]


def life(says: str, *history: Event, **row: Any) -> Golden:
    """Return a golden life of the one run "r"."""
    return Golden(says, history, {"r": row})


def lives(says: str, *history: Event, rows: dict[str, dict[str, Any] | None]) -> Golden:
    """Return golden lives of several runs; None is a run that has no row."""
    return Golden(says, history, rows)


def launch(seconds: float = 0, **config: Any) -> Event:
    return launched(seconds, config=config)


def _status() -> Iterable[Golden]:
    yield life("status starts as launched", launched(0), status="launched")
    yield life("status starts as launched, also before the launch", annotated(0, note="early"), status="launched")
    endings = {"completed": completed, "failed": failed, "crashed": crashed}
    for status, end in endings.items():
        yield life(f"{status} ends", launched(0), started(1), end(2), status=status, ended_at=clock(2))
        yield life(f"{status} ends what never started", launched(0), end(2), status=status, ended_at=clock(2))
        yield life(f"started leads to running from {status}", launched(0), end(2), started(3), status="running")
        for other in (other for other in endings if other != status):
            yield life(f"{other} follows {status}", launched(0), end(2), endings[other](3), status=other)
    yield life("started leads to running from launched", launched(0), started(1), status="running")
    yield life("started leads to running from running", launched(0), started(1), started(2), status="running")
    yield life("started leads to running before the launch", started(1), status="running")
    yield life("a launch leads nowhere", started(1), completed(2), launched(3), status="completed")
    yield from _signs_of_life(endings)
    for attachment in ATTACHMENTS:
        for status, end in endings.items():
            name = f"{attachment.type} does not touch {status}"
            yield life(name, launched(0), started(1), end(2), attachment, status=status, ended_at=clock(2))
        yield life(f"{attachment.type} does not touch launched", launched(0), attachment, status="launched")
        yield life(f"{attachment.type} does not touch running", started(0), attachment, status="running")
        presumed = crashed(2, presumed=True)
        yield life(f"{attachment.type} revives nobody", launched(0), presumed, attachment, status="crashed")


ATTACHMENTS = (
    conversation_attached(9, conversation_s3_key="s3://c"),
    wandb_attached(9, wandb_run_id="w"),
    crash_data_attached(9, error_log_s3_key="s3://e"),
    blog_attached(9, blog_post_url="https://b"),
    annotated(9, note="n", tags=["t"], metadata={"status": "running"}),
    described(9, run_name="d"),
    imported(9, system="old", row={"status": "running", "run_name": "d"}),
    objective_stated(9, objective_name="QED", raw_mean=0.5),
    scaffolds_recorded(9, columns={"scaffold_id": ["s"]}),
)


def _signs_of_life(endings: dict[str, Any]) -> Iterable[Golden]:
    signs = {
        "heartbeat": lambda at: heartbeat(at, step=1),
        "metrics_logged": lambda at: metrics_logged(at, columns={"step": [1]}),
        "checkpoint_saved": lambda at: checkpoint_saved(at, uri="s3://k"),
    }
    for name, sign in signs.items():
        yield life(f"{name} leads to running from launched", launched(0), sign(5), status="running")
        revived = (launched(0), started(1), crashed(2, presumed=True), sign(5))
        seen = clock(5)
        yield life(f"{name} revives a presumed crash", *revived, status="running", ended_at=None, last_seen_at=seen)
        for status, end in endings.items():
            drained = (launched(0), started(1), end(2), sign(5))
            yield life(f"a late {name} cannot revive {status}", *drained, status=status, ended_at=clock(2))
            early = (launched(0), started(1), sign(2), end(5))
            yield life(f"{name} before {status} changes nothing", *early, status=status, ended_at=clock(5))
    witnessed = (started(0), crashed(2, presumed=True), crashed(3), heartbeat(4))
    yield life("what was presumed and then witnessed stays", *witnessed, status="crashed")
    over = (started(0), crashed(2, presumed=True), completed(3), heartbeat(4))
    yield life("what was presumed and then completed stays", *over, status="completed")
    by_hand = (started(0), crashed(2, presumed=True), amended(3, status="crashed"), heartbeat(4))
    yield life("a person is a witness", *by_hand, status="crashed")
    again = (started(0), crashed(2, presumed=True), heartbeat(3), crashed(4, presumed=True))
    yield life("a revived run can be presumed crashed again", *again, status="crashed", ended_at=clock(4))


def _launches() -> Iterable[Golden]:
    first = launched(10, run_name="first", config={"batch_size": 8})
    second = launched(20, run_name="second", host="ec2", config={"batch_size": 16, "beta": 0.5})
    row = {"created_at": clock(10), "run_name": "first", "host": "ec2", "batch_size": 8, "beta": None}
    yield life("the earliest launch is the birth, later ones fill what is NULL", first, second, **row)
    fills = (launched(10, run_name="first"), second)
    yield life("a later launch fills a config that is {}", *fills, run_name="first", batch_size=16, beta=0.5)
    came_before = (heartbeat(1), described(2, run_name="early", resumes_run_id="p"), first)
    said = {"created_at": clock(10), "run_name": "first", "resumes_run_id": "p", "status": "running"}
    yield life("the birth sets what it states, whatever came before it", *came_before, **said)
    came_before = (imported(1, system="old", row={"host": "expanse", "batch_size": 99}), first)
    yield life("the birth goes before an import", *came_before, host="expanse", batch_size=8)
    came_before = (imported(1, system="old", row={"config_json": {"batch_size": 4}}), launched(10, run_name="n"))
    yield life("a birth without a config clears no other's", *came_before, batch_size=4, config_json='{"batch_size":4}')
    fills = (
        launched(0),
        imported(1, system="old", row={"config_json": {"batch_size": 4}, "host": "h", "owner": "ada"}),
    )
    yield life(
        "an import fills what nobody else has said", *fills, batch_size=4, host="h", metadata_json='{"owner":"ada"}'
    )
    over = (imported(1, system="old", row={"batch_size": 4, "host": "h"}), amended(2, config_json={"batch_size": 9}))
    yield life("a config goes before what an import read", *over, batch_size=9, host="h")
    later = (launched(0, run_name="first"), described(1, run_name="renamed"), second)
    yield life("a later launch changes nothing that was said since", *later, run_name="renamed", host="ec2")
    no_launch = (annotated(5, note="n"), heartbeat(3), annotated(9, note="m"))
    yield life("until a launch has arrived, created_at is the smallest occurred_at", *no_launch, created_at=clock(3))
    odd = unknown(1, type="moon_landed", payload={"step": 1})
    yield life("what cannot be understood dates nothing", odd, annotated(5, note="n"), created_at=clock(5), note="n")
    yield life("what cannot be understood is left out", launched(0), odd, status="launched", last_seen_at=None)
    newer = unknown(1, type="completed", schema_version=2, payload={"exit_code": 0})
    yield life("a newer schema_version is left out", launched(0), newer, status="launched", exit_code=None)
    extra = unknown(1, type="completed", payload={"exit_code": 0, "mood": "good"})
    yield life("an unknown field leaves the event out", launched(0), extra, status="launched", exit_code=None)
    yield lives("what cannot be understood makes no row by itself", odd, newer, extra, rows={"r": None})


def _times() -> Iterable[Golden]:
    yield life("started_at is what started says", started(50, started_at=moment(20)), started_at=clock(20))
    yield life("started_at is else when started occurred", started(50), started_at=clock(50))
    restarted = (started(50, started_at=moment(40)), started(90, started_at=moment(20)), started(95))
    yield life("started_at is the earliest that any started says", *restarted, started_at=clock(20))
    for end in (completed, failed, crashed):
        yield life("an end sets ended_at to what it says", end(50, ended_at=moment(45)), ended_at=clock(45))
        yield life("an end sets ended_at else to when it occurred", end(50), ended_at=clock(50))
        twice = (end(50, ended_at=moment(45)), crashed(60))
        yield life("without its own ended_at an end never moves one that is set", *twice, ended_at=clock(45))
        twice = (end(50), crashed(60))
        yield life("nor one that another set by occurring", *twice, ended_at=clock(50))
        twice = (end(50), crashed(60, ended_at=moment(40)))
        yield life("with its own ended_at a later end moves it", *twice, ended_at=clock(40))
    again = (started(0), completed(10, duration_seconds=9), started(20))
    yield life("running clears ended_at and duration_seconds", *again, ended_at=None, duration_seconds=None)
    again = (started(0), crashed(10, presumed=True, duration_seconds=9), heartbeat(20))
    yield life("running by a sign of life clears them too", *again, ended_at=None, duration_seconds=None)
    again = (started(0), completed(10), started(20), completed(30))
    yield life("an end after a restart is its own", *again, ended_at=clock(30), duration_seconds=30)
    yield from _durations()


def _durations() -> Iterable[Golden]:
    yield life("duration is what the end said", started(0), completed(10, duration_seconds=7), duration_seconds=7)
    yield life("duration is else end minus start", started(0), completed(10), duration_seconds=10)
    yield life("in whole seconds", started(0.25), completed(10), duration_seconds=9)
    yield life("when both are known", launched(0), completed(10), duration_seconds=None)
    late_start = (completed(10), launched(0), started(20, started_at=moment(4)), failed(30, ended_at=moment(10)))
    yield life("with the start that was said", *late_start, duration_seconds=6)
    never = (started(50), completed(60, ended_at=moment(40)))
    yield life("never negative", *never, duration_seconds=0, active_seconds=0)
    both = (started(0), completed(10, ended_at=moment(8)))
    yield life("with the end that was said", *both, duration_seconds=8)
    said = (started(0), completed(10, duration_seconds=7))
    moved = (*said, crashed(20, ended_at=moment(15)))
    yield life("a later end that moves ended_at and says no duration: end minus start", *moved, duration_seconds=15)
    yield life("one that says neither changes neither", *said, crashed(20), ended_at=clock(10), duration_seconds=7)
    both = (*said, crashed(20, ended_at=moment(15), duration_seconds=9))
    yield life("one that says both has both", *both, ended_at=clock(15), duration_seconds=9)
    longer = (*said, crashed(20, duration_seconds=9))
    yield life("one that says a duration changes it alone", *longer, ended_at=clock(10), duration_seconds=9)
    endless = (*said, crashed(20, duration_seconds=float("nan")))
    yield life("what fits no column is not said", *endless, ended_at=clock(10), duration_seconds=7)
    earlier = (started(5), completed(10), started(20, started_at=moment(0)), crashed(30))
    yield life("with the earliest start", *earlier, duration_seconds=30)
    two = (launched(0), started(0), crashed(10), started(100), completed(105))
    yield life(
        "active_seconds sums the segments between starts and ends", *two, active_seconds=15, duration_seconds=105
    )
    held = (started(0), started(4), completed(10), crash_data_attached(11, error_log_s3_key="k"))
    yield life("a start inside a segment begins no other", *held, active_seconds=10)
    wrong = (started(0), crashed(10, presumed=True), heartbeat(20), completed(30))
    yield life("a segment that was presumed over and was not goes on", *wrong, active_seconds=30)
    yield life("an open segment counts when it ends", started(0), completed(10), started(20), active_seconds=10)
    so_far = (started(0), heartbeat(10, duration_seconds=10, metrics={"loss": 0.5}))
    metrics = '{"loss":0.5}'
    yield life("a heartbeat says the duration so far", *so_far, duration_seconds=10, final_metrics_json=metrics)
    over = (*so_far, completed(20), heartbeat(30, duration_seconds=30, metrics={"loss": 9.9}))
    yield life("a heartbeat after the end does not", *over, duration_seconds=20, final_metrics_json=metrics)


def _not_said() -> Iterable[Golden]:
    said = (crashed(1, exit_code=9, end_reason="oom", final_metrics={"loss": 1.5}), completed(2))
    row = {"exit_code": 9, "end_reason": "oom", "final_metrics_json": '{"loss":1.5}'}
    yield life("an absent argument clears nothing", *said, status="completed", **row)
    said = (wandb_attached(1, wandb_run_id="w", wandb_url="https://w"), wandb_attached(2, wandb_name="n"))
    row = {"wandb_run_id": "w", "wandb_url": "https://w", "wandb_name": "n"}
    yield life("None clears nothing", *said, wandb_attached(3, wandb_run_id=None, wandb_url=None), **row)
    keys = (crash_data_attached(1, error_log_s3_key="a"), crash_data_attached(2, crash_report_s3_key="b"))
    yield life("attachments add up", *keys, error_log_s3_key="a", crash_report_s3_key="b", status="launched")
    notes = (annotated(1, note="a", tags=["x", "y"], metadata={"k": 1, "l": 2}), annotated(2, tags=["z", "x"]))
    row = {"note": "a", "tags_json": '["x","y","z"]', "metadata_json": '{"k":1,"l":3}'}
    yield life("remarks gather", *notes, annotated(3, metadata={"l": 3}), **row)
    yield from _amended()
    for first in (heartbeat(1), started(1), annotated(1, note="n"), voided(1, reason="x"), wandb_attached(1)):
        known = {"created_at": clock(1), "run_id": "r", "config_json": None}
        yield life(f"before the launch, {first.type} makes the row with what is known", first, **known)


def _amended() -> Iterable[Golden]:
    named = launched(10, run_name="launched", config={"batch_size": 8, "beta": 0.5})
    yield life("amended sets NULL", named, amended(20, run_name=None), run_name=None, batch_size=8)
    for when in (5, 20):
        order = "after" if when > 10 else "before"
        yield life(f"amended {order} the launch beats it", named, amended(when, run_name="a"), run_name="a")
        yield life(f"amended to NULL {order} the launch beats it", named, amended(when, run_name=None), run_name=None)
        yield life(f"amended {order} the config beats it", named, amended(when, batch_size=9), batch_size=9, beta=0.5)
        yield life(f"amended to NULL {order} the config beats it", named, amended(when, beta=None), beta=None)
        dated = amended(when, created_at=clock(-HOUR))
        yield life(f"amended created_at {order} the launch beats it", named, dated, created_at=clock(-HOUR))
        other = amended(when, config_json={"batch_size": 3})
        row = {"batch_size": 3, "beta": None, "config_json": '{"batch_size":3}'}
        yield life(f"an amended config {order} the launch is the one that is read", named, other, **row)
        both = (named, amended(when, batch_size=9), amended(30, config_json={"batch_size": 3, "beta": 0.1}))
        yield life(
            f"per column: amended {order} the launch stays beside an amended config", *both, batch_size=9, beta=0.1
        )
        stated = launched(10, config={"batch_size": 8}, hyperparameters={"batch_size": 16})
        yield life(
            f"amended {order} an explicit hyperparameter beats it", stated, amended(when, batch_size=9), batch_size=9
        )
    yield life(
        "a later launch does not fill what was cleared",
        named,
        amended(20, host=None),
        launched(30, host="h"),
        host=None,
    )
    for later, row in (
        (described(30, run_name="later"), {"run_name": "later"}),
        (annotated(30, note="later"), {"note": "later"}),
        (blog_attached(30, blog_post_url="later"), {"blog_post_url": "later"}),
        (completed(30, exit_code=7), {"exit_code": 7, "status": "completed", "ended_at": clock(30)}),
        (started(30), {"status": "running", "started_at": clock(30)}),
        (wandb_attached(30, wandb_run_id="later"), {"wandb_run_id": "later"}),
    ):
        cleared = {name: None for name in row if name != "status"}
        yield life(f"{later.type} later than the amendment beats it", launched(0), amended(20, **cleared), later, **row)
        over = amended(40, **cleared)
        yield life(f"amended later than {later.type} beats it", launched(0), later, over, **cleared)
    ended = (started(0), completed(10), amended(20, status="failed"))
    yield life("an amended status is the status", *ended, status="failed", ended_at=clock(10), duration_seconds=10)
    yield life("until something later says another", *ended, started(30), status="running")
    unknown_duration = (started(0), completed(10), amended(20, duration_seconds=None))
    yield life("an amended NULL is not derived again", *unknown_duration, amended(21, note="n"), duration_seconds=None)
    yield life("nor by an end that says no time", *unknown_duration, crashed(22), duration_seconds=None)
    dated = (*unknown_duration, crashed(22, ended_at=moment(12)))
    yield life("but by one that says when", *dated, duration_seconds=12)
    early = (started(0), amended(5, duration_seconds=None), completed(10))
    yield life("and by the first end after it", *early, duration_seconds=10)
    longer = (started(0), completed(10), amended(20, duration_seconds=99))
    yield life("an amended duration is not derived again", *longer, amended(21, note="n"), duration_seconds=99)
    alive = (started(0), amended(10, duration_seconds=99), heartbeat(20, duration_seconds=20), amended(30, note="n"))
    yield life("amended duration, then a heartbeat's: the later", *alive, duration_seconds=20)
    alive = (started(0), amended(10, duration_seconds=None), heartbeat(20, duration_seconds=20), amended(30, note="n"))
    yield life("a cleared duration, then a heartbeat's: the later", *alive, duration_seconds=20)
    for column in ("batch_size", "status", "created_at", "duration_seconds", "end_reason"):
        unfit = (launched(0, config={"batch_size": 8}), started(0), completed(9, end_reason="user"))
        row = {
            "batch_size": 8,
            "status": "completed",
            "created_at": clock(0),
            "duration_seconds": 9,
            "end_reason": "user",
        }
        yield life(f"an amended {column} that does not fit is none", *unfit, amended(10, **{column: -1.5}), **row)
        if column in ("status", "created_at"):
            yield life(f"{column} is never NULL", *unfit, amended(10, **{column: None}), **row)
    yield life("no duration is negative by amendment", *unfit, amended(10, duration_seconds=-5), duration_seconds=9)
    moved = (started(0), completed(10), amended(20, started_at=clock(4)))
    yield life("a duration follows an amended start", *moved, started_at=clock(4), duration_seconds=6)


def _voids() -> Iterable[Golden]:
    bogus = (launched(0, run_name="n"), voided(5, reason="a test"))
    yield life("voided runs leave for voided_runs, with the reason", *bogus, voided=True, reason="a test", run_name="n")
    yield life("and come back", *bogus, unvoided(6, reason="no test"), voided=False, reason=None, run_name="n")
    yield life("and can leave again", *bogus, unvoided(6, reason="o"), voided(7, reason="b"), voided=True, reason="b")
    yield life("an unvoid earlier than the void does not undo it", *bogus, unvoided(4, reason="no"), voided=True)
    yield life("what happens to a voided run is known", *bogus, started(6), voided=True, status="running")


def _wandb_ids() -> Iterable[Golden]:
    def claim(at: float, run: str, wandb_run_id: str = "w", **more: Any) -> Event:
        return wandb_attached(at, run=run, wandb_run_id=wandb_run_id, **more)

    def held(**holders: str | None) -> dict[str, dict[str, Any] | None]:
        return {run: {"wandb_run_id": wandb_run_id} for run, wandb_run_id in holders.items()}

    ours, theirs = claim(1, "a"), claim(2, "b")
    yield lives(
        "the earliest claim holds the id, the other rows' column is NULL", ours, theirs, rows=held(a="w", b=None)
    )
    tie = (claim(1, "a", number=8), claim(1, "b", number=7))
    yield lives("in canonical order: the event's id decides at one moment", *tie, rows=held(a=None, b="w"))
    latest = (claim(1, "a", "old"), claim(2, "a", "new"), claim(3, "b", "old"))
    yield lives("a run claims its latest stated id only", *latest, rows=held(a="new", b="old"))
    since = (claim(1, "a"), claim(2, "b"), claim(3, "a"))
    yield lives("a claim is dated by its earliest statement", *since, rows=held(a="w", b=None))
    back = (claim(1, "a"), claim(2, "b"), claim(3, "a", "x"), claim(4, "a"))
    yield lives("also when another id was stated in between", *back, rows=held(a="w", b=None))
    since = (claim(1, "a"), amended(2, run="a", wandb_run_id=None), claim(3, "b"), claim(4, "a"))
    yield lives("dated since an amendment", *since, rows=held(a=None, b="w"))
    by_hand = (claim(1, "a"), claim(3, "b"), amended(2, run="c", wandb_run_id="w"))
    yield lives("an amendment is a claim of its time", *by_hand, rows=held(a="w", b=None, c=None))
    given_up = (*by_hand, amended(9, run="a", wandb_run_id=None))
    yield lives("an amendment to NULL gives up the claim", *given_up, rows=held(a=None, b=None, c="w"))
    yield lives("a voided run claims nothing", ours, theirs, voided(3, run="a", reason="x"), rows=held(a=None, b="w"))
    restored = (ours, theirs, voided(3, run="a", reason="x"), unvoided(4, run="a", reason="y"))
    yield lives("until it is unvoided", *restored, rows=held(a="w", b=None))
    resumed = (ours, theirs, described(3, run="b", resumes_run_id="a"))
    yield lives("a run that another claimant resumes yields to it", *resumed, rows=held(a=None, b="w"))
    by_launch = (ours, theirs, launched(3, run="b", resumes_run_id="a"))
    yield lives("also where the launch says so", *by_launch, rows=held(a=None, b="w"))
    chain = (*resumed, claim(4, "c"), described(5, run="c", resumes_run_id="b"))
    yield lives("also step by step", *chain, rows=held(a=None, b=None, c="w"))
    rest = (ours, claim(2, "b"), claim(3, "c"), described(4, run="c", resumes_run_id="a"))
    yield lives("of the rest the earliest claim holds it", *rest, rows=held(a=None, b="w", c=None))
    stranger = (ours, described(3, run="b", resumes_run_id="a"))
    yield lives("a run that claims nothing takes nothing", *stranger, rows=held(a="w", b=None))
    gone = (*resumed, voided(4, run="b", reason="x"))
    yield lives("nor one that is voided", *gone, rows=held(a="w", b=None))
    circle = (*resumed, described(4, run="a", resumes_run_id="b"))
    yield lives("runs that resume each other: the earliest claim holds it", *circle, rows=held(a="w", b=None))
    itself = (ours, theirs, described(3, run="a", resumes_run_id="a"))
    yield lives("a run that resumes itself yields to nobody for it", *itself, rows=held(a="w", b=None))


# What a config says under `training.batch_size`, `training.learning_rate` and `reward.gradient_method`, and what fits.
_HUGE = 10**400
FITS: tuple[tuple[Any, int | None, float | None, str | None], ...] = (
    (384, 384, 384.0, None),
    (32.0, 32, 32.0, None),
    (32.5, None, 32.5, None),
    ("384", 384, 384.0, "384"),
    ("1e-4", None, 0.0001, "1e-4"),
    ("1e2", 100, 100.0, "1e2"),
    ("-7", -7, -7.0, "-7"),
    ("mgda", None, None, "mgda"),
    ("", None, None, ""),
    ("0x10", None, None, "0x10"),
    ("1_000", None, None, "1_000"),
    ("٣", None, None, "٣"),
    (True, None, None, None),
    (False, None, None, None),
    (None, None, None, None),
    ([384], None, None, None),
    ({"value": 384}, None, None, None),
    (2**63 - 1, 2**63 - 1, float(2**63), None),
    (-(2**63), -(2**63), -float(2**63), None),
    (2**63, None, float(2**63), None),
    (str(2**63), None, float(2**63), str(2**63)),
    (_HUGE, None, None, None),
    (1e300, None, 1e300, None),
    ("1e999", None, None, "1e999"),
    (float("nan"), None, None, "NaN"),
    (float("inf"), None, None, "Infinity"),
    ("nan", None, None, "nan"),
    ("a\x00b", None, None, None),
    ("a\ud800b", None, None, None),
    ("😀" * 3000, None, None, "😀" * 3000),
)


def _fits() -> Iterable[Golden]:
    for value, integer, real, text in FITS:
        config = {"training": {"batch_size": value, "learning_rate": value}, "reward": {"gradient_method": value}}
        row = {"batch_size": integer, "learning_rate": real, "gradient_method": text}
        yield life(f"{ascii(value)[:24]} fits as {ascii(list(row.values()))[:50]}", launched(0, config=config), **row)
    yield from _read_from_configs()
    not_finite = completed(1, final_metrics={"a": float("nan"), "b": [float("-inf")], "c": {"d": "Infinity"}, "e": 1.5})
    row = {"final_metrics_json": '{"a":null,"b":[null],"c":{"d":null},"e":1.5}'}
    yield life("what is not finite is null in the final metrics", not_finite, **row)
    yield life("and its text in the config", launch(x=float("nan")), config_json='{"x":"NaN"}')


def _read_from_configs() -> Iterable[Golden]:
    paths = {
        "batch_size": ("training.batch_size", "batch_size"),
        "learning_rate": ("training.learning_rate", "learning_rate", "training.lr", "lr"),
        "beta": ("reward.beta", "training.beta", "beta"),
        "num_gpus": ("num_gpus", "training.num_gpus", "training.num_processes", "distributed.num_processes"),
        "gradient_method": ("reward.gradient_method", "training.gradient_method", "gradient_method"),
        "num_objectives": ("objectives",),
        "num_scaffolds": ("generation.scaffolds", "scaffolds"),
    }
    for column, found in paths.items():
        for number, path in enumerate(found):
            values = [_sample(column, n + 1) for n in range(len(found))]
            config = _nested(dict(list(zip(found, values, strict=True))[number:]))
            row = {column: _shown(column, values[number])}
            yield life(f"{column} is read from {path} before what follows it", launched(0, config=config), **row)
            if number:
                config |= {} if "." in found[0] else {found[0]: None}
                unfit = _nested({found[0]: True}) if "." in found[0] else {found[0]: True}
                merged = _merged(unfit, config)
                yield life(
                    f"{column} is read from {path} where the first does not fit", launched(0, config=merged), **row
                )
        stated = launched(0, config=_nested({found[0]: _sample(column, 1)}), hyperparameters={column: _stated(column)})
        yield life(f"an explicit {column} wins over the config", stated, **{column: _stated(column)})


def _sample(column: str, number: int) -> Any:
    if column.startswith("num_") and column != "num_gpus":
        return [{"name": "x"}] * number
    return f"m{number}" if column == "gradient_method" else number


def _shown(column: str, value: Any) -> Any:
    return len(value) if isinstance(value, list) else value


def _stated(column: str) -> Any:
    return "stated" if column == "gradient_method" else 77


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for path, value in flat.items():
        made = _merged(made, {path: value} if "." not in path else _under(path.split("."), value))
    return made


def _under(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _under(keys[1:], value)}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    made = dict(one)
    for key, value in other.items():
        both = isinstance(made.get(key), dict) and isinstance(value, dict)
        if both or made.get(key) is None:
            made[key] = _merged(made[key], value) if both else value
    return made


GOLDEN = (*_status(), *_launches(), *_times(), *_not_said(), *_voids(), *_wandb_ids(), *_fits())

REAL_CONFIG: dict[str, Any] = {
    "training": {
        "batch_size": 384,
        "learning_rate": 1.0e-4,
        "num_processes": 4,
        "max_steps": 2000,
        "gradient_accumulation_steps": 4,
        "max_grad_norm": 1.0,
        "bf16": True,
    },
    "reward": {"gradient_method": "mgda", "beta": 0.05, "enable_moving_targets": False},
    "objectives": [{"name": "COMT_activity", "alias": "COMT_activity_maximize", "params": {"uniprot": "P21964"}}, {}],
    "generation": {"scaffolds": [{"name": "benzene", "smiles": "c1ccccc1"}]},
}


def differing(golden: Golden, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what *rows* show otherwise than *golden* says, as (shown, said)."""
    found: dict[str, Any] = {}
    for run_id, said in golden.rows.items():
        row = rows.get(run_id)
        if row is None or said is None:
            found |= {} if row is said else {run_id: (row, said)}
            continue
        found |= {f"{run_id}.{name}": (row[name], value) for name, value in said.items() if row[name] != value}
    return found


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.says)
def test_a_golden_life_gives_its_row(golden: Golden) -> None:
    """Each sentence of the design decides its life as written, in whatever order the events come."""
    orders = permutations(golden.history) if len(golden.history) <= 4 else [golden.history, golden.history[::-1]]

    assert [found for order in orders if (found := differing(golden, told(order)))] == []


def test_a_real_config_fills_every_hyperparameter() -> None:
    """The config that the design shows is read into all seven columns."""
    row = told([launched(0, config=REAL_CONFIG)])["r"]

    read = [row[name] for name in ("batch_size", "learning_rate", "beta", "gradient_method", "num_gpus")]
    assert [*read, row["num_objectives"], row["num_scaffolds"]] == [384, 1e-4, 0.05, "mgda", 4, 2, 1]
    assert json.loads(row["config_json"]) == REAL_CONFIG


def test_event_ids_decide_within_one_moment() -> None:
    """Canonical order is by occurred_at and then by event_id, so the greater id has the last word."""
    events = [described(1, number=2, run_name="last"), described(1, number=1, run_name="first")]

    assert told(events)["r"]["run_name"] == "last"
    assert numbered(1) < numbered(2)
