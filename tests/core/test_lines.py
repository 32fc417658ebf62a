"""A line carries an event verbatim, and what is not what its digest says is no event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidFact
from ledger.events import Event, Fact
from ledger.events.lines import line_of, parse_line
from tests.builders import launched, unknown
from tests.strategies import events, mappings, strangers


def line(event: Event) -> str:
    fact = Fact.of(event, redacting=True)
    return line_of(fact, fact.digest())


A_LINE = line(launched(0, number=1, config={"lr": 1e-4}))


def changed(**said: Any) -> str:
    """Return the line of a launch with something else in it; None leaves a key out."""
    made = {**json.loads(A_LINE), **said}
    return json.dumps({name: value for name, value in made.items() if value is not None})


@given(events())
def test_a_line_is_read_as_it_was_written(event: Event) -> None:
    """One line, in ASCII; and the same fact comes out of it, understood or not."""
    fact = Fact.of(event, redacting=True)
    text = line_of(fact, fact.digest())

    assert text.isascii()
    assert "\n" not in text
    assert parse_line(text) == fact


def test_the_keys_are_in_the_documented_order() -> None:
    """What its maker said and the digest; and around them, in an export, what is local to its ledger."""
    fact = Fact.of(launched(0), redacting=True)
    exported = line_of(fact, "d", chain="c", recorded_at="t", version=2, position=1)

    assert list(json.loads(line_of(fact, "d"))) == [
        "event_id", "run_id", "type", "schema_version", "occurred_at", "source", "payload", "digest",
    ]  # fmt: skip
    assert list(json.loads(exported)) == [
        "position", "event_id", "run_id", "version", "type", "schema_version", "occurred_at", "recorded_at",
        "source", "payload", "digest", "chain",
    ]  # fmt: skip


def test_source_and_payload_are_the_stored_texts() -> None:
    """They stand in the line unparsed, whatever spaces and numbers somebody wrote them with."""
    fact = Fact.of(unknown(0, type="moon_landed"), redacting=True)
    fact.payload, fact.source = '{ "x" : 1e2, "x\\u0041": "é" }', '{"host": "h",   "pid": 1.0}'
    read = parse_line(line_of(fact, fact.digest()))

    assert (read.payload, read.source, read.digest()) == (fact.payload, fact.source, fact.digest())


def test_what_is_local_or_unknown_is_passed_over() -> None:
    """A line of an export, and of a version to come, gives the same fact."""
    assert parse_line(changed(position=7, version="x", chain=[], recorded_at=None, later="!")) == parse_line(A_LINE)


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": "00000000-0000-0000-0000-000000000002"},
        {"run_id": "another"},
        {"type": "started"},
        {"schema_version": 2},
        {"occurred_at": "2024-05-01T12:00:00.000001Z"},
        {"source": '{"host":"elsewhere"}'},
        {"payload": '{"config":{}}'},
        {"digest": "0" * 64},
    ],
    ids=lambda changes: str(*changes),
)
def test_another_word_in_a_line_is_found(changes: dict[str, Any]) -> None:
    """Whatever of an event is changed, the line is refused, and says why."""
    with pytest.raises(InvalidFact, match="not what its digest says"):
        parse_line(changed(**changes))


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{", '"x"', "1", "NaN", "[" * 100_000, "9" * 5000, "\ufeff{}", A_LINE + "x", A_LINE[:-1],
        *(changed(**{name: None}) for name in json.loads(A_LINE)),
        *(changed(**{name: value}) for name in json.loads(A_LINE) for value in ([], {}, True, 1.0, "")),
        changed(schema_version=0), changed(schema_version=2**63), changed(event_id="x"), changed(run_id="a\x00b"),
        changed(run_id="\ud800"), changed(run_id=" "), changed(occurred_at="yesterday"), changed(occurred_at=1714564800),
        changed(occurred_at="0001-01-01T00:00:00+14:00"), changed(source="[]"), changed(source="{"),
        changed(payload="null"), changed(payload='{"config":NaN}'),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_line_that_is_not_well_formed_is_refused(text: str) -> None:
    """It is an InvalidFact that says why, and never anything else."""
    with pytest.raises(InvalidFact, match="a line that|not well formed|not what its digest says"):
        parse_line(text)


@given(mappings | strangers, st.sampled_from(sorted(json.loads(A_LINE))))
def test_no_stranger_in_a_line_breaks_the_reader(stranger: Any, name: str) -> None:
    """Whatever stands where a word is wanted, the answer is InvalidFact."""
    with pytest.raises(InvalidFact):
        parse_line(changed(**{name: {"": stranger}}))
    with pytest.raises(InvalidFact):
        parse_line(changed(**{name: json.dumps(stranger)}))


@pytest.mark.parametrize(
    ("payload", "source"), [("null", "{}"), ("[]", "{}"), ("{}", "null"), ("{}", "[1]"), ('{"a":NaN}', "{}")]
)
def test_a_true_digest_makes_no_event_of_what_is_none(payload: str, source: str) -> None:
    """Who makes the digest himself still has to say an object, in strict JSON."""
    fact = Fact.of(unknown(0, type="moon_landed"), redacting=True)
    fact.payload, fact.source = payload, source

    with pytest.raises(InvalidFact, match="not well formed"):
        parse_line(line_of(fact, fact.digest()))


def test_nobody_takes_the_calendars_last_day() -> None:
    """There is always a moment after the newest event of a run, whoever said it."""
    fact = Fact.of(unknown(0, type="moon_landed"), redacting=True)
    fact.occurred_at = "9999-12-31T00:00:00.000000Z"

    with pytest.raises(InvalidFact, match="9999-12-31"):
        parse_line(line_of(fact, fact.digest()))


def test_a_known_kind_has_to_be_what_it_is() -> None:
    """A payload that its kind cannot have is refused, as an append refuses it."""
    fact = Fact.of(launched(0), redacting=True)
    fact.payload = '{"config":[]}'

    with pytest.raises(InvalidFact):
        parse_line(line_of(fact, fact.digest()))
