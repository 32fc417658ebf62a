"""What a W&B log told, as events of a run. Each is a function of what was read, and so are its id and its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from ledger.error_log import last_lines
from ledger.events import (
    Annotated,
    Completed,
    Crashed,
    Event,
    Fact,
    Failed,
    Imported,
    MetricsLogged,
    Source,
    Started,
    WandbAttached,
)
from ledger.events.fact import NO_ID
from ledger.integrations.wandb.records import Row, Telling

__all__ = ["SYSTEM", "Teller", "ended_as"]

SYSTEM = "wandb"

_MICROSECOND = timedelta(microseconds=1)
_UNSTORABLE = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}
_INTERRUPTED = "\nKeyboardInterrupt"
_UNCAUGHT = 1
_TRACEBACK = "Traceback (most recent call last):"


@dataclass
class Teller:
    """Makes the facts of one log about one run."""

    run_id: str
    telling: Telling
    redacting: bool

    def history(self, rows: Sequence[Row]) -> Fact:
        """Return the batch of rows that end in one block of the log; its source says where in the log they begin."""
        names = {name for row in rows for name in row.values}
        ordered = ["step", *sorted(names - {"step"})]
        columns = {name: [row.values.get(name) for row in rows] for name in ordered}
        where = f"{rows[0].offset}-{rows[-1].offset}"
        return self._fact(MetricsLogged, rows[-1].moment, {"columns": columns}, where)

    def life(self, *, is_over: bool) -> Iterator[Fact]:
        """Yield all but the history: what the run is called, its start, its config, and its end."""
        telling = self.telling
        start = telling.started_at or telling.latest
        yield self._fact(Started, start, {"started_at": start})
        called: str | None = ""
        for titles in telling.titles:
            if titles.name != called:
                called = titles.name
                attached = {
                    "wandb_run_id": telling.wandb_run_id,
                    "wandb_name": None if called is None else _clean(called),
                }
                yield self._fact(WandbAttached, titles.moment, attached)
            tags = tuple(tag for said in titles.tags if (tag := _clean(said)).strip())
            note = None if titles.note is None else _clean(titles.note)
            if tags or note is not None:
                yield self._fact(Annotated, titles.moment, {"tags": tags or None, "note": note})
        # An import fills what nobody said before. A longer log knows more than its beginning did, so what it says
        # is dated before what its beginning said.
        before = start - telling.changes * _MICROSECOND
        yield self._fact(Imported, before, {"system": SYSTEM, "row": self._row()})
        if telling.exit_code is not None or is_over:
            yield self._end()

    def _row(self) -> dict[str, JsonValue]:
        telling = self.telling
        names = [titles.name for titles in telling.titles if titles.name is not None]
        row: dict[str, JsonValue] = {"config_json": telling.config, **telling.facts}
        if telling.host:
            row["host"] = telling.host
        if names:
            row["run_name"] = names[-1]
        return row

    def _end(self) -> Fact:
        """The end, behind the last sign of life: a presumed crash is revived by what happens after it."""
        telling = self.telling
        ended_at = telling.ended_at or telling.latest
        lines = last_lines(telling.stderr)
        said: dict[str, object] = {"ended_at": ended_at, "final_metrics": telling.summary or None}
        if telling.exit_code is not None:
            said["exit_code"] = telling.exit_code
        kind: type[Event]
        match ended_as(telling):
            case "completed":
                kind = Completed
            case "failed":
                kind = Failed
                said |= {"end_reason": "user" if _INTERRUPTED in telling.stderr else None, "error_log": lines}
            case "crashed":
                kind = Crashed
                said |= {"end_reason": "exception", "detected_by": "exit record of W&B", "error_log": lines}
            case _:
                kind = Crashed
                said |= {"presumed": True, "detected_by": "wandb import", "error_log": lines}
        return self._fact(kind, ended_at + _MICROSECOND, said)

    def _fact(self, kind: type[Event], moment: datetime, said: Mapping[str, object], where: str | None = None) -> Fact:
        """The fact, with an id that follows from all that it says: two of one id have one content."""
        event = kind(run_id=self.run_id, event_id=NO_ID, occurred_at=moment, source=self._source(where), **said)
        return Fact.derived(event, redacting=self.redacting)

    def _source(self, where: str | None) -> Source:
        telling = self.telling
        said = {
            "host": telling.host or None,
            "program": SYSTEM,
            "version": telling.sdk or None,
            "system": SYSTEM,
            "entity": telling.facts.get("wandb_entity"),
            "project": telling.facts.get("wandb_project"),
            "wandb_run_id": telling.wandb_run_id,
            "log": telling.log_id,
            "records": where,
        }
        return Source.model_validate({name: value for name, value in said.items() if value is not None})


def ended_as(telling: Telling) -> str | None:
    """Return the status that the log's exit record leads to, None where there is none.

    W&B knows an exit code only. With a traceback at the end of stderr, 1 is an exception that nobody caught, or,
    as 255 without `with wandb.init()`, Ctrl-C.
    """
    code = telling.exit_code
    if code is None:
        return None
    if code == 0:
        return "completed"
    stderr = telling.stderr
    uncaught = code == _UNCAUGHT and _TRACEBACK in stderr and _INTERRUPTED not in stderr
    return "crashed" if uncaught else "failed"


def _clean(text: str) -> str:
    return text.translate(_UNSTORABLE)
