"""The W&B run that a tracked run reports to: attached once, its summary taken before W&B lets go of it."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

from ledger.events import Annotated, Event, WandbAttached

__all__ = ["WandbLink"]


class WandbLink:
    """Nothing, until a W&B run is attached."""

    def __init__(self) -> None:
        self._run: object = None
        self._summary: dict[str, JsonValue] = {}
        self._undo: Callable[[], None] | None = None

    def attach(self, run_id: str, given: object) -> list[Event]:
        """Return what is to be said of it; nothing of a W&B run that is disabled, or where there is none."""
        from ledger.wandb_run import current, described, watch_finish

        found = current() if given is None else given
        attachment = described(found)
        if attachment is None:
            return []
        self.let_go()
        self._run, self._undo = found, watch_finish(found, self._take)
        made: list[Event] = [
            WandbAttached(
                run_id=run_id,
                wandb_run_id=attachment.wandb_run_id,
                wandb_url=attachment.wandb_url,
                wandb_name=attachment.wandb_name,
            )
        ]
        if attachment.tags or attachment.group:
            metadata = {"wandb_group": attachment.group} if attachment.group else None
            made.append(Annotated(run_id=run_id, tags=attachment.tags or None, metadata=metadata))
        return made

    def summary(self) -> dict[str, JsonValue]:
        """Return the summary: of the live run, else as it was before W&B finished."""
        if self._run is None:
            return {}
        from ledger.wandb_run import summary_of

        return summary_of(self._run) or self._summary

    def let_go(self) -> None:
        """Take back what was hung onto the W&B run."""
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _take(self, summary: dict[str, JsonValue]) -> None:
        self._summary = summary
