"""A sweep: what it ends and what it leaves, by whose word, and that it writes over nobody."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.errors import InvalidValue, NoLedger, NotConfigured, OnlyASpool
from ledger.events import Annotated, Event, Heartbeat
from ledger.events.times import text_of
from ledger.store.statements import Statement
from ledger.verdicts import SKEW_MAX, Verdict
from ledger.witnesses.kinds import Testimony
from ledger.witnesses.process import LocalProcess
from tests.builders import (
    annotated,
    clock,
    completed,
    crashed,
    fold_of,
    heartbeat,
    launched,
    metrics_logged,
    moment,
    started,
    voided,
)
from tests.places import Ledgers, in_a_file, on_both, tried
from tests.store.test_fallback import locked
from tests.strategies import life

pytestmark = on_both

LOST = (launched(0), started(10), heartbeat(60), metrics_logged(90, columns={}))
NEVER_BEAT = (launched(0), started(10))
NEVER_SEEN = (launched(0),)


class Knowing:
    """A witness that says what it was told to, and remembers what it was asked."""

    def __init__(
        self, name: str = "oracle", word: Testimony | None = None, meanwhile: Callable[[], object] = int
    ) -> None:
        self.name = name
        self.word = word
        self.meanwhile = meanwhile
        self.asked: list[Sequence[Mapping[str, Any]]] = []

    def testify(self, runs: Sequence[Mapping[str, Any]], /) -> dict[str, Testimony]:
        self.asked.append(runs)
        self.meanwhile()
        return {} if self.word is None else {str(run["run_id"]): self.word for run in runs}


def alive(words: str = "it runs") -> Testimony:
    return Testimony(alive=True, words=words)


def dead(words: str = "it is gone", **said: Any) -> Testimony:
    return Testimony(alive=False, words=words, **said)


def swept(*events: Event, **words: Testimony | None) -> tuple[Verdict, Mapping[str, Any]]:
    """Return the verdict on the run "r" and its row afterwards; *words* are by witness."""
    with Ledger(":memory:") as book:
        book.append(events)
        (verdict,) = book.sweep(witnesses=[Knowing(name, word) for name, word in words.items()])
        row = book.get_run("r")
        assert row is not None
        assert book.verify()
        assert len(list(book.events())) == len(events) + (verdict.action != "left")
        if verdict.action != "left":
            said = [row[name] for name in ("status", "ended_at", "end_reason", "exit_code")]
            assert said == [verdict.action, verdict.ended_at, verdict.end_reason, verdict.exit_code]
        return verdict, row


OOM = dead("job 7 ended as OUT_OF_MEMORY", end_reason="oom", ended_at=moment(100), exit_code=137)
DONE = dead("job 7 ended as COMPLETED", status="completed", ended_at=moment(100), exit_code=0)
GONE = dead("pid 7 is gone", end_reason="unknown")
STOPPED = dead("i-7 is terminated", status="failed", end_reason="user")

# history, words, and of the verdict: action, detected_by, end_reason, seconds after NOON at which it ended, presumed
CASES: dict[str, tuple[tuple[Event, ...], dict[str, Testimony | None], tuple[object, ...]]] = {
    "lost, and nobody knows": (LOST, {}, ("crashed", "sweep", "unknown", 90, True)),
    "lost, and nobody has a word": (LOST, {"slurm": None}, ("crashed", "sweep", "unknown", 90, True)),
    "launched a day ago and never seen": (NEVER_SEEN, {}, ("crashed", "sweep", "unknown", 0, True)),
    "never beat": (NEVER_BEAT, {"slurm": None}, ("left", None, None, None, False)),
    "never beat, and dead": (NEVER_BEAT, {"slurm": OOM}, ("crashed", "slurm", "oom", 100, False)),
    "never beat, and dead since who knows when": (NEVER_BEAT, {"process": GONE}, ("crashed", "process", "unknown", 10, False)),
    "never seen, and dead": (NEVER_SEEN, {"slurm": OOM}, ("crashed", "slurm", "oom", 100, False)),
    "lost, and dead": (LOST, {"slurm": OOM}, ("crashed", "slurm", "oom", 100, False)),
    "lost, and dead since who knows when": (LOST, {"process": GONE}, ("crashed", "process", "unknown", 90, False)),
    "lost, and done": (LOST, {"slurm": DONE}, ("completed", "slurm", None, 100, False)),
    "lost, and stopped": (LOST, {"ec2": STOPPED}, ("failed", "ec2", "user", 90, False)),
    "lost, and alive": (LOST, {"slurm": alive()}, ("left", None, None, None, False)),
    "never beat, and alive": (NEVER_BEAT, {"slurm": alive()}, ("left", None, None, None, False)),
    "a process that runs is believed before all": (
        LOST, {"slurm": DONE, "ec2": STOPPED, "process": alive()}, ("left", None, None, None, False),
    ),
    "a process that is gone, too": (LOST, {"slurm": alive(), "process": GONE}, ("crashed", "process", "unknown", 90, False)),
    "and its end is told by who knows it": (LOST, {"process": GONE, "slurm": OOM}, ("crashed", "slurm", "oom", 100, False)),
    "also where it went well": (LOST, {"process": GONE, "slurm": DONE}, ("completed", "slurm", None, 100, False)),
    "a machine that is gone is believed before a scheduler": (
        LOST, {"slurm": alive(), "ec2": STOPPED}, ("failed", "ec2", "user", 90, False),
    ),
    "of two reasons the first counts, with a time of the other": (
        LOST, {"ec2": STOPPED, "slurm": OOM}, ("failed", "ec2", "user", 100, False),
    ),
    "among others a life counts": (LOST, {"slurm": OOM, "pods": alive()}, ("left", None, None, None, False)),
    "an end before the last sign of life is another's": (
        LOST, {"slurm": dead(end_reason="oom", ended_at=moment(90) - SKEW_MAX - timedelta(seconds=1))},
        ("crashed", "sweep", "unknown", 90, True),
    ),
    "as far as clocks do not differ": (
        LOST, {"slurm": dead(end_reason="oom", ended_at=moment(90) - SKEW_MAX)},
        ("crashed", "slurm", "oom", 90 - SKEW_MAX.total_seconds(), False),
    ),
    "of one that never beat, too": (
        NEVER_BEAT, {"slurm": dead(end_reason="oom", ended_at=moment(-10_000))}, ("left", None, None, None, False),
    ),
    "a run that was started again lived then": (
        (*LOST, crashed(200), started(9000)), {"process": GONE}, ("crashed", "process", "unknown", 9000, False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_a_sweep_concludes(case: Any) -> None:
    """Each rule of the page on sweeping, with the row that follows from it."""
    history, words, (action, by, reason, seconds, presumed) = case
    verdict, row = swept(*history, **words)

    assert (verdict.action, verdict.detected_by, verdict.end_reason, verdict.presumed) == (action, by, reason, presumed)
    assert verdict.ended_at == (None if seconds is None else clock(seconds))
    assert all(word.words in verdict.why for word in words.values() if word is not None)
    assert verdict.liveness == ("lost" if history in (LOST, NEVER_SEEN) else "unknown")
    assert (row["status"] in ("running", "launched")) == (action == "left")


def test_why_is_a_sentence_for_people() -> None:
    """How long it was silent, who knows what, and who could not be asked."""
    with origin.replaced(_At(3 * 3600 + 90)):
        whys = [
            swept(*LOST)[0].why,
            swept(*LOST, slurm=OOM)[0].why,
            swept(*NEVER_BEAT)[0].why,
            swept(*LOST, slurm=dead(ended_at=moment(-9999)))[0].why,
        ]
    with origin.replaced(_At(30 * 3600)):
        whys.append(swept(*NEVER_SEEN)[0].why)

    assert whys == [
        "silent for 3:00:00; no witness knows of it",
        "slurm: job 7 ended as OUT_OF_MEMORY",
        "it never beat, so only a witness could tell",
        "silent for 3:00:00; slurm: it is gone, before its last sign of life, so of another one",
        "launched 30:00:00 ago without a sign of life; no witness knows of it",
    ]


class _At:
    """A clock that stands, so many seconds after NOON."""

    def __init__(self, seconds: float) -> None:
        self._now = moment(seconds)
        self._bits = 0

    def now(self) -> Any:
        return self._now

    def random_bits(self, bits: int) -> int:
        self._bits += 1
        return self._bits

    def source(self) -> dict[str, str | int]:
        return {"host": "hub", "user": "ana", "program": "sweep"}


def test_a_run_that_was_presumed_dead_runs_again_by_its_next_beat(book: Ledger) -> None:
    """Both are on its timeline; its active time has no gap; a second silence is swept again."""
    book.append(LOST)
    assert [verdict.presumed for verdict in book.sweep(witnesses=[])] == [True]
    assert [(row["status"], row["liveness"]) for row in book.query_runs()] == [("crashed", "ended")]
    book.append(Heartbeat(run_id="r", step=7))
    row = book.query_runs()[0]

    assert (row["status"], row["liveness"], row["ended_at"]) == ("running", "alive", None)
    assert [entry.summary for entry in book.timeline(run_id="r")][-2:] == [
        "presumed crashed (end_reason unknown, detected_by sweep)",
        "at step 7",
    ]
    assert book.sweep(witnesses=[]) == []
    assert book.verify()


def test_a_run_that_was_seen_dead_stays_so(book: Ledger) -> None:
    """A beat that comes behind a witnessed crash comes out of a queue; the timeline tells what the witness said."""
    book.append(LOST)
    book.sweep(witnesses=[Knowing("slurm", OOM)])
    book.append(Heartbeat(run_id="r"))

    assert book.query_runs()[0]["status"] == "crashed"
    assert [entry.summary for entry in book.timeline(run_id="r") if entry.type == "crashed"] == [
        "crashed (end_reason oom, exit_code 137, detected_by slurm, job 7 ended as OUT_OF_MEMORY)"
    ]


def test_an_end_is_recorded_as_it_was_found(book: Ledger) -> None:
    """With who detected it, what he said, and whether it was presumed; a completion says of no crash."""
    for run, word in (("a", None), ("b", OOM), ("c", DONE)):
        book.append([started(0, run=run), heartbeat(1, run=run)])
        book.sweep(witnesses=[Knowing("slurm", word)])
    said = {
        event.run_id: (event.type, event.fact().understood) for event in book.events(types=["crashed", "completed"])
    }

    assert said == {
        "a": ("crashed", {"ended_at": clock(1), "end_reason": "unknown", "detected_by": "sweep", "presumed": True}),
        "b": (
            "crashed",
            {
                "ended_at": clock(100), "end_reason": "oom", "exit_code": 137, "detected_by": "slurm",
                "testimony": OOM.words, "presumed": False,
            },
        ),
        "c": (
            "completed",
            {"ended_at": clock(100), "exit_code": 0, "detected_by": "slurm", "testimony": DONE.words},
        ),
    }  # fmt: skip


def test_what_comes_in_while_witnesses_are_asked_is_not_written_over(ledgers: Ledgers) -> None:
    """A beat, an end, a note: the run moved, and the next sweep looks again."""
    for word in (None, OOM):
        for meanwhile in (Heartbeat(run_id="r"), completed(300), annotated(300, note="odd")):
            with ledgers() as book:
                book.append([*LOST, heartbeat(0, run="still")])
                asked = Knowing("slurm", word, meanwhile=lambda event=meanwhile, book=book: book.append(event))
                verdicts = {verdict.run_id: verdict for verdict in book.sweep(witnesses=[asked])}

                assert verdicts["r"].action == "left"
                assert "the next sweep looks again" in verdicts["r"].why
                assert verdicts["still"].action == "crashed"
                assert {event.run_id for event in book.events(types=["crashed"])} == {"still"}


def test_a_dry_run_asks_and_changes_nothing(book: Ledger) -> None:
    """Its verdicts are those of the sweep that follows."""
    book.append([*LOST, started(0, run="u"), launched(0, run="l")])
    witness = Knowing("process", GONE)
    before = list(book.events())
    foreseen = book.sweep(witnesses=[witness], dry_run=True)

    assert list(book.events()) == before
    assert len(foreseen) == 3
    assert book.sweep(witnesses=[witness]) == foreseen
    assert len(list(book.events())) == len(before) + 3


def test_a_second_sweep_has_nothing_to_end(book: Ledger) -> None:
    """What has ended is asked about no more; what was left is asked about again."""
    book.append([*LOST, *(event for event in (started(0, run="u"),))])
    witness = Knowing()
    assert [verdict.action for verdict in book.sweep(witnesses=[witness])] == ["crashed", "left"]
    count = len(list(book.events()))

    assert [verdict.run_id for verdict in book.sweep(witnesses=[witness])] == ["u"]
    assert len(list(book.events())) == count


def test_what_lives_is_late_or_has_ended_is_not_asked_about(book: Ledger) -> None:
    """Nor what was voided."""
    book.append(
        [
            Heartbeat(run_id="alive"),
            Heartbeat(run_id="late", occurred_at=origin.utc_now() - timedelta(seconds=400)),
            started(0, run="done"),
            completed(1, run="done"),
            heartbeat(0, run="void"),
            voided(1, run="void", reason="bogus"),
        ]
    )
    witness = Knowing(word=OOM)

    assert book.sweep(witnesses=[witness]) == []
    assert witness.asked == []


def test_an_end_comes_behind_a_clock_that_is_ahead(book: Ledger) -> None:
    """The run's own machine may have dated its last word into our future; the crash is the latest word all the same."""
    ahead = origin.utc_now() + timedelta(days=2)
    book.append([*LOST, Annotated(run_id="r", occurred_at=ahead, note="x")])
    book.sweep(witnesses=[])

    assert book.query_runs()[0]["status"] == "crashed"
    assert [event.occurred_at for event in book.events(types=["crashed"])] == [ahead + timedelta(microseconds=1)]


def test_witnesses_get_rows_and_the_process_of_the_latest_start(book: Ledger) -> None:
    """All at once; a start that names no process takes the place of one that did."""
    book.append(
        [launched(0, instance_id="7", host="expanse"), started(1, process={"pid": 1}), started(2, process={"pid": 2})]
    )
    book.append([started(5, run="again", process={"pid": 3}), started(6, run="again"), heartbeat(0, run="lost")])
    witness = Knowing()
    book.sweep(witnesses=[witness], dry_run=True)

    (rows,) = witness.asked
    assert [(row["run_id"], row["instance_id"], row["process"]) for row in rows] == [
        ("lost", None, None),
        ("again", None, None),
        ("r", "7", {"pid": 2}),
    ]


class Broken:
    name = "broken"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def testify(self, runs: Sequence[Mapping[str, Any]], /) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer", [RuntimeError("no route"), KeyError("x"), None, 7, {"r": "dead"}, {"r": None}, [("r", OOM)]], ids=str
)
def test_a_witness_that_fails_stops_nothing(book: Ledger, answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises or answers, it has no word, which is said; the others are asked, and the sweep goes on."""
    book.append([*LOST, started(0, run="u")])
    with caplog.at_level(logging.WARNING, "ledger"):
        verdicts = {v.run_id: v for v in book.sweep(witnesses=[Broken(answer), Knowing("slurm")])}

    assert (verdicts["r"].action, verdicts["r"].presumed, verdicts["u"].action) == ("crashed", True, "left")
    assert all("broken could not be asked" in verdict.why for verdict in verdicts.values())
    assert "sweep: broken has no word to say" in caplog.text


def test_words_on_runs_that_were_not_asked_about_are_passed_over(book: Ledger) -> None:
    """No word reaches a run that lives, or one that is not there."""
    book.append([*LOST, Heartbeat(run_id="alive")])
    verdicts = book.sweep(witnesses=[Broken({"alive": OOM, "nobody": OOM})])

    assert [(verdict.run_id, verdict.presumed) for verdict in verdicts] == [("r", True)]
    assert book.count_runs({"status": "running"}) == 1


@pytest.mark.parametrize(
    "witnesses", [[object()], "slurm", [Knowing], 7, ["process"]], ids=["object", "text", "class", "number", "name"]
)
def test_what_is_no_witness_is_refused(book: Ledger, witnesses: Any) -> None:
    """Before anything is looked at."""
    book.append(LOST)
    with pytest.raises(InvalidValue, match="objects with a name and testify"):
        book.sweep(witnesses=witnesses)
    assert book.count_runs({"status": "running"}) == 1


def test_without_a_ledger_there_is_nothing_to_sweep(bare_place: str, tmp_path: Path) -> None:
    """No file, a spool, and recording that is switched off: each says what to do."""
    with Ledger(bare_place) as book, pytest.raises(NoLedger, match="ledger init"):
        book.sweep()
    with Ledger(f"spool://{tmp_path}/spool") as spool, pytest.raises(OnlyASpool, match="ask that ledger"):
        spool.sweep()
    with Ledger("off") as off, pytest.raises(NotConfigured, match="Set it to a ledger"):
        off.sweep()


@in_a_file
def test_a_sweep_falls_back_to_no_spool(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is locked takes no conclusion, and no spool does: the run may have moved when it arrives."""
    monkeypatch.setenv("TRAINING_DB_SPOOL", str(tmp_path / "spool"))
    with Ledger(path, busy_seconds_max=0.1) as book:
        book.append(LOST)
        with locked(path), pytest.raises(Exception, match="was locked"):
            book.sweep(witnesses=[])
        assert book.spooled is None
        assert [verdict.action for verdict in book.sweep(witnesses=[])] == ["crashed"]


def test_a_thousand_lost_runs_are_one_question(book: Ledger) -> None:
    """Two thousand of them: asked about at once, found by few statements, and each ended once."""
    runs = [f"r{number}" for number in range(2000)]
    book.append([event for run in runs for event in (started(0, run=run), heartbeat(1, run=run))])
    statements: list[Statement] = []
    witness = Knowing()
    with pytest.MonkeyPatch.context() as patch:
        on = Statement.on
        patch.setattr(Statement, "on", lambda it, connection: statements.append(it) or on(it, connection))
        foreseen = book.sweep(witnesses=[witness], dry_run=True)
    assert len(foreseen) == 2000
    assert 0 < len(statements) < 20, "a statement a run"
    verdicts = book.sweep(witnesses=[witness])

    assert [len(asked) for asked in witness.asked] == [2000, 2000]
    assert {verdict.run_id for verdict in verdicts} == {*runs}
    assert book.get_stats()["crashed"] == 2000
    assert book.sweep(witnesses=[witness]) == []


@in_a_file
def test_the_latest_starts_are_found_by_the_runs(book: Ledger) -> None:
    """An index leads to the events of the runs that are asked about, however long the ledger is."""
    from ledger.store.silent import _HEADS, _STARTS

    with book._database.read() as connection:
        for statement in (_HEADS, _STARTS):
            sql = statement.on(connection).sql
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("[]",))]
            assert not any(line.startswith("SCAN training") for line in plan), plan
            assert any("SEARCH training" in line for line in plan), plan


def test_a_training_process_that_is_killed_is_found_by_its_process(place: str) -> None:
    """A real one that said in which process it runs, and never beat: alive, then killed."""
    code = "import sys, signal; from ledger import Ledger, origin; from ledger.events import Started\n"
    code += "Ledger(sys.argv[1]).append(Started(run_id='r', process=origin.process())); print('up', flush=True)\n"
    code += "signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        with Ledger(place) as book:
            (before,) = book.sweep(witnesses=[LocalProcess()])
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            (after,) = book.sweep(witnesses=[LocalProcess()])
            events = [event for event in book.events() if event.type == "started"]

    assert (before.action, before.why.endswith("is running")) == ("left", True)
    assert (after.action, after.detected_by, after.presumed) == ("crashed", "process", False)
    assert after.ended_at == text_of(events[0].occurred_at)


@tried(life(), st.sampled_from([None, alive(), GONE, OOM, DONE]))
def test_a_sweep_ends_nothing_that_lives(ledgers: Ledgers, history: list[Event], word: Testimony | None) -> None:
    """Whatever a history holds: only the lost and the unknown are judged, and of the lost all that nobody knows of end."""
    with ledgers() as book:
        book.append(history)
        before = {row["run_id"]: row for row in book.query_runs(limit=None)}
        verdicts = {verdict.run_id: verdict for verdict in book.sweep(witnesses=[Knowing("slurm", word)])}
        after = {row["run_id"]: row for row in book.query_runs(limit=None)}

        assert verdicts.keys() == {run for run, row in before.items() if row["liveness"] in ("lost", "unknown")}
        for run, row in before.items():
            verdict = verdicts.get(run)
            if verdict is None or verdict.action == "left":
                assert {**after[run], "liveness": ""} == {**row, "liveness": ""}
                assert verdict is None or word is not None or row["liveness"] == "unknown"
            else:
                assert after[run]["status"] == verdict.action
                assert verdict.presumed <= (row["liveness"] == "lost")
                if word is None:
                    assert verdict.ended_at == (row["last_seen_at"] or row["started_at"] or row["created_at"])
        assert book.verify()


def test_a_presumption_yields_to_the_end_that_a_spool_held_back(ledgers: Ledgers) -> None:
    """A run that completed while nobody could hear it has completed, whenever that arrives."""
    end = completed(120, final_metrics={"loss": 1})
    with ledgers() as book:
        book.append(LOST)
        book.sweep(witnesses=[])
        book.append(end)
        row = book.query_runs()[0]
        history = list(book.events())

    assert (row["status"], row["ended_at"]) == ("completed", clock(120))
    assert {name: row[name] for name in ("status", "ended_at")} == {
        name: value for name, value in fold_of(*LOST, end).items() if name in ("status", "ended_at")
    }
    assert [event.type for event in history][-2:] == ["crashed", "completed"]
