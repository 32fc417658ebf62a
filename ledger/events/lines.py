"""One event as one line: what exports and spools hold, and what a merge reads.

A line is a JSON object. `source` and `payload` stand in it as the stored texts, unparsed, so that the
digest beside them still says whether the event is what its maker said. An export adds what is local
to its ledger: position, version, recorded_at and chain. What else a line may hold is passed over.
"""

from __future__ import annotations

import json

from pydantic import JsonValue

from ledger.errors import InvalidFact, shortened
from ledger.events.fact import Fact, Recorded, checked
from ledger.events.plain import json_text
from ledger.events.times import LATEST, parse_moment

__all__ = ["line_of", "parse_line"]

_KEYS = (
    "position",
    "event_id",
    "run_id",
    "version",
    "type",
    "schema_version",
    "occurred_at",
    "recorded_at",
    "source",
    "payload",
    "digest",
    "chain",
)
_OF_THE_MAKER = ("event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload")
_TEXTS = (*(name for name in _OF_THE_MAKER if name != "schema_version"), "digest")


def line_of(fact: Fact, digest: str, **local: JsonValue) -> str:
    """Return the line of an event, without a newline; *local* is what an export adds of its ledger."""
    said: dict[str, JsonValue] = {name: getattr(fact, name) for name in _OF_THE_MAKER}
    said |= {"digest": digest, **local}
    return json_text({name: said[name] for name in _KEYS if name in said})


def parse_line(text: str) -> Fact:
    """Return the event of a line, verbatim; what is local to the ledger that wrote it stays behind.

    Raises InvalidFact, with the reason, for a line that is not well formed or not what its digest says.
    """
    return checked(_recorded(text))


def _object(text: str) -> dict[str, JsonValue]:
    try:
        made = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _malformed(text, f"is no JSON ({exc})") from exc
    if not isinstance(made, dict):
        raise _malformed(text, "is no JSON object")
    return made


def _recorded(text: str) -> Recorded:
    said = _object(text)
    texts: dict[str, str] = {}
    for name in _TEXTS:
        value = said.get(name)
        if not isinstance(value, str):
            raise _malformed(text, f"has no {name}, or one that is no text")
        texts[name] = value
    version = said.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise _malformed(text, "has no schema_version, or one that is no whole number")
    try:
        occurred_at = parse_moment(texts.pop("occurred_at"))
    except ValueError as exc:
        raise _malformed(text, f"has an occurred_at that is no moment ({exc})") from exc
    # What is local to the ledger that wrote the line is of no account elsewhere.
    return Recorded(
        0, version=0, recorded_at=LATEST, chain="", schema_version=version, occurred_at=occurred_at, **texts
    )


def _malformed(text: str, why: str) -> InvalidFact:
    return InvalidFact(f"a line that {why}; take it from its source again: {shortened(text)}")
