"""What the documented functions do in their transaction: look, check, and append what is left to be said.

`append` itself checks nothing of a run's state; only these do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count

from pydantic import JsonValue

from ledger.errors import RunAlreadyExists, RunNotFound, WandbRunTaken
from ledger.events import Fact, Recorded
from ledger.events.plain import json_text
from ledger.events.times import parse_moment, text_of
from ledger.projections.claims import Claim, settle
from ledger.projections.lifecycle import ENDED
from ledger.store import log, reading
from ledger.store.accepting import lock_wandb_ids
from ledger.store.database import Database
from ledger.store.projector import Projector, claims_to
from ledger.store.statements import Connection
from ledger.store.tracked import Tracked

__all__ = ["append", "record"]

# Looks at the run, inside the transaction, and returns which of the events are still to be said.
Check = Callable[[Connection, Tracked, list[Fact]], list[Fact]]

FACTS_BRIEF = 8
_MICROSECOND = timedelta(microseconds=1)
_OF_CLAIMS = ("voided", "unvoided", "amended", "launched")  # a resumed run yields its id


def append(database: Database, facts: Sequence[Fact], expected_version: int | None) -> list[Recorded]:
    """Accept events together or not at all, and return each as it is recorded."""
    remembered = database.remembered if len(facts) == 1 and expected_version is None else None
    accepted = database.transact(
        lambda connection: log.append(connection, facts, expected_version=expected_version),
        briefly=len(facts) <= FACTS_BRIEF,
        first=remembered.appending(facts[0]) if remembered else None,
    )
    _committed(database, accepted)
    return [reading.recorded(row) for row in accepted.rows]


def _committed(database: Database, accepted: log.Accepted) -> None:
    if database.remembered:
        database.remembered.keep(accepted.grown)
    database.checkpoint_after(accepted.new)


def record(database: Database, facts: list[Fact], about: str, *, now: bool) -> None:
    """Accept what one call says of a run, if that may be said; with *now*, after all that the ledger knows of it."""
    if about != "launch":
        database.require()
    tries = count()

    def work(connection: Connection) -> log.Accepted:
        projector = Projector(connection)
        projector.lock([facts[0].run_id])
        # What a try committed without hearing of it is there, once whoever has the run's lock is done: that may be it.
        again = next(tries) > 0 and log.known(connection, facts)
        return log.Accepted([], ()) if again else _accept(connection, projector, facts, about, now=now)

    _committed(database, database.transact(work, briefly=True))


def _accept(connection: Connection, projector: Projector, facts: list[Fact], about: str, *, now: bool) -> log.Accepted:
    tracked = projector.run(facts[0].run_id)
    if now:
        _happen_now(tracked, facts)
    left = _CHECKS[about](connection, tracked, facts)
    _check_wandb_ids(connection, tracked, left)
    return log.append(connection, left, projector=projector)


def _happen_now(tracked: Tracked, facts: list[Fact]) -> None:
    """Let all that one call says happen at one moment, after what this ledger knows of the run.

    What is known may bear the time of a clock that is ahead of ours.
    """
    moment, newest = facts[0].occurred_at, tracked.newest[0]
    if newest and moment <= newest:
        moment = text_of(parse_moment(newest) + _MICROSECOND)
    for fact in facts:
        fact.occurred_at = moment


def _known_run_check(_: Connection, tracked: Tracked, facts: list[Fact]) -> list[Fact]:
    if tracked.life is None:
        raise RunNotFound(tracked.run_id)
    return facts


def _crash_check(connection: Connection, tracked: Tracked, facts: list[Fact]) -> list[Fact]:
    """Leave out the crash where the run has ended, one way or the other."""
    _known_run_check(connection, tracked, facts)
    ended = tracked.life is not None and tracked.life.row["status"] in ENDED
    return facts[1:] if ended else facts


def _launch_check(connection: Connection, tracked: Tracked, facts: list[Fact]) -> list[Fact]:
    """Nothing is left to say by the same launch again; another launch of the same run is refused."""
    known = reading.facts_of_run(connection, tracked.run_id, tracked.version) if tracked.version else []
    said = _of_launch(facts, 0)
    differences = [
        differing(said, _of_launch(known, place))
        for place, fact in enumerate(known)
        if fact.type == "launched" and fact.understood is not None and not fact.understood.get("self_reported")
    ]
    if not differences:
        return facts
    if all(differences):
        raise RunAlreadyExists(tracked.run_id, differences[0])
    return []


def _of_launch(facts: Sequence[Fact], place: int) -> dict[str, JsonValue]:
    """All that one call of insert_run said: the launch and, right behind it, the W&B fields."""
    launched, *behind = facts[place : place + 2]
    said = dict(launched.understood or {})
    for fact in behind:
        if fact.type == "wandb_attached" and fact.occurred_at == launched.occurred_at:
            said |= fact.understood or {}
    return said


def _check_wandb_ids(connection: Connection, tracked: Tracked, facts: Sequence[Fact]) -> None:
    """Refuse a W&B id that another run holds and would not yield to this one."""
    life = tracked.life
    resumes: JsonValue = life.row["resumes_run_id"] if life else None
    lock_wandb_ids(connection, _touched(tracked, facts))
    for fact in facts:
        stated = _stated(fact)
        resumes = stated.get("resumes_run_id", resumes)
        wandb_run_id = life.claim if life and fact.type == "unvoided" else stated.get("wandb_run_id")
        if isinstance(wandb_run_id, str):
            # Its first statement dates a claim; a new one is later than all, so that none yields to it by date.
            since = life.claims.get(wandb_run_id) if life and fact.type == "wandb_attached" else None
            ours = Claim(
                wandb_run_id, tracked.run_id, *(since or ("9999", "")), None if resumes is None else str(resumes)
            )
            others = [claim for claim in claims_to(connection, wandb_run_id) if claim.run_id != tracked.run_id]
            holder = settle([*others, ours])
            if holder is not None and holder != tracked.run_id:
                raise WandbRunTaken(wandb_run_id, holder)


def _touched(tracked: Tracked, facts: Sequence[Fact]) -> set[str]:
    """The W&B ids that these facts may give away, to be locked together: no two writers wait for each other."""
    stated = {wandb_run_id for fact in facts if isinstance(wandb_run_id := _stated(fact).get("wandb_run_id"), str)}
    life = tracked.life
    if life and life.claim and (stated or any(fact.type in _OF_CLAIMS for fact in facts)):
        stated.add(life.claim)
    return stated


def _stated(fact: Fact) -> dict[str, JsonValue]:
    """What the event says of columns: its fields, or those that it amends."""
    said = fact.understood or {}
    columns = said.get("columns") if fact.type == "amended" else said
    return columns if isinstance(columns, dict) else {}


def differing(said: Mapping[str, JsonValue], before: Mapping[str, JsonValue]) -> list[str]:
    """Return the names in which two launches differ, down into their configs; at most eight."""
    found: list[str] = []
    for name in sorted({*said, *before} - {"redacted"}):
        found += _differing(name, said.get(name), before.get(name))
    return found[:8]


def _differing(name: str, one: JsonValue, other: JsonValue) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        prefix = "" if name == "hyperparameters" else f"{name}."
        return [d for key in sorted({*one, *other}) for d in _differing(f"{prefix}{key}", one.get(key), other.get(key))]
    return [] if json_text(one) == json_text(other) else [name]


_CHECKS: dict[str, Check] = {"launch": _launch_check, "known run": _known_run_check, "crash": _crash_check}
