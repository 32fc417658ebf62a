"""What a witness is, and what it can say of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, Protocol, runtime_checkable

from ledger.errors import InvalidValue, nearest
from ledger.events import Completed, Crashed, Event, Failed
from ledger.events.lifecycle import EndReason

__all__ = ["End", "Row", "Testimony", "Witness"]

End = Literal["completed", "failed", "crashed"]
Row = Mapping[str, object]

_ENDS: dict[str, Callable[..., Event]] = {"completed": Completed, "failed": Failed, "crashed": Crashed}


@dataclass(frozen=True)
class Testimony:
    """What a witness knows of one run: whether it lives, and if not, how it ended, as far as that is known.

    *words* say it for people, and are kept in the event. Raises InvalidValue or InvalidFact for what no event can say.
    """

    __test__: ClassVar[bool] = False  # pytest takes all that begins so for a test

    alive: bool
    words: str
    status: End = "crashed"
    end_reason: EndReason | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None

    def __post_init__(self) -> None:
        if self.status not in _ENDS:
            wanted = f"one of {', '.join(_ENDS)} is wanted"
            raise InvalidValue("status", self.status, wanted, nearest(str(self.status), _ENDS))
        self.end("any", ended_at=self.ended_at)

    def end(self, run_id: str, **said: object) -> Event:
        """Return the end of a run that this tells of."""
        known = {"end_reason": self.end_reason, "exit_code": self.exit_code, "testimony": self.words}
        return _ENDS[self.status](run_id=run_id, **known, **said)


@runtime_checkable
class Witness(Protocol):
    """Whoever can be asked about runs, many at a time."""

    @property
    def name(self) -> str:
        """What stands in `detected_by` of the ends that it tells of."""

    def testify(self, runs: Sequence[Row], /) -> Mapping[str, Testimony]:
        """Return what it knows, by run_id; nothing of a run that it does not know.

        Each run is its row as query_runs returns it, and `process`: in which process it was last started, or None.
        """
