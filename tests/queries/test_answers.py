"""The same rows from each database and from plain Python over the folded runs, for any question there is."""

from __future__ import annotations

import pytest

from tests.builders import trials
from tests.queries.databases import empty_ledgers
from tests.queries.proof import prove

QUESTIONS = trials(300, 1_000)


@pytest.mark.parametrize("seed", range(trials(4, 12)))
def test_any_question_has_the_same_answer_everywhere(seed: int) -> None:
    """Random runs, random questions: each database gives the rows, the order and the count that their words say."""
    with empty_ledgers() as books:
        answers = prove(books, seed, QUESTIONS)

    assert answers.total() == QUESTIONS
    assert answers["some"] * 2 >= QUESTIONS, f"too many questions are answered by none or by all: {answers}"
