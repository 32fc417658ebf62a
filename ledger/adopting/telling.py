"""What a row of the earlier database tells, as facts of its run. Each, its id too, is a function of what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue

from ledger.adopting.rows import OldRow
from ledger.adopting.wanted import DOCUMENTED, Wanted, kept, moment_of, same
from ledger.events import (
    Amended,
    BlogAttached,
    Completed,
    ConversationAttached,
    CrashDataAttached,
    Crashed,
    Event,
    Fact,
    Failed,
    Imported,
    Launched,
    Source,
    Started,
    WandbAttached,
)
from ledger.events.fact import NO_ID, loaded
from ledger.events.times import parse_moment
from ledger.projections.fold import canonical
from ledger.projections.life import read_config
from ledger.projections.lifecycle import ENDED
from ledger.projections.run import HYPERPARAMETERS

__all__ = ["AUDIT", "SYSTEM", "Teller", "is_ours", "row_of"]

SYSTEM = "training_db"
AUDIT = ("created_at_db", "updated_at_db")

_SOURCE = Source.model_validate({"system": SYSTEM})
_MICROSECOND = timedelta(microseconds=1)
_ENDS: dict[str, type[Event]] = {"completed": Completed, "failed": Failed, "crashed": Crashed}
_OF_LAUNCH = ("chain_of_custody_id", "run_name", "config_file_path", "host", "instance_id")
_OF_CRASH = ("crash_report_s3_key", "error_log_s3_key", "crash_analysis_s3_key")


def is_ours(fact: Fact) -> bool:
    """Whether an adoption told it."""
    return loaded(fact.source).get("system") == SYSTEM


def row_of(fact: Fact) -> Mapping[str, JsonValue]:
    """Return what an `imported` carries."""
    row = (fact.understood or {}).get("row")
    return row if isinstance(row, dict) else {}


class Teller:
    """Makes the facts of one row. Those whose order counts follow each other by a microsecond at least."""

    def __init__(self, row: OldRow, wanted: Wanted, *, redacting: bool) -> None:
        self._row = row
        self._wanted = wanted
        self._redacting = redacting
        self._last = wanted.birth - _MICROSECOND

    def life(self) -> Iterator[Fact]:
        """Yield what happened to the run, from its launch to what was attached to it; no `imported`."""
        wanted = self._wanted
        started_at, ended_at = (moment_of(self._row.values.get(name)) for name in ("started_at", "ended_at"))
        yield self._launched()
        yield from self._attached(ConversationAttached, wanted.birth, "conversation_s3_key")
        status = wanted.columns["status"]
        if status == "running" or (status in ENDED and started_at is not None):
            yield self._next(Started, started_at or wanted.birth, {"started_at": started_at})
        yield from self._attached(WandbAttached, started_at or wanted.birth, "wandb_run_id", "wandb_url")
        if status in ENDED:
            yield self._end(str(status), ended_at)
        yield from self._attached(CrashDataAttached, wanted.latest, *_OF_CRASH)
        yield from self._attached(BlogAttached, wanted.latest, "blog_post_url")

    def beside(self, told: Sequence[Fact]) -> Iterator[Fact]:
        """Yield what no event can say, and when the row came into its database, where it was not *told* like this.

        An `imported` fills what nobody said before, so what a later state of the row has is dated before it.
        """
        imported = [fact for fact in told if fact.type == "imported"]
        rests = [fact for fact in imported if not row_of(fact).keys() <= set(AUDIT)]
        latest = min(rests, key=canonical, default=None)
        rest = self._rest()
        if latest is not None:
            rest = {**dict.fromkeys(row_of(latest)), **rest}  # what is gone since is said to be gone
        if rest:
            before = self._wanted.birth if latest is None else min(self._wanted.birth, parse_moment(latest.occurred_at))
            fact = self._fact(Imported, before - _MICROSECOND, {"system": SYSTEM, "row": rest})
            if latest is None or row_of(fact) != row_of(latest):  # with its secrets taken out, as what was told
                yield fact
        audit = {name: kept(self._row.values[name]) for name in AUDIT if self._row.values.get(name) is not None}
        if audit and audit not in [row_of(fact) for fact in imported]:
            yield self._next(Imported, self._wanted.latest, {"system": SYSTEM, "row": audit})

    def amended(self, columns: Mapping[str, JsonValue], behind: datetime) -> Fact:
        """Return the correction that makes the ledger's row what the earlier one is."""
        said = {"reason": "as the earlier database has it", "columns": dict(columns)}
        return self._fact(Amended, behind + _MICROSECOND, said)

    def _launched(self) -> Fact:
        config = self._wanted.data.get("config_json")
        config = config if isinstance(config, dict) else {}
        columns = self._wanted.columns
        stated = {
            name: value
            for name, column in HYPERPARAMETERS.items()
            if (value := columns.get(name)) is not None and value != read_config(column, config)
        }
        said = {name: columns[name] for name in _OF_LAUNCH if self._says(name)}
        return self._next(Launched, self._wanted.birth, {**said, "config": config, "hyperparameters": stated or None})

    def _end(self, status: str, ended_at: datetime | None) -> Fact:
        wanted = self._wanted
        metrics = wanted.data.get("final_metrics_json")
        said: dict[str, object] = {
            "ended_at": ended_at,
            "duration_seconds": wanted.columns.get("duration_seconds"),
            "final_metrics": metrics if isinstance(metrics, dict) else None,
        }
        if wanted.presumed:
            word = self._row.values.get("status")
            said |= {"presumed": True, "detected_by": "the earlier database's status", "testimony": _words(word)}
        return self._next(_ENDS[status], ended_at or wanted.latest, said)

    def _attached(self, kind: type[Event], moment: datetime, *names: str) -> Iterator[Fact]:
        said = {name: self._wanted.columns[name] for name in names if self._says(name)}
        if said:
            yield self._next(kind, moment, said)

    def _says(self, name: str) -> bool:
        """Whether an event can say what the column holds: ids that are blank, an amendment alone can."""
        value = self._wanted.columns.get(name)
        return value is not None and (name in _MAY_BE_BLANK or bool(str(value).strip()))

    def _rest(self) -> dict[str, JsonValue]:
        """What neither a documented column's event nor an amendment can say, under its name in the row."""
        row, wanted = self._row, self._wanted
        made: dict[str, JsonValue] = {}
        for name, value in row.values.items():
            if value is None or name == "run_id" or name in AUDIT:
                continue
            if name not in DOCUMENTED or self._is_lost(name):
                made[name] = kept(value)
        metrics = wanted.data.get("final_metrics_json")
        if isinstance(metrics, dict) and wanted.columns["status"] not in ENDED:
            made["final_metrics_json"] = metrics
        if row.objectives:
            made["run_objectives"] = [{name: kept(value) for name, value in each.items()} for each in row.objectives]
        return made

    def _is_lost(self, name: str) -> bool:
        """Whether the column shows something else than the row had, and no event has the original."""
        return name not in self._wanted.data and not same(name, self._row.values[name], self._wanted.columns[name])

    def _next(self, kind: type[Event], moment: datetime, said: Mapping[str, object]) -> Fact:
        self._last = max(moment, self._last + _MICROSECOND)
        return self._fact(kind, self._last, said)

    def _fact(self, kind: type[Event], moment: datetime, said: Mapping[str, object]) -> Fact:
        run_id = self._row.run_id
        event = kind(run_id=run_id, event_id=NO_ID, occurred_at=moment, source=_SOURCE, **said)
        return Fact.derived(event, redacting=self._redacting)


def _words(value: object) -> str | None:
    return value if isinstance(value, str) and "\x00" not in value and value.isprintable() else None


_MAY_BE_BLANK = frozenset({"run_name", "config_file_path", "host", "instance_id", "wandb_url"})
