"""Ask ledgers and plain Python the same questions, and say where their answers part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from ledger import Ledger
from tests.queries.evaluator import evaluate
from tests.queries.fleet import NOW, batches, filled, rows_of, standing_at
from tests.queries.questions import Question, question

__all__ = ["RUNS", "prove", "prove_one"]

RUNS = 250
_SHOWN = 8
_COUNTED_EVERY = 3  # most of a question's time is its compilation, and a count is compiled apart

Row = dict[str, Any]


def prove(books: Mapping[str, Ledger], seed: int, count: int) -> Counter[str]:
    """Fill the empty *books* with one fleet, ask each *count* questions; return how many answers were of which kind.

    Fails with the first question to which one of them, named, gives another answer than the fold.
    """
    rows = _prepared(books, seed)
    return Counter(_ask(books, seed, number, rows) for number in range(count))


def prove_one(books: Mapping[str, Ledger], seed: int, number: int) -> Question:
    """Ask the one question, again, behind the one before it, and return it."""
    rows = _prepared(books, seed)
    if number:
        _ask(books, seed, number - 1, rows)
    _ask(books, seed, number, rows)
    return question(seed, number, rows)


def _prepared(books: Mapping[str, Ledger], seed: int) -> list[Row]:
    accepted = batches(seed, RUNS)
    rows = rows_of(accepted)
    assert len(rows) == RUNS
    for book in books.values():
        filled(book, accepted)
    return rows


def _ask(books: Mapping[str, Ledger], seed: int, number: int, rows: list[Row]) -> str:
    asked = question(seed, number, rows)
    among = [row for row in rows if asked.include_voided or not row["voided"]]
    every = evaluate(among, asked.filters, asked.order_by, None, now=NOW)
    wanted = [_shown(row, asked) for row in every[asked.offset :][: asked.limit]]
    for name, book in books.items():
        with standing_at(NOW):
            found = book.query_runs(
                asked.filters, asked.order_by, asked.limit, asked.offset, include_voided=asked.include_voided
            )
            counts = number % _COUNTED_EVERY == 0
            counted = book.count_runs(asked.filters, include_voided=asked.include_voided) if counts else len(every)
        if not _same(found, wanted) or counted != len(every):
            said = f"count_runs gives {counted}, and {len(every)} meet the filters"
            again = f"python -m tests.queries --seed {seed} --question {number} --database {name}"
            pytest.fail(
                "\n".join([f"{name}: {asked}", said, *_parted(found, wanted), f"Again: {again}"]), pytrace=False
            )
    return "none" if not every else "all" if len(every) == len(among) else "some"


def _shown(row: Row, asked: Question) -> Row:
    """A row as this question shows it."""
    hidden = ("details",) if asked.include_voided else ("details", "reason", "voided")
    return {name: row[name] for name in row if name not in hidden}


def _same(found: list[Row], wanted: list[Row]) -> bool:
    """Equal, and of the same types: 1 is not 1.0 here."""
    return found == wanted and all(
        list(map(type, one.values())) == list(map(type, other.values()))
        for one, other in zip(found, wanted, strict=True)
    )


def _parted(found: list[Row], wanted: list[Row]) -> list[str]:
    """Which rows are there and should not be, and the other way round; else what differs in them, or their order."""
    by_id = [{row["run_id"]: row for row in rows} for rows in (found, wanted)]
    lines = [
        f"{words}: {row}"
        for words, here, there in (("not wanted", *by_id), ("missing", *reversed(by_id)))
        for row in [row for run_id, row in here.items() if run_id not in there][:_SHOWN]
    ]
    for run_id in by_id[0].keys() & by_id[1].keys():
        one, other = by_id[0][run_id], by_id[1][run_id]
        differing = {
            name: (one.get(name), other[name])
            for name in other
            if not _same([one], [other]) and one.get(name) != other[name]
        }
        lines += [f"{run_id!r} differs (found, wanted): {differing}"] if differing else []
    return lines or [f"the order is {list(by_id[0])}", f"and should be {list(by_id[1])}"]
