"""Events into lines that a person reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from pydantic import JsonValue

from ledger.events.fact import Fact, loaded
from ledger.projections.fold import canonical

__all__ = ["Entry", "entries", "summary", "who"]

Payload = dict[str, JsonValue]

_LENGTH_MAX = 100


class Entry(dict[str, str]):
    """One line of a timeline: occurred_at, run_id, type, summary, source, event_id; as keys and as attributes."""

    def __getattr__(self, name: str) -> str:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def entries(facts: Iterable[Fact]) -> list[Entry]:
    """Return a line for each fact, in canonical order."""
    return [
        Entry(
            occurred_at=fact.occurred_at,
            run_id=fact.run_id,
            type=fact.type,
            summary=summary(fact),
            source=who(fact.source),
            event_id=fact.event_id,
        )
        for fact in sorted(facts, key=canonical)
    ]


def summary(fact: Fact) -> str:
    """Say in one line what happened."""
    payload = fact.understood
    if payload is None:
        return _cut(f"not understood by this version (schema {fact.schema_version}): {fact.payload}")
    say = _SAYINGS.get(fact.type)
    return _cut(say(payload) if say else _listed(payload)) or "no further word"


def who(source: str) -> str:
    """Return who says so, for people: user, host, program and pid, or the system that it was imported from."""
    said = loaded(source)
    who = "@".join(str(said[name]) for name in ("user", "host") if said.get(name))
    program = said.get("program")
    pid = f" (pid {said['pid']})" if said.get("pid") else ""
    return f"{who or said.get('system', 'unknown')}{f' {program}' if program else ''}{pid}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LENGTH_MAX else f"{line[: _LENGTH_MAX - 3]}..."


def _listed(payload: Payload) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in payload.items()) or "no further word"


def _short(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(item)}" for name, item in list(value.items())[:3]) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def _launched(payload: Payload) -> str:
    said = [name for name in ("run_name", "host", "instance_id", "instance_type") if payload.get(name)]
    where = ", ".join(str(payload[name]) for name in said)
    resumed = payload.get("resumes_run_id")
    by = "by its own process" if payload.get("self_reported") else ""
    return " ".join(filter(None, ["launched", by, where, f"going on from {resumed}" if resumed else ""]))


def _started(payload: Payload) -> str:
    process = payload.get("process")
    where = f" as process {process.get('pid')} on {process.get('host')}" if isinstance(process, dict) else ""
    at = f" at {payload['started_at']}" if "started_at" in payload else ""
    return f"training started{at}{where}"


def _ended(word: str) -> Callable[[Payload], str]:
    def say(payload: Payload) -> str:
        duration = payload.get("duration_seconds")
        parts = [f"presumed {word}" if payload.get("presumed") else word]
        if isinstance(duration, int):
            parts.append(f"after {duration // 3600}:{duration // 60 % 60:02}:{duration % 60:02}")
        rest = [f"{name} {payload[name]}" for name in ("end_reason", "exit_code", "detected_by") if name in payload]
        rest += [str(payload["testimony"])] if "testimony" in payload else []
        rest += [last] if (last := _last_line(payload.get("error_log"))) else []
        metrics = payload.get("final_metrics")
        if isinstance(metrics, dict):
            rest.append(f"{len(metrics)} final metrics")
        return " ".join(parts) + (f" ({', '.join(rest)})" if rest else "")

    return say


def _last_line(text: JsonValue) -> str:
    return next((line for line in reversed(str(text or "").splitlines()) if line.strip()), "")


def _wandb(payload: Payload) -> str:
    return "W&B run " + (", ".join(str(value) for value in payload.values()) or "not named")


def _progress(payload: Payload) -> str:
    step = f"at step {payload['step']}" if "step" in payload else "alive"
    message = payload.get("message")
    metrics = payload.get("metrics")
    said = _short(metrics) if isinstance(metrics, dict) else ""
    return " ".join(filter(None, [step, said, f"{message}" if message else ""]))


def _metrics(payload: Payload) -> str:
    columns = payload.get("columns")
    if not isinstance(columns, dict) or not columns:
        return "no metrics"
    lengths = [len(values) for values in columns.values() if isinstance(values, list)]
    steps = columns.get("step")
    span = f" up to step {steps[-1]}" if isinstance(steps, list) and steps else ""
    return f"{max(lengths, default=0)} steps of {', '.join(name for name in columns if name != 'step')}{span}"


def _scaffolds(payload: Payload) -> str:
    columns, scores = payload.get("columns"), payload.get("scores")
    ids = columns.get("scaffold_id") if isinstance(columns, dict) else None
    said = [name for name in columns if name != "scaffold_id"] if isinstance(columns, dict) else []
    said += [f"scores of {', '.join(scores)}"] if isinstance(scores, dict) and scores else []
    number = len(ids) if isinstance(ids, list) else 0
    return f"{number} scaffold{'' if number == 1 else 's'}" + (f" ({', '.join(said)})" if said else "")


def _objective(payload: Payload) -> str:
    said = {name: value for name, value in payload.items() if name != "objective_name"}
    return f"objective {payload.get('objective_name')}" + (f": {_listed(said)}" if said else "")


def _amended(payload: Payload) -> str:
    columns = payload.get("columns")
    changes = _listed(columns) if isinstance(columns, dict) else ""
    return f"amended {changes} (reason: {payload.get('reason')})"


_SAYINGS: dict[str, Callable[[Payload], str]] = {
    "launched": _launched,
    "started": _started,
    "completed": _ended("completed"),
    "failed": _ended("failed"),
    "crashed": _ended("crashed"),
    "wandb_attached": _wandb,
    "heartbeat": _progress,
    "metrics_logged": _metrics,
    "checkpoint_saved": lambda p: f"checkpoint {p.get('uri')} {_progress(p) if 'step' in p else ''}",
    "resumed": lambda p: f"run {p.get('resumed_by_run_id')} goes on from here",
    "conversation_attached": lambda p: f"conversation {p.get('conversation_s3_key')}",
    "crash_data_attached": lambda p: ", ".join(f"{n.removesuffix('_s3_key')} {v}" for n, v in p.items()),
    "blog_attached": lambda p: f"written up at {p.get('blog_post_url')}",
    "amended": _amended,
    "voided": lambda p: f"voided (reason: {p.get('reason')})",
    "unvoided": lambda p: f"no longer void (reason: {p.get('reason')})",
    "objective_stated": _objective,
    "scaffolds_recorded": _scaffolds,
    "imported": lambda p: f"imported from {p.get('system')}",
}
