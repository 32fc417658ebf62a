"""An event as it is stored: its texts, its digest, and what the ledger added when it accepted it.

The digest covers the texts verbatim, so an event that comes from an export or from another ledger
is never taken apart and written again on its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from uuid import UUID

from pydantic import JsonValue
from pydantic_core import from_json

from ledger.errors import InvalidFact
from ledger.events.catalogue import EVENT_TYPES
from ledger.events.envelope import Event, UnknownEvent
from ledger.events.glance import envelope_beyond_doubt, payload_beyond_doubt, source_beyond_doubt
from ledger.events.plain import json_text, strict_object
from ledger.events.redaction import redact
from ledger.events.times import LATEST, parse_moment, text_of
from ledger.events.upcast import understood

__all__ = ["NO_ID", "Fact", "Recorded", "chained", "checked", "digested", "loaded", "loaded_all", "parse_event"]

NO_ID = str(UUID(int=0))  # of an event whose id is yet to be derived from what it says


@dataclass(slots=True)
class Fact:
    """What an event's maker said, as the texts that are stored, and its payload as this code understands it."""

    event_id: str
    run_id: str
    type: str
    schema_version: int
    occurred_at: str
    source: str
    payload: str
    understood: dict[str, JsonValue] | None

    @classmethod
    def of(cls, event: Event | Recorded, *, redacting: bool) -> Fact:
        """Return the fact that *event* states; what was recorded elsewhere is taken over verbatim.

        Raises InvalidFact for an event of a known kind that is not well formed.
        """
        if isinstance(event, Recorded):
            return checked(event)
        if event.occurred_at >= LATEST:
            raise InvalidFact(
                f"{type(event).__name__}.occurred_at={event.occurred_at}: a moment before 9999-12-31 is wanted."
            )
        payload = event.said()
        if isinstance(event, UnknownEvent):
            _refuse_malformed(event)
        elif redacting:
            payload = _redacted(payload, event.may_hold_secrets)
        return cls(
            event.event_id,
            event.run_id,
            event.type,
            event.schema_version,
            text_of(event.occurred_at),
            event.source_text(),
            json_text(payload),
            understood(event.type, event.schema_version, payload),
        )

    @classmethod
    def derived(cls, event: Event, *, redacting: bool) -> Fact:
        """Return the fact that *event* states, with a UUIDv8 made of all that it says in place of its id.

        So what an importer reads twice is known the second time, and two facts of one id have one content.
        """
        fact = cls.of(event, redacting=redacting)
        bits = int(sha256(fact.digest().encode()).hexdigest()[:32], 16)
        fact.event_id = str(UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62))
        return fact

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of everything that the event's maker said."""
        return digested(
            self.event_id, self.occurred_at, self.payload, self.run_id, self.schema_version, self.source, self.type
        )


def digested(  # noqa: PLR0917 -- in the order in which they are written
    event_id: str, occurred_at: str, payload: str, run_id: str, schema_version: int, source: str, type: str
) -> str:
    """Return the digest of what these texts say."""
    return sha256(
        f'{{"event_id":{quoted(event_id)},"occurred_at":"{occurred_at}","payload":{payload},'
        f'"run_id":{_quoted_again(run_id)},"schema_version":{schema_version},"source":{source},'
        f'"type":{_quoted_again(type)}}}'.encode()
    ).hexdigest()


_quoted_again = lru_cache(maxsize=256)(quoted)


def loaded(text: str) -> dict[str, JsonValue]:
    """Return the object that a stored text holds.

    What somebody made unreadable behind the ledger's back becomes something that nobody understands.
    """
    try:
        made = from_json(text, allow_inf_nan=False, cache_strings="keys")  # a quarter of the time of json.loads
    except ValueError:  # lone surrogates, which Python knows and this parser does not, and what is no JSON
        made = _loaded_by_python(text)
    return made if isinstance(made, dict) else {"unreadable": text}


def loaded_all(texts: Sequence[str]) -> list[dict[str, JsonValue]]:
    """Return the object that each of these stored texts holds."""
    try:
        made = [from_json(text, allow_inf_nan=False, cache_strings="keys") for text in texts]
    except ValueError:
        return [loaded(text) for text in texts]
    return [found if type(found) is dict else loaded(text) for found, text in zip(made, texts, strict=True)]


def _loaded_by_python(text: str) -> JsonValue:
    try:
        made: JsonValue = strict_object(text)
    except (ValueError, TypeError, RecursionError):
        made = None
    return made


def chained(previous: str, digest: str) -> str:
    """Return the SHA-256, in hexadecimal, of the run's previous chain (hexadecimal, "" at first) and this digest."""
    return sha256((previous + digest).encode()).hexdigest()


def _redacted(payload: dict[str, JsonValue], fields: tuple[str, ...]) -> dict[str, JsonValue]:
    total = 0
    for name in fields:
        if payload.get(name):
            made, count = redact(payload[name])
            if count:
                payload, total = {**payload, name: made}, total + count
    return {**payload, "redacted": total} if total else payload


def checked(recorded: Recorded) -> Fact:
    """Return the fact that was recorded elsewhere, if it is what its digest says and what an event can be.

    Raises InvalidFact, with the reason, for everything else.
    """
    return _beyond_doubt(recorded) or _judged(recorded)


def _beyond_doubt(recorded: Recorded) -> Fact | None:
    """The fact, if it passes at a glance: a sixth of the time of having its classes make it."""
    try:
        _refuse_other_types(recorded)
        payload = strict_object(recorded.payload)
        said = understood(recorded.type, recorded.schema_version, payload)
        fact = recorded.stating(said)
        passes = (
            fact.digest() == recorded.digest
            and envelope_beyond_doubt(fact.event_id, fact.run_id, fact.type, fact.schema_version)
            and source_beyond_doubt(fact.source)
            and payload_beyond_doubt(fact.type, fact.payload, payload, said)
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return fact if passes else None


def _judged(recorded: Recorded) -> Fact:
    try:
        fact = recorded.fact()
        _refuse_other_types(recorded)
        record = {name: getattr(recorded, name) for name in Event.model_fields if name != "source"}
        event = UnknownEvent(**record, source=strict_object(fact.source), payload=strict_object(fact.payload))
        digest = fact.digest()
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise InvalidFact(f"a recorded event that is not well formed: {exc}") from exc
    if event.event_id != fact.event_id or digest != recorded.digest:
        raise InvalidFact(f"event {fact.event_id} is not what its digest says; take it from its ledger again.")
    _refuse_malformed(event)
    return fact


def _refuse_other_types(recorded: Recorded) -> None:
    """True equals 1 and b"{}" reads like "{}", but a digest made of them is another."""
    texts = (recorded.event_id, recorded.run_id, recorded.type, recorded.source, recorded.payload)
    if any(type(text) is not str for text in texts):
        raise TypeError("event_id, run_id, type, source and payload are texts")
    if type(recorded.schema_version) is not int:
        raise TypeError("schema_version is no whole number")
    if parse_moment(recorded.occurred_at) >= LATEST:
        raise ValueError("occurred_at is not before 9999-12-31")


def _refuse_malformed(event: UnknownEvent) -> None:
    parse_event({**{name: getattr(event, name) for name in Event.model_fields}, "payload": event.payload})


def parse_event(record: Mapping[str, object]) -> Event:
    """Return the event of a *record*: the envelope's fields, and `payload` as a mapping.

    What this code cannot understand becomes an UnknownEvent that keeps it whole. Raises InvalidFact
    for an event of a known kind whose payload is not what that kind says.
    """
    envelope = {name: value for name, value in record.items() if name in Event.model_fields}
    event = UnknownEvent(**envelope, payload=record.get("payload") or {})
    payload = understood(event.type, event.schema_version, event.payload)
    if payload is None:
        return event
    return EVENT_TYPES[event.type](**{**envelope, "schema_version": _current(event.type)}, **payload)


def _current(type: str) -> int:
    version: int = EVENT_TYPES[type].model_fields["schema_version"].default
    return version


@dataclass(frozen=True)
class Recorded:
    """An event that a ledger accepted: its stored columns, and beside them the event's own fields.

    `source` and `payload` are the stored texts; `event` is the event itself, and its fields can be
    read here directly (`recorded.started_at`).
    """

    position: int
    event_id: str
    run_id: str
    version: int
    type: str
    schema_version: int
    occurred_at: datetime
    recorded_at: datetime
    source: str
    payload: str
    digest: str
    chain: str

    @cached_property
    def event(self) -> Event:
        """The event itself; an UnknownEvent where this code does not understand it."""
        record = {name: getattr(self, name) for name in Event.model_fields if name != "source"}
        record["source"] = loaded(self.source)
        record["payload"] = loaded(self.payload)
        try:
            return parse_event(record)
        except InvalidFact:  # accepted once, by a code that asked for less
            return UnknownEvent(**record)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.event, name)

    def fact(self) -> Fact:
        """Return what the event's maker said, verbatim."""
        return self.stating(understood(self.type, self.schema_version, loaded(self.payload)))

    def stating(self, said: dict[str, JsonValue] | None) -> Fact:
        """Return the same for who has read the payload already, and knows what it *said* to this code."""
        occurred_at = text_of(parse_moment(self.occurred_at))
        return Fact(
            self.event_id, self.run_id, self.type, self.schema_version, occurred_at, self.source, self.payload, said
        )
