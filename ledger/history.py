"""History: what a run logged, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidValue
from ledger.projections.filters import parse_whole_number

if TYPE_CHECKING:
    from ledger.store.answers import Answers

__all__ = ["History"]


class History:
    """The part of a ledger, or of a view of it, that gives curves."""

    if TYPE_CHECKING:

        @property
        def _answers(self) -> Answers: ...

    def get_history(
        self, run_id: str, names: str | Iterable[str] | None = None, max_points: int | None = None
    ) -> dict[str, list[Any]]:
        """Return what a run logged, as columns of one length: {"step": [...], "loss": [...]}.

        All metrics that hold numbers, or those named, whatever they hold; None where a row has no value. With
        *max_points* at most so many rows, with the extremes of each column among them. Raises RunNotFound, and
        UnknownColumn for a name that the run never logged.
        """
        if not isinstance(run_id, str):
            raise InvalidValue("run_id", run_id, "text is wanted")
        named = None if names is None else _names(names)
        at_most = None if max_points is None else parse_whole_number("max_points", max_points)
        return self._answers.history(run_id, named, at_most)


def _names(names: object) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else []
    if not listed or not all(isinstance(name, str) for name in listed):
        raise InvalidValue("names", names, "the name of a metric or several are wanted; None is all")
    return listed
