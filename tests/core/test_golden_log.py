"""The golden log: one recorded event of every type, which every later version must read, prove and fold alike.

A line is never changed. A new type, or a new schema_version of an old one, gets a line of its own: append the
event to a scratch ledger, and write down the columns that `events()` yields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.events import EVENT_TYPES, Fact, Recorded, UnknownEvent
from ledger.events.fact import chained
from tests.builders import shown, told

GOLDEN = Path(__file__).parents[1] / "golden"


def recorded(line: str) -> Recorded:
    stored: dict[str, Any] = json.loads(line)
    moments = {name: datetime.fromisoformat(stored[name]) for name in ("occurred_at", "recorded_at")}
    return Recorded(**{**stored, **moments})


LINES = (GOLDEN / "log.jsonl").read_text(encoding="utf-8").splitlines()
LOG = [recorded(line) for line in LINES]


def named(events: Iterable[Recorded]) -> list[str]:
    return [f"{event.position}-{event.type}-{event.schema_version}" for event in events]


@pytest.mark.parametrize("event", LOG, ids=named(LOG))
def test_a_golden_event_is_understood(event: Recorded) -> None:
    """What was recorded once is an event of its kind, and says today what it said then."""
    assert type(event.event) is EVENT_TYPES[event.type]
    assert not isinstance(event.event, UnknownEvent)
    assert event.event.said() == json.loads(event.payload)


@pytest.mark.parametrize("event", LOG, ids=named(LOG))
def test_a_golden_event_keeps_its_digest(event: Recorded) -> None:
    """Its digest is that of its stored texts, and of the event when it is written anew."""
    assert event.fact().digest() == event.digest == Fact.of(event.event, redacting=True).digest()


def test_the_golden_chain_holds() -> None:
    """Each link is made of the one before, of its run, and the digest."""
    chains: dict[str, str] = {}
    for event in LOG:
        chains[event.run_id] = chained(chains.get(event.run_id, ""), event.digest)
        assert event.chain == chains[event.run_id]


def test_the_golden_log_folds_for_ever() -> None:
    """The row that these events give is written down beside them."""
    row: dict[str, Any] = json.loads((GOLDEN / "row.json").read_text(encoding="utf-8"))

    folded = told(LOG)["golden-1"]
    assert {name: folded[name] for name in row} == row


def test_a_ledger_takes_the_golden_log_in() -> None:
    """Merged into a ledger of today, the events are accepted verbatim and the row follows."""
    with Ledger(":memory:") as book:
        taken = book.append(LOG)

        assert [(event.source, event.payload, event.digest, event.chain) for event in taken] == [
            (event.source, event.payload, event.digest, event.chain) for event in LOG
        ]
        assert shown(book) == told(LOG)
        assert book.verify()


def test_every_type_has_a_golden_event() -> None:
    """A new type of event needs a line here, or nobody notices when it can no longer be read."""
    assert {(event.type, event.schema_version) for event in LOG} >= {
        (name, kind.model_fields["schema_version"].default) for name, kind in EVENT_TYPES.items()
    }


def test_no_golden_line_was_changed() -> None:
    """Lines are only ever added behind these."""
    first = "\n".join(LINES[:20]).encode()

    assert hashlib.sha256(first).hexdigest() == "7ed37df22619eade792c8a49cf3980b5279fbf99a6abaf707ca73b70c209cb19"
