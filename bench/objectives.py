"""Runs by what they reached: 20,000 runs with ten objectives each, beside hand-written sqlite3 on the same file.

The floor answers the same: the same rows, as dicts where the function gives dicts.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ledger import Ledger
from ledger.events import Completed, Event, Failed, Launched, MetricsLogged
from ledger.projections.metrics import STATISTICS
from ledger.projections.objectives import DOCUMENTED
from ledger.projections.run import COLUMNS

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OBJECTIVES = [f"objective_{n}" for n in range(10)]
MINIMIZED = {"objective_8", "objective_9"}
METHODS = ("mgda", "pcgrad", "aligned", "summed")
ROUNDS = 7
LOGGING_ONE_IN = 5  # runs that also log metrics

FIRST, SECOND, THIRD = OBJECTIVES[:3]
LOSS = "train/loss"


def alias(name: str) -> str:
    return f"{name}_{'minimize' if name in MINIMIZED else 'maximize'}"


def life(number: int, draw: random.Random) -> Iterator[Event]:
    """A launch with a config of one to two KB, at times metrics, and an end with forty final values."""
    run_id = f"run-{draw.getrandbits(32):08x}-{number}"
    objectives = [
        {"name": name, "alias": alias(name), "weight": draw.random(), "params": {"uniprot": f"P{n:05}"}}
        for n, name in enumerate(OBJECTIVES)
    ]
    config = {
        "training": {"batch_size": 2 ** draw.randint(4, 10), "learning_rate": 10 ** -draw.uniform(2, 5)},
        "reward": {"gradient_method": draw.choice(METHODS), "beta": draw.random()},
        "objectives": objectives,
    }
    begun = BEGIN + timedelta(minutes=number)
    said = {"run_id": run_id, "occurred_at": begun}
    yield Launched(**said, config=config, run_name=f"name-{number}", host=draw.choice(("ec2", "hpc")))
    if number % LOGGING_ONE_IN == 0:
        steps = list(range(20))
        names = (LOSS, "train/grad_norm", "reward/mean", "lr")
        columns = {"step": steps, **{name: [draw.random() for _ in steps] for name in names}}
        yield MetricsLogged(run_id=run_id, occurred_at=begun + timedelta(seconds=1), columns=columns)
    kinds = ("raw_mean", "normalized_mean", "raw_std", "normalized_std")
    final = {f"objectives/{alias(name)}/{kind}": draw.random() for name in OBJECTIVES for kind in kinds}
    kind = Completed if draw.random() < 0.9 else Failed
    yield kind(run_id=run_id, occurred_at=begun + timedelta(seconds=30), final_metrics=final)


def fill(book: Ledger, runs: int) -> list[str]:
    """Record so many runs, and return their ids."""
    draw, ids, some = random.Random(3), [], []
    for number in range(runs):
        some += life(number, draw)
        ids.append(some[-1].run_id)
        if len(some) >= 1000 or number == runs - 1:
            book.append(some)
            some = []
    return ids


class Question(NamedTuple):
    """One question: how the ledger is asked, and how one would ask by hand."""

    name: str
    ours: Callable[[Ledger], object]
    sql: str
    values: Sequence[object] = ()
    finish: Callable[[list[dict[str, Any]]], object] | None = None


ROWS = f"SELECT {', '.join(COLUMNS)} FROM training_runs r"
NEWEST = "ORDER BY created_at DESC, run_id LIMIT 100"
AMONG = "run_id IN (SELECT run_id FROM training_objectives WHERE objective_base = ? AND raw_mean >= ?)"
LOSSES = "run_id IN (SELECT run_id FROM training_metrics WHERE name = ? AND min <= ?)"


def at_least(limit: float, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
    return {name: {"min": limit} for name in names}


def within(name: str, limit: float, names: Sequence[str]) -> Question:
    """The newest runs that reached so much on these objectives."""
    asked = at_least(limit, names)
    where = " AND ".join(AMONG for _ in names)
    values = [value for name in names for value in (name, limit)]
    return Question(
        f"query_runs_by_objectives, {name}",
        lambda book: book.query_runs_by_objectives(asked),
        f"{ROWS} WHERE {where} {NEWEST}",
        values,
    )


def joined(names: Sequence[str]) -> str:
    """Runs with their values of several objectives."""
    listed = ", ".join(f"o{n}.raw_mean AS {name}" for n, name in enumerate(names))
    tables = " ".join(
        f"JOIN training_objectives o{n} ON o{n}.run_id = r.run_id AND o{n}.objective_name = '{name}'"
        for n, name in enumerate(names)
    )
    return f"SELECT r.run_id, r.run_name, {listed} FROM training_runs r {tables}"


def undominated(names: Sequence[str]) -> Callable[[list[dict[str, Any]]], object]:
    """What a person would write: the best first, and each compared with those that stand so far."""

    def found(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        best: list[tuple[float, ...]] = []
        made = []
        for row in sorted(rows, key=lambda row: [row[name] for name in names], reverse=True):
            point = tuple(row[name] for name in names)
            if not any(all(a >= b for a, b in zip(other, point, strict=True)) and other != point for other in best):
                best.append(point)
                made.append(row)
        return made

    return found


def questions(ids: Sequence[str]) -> Iterator[Question]:
    three = (FIRST, SECOND, THIRD)
    yield within("one, frequent", 0.5, [FIRST])
    yield within("one, rare", 0.999, [FIRST])
    yield within("three, frequent", 0.5, three)
    yield within("three, rare", 0.96, three)
    for name, limit in (("frequent", 0.5), ("rare", 0.999)):
        yield Question(
            f"query_runs_by_objectives, one, {name}, the best first",
            lambda book, limit=limit: book.query_runs_by_objectives(at_least(limit, [FIRST]), order_by=f"{FIRST} DESC"),
            f"SELECT {', '.join(f'r.{column}' for column in COLUMNS)} FROM training_objectives o"
            " JOIN training_runs r ON r.run_id = o.run_id WHERE o.objective_base = ? AND o.raw_mean >= ?"
            " ORDER BY o.raw_mean DESC, o.run_id LIMIT 100",
            (FIRST, limit),
        )
    totals = "count(raw_mean) AS count, avg(raw_mean) AS mean, min(raw_mean) AS min, max(raw_mean) AS max"
    reached = "FROM training_objectives o JOIN training_runs r ON r.run_id = o.run_id"
    of = "WHERE objective_base = ? AND raw_mean IS NOT NULL AND status = 'completed'"
    yield Question(
        "get_objective_statistics",
        lambda book: book.get_objective_statistics(FIRST),
        f"SELECT {totals}, avg(raw_std) AS avg_std {reached} {of}",
        (FIRST,),
    )
    yield Question(
        "compare_gradient_methods",
        lambda book: book.compare_gradient_methods(FIRST),
        "SELECT gradient_method, count(*) AS count, avg(raw_mean) AS avg, max(raw_mean) AS best"
        f" {reached} {of} GROUP BY gradient_method ORDER BY best DESC",
        (FIRST,),
    )
    for names in (three[:2], three):
        yield Question(
            f"pareto_front, {len(names)} objectives",
            lambda book, names=names: book.pareto_front(names),
            joined(names),
            finish=undominated(names),
        )
    least = f"(SELECT min(min) FROM training_metrics m WHERE m.run_id = r.run_id AND m.name = '{LOSS}')"
    yield Question(
        f"query_runs, ordered by metrics.{LOSS}:min",
        lambda book: book.query_runs(order_by=f"metrics.{LOSS}:min"),
        f"{ROWS} ORDER BY {least} ASC NULLS LAST, run_id LIMIT 100",
    )
    for name, limit in (("frequent", 0.05), ("rare", 0.0005)):
        yield Question(
            f"query_runs, metrics.{LOSS}:min, {name}",
            lambda book, limit=limit: book.query_runs({f"max_metrics.{LOSS}:min": limit}),
            f"{ROWS} WHERE {LOSSES} {NEWEST}",
            (LOSS, limit),
        )
    for name, columns in (("objectives", DOCUMENTED), ("metrics", ("run_id", "name", *STATISTICS))):
        yield Question(
            f"get_run_{name}",
            lambda book, name=name: getattr(book, f"get_run_{name}")(ids[len(ids) // 2]),
            f"SELECT {', '.join(columns)} FROM training_{name} WHERE run_id = ? ORDER BY {columns[1]}",
            (ids[len(ids) // 2],),
        )


def by_hand(connection: sqlite3.Connection, question: Question) -> object:
    cursor = connection.execute(question.sql, tuple(question.values))
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return question.finish(rows) if question.finish else rows


def same(ours: object, bare: object) -> bool:
    """Whether both found the same, but for what the ledger derives beside."""
    listed = [{**row} for row in ours] if isinstance(ours, list) else [ours]
    for row in listed:
        row.pop("liveness", None)
    return json.dumps(listed, sort_keys=True) == json.dumps(bare, sort_keys=True)


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def medians(book: Ledger, connection: sqlite3.Connection, question: Question) -> tuple[float, float]:
    """Milliseconds of the ledger and of the floor, taken in turn."""
    works = (lambda: question.ours(book), lambda: by_hand(connection, question))
    times = [tuple(milliseconds(work) for work in works) for _ in range(ROUNDS)]
    ours, bare = (statistics.median(spent) for spent in zip(*times, strict=True))
    return ours, bare


def lines(folder: Path, runs: int = 20_000) -> Iterator[tuple[str, ...]]:
    path = folder / "objectives.db"
    with Ledger(path) as book:
        ids = fill(book, runs)
        with closing(sqlite3.connect(path)) as connection:
            for question in questions(ids):
                assert same(question.ours(book), by_hand(connection, question)), question.name
                ours, bare = medians(book, connection, question)
                what = f"{question.name}, {runs:,} runs"
                yield what, f"{ours:.2f} ms", f"{bare:.2f} ms", f"{ours / bare:.1f}", "at most 100 ms, ratio at most 3"
