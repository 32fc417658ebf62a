"""`track` and `start_run`: the door of a training process to the ledger."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, TypedDict, Unpack

from ledger.asking import Asking
from ledger.porch import refuse_unknown
from ledger.recording import Recording
from ledger.settings import IN_MEMORY

if TYPE_CHECKING:
    from ledger.tracking.entry import Keeps
    from ledger.tracking.run import TrackedRun

__all__ = ["TrackWords", "Tracking"]


class TrackWords(TypedDict, total=False):
    """What `track` and `start_run` take beside the run id; the first eight are said as `insert_run` says them."""

    config: object
    chain_of_custody_id: str | None
    run_name: str | None
    config_file_path: str | PathLike[str] | None
    host: str | None
    instance_id: str | int | None
    instance_type: str | None
    resumes: str | None
    stopped_means: str
    heartbeat_seconds: float
    all_ranks: bool


class Tracking(Recording, Asking):
    """The part of a ledger that a training process uses."""

    def track(self, run_id: str | None = None, **words: Unpack[TrackWords]) -> TrackedRun:
        """Return the run of this process, for a `with` block or as a decorator (docs/recording.md).

        Without *run_id* it is RUN_ID of the environment. The end of the block is recorded as completed, failed or
        crashed. Raises NotConfigured, InvalidValue and InvalidFact here or at entry, and nothing once it is entered.
        """
        from ledger.tracking.entry import said_of
        from ledger.tracking.plan import Plan
        from ledger.tracking.run import TrackedRun
        from ledger.tracking.surroundings import owner_lives

        refuse_unknown({name: None for name in words if name not in _WORDS}, ["run_id", *_WORDS])
        said = said_of(run_id, words.get("config"), {**words, "resumes_run_id": words.get("resumes")})
        return TrackedRun(
            Plan(
                said,
                self._settings,
                self._book,
                words.get("stopped_means", "failed"),
                words.get("heartbeat_seconds", 60.0),
                words.get("all_ranks", False),
                owner_lives(said.run_id),
            )
        )

    def start_run(self, run_id: str | None = None, **words: Unpack[TrackWords]) -> TrackedRun:
        """Begin at once what `track` would begin with a block; `finish` ends it, else the end of the process does."""
        return self.track(run_id, **words).begin()

    def _book(self) -> Keeps:
        """The ledger for the writer: one of its own, that nobody else closes; one in memory can only be this one."""
        from ledger.tracking.entry import BUSY_SECONDS_MAX, Book, Shared

        if self._settings.url == IN_MEMORY:
            return Shared(self)
        return Book(self._settings.url, busy_seconds_max=BUSY_SECONDS_MAX, always_spools=True)


_WORDS = tuple(TrackWords.__annotations__)
