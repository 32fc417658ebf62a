"""Recording: append events, and the documented functions that say them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import overload

from ledger import origin, porch
from ledger.errors import InvalidFact, shortened
from ledger.events import BlogAttached, ConversationAttached, Event, Fact, Recorded, Unvoided, Voided
from ledger.handle import Handle
from ledger.porch import About, When
from ledger.projections.run import HYPERPARAMETERS

__all__ = ["Recording"]

_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ID_LENGTH = 6


class Recording(Handle):
    """The half of a ledger that writes. Nothing here returns before its events are on disk."""

    @overload
    def append(self, events: Event | Recorded, expected_version: int | None = None) -> Recorded: ...
    @overload
    def append(self, events: Iterable[Event | Recorded], expected_version: int | None = None) -> list[Recorded]: ...
    def append(
        self, events: Event | Recorded | Iterable[Event | Recorded], expected_version: int | None = None
    ) -> Recorded | list[Recorded]:
        """Accept one event, or several together or not at all; return each as it is recorded (a spool: position 0).

        Known events are answered as before. Raises EventConflict for a known id with other content,
        WrongExpectedVersion when something is new and its run has another number of events by now.
        """
        if expected_version is not None:
            expected_version = porch.version(expected_version)
        single = isinstance(events, Event | Recorded)
        facts = self._facts([events] if isinstance(events, Event | Recorded) else events)
        answers = self._sink.append(facts, expected_version)
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
        config_file_path: str | PathLike[str] | None = None,
        host: str | None = None,
        instance_id: str | int | None = None,
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
        self._record(events, at, "launch")

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
        self._record(porch.status_change(run_id, status, said, at), at, "known run")

    def attach_conversation(self, run_id: str, conversation_s3_key: str, *, at: When | None = None) -> None:
        """Record where the conversation that led to the run was exported to."""
        event = ConversationAttached(run_id=run_id, conversation_s3_key=conversation_s3_key, **porch.when(at))
        self._record([event], at, "known run")

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
        self._record(porch.crash_data(run_id, keys, at), at, "crash")

    def record_crash(
        self,
        run_id: str,
        *,
        exit_code: int | None = None,
        end_reason: str | None = None,
        error_log: str | None = None,
        detected_by: str | None = None,
        at: When | None = None,
    ) -> None:
        """Record that a run crashed, unless it has ended by then; *error_log* is the end of what it said last.

        That is decided where the event is accepted, so that an end which comes at the same moment stays. On a
        spool, where nobody can know of one, the crash is presumed, and gives way to an end that was witnessed.
        """
        said = {"exit_code": exit_code, "end_reason": end_reason, "error_log": error_log, "detected_by": detected_by}
        self._record([porch.crash(run_id, said, at)], at, "crash")

    def attach_blog_post(self, run_id: str, blog_url: str, *, at: When | None = None) -> None:
        """Record where the run was written up. Attaching again keeps both facts; the row shows the later."""
        event = BlogAttached(run_id=run_id, blog_post_url=blog_url, **porch.when(at))
        self._record([event], at, "known run")

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
        self._record([porch.annotated(run_id, note, tags, metadata, at)], at, "known run")

    def insert_objective(  # noqa: PLR0917 -- existing scripts call it so
        self,
        run_id: str,
        objective_name: str,
        objective_alias: str | None = None,
        uniprot: str | None = None,
        weight: float | None = None,
        direction: str | None = None,
        *,
        at: When | None = None,
    ) -> None:
        """State what an objective of a run is: *direction* 'maximize' or 'minimize', the alias its name in the metrics.

        What is stated goes before what the config says of it, and what is left out stays as it is; again is no error.
        """
        said = {"objective_alias": objective_alias, "uniprot": uniprot, "weight": weight, "direction": direction}
        self._record([porch.objective(run_id, objective_name, said, at)], at, "known run")

    def update_objective_metric(
        self, run_id: str, objective_name: str, metric_type: str, value: float, *, at: When | None = None
    ) -> None:
        """State what a run reached on an objective; it goes before what the final metrics say.

        *metric_type* is raw_mean, normalized_mean, raw_std or normalized_std; a value that is not finite shows as None.
        """
        event = porch.objective(run_id, objective_name, porch.objective_metric(metric_type, value), at)
        self._record([event], at, "known run")

    def record_scaffolds(
        self, run_id: str, scaffolds: Iterable[Mapping[str, object]], *, at: When | None = None
    ) -> None:
        """Record results of scaffolds: each a `scaffold_id`, and any of name, smiles, scores, pareto_rank, cluster.

        `scores` is a mapping of objectives to numbers. What was recorded of a scaffold before stays where nothing
        is said of it. All of them are recorded together, or none.
        """
        self._record(porch.scaffolds(run_id, scaffolds, at), at, "known run")

    def amend(self, /, run_id: str, *, reason: str, at: When | None = None, **columns: object) -> None:
        """Correct columns, with a reason; None clears one. History keeps what was said before."""
        self._record([porch.amended(run_id, reason, columns, at)], at, "known run")

    def void(self, run_id: str, *, reason: str, at: When | None = None) -> None:
        """Take a bogus run out of tables and counts; nothing is deleted, and get_run still finds it."""
        self._record([Voided(run_id=run_id, reason=reason, **porch.when(at))], at, "known run")

    def unvoid(self, run_id: str, *, reason: str, at: When | None = None) -> None:
        """Take back a void."""
        self._record([Unvoided(run_id=run_id, reason=reason, **porch.when(at))], at, "known run")

    def _facts(self, events: Iterable[Event | Recorded]) -> list[Fact]:
        if not isinstance(events, Iterable):
            raise InvalidFact(f"an event of ledger.events, or several, are wanted, not {shortened(events)}.")
        listed = list(events)
        for event in listed:
            if not isinstance(event, Event | Recorded):
                raise InvalidFact(f"an event of ledger.events is wanted, not {shortened(event)}.")
        return [Fact.of(event, redacting=self._settings.redact) for event in listed]

    def _record(self, events: Sequence[Event], at: When | None, about: About) -> None:
        """Append what a documented function says, after what the ledger knows of the run, if it may be said."""
        self._sink.record(self._facts(events), about, now=at is None)

    def new_chain_of_custody_id(self) -> str:
        """Return six characters A-Z0-9 that no run of this ledger has for its chain of custody."""
        while True:
            made = origin.random_text(_ID_ALPHABET, _ID_LENGTH)
            if not self._sink.knows_chain(made):
                return made


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
