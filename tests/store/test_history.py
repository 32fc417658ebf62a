"""A run's history is a function of its events, wherever they lie and in whatever order they came."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import ledger
from ledger import Ledger
from ledger.errors import InvalidValue, LedgerClosed, NoLedger, RunNotFound, UnknownColumn
from ledger.events import Event
from ledger.store import history
from tests.builders import launched, metrics_logged, moment, started, unknown
from tests.places import Ledgers, in_a_file, on_both, tried

pytestmark = on_both

Columns = dict[str, list[Any]]


def logged(seconds: float, steps: list[int], run: str = "r", **columns: list[Any]) -> Event:
    return metrics_logged(seconds, run=run, columns={"step": steps, **columns})


def test_a_history_is_columns(book: Ledger) -> None:
    """The batches of a run follow one another; other runs and other events have no part in it."""
    book.append([launched(), started(1), logged(2, [1, 2], loss=[0.5, 0.25]), logged(2, [1], "s", loss=[9.0])])
    book.append(logged(3, [3, 4], loss=[0.125, math.nan], acc=[1, None]))
    made = book.get_history("r")

    assert made.pop("loss")[:3] == [0.5, 0.25, 0.125]
    assert made == {"step": [1, 2, 3, 4], "acc": [None, None, 1, None]}
    assert math.isnan(book.get_history("r", "loss")["loss"][3])
    assert book.get_history("r", ["acc"]) == {"step": [3], "acc": [1]}
    assert book.get_history("s") == {"step": [1], "loss": [9.0]}


def test_what_comes_late_stands_where_it_happened(book: Ledger) -> None:
    """The order is that of the events' moments, and what a resumed run logged again stays."""
    book.append([launched(), logged(30, [2, 3], loss=[2, 3])])
    book.append([logged(20, [1, 2], loss=[1, 1]), logged(10, [0], loss=[0])])

    assert book.get_history("r") == {"step": [0, 1, 2, 2, 3], "loss": [0, 1, 1, 2, 3]}


def test_many_pages_are_one_history(book: Ledger) -> None:
    """More events than are read at a time, accepted in any order, come in theirs."""
    count = 2 * history._PAGE + 1
    events = [logged(step, [step], loss=[step / 4]) for step in range(count)]
    random.Random(5).shuffle(events)
    book.append([launched(), *events])

    assert book.get_history("r") == {"step": list(range(count)), "loss": [step / 4 for step in range(count)]}


def test_a_sample_is_bounded(book: Ledger) -> None:
    """With max_points there are so many rows, and the extremes are among them; too few are refused."""
    losses = [float(step % 97) for step in range(1000)]
    book.append([launched(), logged(1, list(range(1000)), loss=losses)])
    made = book.get_history("r", max_points=50)

    assert {name: len(values) for name, values in made.items()} == {"step": 50, "loss": 50}
    assert (min(made["loss"]), max(made["loss"]), made["step"][0], made["step"][-1]) == (0, 96, 0, 999)
    assert made == book.get_history("r", max_points=50)
    assert book.get_history("r", max_points=1000) == book.get_history("r")
    with pytest.raises(InvalidValue, match="at least 3 are needed"):
        book.get_history("r", max_points=2)


def test_a_run_that_logged_nothing_has_empty_columns(book: Ledger) -> None:
    """It is known, so that is no error, whatever is asked for."""
    book.append(launched())

    assert book.get_history("r") == {"step": []}
    assert book.get_history("r", ["loss"], max_points=0) == {"step": [], "loss": []}


@pytest.mark.parametrize("run", ["s", "", "r\x00", "\ud800"])
def test_an_unknown_run_is_refused(book: Ledger, run: str) -> None:
    """As everywhere, a run that nobody told of is an error."""
    book.append([launched(), logged(1, [1], loss=[1])])

    with pytest.raises(RunNotFound):
        book.get_history(run)
    with pytest.raises(RunNotFound):
        book.as_of().get_history(run)


@pytest.mark.parametrize(
    "wrong",
    [{"names": []}, {"names": [5]}, {"names": 5}, {"max_points": -1}, {"max_points": 2.5}, {"max_points": True}],
)
def test_what_cannot_be_meant_is_refused(book: Ledger, wrong: dict[str, Any]) -> None:
    """Names are texts and max_points is a count."""
    book.append([launched(), logged(1, [1], loss=[1])])

    with pytest.raises(InvalidValue):
        book.get_history("r", **wrong)


def test_a_name_is_offered(book: Ledger) -> None:
    """A metric that the run never logged is refused with the nearest that it did."""
    book.append([launched(), logged(1, [1], **{"train/loss": [1]})])

    with pytest.raises(UnknownColumn, match="Did you mean 'train/loss'"):
        book.get_history("r", "train/los")


def test_voided_runs_are_answered(book: Ledger) -> None:
    """A run that was voided keeps its history."""
    book.append([launched(), logged(1, [1], loss=[1])])
    book.void("r", reason="a test")

    assert book.get_history("r") == {"step": [1], "loss": [1]}


def test_what_is_not_understood_is_left_out(book: Ledger) -> None:
    """A batch of a newer version is kept and shows once the code can read it; the others show now."""
    newer = unknown(2, type="metrics_logged", schema_version=99, payload={"columns": {"step": [9], "loss": [9]}})
    book.append([launched(), logged(1, [1], loss=[1]), newer])

    assert book.get_history("r") == {"step": [1], "loss": [1]}


def test_the_past_has_what_had_happened(book: Ledger) -> None:
    """A view gives the history as of then, by moment and by position, whatever is appended meanwhile."""
    book.append([launched(), logged(10, [1], loss=[1])])
    seen = book.as_of()
    book.append([logged(5, [0], loss=[0]), logged(20, [2], loss=[2])])

    assert seen.get_history("r") == {"step": [1], "loss": [1]}
    assert book.as_of(moment(10)).get_history("r")["step"] == [0, 1]
    assert book.as_of(known=3).get_history("r")["step"] == [0, 1]
    assert book.as_of(moment(5), known=2).get_history("r") == {"step": []}
    with pytest.raises(RunNotFound, match="by then"):
        book.as_of(moment(-1)).get_history("r")
    seen.close()
    with pytest.raises(LedgerClosed):
        seen.get_history("r")


def test_a_tracked_run_has_its_history(book: Ledger) -> None:
    """What a training process logs comes back as it was said."""
    with book.track("r", config={}) as run:
        for step in range(2500):
            run.log({"loss": 1 / (step + 1)}, step=step)

    assert book.get_history("r") == {"step": list(range(2500)), "loss": [1 / (step + 1) for step in range(2500)]}


def test_merges_and_replays_change_nothing(book: Ledger, tmp_path: Path) -> None:
    """The history of a merged ledger is that of all events, and a replay leaves it as it is."""
    with Ledger(tmp_path / "other.db") as other:
        other.append([logged(5, [1, 2], loss=[1, 2]), logged(15, [4], loss=[4])])
    book.append([launched(), logged(10, [3], loss=[3])])
    book.merge(tmp_path / "other.db")
    made = book.get_history("r")
    book.replay()

    assert made == book.get_history("r") == {"step": [1, 2, 3, 4], "loss": [1, 2, 3, 4]}


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5), st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=4), st.sampled_from("ab")
    ),
    max_size=8,
)


@tried(EVENTS, st.randoms(use_true_random=False), st.integers(0, 8), usual=40)
def test_the_order_of_arrival_does_not_matter(ledgers: Ledgers, told: Any, chance: random.Random, cut: int) -> None:
    """Any order, any division into batches and any duplication of the same events give the same history."""
    events = [
        metrics_logged(seconds, number=number + 1, columns={"step": list(range(len(values))), name: values})
        for number, (seconds, values, name) in enumerate(told)
    ]
    mixed = [*events, *chance.sample(events, len(events) // 2)]
    chance.shuffle(mixed)
    answers: list[Columns] = []
    for batches in ([[launched(), *events]], [[launched()], mixed[:cut], mixed[cut:]]):
        with ledgers() as book:
            for batch in filter(None, batches):
                book.append(batch)
            answers.append(book.get_history("r"))
            answers.append(book.as_of().get_history("r"))

    assert all(answer == answers[0] for answer in answers)


@in_a_file
def test_without_a_ledger_there_is_no_history(path: Path) -> None:
    """Where there is no ledger, the error says how to make one."""
    with Ledger(path) as book, pytest.raises(NoLedger):
        book.get_history("r")


@in_a_file
def test_the_documented_function_asks_the_default_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ledger.get_history` answers for the ledger that the environment names."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    with Ledger(path) as book:
        book.append([launched(), logged(1, [1], loss=[1])])

    assert ledger.get_history("r") == {"step": [1], "loss": [1]}
