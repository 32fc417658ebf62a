"""What the records of a W&B log say of its run: config, history, summary, times, and how it ended."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import isfinite
from typing import NamedTuple

from pydantic import JsonValue

from ledger.error_log import LINES_LENGTH_MAX
from ledger.errors import InvalidFact
from ledger.events.plain import plain
from ledger.integrations.wandb.framing import Framed, Log
from ledger.integrations.wandb.protocol import Changes, Exit, Item, Moment, Output, Record, RunRecord, decoder

__all__ = ["Row", "Telling", "Titles", "rows"]

Data = dict[str, JsonValue]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOGIN = re.compile(r"//[^/@]*@")  # a token may stand before the host
_STDERR = 0
_INTERNAL = "_wandb"
_STEP = "step"
_OWN_STEP = "logged.step"  # a metric that is called `step`, beside W&B's count of steps


class Row(NamedTuple):
    """One step of the history: where it begins and ends in the log, when it was logged, its values by column."""

    offset: int
    block: int
    moment: datetime
    values: Data


class Titles(NamedTuple):
    """What a run is called from some moment on; W&B's users change it while the run goes on."""

    moment: datetime
    name: str | None
    tags: tuple[str, ...]
    note: str | None


@dataclass
class Telling:
    """What a log has told so far. `changes` counts what changed the config or the facts about the run."""

    log_id: str = ""
    wandb_run_id: str = ""
    sdk: str = ""
    host: str = ""
    started_at: datetime | None = None
    latest: datetime = _EPOCH
    runtime_before: int = 0
    facts: Data = field(default_factory=dict)
    config: Data = field(default_factory=dict)
    summarised: Data = field(default_factory=dict)  # with values yet to be read: of thousands the last one counts
    titles: list[Titles] = field(default_factory=list)
    changes: int = 0
    rows: int = 0
    lines: list[str] = field(default_factory=list)  # the end of stderr, in pieces
    lines_length: int = 0
    exit_code: int | None = None
    ended_at: datetime | None = None
    unreadable: int = 0  # records that are whole and make no sense

    @property
    def summary(self) -> Data:
        """The summary so far, without W&B's bookkeeping."""
        return {name: _read(value) for name, value in self.summarised.items()}

    @property
    def stderr(self) -> str:
        """The end of what the run wrote there."""
        return "".join(self.lines)

    def hear(self, record: Record, framed: Framed) -> Row | None:
        """Take in the next record; return the row of the history that it is, if it is one."""
        match record.WhichOneof("record_type"):
            case "history" if self.log_id:
                return self._row(record, framed)
            case "summary":
                _change(self.summarised, record.summary, _Unread)
            case "output_raw":
                self._output(record.output_raw)
            case "stats":
                self._pass(_moment(record.stats.timestamp))
            case "config":
                self.changes += 1
                _change(self.config, record.config, _value)
            case "run":
                self._run(record.run, framed)
            case "environment":
                self._environment(record)
            case "exit":
                self._exit(record.exit)
            case "header":
                self.sdk = record.header.version_info.producer.partition("+")[0]
        return None

    def _pass(self, moment: datetime | None) -> None:
        if moment is not None:
            self.latest = max(self.latest, moment)

    def _run(self, run: RunRecord, framed: Framed) -> None:
        self.changes += 1
        if not self.log_id:
            self.log_id = sha256(framed.data).hexdigest()[:32]
            self.wandb_run_id = run.run_id
            self.started_at = _moment(run.start_time)
            self.runtime_before = run.runtime
            self._pass(self.started_at)
        self.host = run.host or self.host
        _change(self.config, run.config, _value)
        _change(self.summarised, run.summary, _Unread)
        said = {
            "wandb_entity": run.entity,
            "wandb_project": run.project,
            "wandb_group": run.run_group,
            "wandb_job_type": run.job_type,
            "wandb_sweep_id": run.sweep_id,
            "git_remote": _LOGIN.sub("//", run.git.remote_url),
            "git_commit": run.git.commit,
        }
        self.facts.update({name: value for name, value in said.items() if value})
        titles = Titles(self.latest, run.display_name or None, tuple(run.tags), run.notes or None)
        if not self.titles or titles[1:] != self.titles[-1][1:]:
            self.titles.append(titles)

    def _environment(self, record: Record) -> None:
        self.changes += 1
        environment = record.environment
        self.host = self.host or environment.host
        said: Data = {
            "program": environment.program,
            "python": environment.python,
            "os": environment.os,
            "gpu_type": environment.gpu_type,
            "gpu_count": environment.gpu_count,
        }
        self.facts.update({name: value for name, value in said.items() if value})

    def _row(self, record: Record, framed: Framed) -> Row:
        history = record.history
        values = _flat(history.item)
        step = values.pop("_step", None)
        if _STEP in values:
            values[_OWN_STEP] = values.pop(_STEP)
        values[_STEP] = history.step.num if history.HasField("step") else step
        stamp = values.get("_timestamp")
        moment = _moment_of(stamp) if isinstance(stamp, int | float) else None
        self._pass(moment)
        self.rows += 1
        return Row(framed.offset, framed.block, moment or self.latest, values)

    def _output(self, output: Output) -> None:
        self._pass(_moment(output.timestamp))
        if output.output_type == _STDERR:
            self.lines.append(output.line)
            self.lines_length += len(output.line)
            if self.lines_length > 2 * LINES_LENGTH_MAX:
                self.lines = [self.stderr[-LINES_LENGTH_MAX:]]
                self.lines_length = len(self.lines[0])

    def _exit(self, exit: Exit) -> None:
        """The record bears no time of its own, but how many whole seconds the run took."""
        self.exit_code = exit.exit_code
        took = timedelta(seconds=max(0, exit.runtime - self.runtime_before))
        self.ended_at = max(self.latest, self.started_at + took) if self.started_at is not None else self.latest


def rows(log: Log, telling: Telling) -> Iterator[Row]:
    """Yield the rows of the history in order; when all were yielded, *telling* has told the rest.

    Raises MissingExtra without W&B's SDK, InvalidValue for a file that is no W&B log.
    """
    parse, undecodable = decoder()
    for framed in log:
        try:
            row = telling.hear(parse(framed.data), framed)
        except undecodable:
            telling.unreadable += 1
            continue
        if row is not None:
            yield row


class _Unread(str):
    """A value as the JSON text that it came as."""

    __slots__ = ()


def _read(value: JsonValue) -> JsonValue:
    if isinstance(value, _Unread):
        return _value(value)
    return {name: _read(below) for name, below in value.items()} if isinstance(value, dict) else value


def _change(data: Data, said: Changes, taking: Callable[[str], JsonValue]) -> None:
    for item in said.update:
        _put(data, _path(item), taking(item.value_json))
    for item in said.remove:
        _remove(data, _path(item))
    data.pop(_INTERNAL, None)


def _path(item: Item) -> tuple[str, ...]:
    return tuple(item.nested_key) or (item.key,)


def _put(data: Data, path: Sequence[str], value: JsonValue) -> None:
    for key in path[:-1]:
        below = data.get(key)
        if isinstance(below, _Unread):
            below = data[key] = _value(below)
        if not isinstance(below, dict):
            below = data[key] = {}
        data = below
    data[path[-1]] = value


def _remove(data: Data, path: Sequence[str]) -> None:
    for key in path[:-1]:
        below = data.get(key)
        if isinstance(below, _Unread):
            below = data[key] = _value(below)
        if not isinstance(below, dict):
            return
        data = below
    data.pop(path[-1], None)


def _value(text: str) -> JsonValue:
    """What the JSON text says; the text itself where nobody can keep what it says."""
    try:
        value = _decode(text)
        return value if type(value) is float and isfinite(value) else plain(value, _WITHIN)  # most are
    except (ValueError, RecursionError, InvalidFact):
        return text


_decode = json.JSONDecoder().decode

# The places above a value in its event: what is nested as deep as can be has to fit below them.
_WITHIN = tuple(range(-10, 0))


def _flat(items: Iterable[Item]) -> Data:
    r"""The values of a row by column: nested keys are joined by dots; histograms and media stay objects.

    Where a key with a dot of its own meets a nested one of the same name, its dots are written `\.`.
    """
    tree: Data = {}
    for item in items:
        _put(tree, _path(item), _value(item.value_json))
    leaves = list(_leaves(tree, ()))
    if all(len(path) == 1 for path, _ in leaves):
        return tree
    count = Counter(".".join(path) for path, _ in leaves)
    return {
        name if count[name := ".".join(path)] == 1 else ".".join(key.replace(".", "\\.") for key in path): value
        for path, value in leaves
    }


def _leaves(tree: Data, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _moment(said: Moment) -> datetime | None:
    try:
        return _EPOCH + timedelta(seconds=said.seconds, microseconds=said.nanos // 1000) if said.seconds else None
    except OverflowError:
        return None


def _moment_of(seconds: float) -> datetime | None:
    """The moment that a row says; a user may log whatever he likes under this name."""
    try:
        made = _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None
    return made if _EPOCH < made < _LATEST else None


_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
