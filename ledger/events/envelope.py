"""What every event carries: what happened to which run, when it was said to happen, and who says so."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from functools import lru_cache
from numbers import Integral
from typing import Annotated, ClassVar, Protocol, get_args, runtime_checkable

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    ValidationError,
)

from ledger import origin
from ledger.errors import InvalidFact, shortened
from ledger.events.plain import json_text, plain, plain_mapping
from ledger.events.times import UtcDateTime, text_of

__all__ = ["Event", "Id", "OwnText", "PlainMapping", "Source", "Text", "UnknownEvent", "storable_text"]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable_text(text: str) -> bool:
    """Whether every database can keep *text* in a column: no NUL, no lone surrogate."""
    return _UNSTORABLE.search(text) is None


def _checked_text(text: str) -> str:
    if not storable_text(text):
        raise ValueError("text without NUL and lone surrogates is wanted")
    return text


def _checked_id(text: str) -> str:
    if not text.strip():
        raise ValueError("text that is not empty is wanted")
    return _checked_text(text)


def _checked_event_id(value: object) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError("a UUID is wanted; leave event_id out to have one made") from None


def _own_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("text is wanted")  # noqa: TRY004 -- pydantic reports ValueErrors
    return str.__str__(value)  # a numpy text is a str of another class


@runtime_checkable
class _PathLike(Protocol):
    def __fspath__(self) -> str: ...


def _text(value: object) -> object:
    """A path and a whole number (a job's id) as their text: what only describes a run refuses no launch."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = str(int(value))
    return _own_text(value.__fspath__() if isinstance(value, _PathLike) else value)


OwnText = Annotated[str, BeforeValidator(_own_text), AfterValidator(_checked_text)]
Text = Annotated[str, BeforeValidator(_text), AfterValidator(_checked_text)]
Id = Annotated[str, BeforeValidator(_own_text), AfterValidator(_checked_id)]
EventId = Annotated[str, BeforeValidator(_checked_event_id)]
PlainMapping = Annotated[dict[str, JsonValue], PlainValidator(plain_mapping)]


class Source(BaseModel):
    """Who says so. An importer names the system it read from, in whatever further fields that takes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    host: str | None = None
    pid: int | None = None
    user: str | None = None
    program: str | None = None
    version: str | None = None


@lru_cache(maxsize=16)
def _source(said: tuple[tuple[str, str | int], ...]) -> Source:
    return Source.model_validate(dict(said))


def _source_here() -> Source:
    return _source(tuple(origin.source().items()))


@lru_cache(maxsize=64)
def _source_text_by_identity(source: _Same) -> str:
    return json_text(plain(source.source.model_dump(exclude_none=True)))


class _Same:
    """A source as a key that is as fast as its address: the same object again, not an equal one."""

    __slots__ = ("source",)

    def __init__(self, source: Source) -> None:
        self.source = source

    def __hash__(self) -> int:
        return id(self.source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.source is self.source


class Event(BaseModel):
    """Something that happened to one run. Never changed afterwards.

    Made with the fields of its class and `run_id`; `event_id`, `occurred_at` and `source` are made
    where they are not given. Raises InvalidFact for an unknown field or a value that is not meant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wire_name: ClassVar[str]
    payload_fields: ClassVar[tuple[str, ...]]
    may_hold_secrets: ClassVar[tuple[str, ...]] = ()  # fields in which strangers keep whatever they like

    event_id: EventId = Field(default_factory=origin.new_event_id)
    run_id: Id
    type: str
    schema_version: int = Field(default=1, ge=1, lt=2**63)
    occurred_at: UtcDateTime = Field(default_factory=origin.now)
    source: Source = Field(default_factory=_source_here)

    def __init__(self, **fields: object) -> None:
        if type(self) is Event:
            raise InvalidFact("an Event is one of the kinds in ledger.events, for example Started(run_id=...).")
        try:
            super().__init__(**fields)
        except ValidationError as exc:
            raise InvalidFact(_in_words(type(self).__name__, exc)) from exc

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        cls.payload_fields = tuple(name for name in cls.model_fields if name not in Event.model_fields)
        written = get_args(cls.model_fields["type"].annotation)
        cls.wire_name = written[0] if written else ""

    def said(self) -> dict[str, JsonValue]:
        """Return the payload: every field that says something, as plain JSON data."""
        values = self.__dict__
        return {name: _plain_field(value) for name in self.payload_fields if (value := values[name]) is not None}

    def source_text(self) -> str:
        return _source_text_by_identity(_Same(self.source))


def _plain_field(value: JsonValue | datetime | tuple[JsonValue, ...]) -> JsonValue:
    if isinstance(value, datetime):
        return text_of(value)
    return list(value) if isinstance(value, tuple) else value


def _in_words(name: str, exc: ValidationError) -> str:
    """The first fault in one line: which field, what it was given, what it takes."""
    fault = exc.errors(include_url=False)[0]
    # What pydantic says of the branch of a union it tried is nothing for a caller.
    where = ".".join(str(part) for part in fault["loc"] if "[" not in str(part)) or "the event"
    if fault["type"] == "missing":
        return f"{name} needs {where}."
    if fault["type"] == "extra_forbidden":
        return f"{name} has no field {where!r}; further facts about a run go into annotate(run_id, {where}=...)."
    message = fault["msg"].removeprefix("Value error, ")
    return f"{name}.{where}={shortened(fault['input'])}: {message[0].lower()}{message[1:]}."


class UnknownEvent(Event):
    """An event that this version of the code cannot understand, as it is: kept, shown, left out of the fold."""

    type: Id
    payload: PlainMapping = Field(default_factory=dict)

    def said(self) -> dict[str, JsonValue]:
        return self.payload
