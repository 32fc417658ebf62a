"""Recording: append events, and the documented functions that say them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import overload

from pydantic import JsonValue

from ledger import origin, porch
from ledger.errors import InvalidFact, RunAlreadyExists, RunNotFound, WandbRunTaken, shortened
from ledger.events import BlogAttached, ConversationAttached, Event, Fact, Recorded, Unvoided, Voided
from ledger.events.times import parse_moment, text_of
from ledger.handle import Handle
from ledger.porch import When
from ledger.projections.claims import Claim, settle
from ledger.projections.lifecycle import ENDED
from ledger.projections.run import HYPERPARAMETERS
from ledger.store import log, reading
from ledger.store.projector import Projector, Tracked, claims_to
from ledger.store.statements import Connection

__all__ = ["Recording"]

# Looks at the run, inside the transaction, and returns which of the events are still to be said.
Check = Callable[[Connection, Tracked, list[Fact]], list[Fact]]

_MICROSECOND = timedelta(microseconds=1)


class Recording(Handle):
    """The half of a ledger that writes. Nothing here returns before its events are on disk."""

    @overload
    def append(self, events: Event | Recorded, expected_version: int | None = None) -> Recorded: ...
    @overload
    def append(self, events: Iterable[Event | Recorded], expected_version: int | None = None) -> list[Recorded]: ...
    def append(
        self, events: Event | Recorded | Iterable[Event | Recorded], expected_version: int | None = None
    ) -> Recorded | list[Recorded]:
        """Accept one event, or several together or not at all; return each as it is recorded.

        Known events are answered as before. Raises EventConflict for a known id with other content,
        WrongExpectedVersion when something is new and its run has another number of events by now.
        """
        single = isinstance(events, Event | Recorded)
        facts = self._facts([events] if isinstance(events, Event | Recorded) else events)
        if self._off:
            return _unrecorded(facts[0]) if single else [_unrecorded(fact) for fact in facts]
        with self._database.write() as connection:
            accepted = log.append(connection, facts, expected_version=expected_version)
        self._database.checkpoint_after(accepted.new)
        answers = [reading.recorded(row) for row in accepted.rows]
        return answers[0] if single else answers

    def insert_run(
        self,
        /,
        run_id: str,
        wandb_run_id: str | None,
        config_dict: object,
        chain_of_custody_id: str | None = None,
        *,
        run_name: str | None = None,
        config_file_path: str | None = None,
        host: str | None = None,
        instance_id: str | None = None,
        instance_type: str | None = None,
        resumes_run_id: str | None = None,
        wandb_url: str | None = None,
        wandb_name: str | None = None,
        at: When | None = None,
        **hyperparameters: object,
    ) -> None:
        """Record a launch. A hyperparameter column as a keyword wins over the config.

        Again with equal content it does nothing; with other content it raises RunAlreadyExists, which
        names what differs. To a run that recorded its own launch it adds what is missing.
        """
        said = {name: value for name, value in locals().items() if name in _LAUNCH_KEYWORDS}
        unknown = {name: value for name, value in hyperparameters.items() if name not in HYPERPARAMETERS}
        porch.refuse_unknown(unknown, [*_LAUNCH_KEYWORDS, "at", *HYPERPARAMETERS])
        events = porch.launch(run_id, config_dict, {**said, **hyperparameters}, at)
        self._record(events, at, _launch_check)

    def update_run_status(
        self,
        /,
        run_id: str,
        status: str,
        *,
        duration_seconds: float | None = None,
        final_metrics_json: object = None,
        ended_at: When | None = None,
        started_at: When | None = None,
        wandb_run_id: str | None = None,
        wandb_url: str | None = None,
        wandb_name: str | None = None,
        run_name: str | None = None,
        end_reason: str | None = None,
        exit_code: int | None = None,
        resumes_run_id: str | None = None,
        at: When | None = None,
        **unknown: object,
    ) -> None:
        """Record 'running', 'completed', 'failed' or 'crashed', and the fields that are said with it.

        Seconds are rounded to whole ones; times without a zone are UTC. Raises RunNotFound for an unknown
        run and WandbRunTaken for a W&B id that another run holds.
        """
        said = {name: value for name, value in locals().items() if name in _STATUS_KEYWORDS}
        porch.refuse_unknown(unknown, [*_STATUS_KEYWORDS, "at"])
        self._record(porch.status_change(run_id, status, said, at), at, _known_run_check)

    def attach_conversation(self, run_id: str, conversation_s3_key: str, *, at: When | None = None) -> None:
        """Record where the conversation that led to the run was exported to."""
        event = ConversationAttached(run_id=run_id, conversation_s3_key=conversation_s3_key, **porch.when(at))
        self._record([event], at, _known_run_check)

    def attach_crash_data(
        self,
        run_id: str,
        error_log_s3_key: str | None = None,
        crash_report_s3_key: str | None = None,
        crash_analysis_s3_key: str | None = None,
        *,
        at: When | None = None,
    ) -> None:
        """Record at least one key of what is known of a crash; a run that has not ended yet crashed by this."""
        keys = {
            "error_log_s3_key": error_log_s3_key,
            "crash_report_s3_key": crash_report_s3_key,
            "crash_analysis_s3_key": crash_analysis_s3_key,
        }
        self._record(porch.crash_data(run_id, keys, at), at, _crash_check)

    def attach_blog_post(self, run_id: str, blog_url: str, *, at: When | None = None) -> None:
        """Record where the run was written up. Attaching again keeps both facts; the row shows the later."""
        event = BlogAttached(run_id=run_id, blog_post_url=blog_url, **porch.when(at))
        self._record([event], at, _known_run_check)

    def annotate(
        self,
        /,
        run_id: str,
        note: str | None = None,
        tags: str | Iterable[str] | None = (),
        *,
        at: When | None = None,
        **metadata: object,
    ) -> None:
        """Record a remark: the latest note shows, tags gather, metadata is merged key by key."""
        self._record([porch.annotated(run_id, note, tags, metadata, at)], at, _known_run_check)

    def amend(self, /, run_id: str, *, reason: str, at: When | None = None, **columns: object) -> None:
        """Correct columns, with a reason; None clears one. History keeps what was said before."""
        self._record([porch.amended(run_id, reason, columns, at)], at, _known_run_check)

    def void(self, run_id: str, *, reason: str, at: When | None = None) -> None:
        """Take a bogus run out of tables and counts; nothing is deleted, and get_run still finds it."""
        self._record([Voided(run_id=run_id, reason=reason, **porch.when(at))], at, _known_run_check)

    def unvoid(self, run_id: str, *, reason: str, at: When | None = None) -> None:
        """Take back a void."""
        self._record([Unvoided(run_id=run_id, reason=reason, **porch.when(at))], at, _known_run_check)

    def _facts(self, events: Iterable[Event | Recorded]) -> list[Fact]:
        if not isinstance(events, Iterable):
            raise InvalidFact(f"an event of ledger.events, or several, are wanted, not {shortened(events)}.")
        listed = list(events)
        for event in listed:
            if not isinstance(event, Event | Recorded):
                raise InvalidFact(f"an event of ledger.events is wanted, not {shortened(event)}.")
        return [Fact.of(event, redacting=self._settings.redact) for event in listed]

    def _record(self, events: Sequence[Event], at: When | None, check: Check) -> None:
        """Append what a documented function says, after what the ledger knows of the run, if *check* allows it."""
        facts = self._facts(events)
        if self._off:
            return
        if check is not _launch_check:
            self._database.require()
        with self._database.write() as connection:
            projector = Projector(connection)
            tracked = projector.run(facts[0].run_id)
            if at is None:
                _happen_now(tracked, facts)
            facts = check(connection, tracked, facts)
            _check_wandb_ids(connection, tracked, facts)
            accepted = log.append(connection, facts, projector=projector)
        self._database.checkpoint_after(accepted.new)


_LAUNCH_KEYWORDS = (
    "wandb_run_id",
    "chain_of_custody_id",
    "run_name",
    "config_file_path",
    "host",
    "instance_id",
    "instance_type",
    "resumes_run_id",
    "wandb_url",
    "wandb_name",
)
_STATUS_KEYWORDS = (
    "duration_seconds",
    "final_metrics_json",
    "ended_at",
    "started_at",
    "wandb_run_id",
    "wandb_url",
    "wandb_name",
    "run_name",
    "end_reason",
    "exit_code",
    "resumes_run_id",
)


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
    known = reading.facts_of_run(connection, tracked.run_id) if tracked.version else []
    said = _of_launch(facts, 0)
    differences = [
        porch.differing(said, _of_launch(known, place))
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


def _stated(fact: Fact) -> dict[str, JsonValue]:
    """What the event says of columns: its fields, or those that it amends."""
    said = fact.understood or {}
    columns = said.get("columns") if fact.type == "amended" else said
    return columns if isinstance(columns, dict) else {}


def _unrecorded(fact: Fact) -> Recorded:
    """What an append answers while recording is switched off: position and version 0."""
    moment = parse_moment(fact.occurred_at)
    return Recorded(
        0, fact.event_id, fact.run_id, 0, fact.type, fact.schema_version, moment, origin.now(), fact.source,
        fact.payload, fact.digest(), "",
    )  # fmt: skip
