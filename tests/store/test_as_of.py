"""A ledger as it was: what a fresh one would show that had exactly the events of then, whatever came afterwards."""

from __future__ import annotations

import random
import sqlite3
import textwrap
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from ledger import Ledger, origin
from ledger.as_of import AsOf
from ledger.errors import InvalidValue, LedgerClosed, NoLedger, NotConfigured, RunNotFound, UnknownFilter
from ledger.events import EVENT_TYPES, Event, Recorded
from ledger.events.times import text_of
from ledger.projections.liveness import Present
from ledger.projections.run import COLUMNS
from ledger.store import past
from ledger.store.bounds import EVERYTHING
from ledger.store.folding import folded_runs
from tests.builders import (
    HOUR,
    LOCAL,
    NOON,
    amended,
    clock,
    completed,
    heartbeat,
    launched,
    moment,
    shown,
    started,
    told,
    unknown,
    voided,
    wandb_attached,
)
from tests.places import Ledgers, in_a_file, on_both, tried
from tests.store.test_forks_and_threads import in_a_process
from tests.strategies import CHAINS, RUN_IDS, WANDB_IDS, batched, events_of, histories, moments

pytestmark = on_both

Row = dict[str, Any]
Question = tuple[datetime | None, datetime | int | None]

# Kinds of events that decide who holds a W&B id.
OF_CLAIMS = ("wandb_attached", "wandb_attached", "amended", "launched", "voided", "unvoided")


class Clock:
    """A clock that is told what to show."""

    shows = NOON

    def now(self) -> datetime:
        return self.shows

    def random_bits(self, bits: int) -> int:
        return random.getrandbits(bits)

    def source(self) -> dict[str, str | int]:
        return {"host": "simulated"}


@pytest.fixture
def at() -> Iterator[Clock]:
    """Stop the clock; what is set on it is the time."""
    with origin.replaced(clock := Clock()):
        yield clock


def contested() -> st.SearchStrategy[list[Event]]:
    """Histories of little else than claims to few W&B ids, by runs that resume each other and are voided."""
    kinds = st.sampled_from([EVENT_TYPES[name] for name in OF_CLAIMS])
    amending = st.builds(
        lambda seconds, run, number, wandb_run_id: amended(seconds, run=run, number=number, wandb_run_id=wandb_run_id),
        st.integers(0, 12),
        st.sampled_from(RUN_IDS),
        st.integers(0, 2**100),
        st.none() | st.sampled_from(WANDB_IDS),
    )
    return st.lists(kinds.flatmap(events_of) | amending, max_size=14, unique_by=lambda event: event.event_id)


questions = st.tuples(
    st.none() | moments,
    st.none() | st.integers(0, 16) | st.integers(-1, 8).map(moment),
)


def accept(book: Ledger, clock: Clock, batches: list[list[Event]]) -> None:
    """Append the batches, two of them at each second."""
    for number, batch in enumerate(batches):
        clock.shows = moment(number // 2)
        book.append(batch)


def within(events: list[Recorded], question: Question) -> list[Recorded]:
    """Return the events that the question is about, by its words alone."""
    when, known = question
    chosen = [event for event in events if when is None or event.occurred_at <= when]
    if isinstance(known, int):
        return [event for event in chosen if event.position <= known]
    return [event for event in chosen if known is None or event.recorded_at <= known]


def locally(events: list[Recorded]) -> dict[str, tuple[str, str]]:
    """Return when the first and the latest event of each run were accepted."""
    made: dict[str, tuple[str, str]] = {}
    for event in events:
        accepted = text_of(event.recorded_at)
        made[event.run_id] = (made.get(event.run_id, (accepted,))[0], accepted)
    return made


def as_get_run(row: Row) -> Row:
    """Return what get_run gives of a row that was queried together with voided ones."""
    of_void = {"reason": row["reason"], "voided": True} if row["voided"] else {}
    return {**{name: row[name] for name in (*COLUMNS, "liveness")}, **of_void}


@tried(histories() | contested(), questions, st.data())
def test_a_view_shows_what_a_fresh_ledger_with_these_events_shows(
    ledgers: Ledgers, history: list[Event], question: Question, data: st.DataObject
) -> None:
    """For any events, any bounds of time and position, and whatever is appended after the view was made."""
    batches = data.draw(batched(history))
    later = data.draw(histories(size_max=3))
    with ledgers() as book, ledgers() as fresh, origin.replaced(clock := Clock()):
        accept(book, clock, batches)
        known = {event.event_id for event in history}
        seen = within(list(book.events()), question)
        view = book.as_of(question[0], known=question[1])
        book.append([event for event in later if event.event_id not in known])
        fresh.append(seen)

        single = {run_id: view.get_run(run_id) for run_id in RUN_IDS}
        rows = {row["run_id"]: row for row in view.query_runs(limit=None, include_voided=True)}

        assert shown(view) == told(seen) == shown(fresh)
        assert single == {run_id: as_get_run(rows[run_id]) if run_id in rows else None for run_id in RUN_IDS}
        assert {run: (row["created_at_db"], row["updated_at_db"]) for run, row in rows.items()} == {
            run: times for run, times in locally(seen).items() if run in rows
        }
        assert (view.get_stats(), view.count_runs()) == (fresh.get_stats(), fresh.count_runs())
        assert list(view.events()) == seen
        check_told(view, fresh)


def check_told(view: AsOf, fresh: Ledger) -> None:
    """Compare the timelines of all runs and chains, and those that neither knows."""
    asked = [{"run_id": run_id} for run_id in RUN_IDS] + [{"chain_of_custody_id": chain} for chain in CHAINS]
    for words in asked:
        told_by = []
        for book in (view, fresh):
            try:
                told_by.append(book.timeline(**words))
            except RunNotFound as exc:
                told_by.append(type(exc))
        assert told_by[0] == told_by[1]


@tried(histories(), st.integers(0, 12))
def test_each_position_is_the_ledger_as_it_was_before_the_next(
    ledgers: Ledgers, history: list[Event], position: int
) -> None:
    """A view by position shows the rows that the ledger itself showed when that was its newest, local columns too."""
    with ledgers() as book:
        for event in history[:position]:
            book.append(event)
        rows = book.query_runs(limit=None, include_voided=True)
        single = {run_id: book.get_run(run_id) for run_id in RUN_IDS}
        for event in history[position:]:
            book.append(event)
        view = book.as_of(known=position)

        assert view.query_runs(limit=None, include_voided=True) == rows
        assert {run_id: view.get_run(run_id) for run_id in RUN_IDS} == single


def test_what_happened_and_what_was_known_are_two_questions(book: Ledger, at: Clock) -> None:
    """A queue that drained an hour late shows by when it happened, and not by when it was known."""
    at.shows = moment(0)
    book.append(launched(0))
    at.shows = moment(HOUR)
    book.append([started(60), completed(120)])

    def status(**asked: Any) -> str:
        return book.as_of(**asked).get_run("r")["status"]

    assert status(when=moment(90)) == "running"
    assert status(known=moment(90)) == "launched"
    assert status(when=moment(90), known=moment(HOUR)) == "running"
    assert status(when=moment(90), known=1) == "launched"
    assert status(when=moment(60)) == "running"
    assert status(when=moment(60 - 1e-6)) == "launched"


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ("2h", ["d0"]),
        (" 1.5h ", ["d0"]),
        (clock(0), ["d0", "d1"]),
        (moment(0), ["d0", "d1"]),
        (moment(0).replace(tzinfo=None), ["d0", "d1"]),
        (date(2024, 5, 1), ["d0"]),
        ("2024-05-02", ["d0", "d1"]),
        ("0s", ["d0", "d1"]),
        ("9999-12-31", ["d0", "d1", "ahead"]),
        (None, ["d0", "d1", "ahead"]),
    ],
)
def test_a_moment_comes_in_any_of_its_forms(book: Ledger, at: Clock, when: object, runs: list[str]) -> None:
    """A datetime, a date, ISO text, an age back from now; and it is inclusive."""
    book.append([launched(-24 * HOUR, run="d0"), launched(0, run="d1"), launched(48 * HOUR, run="ahead")])
    at.shows = moment(HOUR)

    assert [row["run_id"] for row in book.as_of(when).query_runs(order_by="created_at")] == runs


def test_ages_in_filters_count_back_from_then(book: Ledger, at: Clock) -> None:
    """From the moment of the view, be it of happening or of knowing; else from when the view was made."""
    at.shows = moment(0)
    book.append([launched(-3 * HOUR, run="old"), launched(-HOUR, run="new")])
    at.shows = moment(1000 * HOUR)

    def recent(view: AsOf) -> list[str]:
        return [row["run_id"] for row in view.query_runs({"created_after": "2h"})]

    assert recent(book.as_of(moment(0))) == ["new"]
    assert recent(book.as_of(known=moment(0))) == ["new"]
    assert recent(book.as_of(moment(2 * HOUR), known=moment(0))) == []
    assert recent(book.as_of(known=2)) == []
    view = book.as_of()
    at.shows = moment(0)
    assert recent(view) == []
    assert view.count_runs({"created_after": "2h"}) == 0


@pytest.mark.parametrize("known", [True, -1, 2**63, 1.5, "soon", [], "", b"1"])
def test_what_cannot_be_meant_as_known_is_refused(book: Ledger, known: object) -> None:
    """A truth value is no position, and there is none below 0."""
    with pytest.raises(InvalidValue, match="known="):
        book.as_of(known=known)


@pytest.mark.parametrize("when", [True, 5, 1.5, "soon", [], "", "-1d", "99999999999w"])
def test_what_cannot_be_meant_as_when_is_refused(book: Ledger, when: object) -> None:
    """A number is no moment."""
    with pytest.raises(InvalidValue, match="when="):
        book.as_of(when)


def test_a_run_that_was_not_known_by_then_says_so(book: Ledger) -> None:
    """Its timeline and events are an error that says `by then`, and so are those of its chain; its row is None."""
    book.append([launched(0, run="r1"), launched(HOUR, run="r2", chain_of_custody_id="ABC123")])
    view = book.as_of(moment(0))

    for ask in (view.timeline, view.events):
        for words in ({"run_id": "r2"}, {"chain_of_custody_id": "ABC123"}, {"run_id": "\x00"}):
            with pytest.raises(RunNotFound, match="in this ledger by then. Ask as of a later moment"):
                ask(**words)
    assert (view.get_run("r2"), view.get_run("\x00"), view.count_runs()) == (None, None, 1)


def test_a_type_that_was_not_known_by_then_is_no_type(book: Ledger) -> None:
    """What is refused does not change with what comes later."""
    book.append([launched(0), unknown(1, type="moon_landed")])

    assert [event.type for event in book.as_of().events(types="moon_landed")] == ["moon_landed"]
    with pytest.raises(UnknownFilter, match="types="):
        book.as_of(known=1).events(types=["launched", "moon_landed"])
    with pytest.raises(UnknownFilter, match="types="):
        book.as_of(known=1).events(types=[5])


def test_events_are_those_of_then_a_page_at_a_time(book: Ledger) -> None:
    """From behind a position, of one run, of a chain, of some types, over more than a page."""
    book.append([launched(0, chain_of_custody_id="ABC123"), launched(0, run="s", chain_of_custody_id="ABC123")])
    book.append([heartbeat(number % 7, run="rs"[number % 2], step=number) for number in range(1300)])
    view = book.as_of(moment(5), known=1290)
    book.append(heartbeat(1, step=0))

    def positions(events: Iterator[Recorded]) -> list[int]:
        return [event.position for event in events]

    seen = [event for event in book.events() if event.position <= 1290 and event.occurred_at <= moment(5)]
    assert positions(view.events()) == positions(iter(seen))
    assert positions(view.events(after=700)) == [event.position for event in seen if event.position > 700]
    assert positions(view.events("r")) == [event.position for event in seen if event.run_id == "r"]
    assert positions(view.events("r", after=9, types="heartbeat")) == [
        event.position for event in seen if event.run_id == "r" and event.position > 9
    ]
    assert positions(view.events(chain_of_custody_id="ABC123")) == positions(iter(seen))
    assert positions(view.events("s", "ABC123", types=["launched"])) == [2]
    assert positions(book.as_of(known=0).events()) == []


def test_one_run_needs_no_preparation(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row, its events and its timeline are folded and read by themselves; the rest is prepared once."""
    book.append([launched(0), wandb_attached(1, wandb_run_id="w"), wandb_attached(0, run="s", wandb_run_id="w")])
    times = []
    prepare = past.prepared
    monkeypatch.setattr(past, "prepared", lambda *args: times.append(1) or prepare(*args))
    view = book.as_of()

    assert view.get_run("r")["wandb_run_id"] is None
    assert view.get_run("s")["wandb_run_id"] == "w"
    assert (len(view.timeline(run_id="r")), len([*view.events("r")]), len([*view.events()])) == (2, 2, 3)
    assert times == []
    assert (view.count_runs(), view.get_stats()["total_runs"], len(view.query_runs())) == (2, 2, 2)
    assert times == [1]


def test_threads_share_a_view(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """They all get the same answers, while others append, and the preparation is done once."""
    book.append([launched(number, run=f"r{number}") for number in range(50)])
    times = []
    prepare = past.prepared
    monkeypatch.setattr(past, "prepared", lambda *args: times.append(1) or prepare(*args))
    answers: list[object] = []
    with book.as_of() as view:
        gate = threading.Barrier(9)

        def ask(number: int) -> None:
            gate.wait()
            for _ in range(20):
                answers.append(
                    (view.count_runs(), len(view.query_runs({"min_created_at": clock(25)})), view.get_run("r7"))
                )

        threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        gate.wait()
        for number in range(20):
            book.append([launched(number, run=f"later{number}"), amended(number + 1, run="r7", host="moon")])
        for thread in threads:
            thread.join()

    assert len(answers) == 160
    assert all(answer == (50, 25, answers[0][2]) for answer in answers)
    assert answers[0][2]["host"] is None
    assert times == [1]


def test_a_view_is_carried_over_a_fork(path: Path) -> None:
    """Parent and child each ask it on, though another thread was in the middle of asking when the child was made."""
    in_a_process(
        textwrap.dedent("""
        book = Ledger(sys.argv[1])
        book.append([Launched(run_id=f"r{n}") for n in range(2000)])
        view = book.as_of()
        view.count_runs()
        book.append(Launched(run_id="later"))
        asking = threading.Thread(target=lambda: [view.query_runs(limit=None) for _ in range(20)])
        asking.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if view.count_runs() == len(view.query_runs(limit=None)) == 2000 else 1)
            assert os.waitpid(child, 0)[1] == 0
        asking.join()
        assert view.count_runs() == 2000
        """),
        path,
    )


def test_a_closed_view_is_closed(book: Ledger) -> None:
    """It drops its tables, closes again without a word, and every question to it is an error with the mend."""
    book.append(launched(0))
    with book.as_of() as view:
        following = view.events()
        assert view.count_runs() == 1
        tables = view._answers._prepared
    view.close()

    assert book.count_runs() == 1
    for ask in (
        view.count_runs,
        view.get_stats,
        view.query_runs,
        view.events,
        lambda: view.get_run("r"),
        following.__next__,
    ):
        with pytest.raises(LedgerClosed, match=r"this view was closed. Open a new one with as_of\("):
            ask()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        tables.execute("SELECT 1")


@in_a_file
def test_a_view_changes_nothing_and_nobody_changes_it(book: Ledger, path: Path) -> None:
    """The ledger's file stays as it is, and the view's tables refuse to be written."""
    book.append(launched(0))
    book.close()
    before = path.read_bytes()
    with Ledger(path) as again, again.as_of() as view:
        assert view.count_runs() == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            view._answers._prepared.execute("DELETE FROM training_runs")
        assert not hasattr(view, "append")
        assert repr(view) == f"AsOf('{path}', when=None, known=None)"
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_where_there_is_no_ledger_there_is_no_view(path: Path) -> None:
    """It is an error at once, and no file is made by it."""
    with pytest.raises(NoLedger), Ledger(path) as book:
        book.as_of()
    with pytest.raises(NotConfigured):
        Ledger("off").as_of()
    assert not path.exists()


def test_an_empty_ledger_had_nothing(book: Ledger) -> None:
    """Every answer is there, and empty."""
    view = book.as_of("7d", known=5)

    assert (view.query_runs(), view.count_runs(), [*view.events()], view.get_run("r")) == ([], 0, [], None)


@in_a_file
def test_a_prepared_view_has_the_indexes_of_the_ledger(book: Ledger, path: Path) -> None:
    """So the same statements go the same ways, and a view of many runs answers as the ledger does."""
    book.append(launched(0))
    view = book.as_of()
    view.count_runs()
    asked = "SELECT name, sql FROM sqlite_master WHERE tbl_name IN ('training_runs', 'voided_runs', 'training_claims')"
    with closing(sqlite3.connect(path)) as db:
        assert sorted(view._answers._prepared.execute(asked)) == sorted(db.execute(asked)) != []


def peak_of_preparing(path: Path, runs: int) -> int:
    """Return how much memory Python takes to prepare a view of so many runs."""
    with Ledger(path) as book:
        for first in range(0, runs, 1000):
            numbers = range(first, first + 1000)
            events = [launched(n, run=f"r{n}", config={"x": "y" * 1000}) for n in numbers]
            book.append(events + [wandb_attached(n, run=f"r{n}", wandb_run_id=f"w{n}") for n in numbers])
        view = book.as_of()
        book.as_of(known=1).count_runs()  # what is compiled once
        tracemalloc.start()
        try:
            assert view.count_runs() == runs
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            view.close()


def test_preparing_takes_no_more_memory_for_more_runs(tmp_path: Path) -> None:
    """Four times the runs, and the same memory."""
    few, many = (peak_of_preparing(tmp_path / f"{runs}.db", runs) for runs in (1000, 4000))
    assert many < few * 1.3


@in_a_file
def test_folding_every_run_goes_by_an_index(book: Ledger, path: Path) -> None:
    """The events come in order of position, unsorted; one run's, and a W&B id's runs, without reading the others."""
    book.append([launched(0), wandb_attached(1, wandb_run_id="w")])
    steps: dict[str, list[str]] = {}
    with closing(sqlite3.connect(path)) as db:
        seen: list[str] = []
        db.set_trace_callback(seen.append)
        assert len(list(folded_runs(lambda: nullcontext(db)))) == 1
        past.row_then(db, "r", EVERYTHING, Present(NOON))
        db.set_trace_callback(None)
        for sql in seen:
            steps[sql] = [step for *_, step in db.execute(f"EXPLAIN QUERY PLAN {sql}")]

    (every,) = (plan for sql, plan in steps.items() if "run_id =" not in sql and "json_extract" not in sql)
    one = {step for sql, plan in steps.items() if "run_id =" in sql for step in plan if "training_events" in step}
    (stating,) = (plan for sql, plan in steps.items() if "json_extract" in sql)
    assert every == ["SEARCH training_events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]
    assert all(step.startswith("SEARCH training_events USING") and "(run_id=?" in step for step in one), one
    assert len(stating) == 1
    assert stating[0].startswith("SEARCH training_events USING INDEX training_events_wandb_run_id (<expr>=?")


def test_a_voided_run_was_not_void_before(book: Ledger) -> None:
    """And held its W&B id then, which another run holds now."""
    book.append([launched(0), wandb_attached(1, wandb_run_id="w"), wandb_attached(2, run="s", wandb_run_id="w")])
    book.append(voided(9, reason="bogus"))
    before, after = book.as_of(moment(8)), book.as_of(moment(9))

    assert [before.get_run(run)["wandb_run_id"] for run in "rs"] == ["w", None]
    assert [after.get_run(run)["wandb_run_id"] for run in "rs"] == [None, "w"]
    assert (before.count_runs(), after.count_runs(), after.count_runs(include_voided=True)) == (2, 1, 2)
    assert ("voided" in before.get_run("r"), after.get_run("r")["reason"]) == (False, "bogus")


def test_a_run_that_moved_on_to_another_id_claims_the_first_no_more(book: Ledger) -> None:
    """Who once stated a W&B id is looked at, and has no say where it claims another by then."""
    book.append([wandb_attached(1, wandb_run_id="w1"), wandb_attached(2, wandb_run_id="w2")])
    book.append(wandb_attached(3, run="s", wandb_run_id="w1"))

    assert [book.as_of().get_run(run)["wandb_run_id"] for run in "rs"] == ["w2", "w1"]
    assert [book.as_of().get_run(run)["wandb_run_id"] for run in "rs"] == [
        book.get_run(run)["wandb_run_id"] for run in "rs"
    ]
    assert book.as_of(moment(1)).get_run("r")["wandb_run_id"] == "w1"


@tried(contested(), questions)
def test_a_run_alone_shows_the_wandb_id_that_it_shows_among_all(
    ledgers: Ledgers, history: list[Event], question: Question
) -> None:
    """For any claims: by the few runs that ever stated the id as by all."""
    with ledgers() as book, origin.replaced(clock := Clock()):
        accept(book, clock, [[event] for event in history])
        view = book.as_of(question[0], known=question[1])
        every = {row["run_id"]: row["wandb_run_id"] for row in view.query_runs(limit=None, include_voided=True)}

        assert {run: row["wandb_run_id"] for run in RUN_IDS if (row := view.get_run(run))} == every


def test_a_view_survives_a_replay(book: Ledger) -> None:
    """The tables that it was prepared beside may be thrown away."""
    book.append([launched(0), launched(timedelta(hours=1).total_seconds(), run="s")])
    with book.as_of(moment(0)) as prepared_before, book.as_of(moment(0)) as prepared_after:
        rows = prepared_before.query_runs()
        book.replay()
        assert prepared_before.query_runs() == prepared_after.query_runs() == rows
        assert {*rows[0]} - LOCAL
