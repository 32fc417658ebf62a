"""Many processes on one file: each event is there once, nobody sees an error, and nobody waits for long."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

import pytest

from ledger import Ledger
from tests.builders import shown, told, trials
from tests.store.crowd import Answer, crowd, writing

WRITERS, EACH = 16, 200


def errors(answers: list[Answer]) -> list[str]:
    return [answer["error"] for answer in answers if "error" in answer]


def test_sixty_four_processes_open_one_new_file_at_once(path: Path) -> None:
    """One of them creates the ledger, the others find it, and each records its event."""
    answers = crowd("create", 64, path)

    with Ledger(path) as book:
        assert (len(answers), errors(answers)) == (64, [])
        assert {event.event_id for event in book.events()} == {answer["id"] for answer in answers}
        assert (book.count_runs(), bool(book.verify())) == (64, True)


def test_sixteen_processes_append_two_hundred_each(
    path: Path, record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 3,200 are there once, in shared and in own runs, no error reaches a writer, and window = ledger."""
    began = time.perf_counter()
    answers = crowd("append", WRITERS, path, EACH)
    took = time.perf_counter() - began

    assert errors(answers) == []
    slowest = max(answer["slowest_seconds"] for answer in answers)
    record_property("slowest_append_seconds", slowest)
    with capsys.disabled():
        print(f"\n{WRITERS} x {EACH} appends in {took:.1f} s, the slowest waited {slowest:.3f} s")
    with Ledger(path) as book:
        events = list(book.events())
        appended = [event_id for answer in answers for event_id in answer["ids"]]
        assert Counter(event.event_id for event in events) == Counter(appended)
        assert [event.position for event in events] == list(range(1, WRITERS * EACH + 1))
        assert Counter(event.run_id for event in events)["shared"] == WRITERS * EACH // 2
        assert shown(book) == told(events)
        assert book.verify()


def test_documented_calls_of_many_processes_do_not_meet_errors(path: Path) -> None:
    """Eight launchers record their runs at once, and each reads its own word after every call."""
    answers = crowd("record", 8, path, 10)

    with Ledger(path) as book:
        assert errors(answers) == []
        assert book.get_stats()["completed"] == 80
        assert book.verify()


def test_readers_see_whole_answers_while_others_write(path: Path) -> None:
    """Between any two commits, whoever reads finds every row equal to the fold of its events."""
    with Ledger(path) as book:
        book.init_db()
    writer = writing(path, "r", heard=False)
    try:
        answers = crowd("read", 2, path, trials(3, 60))
    finally:
        writer.kill()
        writer.communicate()

    assert errors(answers) == []
    assert min(answer["asked"] for answer in answers) > 3


def acknowledged(writer: Popen[str]) -> set[str]:
    """Return the ids whose appends had returned; a last line that is cut off was not yet said."""
    assert writer.stdout is not None
    lines = writer.stdout.read().splitlines(keepends=True)
    writer.stdout.close()
    writer.wait()
    return {line.strip() for line in lines if line.endswith("\n")}


def first_word(writer: Popen[str]) -> set[str]:
    """Wait until a writer has acknowledged something."""
    assert writer.stdout is not None
    return {writer.stdout.readline().strip()}


def test_nothing_acknowledged_is_lost_by_kill_9(path: Path) -> None:
    """Writers are killed at random moments, while they open, append or checkpoint; what they acknowledged is there."""
    said: set[str] = set()
    for number in range(trials(10, 100)):
        pair = [writing(path, f"r{number}-{side}") for side in "ab"]
        if number % 5:
            said |= set().union(*map(first_word, pair))
        time.sleep(random.uniform(0, 0.4))
        for writer in pair:
            writer.kill()
        said |= set().union(*map(acknowledged, pair))
        with Ledger(path) as book:
            book.init_db()
            there = {event.event_id for event in book.events()}
            assert (said - there, book.verify().differences) == (set(), ())

    assert len(said) > 20
