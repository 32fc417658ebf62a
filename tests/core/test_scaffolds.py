"""What came of scaffolds: of each field the latest that says it, and of each objective the latest score."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidFact
from ledger.events import Event, Fact, ScaffoldsRecorded
from ledger.projections.scaffolds import SCAFFOLD_COLUMNS, recorded, scaffold_row, with_earlier
from ledger.projections.timeline import summary
from tests.builders import Row, scaffolds_recorded, told

FIELDS = ("name", "smiles", "pareto_rank", "cluster")


def rows_of(*events: Event) -> dict[str, Row]:
    """Return the scaffolds of the run "r" by id, with their scores as data."""
    made: dict[str, Row] = told(events)["r"]["details"]["training_scaffolds"]
    return {
        key: {**row, "scores_json": row["scores_json"] and json.loads(row["scores_json"])} for key, row in made.items()
    }


def of_one(seconds: float, scores: dict[str, Any] | None = None, **fields: Any) -> Event:
    """Return a record of the scaffold "s"."""
    columns = {"scaffold_id": ["s"], **{name: [value] for name, value in fields.items()}}
    return scaffolds_recorded(
        seconds, columns=columns, scores={name: [score] for name, score in (scores or {}).items()}
    )


def test_columns_become_rows() -> None:
    """A row a scaffold; what is null says nothing, and a score that is not finite is null."""
    rows = rows_of(
        scaffolds_recorded(
            columns={"scaffold_id": ["s1", "s2"], "smiles": ["c1ccccc1", None], "pareto_rank": [1, "2"], "cluster": [0, None]},
            scores={"QED": [0.5, float("nan")], "tox": [None, "1e-1"]},
        )
    )  # fmt: skip
    assert rows == {
        "s1": {"run_id": "r", "scaffold_id": "s1", "name": None, "smiles": "c1ccccc1", "scores_json": {"QED": 0.5}, "pareto_rank": 1, "cluster": 0},
        "s2": {"run_id": "r", "scaffold_id": "s2", "name": None, "smiles": None, "scores_json": {"QED": None, "tox": 0.1}, "pareto_rank": 2, "cluster": None},
    }  # fmt: skip


def test_the_later_record_wins_field_by_field() -> None:
    """What it leaves out stays; scores go by their objective; and it does not matter which one came first."""
    events = [
        of_one(1, {"QED": 1, "tox": 2}, name="a", pareto_rank=3),
        of_one(2, {"QED": 9}, pareto_rank=1),
        of_one(0, cluster=7, name="z"),
    ]
    wanted = {"run_id": "r", "scaffold_id": "s", "name": "a", "smiles": None, "scores_json": {"QED": 9, "tox": 2}, "pareto_rank": 1, "cluster": 7}  # fmt: skip
    assert rows_of(*events) == rows_of(*reversed(events)) == {"s": wanted}


def test_a_scaffold_twice_in_one_record() -> None:
    """The one further down is the later."""
    row = rows_of(scaffolds_recorded(columns={"scaffold_id": ["s", "s"], "name": ["a", "b"], "cluster": [1, None]}))[
        "s"
    ]
    assert (row["name"], row["cluster"]) == ("b", 1)


def test_what_is_no_scaffold_is_left_out() -> None:
    """Ids that are no text, or none that a database takes; columns of which nobody knows; values that do not fit."""
    ids = ["ok", None, 7, "", " ", "a\x00", ["x"]]
    rows = rows_of(scaffolds_recorded(columns={"scaffold_id": ids, "pareto_rank": [1.5] * 7, "moon": [1] * 7}))
    assert list(rows) == ["ok"]
    assert rows["ok"]["pareto_rank"] is None


def test_scores_that_are_no_numbers_are_null() -> None:
    """A row says that there was a score, and that it is none to calculate with."""
    assert rows_of(of_one(0, {"a": "high", "b": True, "c": [1], "d": "7"}))["s"]["scores_json"] == {
        "a": None, "b": None, "c": None, "d": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "scores", "words"),
    [({}, {}, "scaffold_id"), ({"scaffold_id": ["s"], "name": []}, {}, "one length"),
     ({"scaffold_id": ["s"]}, {"QED": [1, 2]}, "one length"), ({"scaffold_id": "s"}, {}, "list")],
)  # fmt: skip
def test_columns_that_do_not_go_together_are_refused(columns: Any, scores: Any, words: str) -> None:
    """The event says what is wanted of it."""
    with pytest.raises(InvalidFact, match=words):
        ScaffoldsRecorded(run_id="r", columns=columns, scores=scores)


@pytest.mark.parametrize(
    "payload", [{}, {"columns": 7}, {"columns": {"scaffold_id": 7}}, {"columns": {}, "scores": []}]
)
def test_a_stranger_of_a_payload_says_nothing(payload: Any) -> None:
    """Recording is total: what has no scaffolds in it records none."""
    made: dict[str, dict[str, Any]] = {}
    recorded(made, payload)
    assert made == {}


def test_a_short_column_of_a_stranger_says_nothing_at_its_end() -> None:
    """What another program wrote without looking is taken as far as it goes."""
    made: dict[str, dict[str, Any]] = {}
    recorded(made, {"columns": {"scaffold_id": ["a", "b"], "name": ["A"]}, "scores": {"QED": [1]}})
    assert made == {"a": {"name": "A", "scores": {"QED": 1}}, "b": {}}


some = st.none() | st.integers(-3, 3) | st.sampled_from(["7", 1.5, 2.0, 2**70])


@pytest.mark.parametrize(
    ("columns", "scores", "wanted"),
    [({"scaffold_id": ["a", "b"], "name": [1, 2]}, {"QED": [1, 2]}, "2 scaffolds (name, scores of QED)"),
     ({"scaffold_id": ["a"]}, {}, "1 scaffold")],
)  # fmt: skip
def test_a_timeline_counts_them(columns: Any, scores: Any, wanted: str) -> None:
    """Thousands of ids would say less than how many there are, and what is said of them."""
    assert summary(Fact.of(scaffolds_recorded(columns=columns, scores=scores), redacting=False)) == wanted


@pytest.mark.parametrize("payload", [{}, {"columns": 7}, {"columns": {"scaffold_id": 7}, "scores": 7}])
def test_a_timeline_of_a_stranger(payload: Any) -> None:
    """Whatever its payload is, there is a line of it."""
    fact = Fact.of(scaffolds_recorded(columns={"scaffold_id": []}), redacting=False)
    assert summary(replace(fact, understood=payload)) == "0 scaffolds"


spoken = st.fixed_dictionaries(
    {"id": st.sampled_from(["s1", "s2"])},
    optional={
        "name": st.sampled_from([None, "a", "b"]),
        "smiles": st.sampled_from([None, "C", "N"]),
        "pareto_rank": some,
        "cluster": some,
        "QED": st.none() | st.integers(0, 3) | st.sampled_from([0.5, float("nan"), float("-inf")]),
        "tox": st.none() | st.floats(0, 1),
    },
)
records = st.lists(st.tuples(st.integers(0, 3), st.lists(spoken, max_size=3)), max_size=4)


def _recorded(seconds: int, listed: list[dict[str, Any]]) -> Event:
    columns = {"scaffold_id": [said["id"] for said in listed], **{n: [said.get(n) for said in listed] for n in FIELDS}}
    return scaffolds_recorded(seconds, columns=columns, scores={n: [s.get(n) for s in listed] for n in ("QED", "tox")})


def _whole(value: Any) -> int | None:
    return int(value) if value in (0, 1, 2, 3, -1, -2, -3, "7", 2.0) and value != 1.5 else None


def _written(made: list[tuple[Event, list[dict[str, Any]]]]) -> dict[str, Row]:
    """Write each row as whoever reads the events in their order would."""
    rows: dict[str, Row] = {}
    for _, listed in sorted(made, key=lambda pair: (pair[0].occurred_at, pair[0].event_id)):
        for said in listed:
            key = said["id"]
            row = rows.setdefault(
                key, {"run_id": "r", "scaffold_id": key, "scores_json": None, **dict.fromkeys(FIELDS)}
            )
            for name in FIELDS:
                value = said.get(name) if name in ("name", "smiles") else _whole(said.get(name))
                row[name] = row[name] if value is None else value
            for name in ("QED", "tox"):
                if (score := said.get(name)) is not None:
                    row["scores_json"] = {**(row["scores_json"] or {}), name: score if abs(score) < 99 else None}
    return rows


@given(records, st.randoms(use_true_random=False))
def test_the_rows_are_what_a_reader_of_the_events_would_write(said: list[Any], random: Random) -> None:
    """In whatever order they arrive: the rows of the events in canonical order, each field by plain look-up."""
    made = [(_recorded(seconds, listed), listed) for seconds, listed in said]
    events = [event for event, _ in made]
    random.shuffle(events)

    assert (rows_of(*events) if events else {}) == _written(made)


@given(records, st.integers(0, 4))
def test_what_is_stored_and_what_is_new_make_the_whole(said: list[Any], cut: int) -> None:
    """The rows of the earlier events, and what the later ones say, are the rows of all."""
    events = [_recorded(at, listed) for at, (_, listed) in enumerate(said)]
    whole: dict[str, dict[str, Any]] = {}
    parts: tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]] = ({}, {})
    for at, event in enumerate(events):
        payload = Fact.of(event, redacting=False).understood or {}
        recorded(whole, payload)
        recorded(parts[at >= cut], payload)
    stored = {key: scaffold_row("r", key, known) for key, known in parts[0].items()}
    joined = {key: with_earlier(known, stored[key]) if key in stored else known for key, known in parts[1].items()}

    rows = {**stored, **{key: scaffold_row("r", key, known) for key, known in joined.items()}}
    assert rows == {key: scaffold_row("r", key, known) for key, known in whole.items()}
    assert all(row.keys() == SCAFFOLD_COLUMNS.keys() for row in rows.values())
