"""What a run was to reach and what it reached: out of the config, the final metrics and what people state by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidFact
from ledger.events import Event, Fact, ObjectiveStated
from ledger.events.fact import loaded
from ledger.projections.details import DETAILS
from ledger.projections.fold import evolve, fold_facts
from ledger.projections.objectives import DOCUMENTED, VALUES, base_of, direction_in
from tests.builders import (
    Row,
    amended,
    completed,
    heartbeat,
    launched,
    metrics_logged,
    numbered,
    objective_stated,
    scaffolds_recorded,
    told,
)

NOTHING = dict.fromkeys(name for name in DOCUMENTED if name not in ("run_id", "objective_name"))


def rows_of(*events: Event) -> dict[str, Row]:
    """Return the objectives of the run "r" by name."""
    made: dict[str, Row] = told(events)["r"]["details"]["training_objectives"]
    return made


def said_of(row: Row) -> Row:
    """Return what a row says at all."""
    return {
        name: value for name, value in row.items() if value is not None and name not in ("run_id", "objective_base")
    }


def configured(listed: Any) -> list[Row]:
    """Return what a config's objectives say, in order of their names."""
    return [said_of(row) for _, row in sorted(rows_of(launched(config={"objectives": listed})).items())]


CONFIGS: dict[str, tuple[Any, list[Row]]] = {
    "objects": (
        [{"name": "COMT", "alias": "COMT_maximize", "weight": "2e0", "direction": "Max", "params": {"uniprot": "P21964"}}],
        [{"objective_name": "COMT", "objective_alias": "COMT_maximize", "weight": 2.0, "direction": "maximize", "uniprot": "P21964"}],
    ),
    "names": (["QED", "tox_minimize"], [{"objective_name": "QED"}, {"objective_name": "tox_minimize", "direction": "minimize"}]),
    "an object by name": (
        {"QED": {"weight": 1}, "tox": "whatever", "SA": {"name": "SAscore", "direction": "minimise"}},
        [{"objective_name": "QED", "weight": 1.0}, {"objective_name": "SAscore", "direction": "minimize"}, {"objective_name": "tox"}],
    ),
    "an alias alone": ([{"alias": "QED_maximize"}], [{"objective_name": "QED", "objective_alias": "QED_maximize", "direction": "maximize"}]),
    "uniprot beside the params": ([{"name": "a", "uniprot": "P1", "params": {}}], [{"objective_name": "a", "uniprot": "P1"}]),
    "an alias tells the direction before the name does": (
        [{"name": "a_maximize", "alias": "a_minimize"}],
        [{"objective_name": "a_maximize", "objective_alias": "a_minimize", "direction": "minimize"}],
    ),
    "a direction that is none": ([{"name": "a", "direction": "sideways"}, {"name": "b", "direction": 7}], [{"objective_name": "a"}, {"objective_name": "b"}]),
    "two of one name": (
        [{"name": "a", "alias": "a1"}, {"name": "a", "alias": "a2"}, {"name": "a", "weight": 9}],
        [{"objective_name": "a", "objective_alias": "a1"}, {"objective_name": "a2", "objective_alias": "a2"}],
    ),
    "two directions of one": (
        ["a_maximize", "a_minimize"],
        [{"objective_name": "a_maximize", "direction": "maximize"}, {"objective_name": "a_minimize", "direction": "minimize"}],
    ),
    "a stranger's": ([None, 7, "", " ", {}, {"name": ["a"]}, {"name": "a\x00"}, ["a"], {"name": "fits", "weight": True}], [{"objective_name": "fits"}]),
    "weights that are not finite": ([{"name": "a", "weight": float("nan")}, {"name": "b", "weight": "-Infinity"}], [{"objective_name": "a"}, {"objective_name": "b"}]),
    "no list": ("QED", []),
    "a number": (7, []),
    "none": (None, []),
}  # fmt: skip


@pytest.mark.parametrize(("listed", "wanted"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_lists_objectives(listed: Any, wanted: list[Row]) -> None:
    """As objects, as names or by name; what is no objective is left out, and what does not fit is NULL."""
    assert configured(listed) == wanted


def test_a_row_has_every_documented_column() -> None:
    """What nobody says is None; what an objective is looked up by is its name without its end."""
    rows = rows_of(launched(config={"objectives": ["tox_minimize"]}))
    assert rows == {
        "tox_minimize": {
            **NOTHING, "run_id": "r", "objective_name": "tox_minimize", "direction": "minimize", "objective_base": "tox"
        }
    }  # fmt: skip


MEASURED: dict[str, tuple[Any, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "by its name": (["QED"], {"objectives/QED/raw_mean": 0.5}, {"QED": {"raw_mean": 0.5, "objective_alias": "QED"}}),
    "by its alias": (
        [{"name": "COMT", "alias": "catechol"}],
        {"objectives/catechol/raw_mean": 0.5},
        {"COMT": {"raw_mean": 0.5, "objective_alias": "catechol"}},
    ),
    "renamed with a direction": (
        ["QED"],
        {"objectives/QED_maximize/normalized_mean": 0.5},
        {"QED": {"normalized_mean": 0.5, "objective_alias": "QED_maximize", "direction": "maximize"}},
    ),
    "renamed without": (
        ["tox_minimize"],
        {"objectives/tox/raw_std": 0.5},
        {"tox_minimize": {"raw_std": 0.5, "objective_alias": "tox", "direction": "minimize"}},
    ),
    "two directions of one": (
        ["a_maximize", "a_minimize"],
        {"objectives/a_minimize/raw_mean": 1, "objectives/a_maximize/raw_mean": 2},
        {"a_maximize": {"raw_mean": 2.0}, "a_minimize": {"raw_mean": 1.0}},
    ),
    "two directions that the config says": (
        [{"name": "a", "direction": "max"}, {"name": "a_", "alias": "a", "direction": "min"}],
        {"objectives/a/raw_mean": 1},
        {"a": {"raw_mean": 1.0, "direction": "maximize"}, "a_": {"raw_mean": None, "direction": "minimize"}},
    ),
    "by direction among those alike": (
        [{"name": "a_maximize", "alias": "x"}, {"name": "a_minimize", "alias": "y", "direction": "minimize"}],
        {"objectives/a/raw_mean": 1},
        {"a_maximize": {"raw_mean": 1.0}, "a_minimize": {"raw_mean": None}},
    ),
    "of which the config says nothing": (
        None,
        {"objectives/new_minimize/raw_mean": 0.25},
        {"new": {"raw_mean": 0.25, "objective_alias": "new_minimize", "direction": "minimize"}},
    ),
    "a name with slashes": (None, {"objectives/a/b/raw_mean": 1}, {"a/b": {"raw_mean": 1.0}}),
    "not finite": (["QED"], {"objectives/QED/raw_mean": float("nan"), "objectives/QED/raw_std": float("inf")}, {"QED": {"raw_mean": None, "raw_std": None}}),
    "no number": (["QED"], {"objectives/QED/raw_mean": {"a": 1}, "objectives/QED/raw_std": True}, {"QED": {"raw_mean": None, "raw_std": None}}),
    "missing": (["QED"], {"loss": 1}, {"QED": {"raw_mean": None, "objective_alias": None}}),
    "nothing that is measured": (None, {"objectives/QED": 1, "objectives/QED/rank": 2, "objectives/raw_mean": 3}, {}),
    "a name that cannot be stored": (None, {"objectives/a\x00/raw_mean": 1}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("listed", "metrics", "wanted"), MEASURED.values(), ids=MEASURED)
def test_final_metrics_say_what_was_reached(
    listed: Any, metrics: dict[str, Any], wanted: dict[str, dict[str, Any]]
) -> None:
    """`objectives/<name>/raw_mean` belongs to the objective of that name, with or without what its end says."""
    config = {} if listed is None else {"objectives": listed}
    rows = rows_of(launched(config=config), completed(9, final_metrics=metrics))

    assert rows.keys() == wanted.keys()
    assert {name: {field: rows[name][field] for field in said} for name, said in wanted.items()} == wanted


def test_metrics_of_a_running_run_count_too() -> None:
    """A heartbeat's metrics show in the row, and so in the objectives."""
    rows = rows_of(launched(config={"objectives": ["QED"]}), heartbeat(1, metrics={"objectives/QED/raw_mean": 0.1}))
    assert rows["QED"]["raw_mean"] == 0.1


def test_a_corrected_config_has_other_objectives() -> None:
    """What an amendment makes of the config, its objectives follow."""
    rows = rows_of(launched(config={"objectives": ["QED"]}), amended(5, config_json={"objectives": ["SA_minimize"]}))
    assert list(rows) == ["SA_minimize"]


def test_what_is_stated_by_hand_wins() -> None:
    """Over config and metrics, each field for itself, before them as well as after; the rest stays theirs."""
    config = {"objectives": [{"name": "QED", "weight": 1, "direction": "maximize", "uniprot": "P1"}]}
    metrics = {"objectives/QED/raw_mean": 0.5, "objectives/QED/raw_std": 0.1}
    for at in (-5, 5, 15):
        stated = objective_stated(at, objective_name="QED", weight=3, direction="minimize", raw_mean=0.75)
        assert said_of(rows_of(launched(config=config), completed(10, final_metrics=metrics), stated)["QED"]) == {
            "objective_name": "QED", "objective_alias": "QED", "uniprot": "P1", "weight": 3.0, "direction": "minimize",
            "raw_mean": 0.75, "raw_std": 0.1,
        }  # fmt: skip


def test_the_later_statement_counts_field_by_field() -> None:
    """What the later one leaves out stays as the earlier one said."""
    rows = rows_of(
        objective_stated(2, objective_name="QED", weight=2),
        objective_stated(1, objective_name="QED", weight=1, raw_std=9),
    )
    assert said_of(rows["QED"]) == {"objective_name": "QED", "weight": 2.0, "raw_std": 9.0}


def test_the_later_statement_counts_whatever_the_objective_is_called() -> None:
    """Of two names of one objective neither goes before the other: the later one said what counts."""
    first, second = ("tox", "tox_minimize"), ("tox_minimize", "tox")
    for earlier, later in (first, second):
        stated = objective_stated(1, objective_name=earlier, weight=1, raw_mean=1, raw_std=1, uniprot="P1")
        again = objective_stated(2, objective_name=later, weight=2, raw_mean=float("nan"), raw_std=2)
        (row,) = rows_of(stated, again).values()
        assert said_of(row) == {"objective_name": "tox", "uniprot": "P1", "weight": 2.0, "raw_std": 2.0}
        (row,) = rows_of(stated, again, objective_stated(3, objective_name=earlier, weight=3)).values()
        assert (row["weight"], row["raw_std"]) == (3.0, 2.0)


def test_a_value_stated_as_not_finite_is_none() -> None:
    """NaN by hand is NULL, and what the metrics say does not come back for it."""
    metrics = {"objectives/QED/raw_mean": 0.5}
    stated = objective_stated(1, objective_name="QED", raw_mean=float("nan"))
    assert rows_of(launched(), stated, completed(2, final_metrics=metrics))["QED"]["raw_mean"] is None


BY_HAND: dict[str, tuple[Any, dict[str, Any], str]] = {
    "the name": ([{"name": "COMT", "alias": "catechol"}], {"objective_name": "COMT"}, "COMT"),
    "the alias as a name": ([{"name": "COMT", "alias": "catechol"}], {"objective_name": "catechol"}, "COMT"),
    "the alias as an alias": (
        [{"name": "COMT", "alias": "catechol"}],
        {"objective_name": "other", "objective_alias": "catechol"},
        "COMT",
    ),
    "with its direction": (["tox"], {"objective_name": "tox_minimize"}, "tox"),
    "without": (["tox_minimize"], {"objective_name": "tox"}, "tox_minimize"),
    "one that is new": (["tox"], {"objective_name": "other"}, "other"),
}


@pytest.mark.parametrize(("listed", "said", "name"), BY_HAND.values(), ids=BY_HAND)
def test_a_statement_finds_the_objective_that_is_meant(listed: Any, said: dict[str, Any], name: str) -> None:
    """By name, by alias, and with or without a direction; else it is one more."""
    rows = rows_of(launched(config={"objectives": listed}), objective_stated(1, **said, raw_mean=1))
    assert {name: row["raw_mean"] for name, row in rows.items() if row["raw_mean"] is not None} == {name: 1.0}


@pytest.mark.parametrize("value", ["much", True, [1], {}], ids=repr)
def test_a_statement_of_no_number_is_refused(value: Any) -> None:
    """Where a number is wanted, nothing else is stored; text that spells one, and NaN, are numbers."""
    with pytest.raises(InvalidFact, match="a number is wanted"):
        ObjectiveStated(run_id="r", objective_name="QED", raw_mean=value)
    assert ObjectiveStated(run_id="r", objective_name="QED", raw_mean="0.5").raw_mean == 0.5  # type: ignore[arg-type]
    assert ObjectiveStated(run_id="r", objective_name="QED", raw_mean=float("nan")).raw_mean == "NaN"


@pytest.mark.parametrize(
    ("name", "base", "direction"),
    [("a", "a", None), ("a_minimize", "a", "minimize"), ("a_maximize", "a", "maximize"), ("_minimize", "_minimize", None),
     ("a_minimize_maximize", "a_minimize", "maximize"), ("a\n_minimize", "a\n", "minimize"), ("a_Minimize", "a_Minimize", None)],
)  # fmt: skip
def test_a_name_ends_in_its_direction(name: str, base: str, direction: str | None) -> None:
    """`_maximize` and `_minimize` behind something are a direction, once."""
    assert (base_of(name), direction_in(name)) == (base, direction)


SPELLINGS = ("{}", "{}_maximize", "{}_minimize")
numbers = st.floats(-9, 9) | st.sampled_from([float("nan"), float("inf"), 3])
declared = st.fixed_dictionaries(
    {"name": st.sampled_from(SPELLINGS)},
    optional={
        "weight": numbers,
        "direction": st.sampled_from(["maximize", "minimize"]),
        "alias": st.just("{}_maximize"),
    },
)
by_hand = st.fixed_dictionaries(
    {}, optional={"weight": numbers, "direction": st.sampled_from(["maximize", "minimize"]), **dict.fromkeys(VALUES, numbers)}
)  # fmt: skip
told_of = st.fixed_dictionaries(
    {
        "config": st.none() | declared,
        "spelled by hand": st.sampled_from(SPELLINGS),
        "by hand": st.lists(by_hand, max_size=3),
        "spelled in metrics": st.sampled_from(SPELLINGS),
        "metrics": st.dictionaries(st.sampled_from(VALUES), numbers, max_size=3),
    }
)


def _agrees(told: dict[str, Any]) -> bool:
    """Whether a person who names a direction does not mean the opposite of what the config has."""
    config, meant = told["config"] or {}, direction_in(told["spelled by hand"])
    ends = (direction_in(config.get(key, "")) for key in ("alias", "name"))
    return not told["by hand"] or meant in (None, config.get("direction") or next(filter(None, ends), meant))


@given(
    st.dictionaries(st.sampled_from(["tox", "QED", "é"]), told_of.filter(_agrees), max_size=3),
    st.randoms(use_true_random=False),
)
def test_the_rows_are_what_a_reader_of_the_events_would_write(told_each: dict[str, Any], random: Random) -> None:
    """Where each of config, people and metrics spells an objective one way: all of it by plain look-up."""
    listed = [{k: v.format(b) if k in ("name", "alias") else v for k, v in t["config"].items()}
              for b, t in told_each.items() if t["config"]]  # fmt: skip
    metrics = {f"objectives/{t['spelled in metrics'].format(b)}/{field}": value
               for b, t in told_each.items() for field, value in t["metrics"].items()}  # fmt: skip
    events = [launched(0, config={"objectives": listed}), completed(50, final_metrics=metrics)]
    for base, of in told_each.items():
        events += [
            objective_stated(
                random.randrange(-9, 99) + at / 10, objective_name=of["spelled by hand"].format(base), **said
            )
            for at, said in enumerate(of["by hand"])
        ]
    in_order = sorted(events, key=lambda event: (event.occurred_at, event.event_id))
    random.shuffle(events)

    rows = rows_of(*events)
    wanted = {base: _written(base, of, in_order) for base, of in told_each.items()}
    assert {row["objective_base"]: row for row in rows.values()} == {
        b: row for b, row in wanted.items() if row is not None
    }


def _written(base: str, of: dict[str, Any], in_order: list[Event]) -> Row | None:
    stated: dict[str, Any] = {}
    for event in in_order:
        if isinstance(event, ObjectiveStated) and event.objective_name == of["spelled by hand"].format(base):
            stated |= {name: getattr(event, name) for name in event.model_fields_set & {*NOTHING}}
    config = of["config"] or {}
    names = [config["name"].format(base)] if config else []
    names += [of["spelled by hand"].format(base)] if of["by hand"] else []
    names += [base] if of["metrics"] else []
    if not names:
        return None
    alias = config["alias"].format(base) if "alias" in config else None
    if alias is None and of["metrics"]:
        alias = of["spelled in metrics"].format(base)
    ends = [end for name in (alias, names[0]) if name for end in ("maximize", "minimize") if name.endswith(f"_{end}")]
    row = {**NOTHING, "run_id": "r", "objective_name": names[0], "objective_alias": alias, "objective_base": base}
    said = {**of["metrics"], **({"weight": config["weight"]} if "weight" in config else {})}
    for field in (*VALUES, "weight"):
        row[field] = _finite(stated[field]) if field in stated and field != "weight" else _finite(said.get(field))
    if _finite(stated.get("weight")) is not None:
        row["weight"] = _finite(stated["weight"])
    row["direction"] = stated.get("direction") or config.get("direction") or next(iter(ends), None)
    return row


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)


def test_equal_moments_go_by_event_id() -> None:
    """Of two statements at one moment the one with the larger id is the later."""
    first = objective_stated(1, number=1, objective_name="QED", weight=1)
    second = objective_stated(1, number=2, objective_name="QED", weight=2)
    assert (first.event_id, second.event_id) == (numbered(1), numbered(2))
    assert rows_of(first, second)["QED"]["weight"] == rows_of(second, first)["QED"]["weight"] == 2


def test_two_directions_of_one_name_are_two_objectives() -> None:
    """Metrics that go both ways are two objectives, with a config and without, and by hand too; nothing is overwritten."""
    both = {"objectives/DRD2_maximize/raw_mean": 0.9, "objectives/DRD2_minimize/raw_mean": 0.1}
    listed = {"objectives": [{"name": "DRD2", "alias": "DRD2_maximize"}]}
    for config in (listed, {}):
        rows = rows_of(launched(config=config), completed(2, final_metrics=both))
        assert {(name, row["direction"], row["raw_mean"]) for name, row in rows.items()} == {
            ("DRD2", "maximize", 0.9),
            ("DRD2_minimize", "minimize", 0.1),
        }
    rows = rows_of(launched(config=listed), objective_stated(1, objective_name="DRD2_minimize", raw_mean=3))
    assert {name: row["raw_mean"] for name, row in rows.items()} == {"DRD2": None, "DRD2_minimize": 3.0}


def test_an_objectives_own_name_goes_before_another_spelling() -> None:
    """Of two spellings in the metrics the exact one counts, and no spelling clears what another has said."""
    config = {"objectives": [{"name": "QED", "alias": "QED_maximize"}]}
    for metrics, value in (
        ({"objectives/QED/raw_mean": 0.1, "objectives/QED_x_maximize/raw_mean": 0.9}, 0.1),
        ({"objectives/QED_maximize/raw_mean": 0.9, "objectives/QED_maximize_minimize/raw_mean": 0.4}, 0.9),
        ({"objectives/QED_maximize/raw_mean": 0.9, "objectives/QED_minimize/raw_mean": None}, 0.9),
    ):
        rows = rows_of(launched(config=config), completed(2, final_metrics=metrics))
        assert rows["QED"]["raw_mean"] == value


@pytest.mark.parametrize("metrics", [["objectives/a/raw_mean"], {"objectives": 3}, {"objectives/a/raw_mean": [1]}])
def test_whatever_metrics_are_amended_to_folds(metrics: Any) -> None:
    """A list that reads like metrics is none."""
    assert all(row["raw_mean"] is None for row in rows_of(launched(), amended(1, final_metrics_json=metrics)).values())


def test_what_fits_no_column_is_not_carried_along() -> None:
    """A number beyond a float and text that no database takes are not said, wherever they come from."""
    payload = '{"objective_name":"a","weight":1e400,"uniprot":"\\ud800","raw_mean":1e400}'
    fact = Fact.of(objective_stated(objective_name="a"), redacting=True)
    life = evolve(None, replace(fact, payload=payload, understood=loaded(payload)))
    assert json.loads(life.sealed().beside())["objectives"] == [
        ["a", "weight", None],
        ["a", "raw_mean", None],
        ["a", "objective_name", "a"],
    ]


def test_a_key_that_no_index_holds_has_no_row() -> None:
    """So long a name stays in the event, on every database."""
    for length, there in ((1900, True), (2100, False)):
        name = "n" * length
        life = fold_facts(
            Fact.of(event, redacting=True)
            for event in (
                launched(config={"objectives": [name]}),
                metrics_logged(1, columns={name: [1.0]}),
                scaffolds_recorded(2, columns={"scaffold_id": [name]}),
            )
        )
        assert life is not None
        assert [name in detail.rows(life) for detail in DETAILS] == [there] * 3
