"""The digest is the SHA-256 of a documented text, made here a second time from the documentation alone."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given

from ledger import Ledger, origin
from ledger.events import Event, Fact, Recorded, parse_event
from ledger.events.fact import NO_ID
from tests.builders import launched, started, unknown
from tests.strategies import events, histories


def documented(recorded: Recorded) -> str:
    """Return the digest as the design writes it down: these names in this order, no spaces, ASCII escapes only."""
    occurred_at = recorded.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
    parts = (
        '{"event_id":', json.dumps(recorded.event_id),
        ',"occurred_at":', json.dumps(occurred_at),
        ',"payload":', recorded.payload,
        ',"run_id":', json.dumps(recorded.run_id),
        ',"schema_version":', str(recorded.schema_version),
        ',"source":', recorded.source,
        ',"type":', json.dumps(recorded.type),
        "}",
    )  # fmt: skip
    return hashlib.sha256("".join(parts).encode("ascii")).hexdigest()


@given(histories())
def test_the_digest_is_that_of_the_documented_text(made: list[Event]) -> None:
    """Whoever has the stored columns can recompute each digest from the documentation."""
    with Ledger(":memory:") as book:
        book.append(made)

        assert [event.digest for event in book.events()] == [documented(event) for event in book.events()]


@given(histories())
def test_the_chain_links_each_digest_to_the_one_before(made: list[Event]) -> None:
    """A run's chain is the SHA-256 of its previous chain and the digest, in order of acceptance."""
    with Ledger(":memory:") as book:
        book.append(made)
        chains: dict[str, str] = {}
        for event in book.events():
            before = chains.get(event.run_id, "")
            chains[event.run_id] = hashlib.sha256((before + event.digest).encode()).hexdigest()
            assert event.chain == chains[event.run_id]


@given(events())
def test_an_event_that_was_read_back_has_the_same_digest(event: Event) -> None:
    """Parsed from what a ledger stored, an event is the same fact."""
    with Ledger(":memory:") as book:
        recorded = book.append(event)

    assert Fact.of(recorded.event, redacting=True).digest() == recorded.digest


@given(events())
def test_the_digest_leaves_out_what_the_ledger_adds(event: Event) -> None:
    """Two ledgers give one event different positions, versions and times, and the same digest."""
    with Ledger(":memory:") as one, Ledger(":memory:") as other:
        other.append([started(0, run=event.run_id), started(0, run="another")])

        assert one.append(event).digest == other.append(event).digest


CHANGES: dict[str, dict[str, Any]] = {
    "event_id": {"event_id": "00000000-0000-0000-0000-0000000000ff"},
    "run_id": {"run_id": "another"},
    "type": {"type": "failed"},
    "schema_version": {"schema_version": 2},
    "occurred_at": {"occurred_at": datetime(2024, 5, 1, 12, 0, 0, 1, tzinfo=UTC)},
    "source": {"source": {"host": "elsewhere"}},
    "payload": {"payload": {"exit_code": 1}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_digest_covers_everything_that_was_said(change: dict[str, Any]) -> None:
    """Another id, run, type, version, time, source or payload is another digest."""
    said: dict[str, Any] = {
        "event_id": "00000000-0000-0000-0000-000000000001",
        "run_id": "r",
        "type": "completed",
        "occurred_at": datetime(2024, 5, 1, 12, tzinfo=UTC),
        "source": {"host": "h"},
        "payload": {"exit_code": 0},
    }

    digests = {Fact.of(parse_event(record), redacting=True).digest() for record in (said, {**said, **change})}
    assert len(digests) == 2


def test_a_known_digest_stays() -> None:
    """One event's digest, written down: a change of it would part this ledger from all that were written before."""
    event = launched(0, number=1, source={"host": "h", "pid": 1}, config={"lr": 1e-4, "n": float("nan"), "ü": "\ud800"})

    fact = Fact.of(event, redacting=True)
    assert fact.payload == '{"config":{"lr":0.0001,"n":"NaN","\\u00fc":"\\ud800"}}'
    assert (
        fact.digest()
        == hashlib.sha256(
            b'{"event_id":"00000000-0000-0000-0000-000000000001","occurred_at":"2024-05-01T12:00:00.000000Z",'
            b'"payload":{"config":{"lr":0.0001,"n":"NaN","\\u00fc":"\\ud800"}},"run_id":"r","schema_version":1,'
            b'"source":{"host":"h","pid":1},"type":"launched"}'
        ).hexdigest()
    )


def test_the_source_is_that_of_this_process() -> None:
    """Who says so is made where the event is made: host, pid, user, program and version."""
    fact = Fact.of(started(0), redacting=True)

    assert json.loads(fact.source) == origin.source()
    assert set(json.loads(fact.source)) == {"host", "pid", "user", "program", "version"}


def test_an_unknown_event_keeps_its_payload() -> None:
    """What cannot be understood is stored as it was said, but for what JSON cannot say."""
    with Ledger(":memory:") as book:
        recorded = book.append(unknown(0, type="moon_landed", payload={"api_key": "k", "nan": float("nan")}))

    assert json.loads(recorded.payload) == {"api_key": "k", "nan": "NaN"}


@given(events(), events())
def test_a_derived_fact_is_named_by_all_that_it_says(event: Event, other: Event) -> None:
    """Said again it has the same id, and whoever says something else has another: UUIDs of the kind made by content."""
    fact, again, another = (
        Fact.derived(said.model_copy(update={"event_id": NO_ID}), redacting=True) for said in (event, event, other)
    )
    alike = Fact.of(event.model_copy(update={"event_id": other.event_id}), redacting=True)

    assert UUID(fact.event_id).version == 8
    assert UUID(fact.event_id).variant == RFC_4122
    assert again.event_id == fact.event_id
    assert (another.event_id == fact.event_id) == (Fact.of(other, redacting=True).digest() == alike.digest())
