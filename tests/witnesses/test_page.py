"""The page on sweeping says what the tables of the code say, and its example is a witness."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.witnesses import ec2, jobs
from tests.builders import launched, started

PAGE = (Path(__file__).parents[2] / "docs/sweeping.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """Return the cells of all tables of the page."""
    return [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith(("| `", "| gone"))]


def meaning(word: str) -> str:
    """Return what the page says of a state or a code."""
    (found,) = {cells[1] for cells in rows() if f"`{word}`" in cells[0]}
    return found


@pytest.mark.parametrize("state", jobs._ENDS)
def test_the_page_says_what_a_state_of_slurm_means(state: str) -> None:
    """Status and reason of each state that is an end."""
    status, reason = jobs._ENDS[state]

    assert meaning(state).startswith(status)
    assert reason is None or f"`{reason}`" in meaning(state)


@pytest.mark.parametrize("code", ec2._ENDS)
def test_the_page_says_what_a_code_of_ec2_means(code: str) -> None:
    """Status and reason of each code that has one of its own."""
    status, reason = ec2._ENDS[code]

    assert meaning(code) == f"{status}, `{reason}`"


def test_the_states_in_which_a_job_lives_are_no_ends() -> None:
    """Those that the page names are among them, and none is both."""
    (named,) = (re.findall(r"`(\w+)`", cells[0]) for cells in rows() if cells[1] == "lives" and "`RUNNING`" in cells[0])

    assert {*named} <= {*jobs._LIVES}
    assert not {*jobs._LIVES} & {*jobs._ENDS}


def test_the_example_is_a_witness(book: Ledger) -> None:
    """As it stands on the page, it ends the run that it knows of."""
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    made: dict[str, Any] = {}
    exec(example, made)
    book.append(
        [
            launched(0, run="a", instance_id="trainer-7"),
            launched(0, run="b", instance_id="trainer-8"),
            started(1, run="b"),
        ]
    )
    verdicts = {verdict.run_id: verdict for verdict in book.sweep(witnesses=[made["Pods"]()])}

    assert (verdicts["a"].end_reason, verdicts["a"].why) == ("preempted", "pods: pod trainer-7 was evicted")
    assert verdicts["b"].action == "left"
