"""What only a stranger, a tampered ledger or a mistake of ours leads to."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from math import inf

import pytest

from ledger.errors import InvalidFact, InvalidValue, UnknownOrder
from ledger.events import (
    Amended,
    Annotated,
    Completed,
    Fact,
    Heartbeat,
    Imported,
    Launched,
    Recorded,
    Started,
    UnknownEvent,
    WandbAttached,
)
from ledger.events.fact import loaded, loaded_all
from ledger.events.plain import plain
from ledger.projections.filters import FILTERS_MAX, parse_filters, parse_order
from ledger.projections.fold import evolve, evolve_late, fold, fold_facts, slips_in
from ledger.projections.life import FOLDED, Life
from ledger.projections.timeline import entries

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def fact(event: object) -> Fact:
    return Fact.of(event, redacting=True)


def recorded(**changes: object) -> Recorded:
    """An event as a ledger recorded it, with some of it changed."""
    said = fact(Started(run_id="r1", occurred_at=NOON))
    stored = Recorded(
        1, said.event_id, "r1", 1, said.type, 1, NOON, NOON, said.source, said.payload, said.digest(), "0" * 64
    )
    return dataclasses.replace(stored, **changes)


def test_nothing_is_said_to_occur_on_the_last_day_of_the_calendar() -> None:
    """So there is always a moment behind the newest event of a run."""
    with pytest.raises(InvalidFact, match="before 9999-12-31"):
        fact(Started(run_id="r1", occurred_at="9999-12-31"))


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": '{"started_at":"2026-01-01T00:00:00.000000Z"}'},
        {"digest": "0" * 64},
        {"payload": '{"x":NaN}'},
        {"payload": "[]"},
        {"source": "nobody"},
        {"run_id": ""},
        {"schema_version": True},
        {"payload": b"{}"},
        {"source": '{"host":Infinity}'},
        {"payload": '{"x":"\ud800"}'},
    ],
)
def test_a_recorded_event_has_to_be_what_its_digest_says(changes: dict[str, object]) -> None:
    """An event that was changed on its way from another ledger is refused."""
    with pytest.raises(InvalidFact):
        fact(recorded(**changes))


def test_a_recorded_event_is_taken_over_verbatim() -> None:
    """What another ledger recorded keeps its texts and with them its digest."""
    stored = recorded()
    assert fact(stored).digest() == stored.digest


@pytest.mark.parametrize("payload", ["not json", "[]", "[" * 5000])
def test_a_payload_that_somebody_made_unreadable_is_not_understood(payload: str) -> None:
    """Timelines and verify get past it, and nothing is folded of it."""
    assert recorded(payload=payload).fact().understood is None


def test_a_time_that_somebody_made_unreadable_folds() -> None:
    """verify has to get as far as saying so."""
    facts = [fact(event(run_id="r1")) for event in (Started, Completed)]
    facts[0].occurred_at = "2026 garbage"
    life = fold_facts(facts)

    assert life is not None
    assert (life.row["status"], life.row["duration_seconds"]) == ("completed", 0)


def test_a_late_sign_of_life_behind_a_launch_leaves_its_birth() -> None:
    """What the launch settled stays settled."""
    launch = fact(Launched(run_id="r1", occurred_at=NOON))
    beats = [fact(Heartbeat(run_id="r1", occurred_at=NOON.replace(minute=n), metrics={"n": n})) for n in (1, 2)]
    life = evolve(evolve(None, launch), beats[1])
    evolve_late(life, beats[0])
    life.sealed()

    again = fold_facts([launch, *beats])
    assert again == life


def test_what_was_stated_amended_and_claimed_survives_being_stored() -> None:
    """A fold that was stored and restored goes on as if it had not been."""
    life = fold_facts(
        [
            fact(Launched(run_id="r1", hyperparameters={"batch_size": 8})),
            fact(WandbAttached(run_id="r1", wandb_run_id="w1")),
            fact(Heartbeat(run_id="r1", metrics={"loss": 1}, duration_seconds=3)),
            fact(Amended(run_id="r1", reason="r", columns={"host": None})),
        ]
    )
    assert life is not None
    assert Life.restored({name: life.row[name] for name in FOLDED}, life.beside()) == life


def test_a_strangers_mapping_may_not_be_too_deep_either() -> None:
    """Depth is refused behind any kind of container."""

    class Box(dict[str, object]):
        pass

    value: object = 1
    for _ in range(101):
        value = Box(inside=value)
    with pytest.raises(InvalidFact, match="deeper"):
        plain(value)


def test_there_are_bounds_to_a_question() -> None:
    """Too many filters, and numbers that are none, are refused before any SQL is made."""
    with pytest.raises(InvalidValue, match="at most"):
        parse_filters({f"config.x{n}": 1 for n in range(FILTERS_MAX + 1)}, NOON)
    with pytest.raises(InvalidValue, match="at most"):
        parse_filters({"batch_size": list(range(6000)), "exit_code": list(range(6000))}, NOON)
    for value in ("much", float("nan"), True, None):
        with pytest.raises(InvalidValue):
            parse_filters({"min_batch_size": value}, NOON)
    with pytest.raises(UnknownOrder):
        parse_order(" ")


def test_a_number_beyond_64_bits_still_compares() -> None:
    """A driver takes no such integer; as a float it is still larger than all that are there."""
    bounds = {"max_batch_size": 10**40, "min_batch_size": -(10**400), "not_batch_size": 10**400}
    assert [condition.values for condition in parse_filters(bounds, NOON)] == [(1e40,), (-inf,), (inf,)]


def test_a_truth_value_in_the_json_is_asked_for_as_one() -> None:
    """True is no number there."""
    (condition,) = parse_filters({"config.training.bf16": True}, NOON)
    assert condition.values == (True,)


def test_an_event_that_is_not_understood_is_no_step_of_a_fold() -> None:
    """Whoever folds by hand learns it at once."""
    with pytest.raises(ValueError, match="left out"):
        evolve(None, fact(UnknownEvent(run_id="r1", type="moon_landed")))


def test_a_late_sign_of_life_before_any_launch_moves_the_birth() -> None:
    """Until a launch has arrived, created_at is the smallest occurred_at, in whatever order they come."""
    beats = [fact(Heartbeat(run_id="r1", occurred_at=NOON.replace(minute=n))) for n in (1, 2)]
    life = evolve(None, beats[1])
    assert slips_in(life, beats[0])
    evolve_late(life, beats[0])

    again = fold_facts(beats)
    assert again is not None
    assert life.row == again.row


def test_what_an_import_knew_survives_being_stored() -> None:
    """A fold that was stored and restored goes on as if it had not been."""
    life = fold_facts([fact(Imported(run_id="r1", system="old", row={"batch_size": 7, "final_loss": 0.1}))])
    assert life is not None
    again = Life.restored({name: life.row[name] for name in FOLDED}, life.beside())
    assert again == life
    assert again.imported == {"batch_size": 7}


def test_a_strangers_amendment_changes_no_column_that_it_does_not_fit() -> None:
    """What does not fit, a column that does not exist, and a negative time are passed over."""
    columns = {"bananas": 3, "started_at": "soon", "duration_seconds": -5, "status": None, "host": "ec2"}
    run = fold([Launched(run_id="r1"), Amended(run_id="r1", reason="r", columns=columns)])

    assert run is not None
    assert (run.started_at, run.duration_seconds, run.status, run.host) == (None, None, "launched", "ec2")


def test_a_line_of_a_timeline_has_the_attributes_it_has() -> None:
    """Entries are read as dicts and by attribute, and a wrong name is an AttributeError."""
    (line,) = entries([fact(Started(run_id="r1"))])
    assert line.type == line["type"] == "started"
    with pytest.raises(AttributeError):
        line.types  # noqa: B018


def test_stored_texts_that_are_no_objects_are_read_as_what_nobody_understands() -> None:
    """One by one and many at once alike; a lone surrogate, which only one of the parsers takes, is no damage."""
    texts = ['{"a": 1}', '{"a": "\\ud800"}', "[1]", "7", "{", '{"a": NaN}', ""]
    for some in (texts, texts[:1], texts[2:4]):
        assert loaded_all(some) == [loaded(text) for text in some]
    assert loaded_all(texts[:3]) == [{"a": 1}, {"a": "\ud800"}, {"unreadable": "[1]"}]


def test_a_number_beyond_what_a_float_holds_is_null_in_the_row() -> None:
    """It is valid JSON, so an event that comes from elsewhere may say it; the event keeps it as it is written."""
    made = fact(Launched(run_id="r1", config={"a": 1, "lr": 2}))
    stored = dataclasses.replace(made, payload='{"config":{"a":1e400,"lr":-1e999,"b":"NaN"}}')
    life = fold_facts([dataclasses.replace(stored, understood=loaded(stored.payload))])

    assert life is not None
    assert (life.row["config_json"], life.row["learning_rate"]) == ('{"a":null,"lr":null,"b":"NaN"}', None)


def test_metrics_are_null_where_they_are_beyond_a_float_and_not_where_only_their_sum_is() -> None:
    """Of numbers alone, each is judged by itself."""
    for metrics, shown in (
        ('{"a":1e308,"b":1.5e308}', '{"a":1e+308,"b":1.5e+308}'),
        ('{"a":1e400,"b":-1e400,"c":0.5}', '{"a":null,"b":null,"c":0.5}'),
        ("{}", "{}"),
    ):
        stored = dataclasses.replace(
            fact(Heartbeat(run_id="r1")), understood=loaded(f'{{"step":1,"metrics":{metrics}}}')
        )
        ended = dataclasses.replace(fact(Completed(run_id="r1")), understood=loaded(f'{{"final_metrics":{metrics}}}'))
        for facts in ([ended], [stored, ended]):
            life = fold_facts(facts)
            assert life is not None
            assert life.row["final_metrics_json"] == shown


def test_what_is_nested_deeper_than_any_event_is_null_in_the_row() -> None:
    """Only somebody behind the ledger's back can have put it there; the fold gets as far as showing the rest."""
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"k": deep}
    stored = dataclasses.replace(fact(Heartbeat(run_id="r1")), understood={"metrics": {"loss": 0.5, "deep": deep}})
    life = fold_facts([stored])

    assert life is not None
    text = str(life.row["final_metrics_json"])
    assert (text.count("{"), text.count("null"), text.startswith('{"loss":0.5,')) == (100, 1, True)


@pytest.mark.parametrize("duration", [10**30, -(10**30)])
def test_a_duration_that_no_column_holds_is_not_shown(duration: int) -> None:
    """Neither far above nor far below what 64 bits hold."""
    life = fold_facts([dataclasses.replace(fact(Heartbeat(run_id="r1")), understood={"duration_seconds": duration})])

    assert life is not None
    assert life.row["duration_seconds"] is None


def test_tags_gather_onto_an_amendment_that_holds_no_texts() -> None:
    """An append may bring any list; what is no text leaves the column with the next tag, and stays in the event."""
    amended = Amended(run_id="r1", reason="odd", columns={"tags_json": [{"k": None}, "a", ["b"]]})
    life = fold_facts([fact(amended), fact(Annotated(run_id="r1", tags=("a", "c")))])

    assert life is not None
    assert life.row["tags_json"] == '["a","c"]'
