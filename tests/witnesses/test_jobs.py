"""Slurm's records, in the formats of several versions, and what each state says of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.witnesses.jobs import Job, job_of, jobs_of_sacct, jobs_of_scontrol, number_of, word_on
from ledger.witnesses.kinds import Testimony

RECORDED = Path(__file__).parent / "recorded"
SACCT = jobs_of_sacct((RECORDED / "sacct_23_11.txt").read_text())
ALIVE = "lives"


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2024, 5, 1, hour, minute, tzinfo=UTC)


def said(name: str, jobs: list[Job] = SACCT) -> Testimony | None:
    return word_on(name, [job for job in jobs if number_of(name) in (job.leader, job.raw_id)])


# job: status, end_reason, exit_code, ended_at; ALIVE; or None where nothing is said
STATES: dict[str, tuple[object, ...] | str | None] = {
    "1001": ("completed", None, 0, at(11)),
    "1002": ("crashed", "exception", 1, at(11, 1)),
    "1003": ("crashed", "signal", 137, at(11, 2)),
    "1004": ("crashed", "signal", 137, at(11, 3)),
    "1005": ("crashed", "unknown", 2, at(11, 4)),
    "1006": ("failed", "user", None, at(11, 5)),
    "1007": ("failed", "user", 143, at(11, 6)),
    "1008": ("crashed", "timeout", None, at(11, 7)),
    "1009": ("crashed", "timeout", None, at(11, 8)),
    "1010": ("crashed", "oom", None, at(11, 9)),
    "1011": ("crashed", "preempted", None, at(11, 10)),
    "1012": ("crashed", "node_failure", None, at(11, 11)),
    "1013": ("crashed", "node_failure", None, at(11, 12)),
    "1014": ALIVE,
    "1015": ALIVE,
    "1016": ALIVE,
    "1017": ALIVE,
    "1018": ALIVE,
    "1019": ALIVE,
    "1020": None,
    "1021": ("crashed", "oom", 137, at(11, 14)),
    "999": None,
    "2000_1": ("completed", None, 0, at(11)),
    "2001": ("completed", None, 0, at(11)),
    "2000_2": ("crashed", "timeout", None, at(12)),
    "2000_3": ALIVE,
    "2000_5": ALIVE,
    "2000_9": ALIVE,
    "2000_7": None,
    "2000": ALIVE,
    "2100": ("crashed", "oom", None, at(13)),
    "2100_3": ("crashed", "exception", 1, at(11)),
    "3000": ("crashed", "node_failure", None, at(11)),
    "3000+0": ("completed", None, 0, at(11)),
    "3000+1": ("crashed", "node_failure", None, at(11)),
    "4001": ALIVE,
    "4002": ("completed", None, 0, at(11)),
}


@pytest.mark.parametrize("name", STATES)
def test_what_a_state_says_of_a_run(name: str) -> None:
    """Each state, task of an array, part of a heterogeneous job and requeued job, as the tables of the page have it."""
    word, expected = said(name), STATES[name]

    if word is None or word.alive:
        assert expected == (None if word is None else ALIVE)
    else:
        assert (word.status, word.end_reason, word.exit_code, word.ended_at) == expected


def test_the_words_name_job_and_state() -> None:
    """So that somebody can look it up himself."""
    words = {name: word.words for name in ("1014", "1002", "2000_5", "2100") if (word := said(name)) is not None}

    assert words == {
        "1014": "job 1014 is RUNNING",
        "1002": "job 1002 ended as FAILED with exit code 1",
        "2000_5": "job 2000_[4-6,9%2] is PENDING",
        "2100": "all 3 parts of job 2100 have ended, and job 2100_2 ended as OUT_OF_MEMORY",
    }


def test_a_requeue_is_told_by_its_submission_whatever_the_order() -> None:
    """The record that was submitted last decides, not the line that comes last."""
    assert [word.words for jobs in (SACCT, SACCT[::-1]) if (word := said("4002", jobs))] == [
        "job 4002 ended as COMPLETED"
    ] * 2
    word = said("4001", SACCT[::-1])
    assert word is not None
    assert word.alive


def test_times_with_an_offset_count_and_local_ones_do_not() -> None:
    """An hour of an unknown clock is no hour; the state counts all the same."""
    with_offset = jobs_of_sacct((RECORDED / "sacct_20_11_offset.txt").read_text())
    local = jobs_of_sacct((RECORDED / "sacct_17_11_local.txt").read_text())

    found = [said("5001", with_offset), said("5002_7", with_offset), said("5003", with_offset)]
    assert [word and word.ended_at for word in found] == [at(11), at(11, 30), at(11, 30)]
    found = [said(name, local) for name in ("6001", "6002", "6003")]
    assert [word and (word.status, word.ended_at) for word in found] == [
        ("completed", None), ("failed", None), ("crashed", None),
    ]  # fmt: skip


def test_the_controllers_lines_say_the_same() -> None:
    """`scontrol -o show job` in its own format, with a job whose name holds another state."""
    jobs = jobs_of_scontrol((RECORDED / "scontrol_22_05.txt").read_text())
    found = {name: said(name, jobs) for name in ("1014", "1008", "2000_2", "2002", "2000_6", "3000+1", "3001", "7")}

    assert {name: word and (word.alive, word.end_reason, word.ended_at) for name, word in found.items()} == {
        "1014": (True, None, None),
        "1008": (False, "timeout", at(11, 7)),
        "2000_2": (False, "oom", at(11, 6).replace(second=40)),
        "2002": (False, "oom", at(11, 6).replace(second=40)),
        "2000_6": (True, None, None),
        "3000+1": (False, "exception", at(11, 6).replace(second=40)),
        "3001": (False, "exception", at(11, 6).replace(second=40)),
        "7": None,
    }


@pytest.mark.parametrize("line", ["", "no jobs in the system", "1|2|3", "|||||", "1001|1001||0:0|x|y", "a|b|c|d|e|f|g"])
def test_lines_that_are_no_records_say_nothing(line: str) -> None:
    """Whatever a command prints beside its records, nobody is ended by it."""
    assert said("1001", [*jobs_of_sacct(line), *jobs_of_scontrol(line)]) is None


NAMES = {
    "123": "123", " 123 ": "123", "0123": "123", "123_4": "123_4", "123+1": "123+1", "123.batch": "123", "123.0": "123",
    "123_4.extern": "123_4", "i-0abc": None, "": None, "0": None, "12a": None, "123.pbs.example.org": None, "1" * 11: None,
    "123_[1-4]": None, "123,124": None, "1;id": None, "²": None, None: None, 7: None,
}  # fmt: skip


@pytest.mark.parametrize("instance_id", NAMES)
def test_what_names_a_job(instance_id: object) -> None:
    """A number, a task, a part, each with or without a step; all else is asked of nobody."""
    assert job_of(instance_id) == NAMES[instance_id]
