"""Following a ledger: every event once, in order of position, from whoever commits it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from itertools import islice
from pathlib import Path
from queue import Empty, Queue

import pytest
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import (
    InvalidValue,
    LedgerClosed,
    LedgerError,
    NoLedger,
    NotConfigured,
    PositionUnknown,
    UnknownFilter,
)
from ledger.events import Recorded
from ledger.store import following
from tests.behind import behind, is_url
from tests.builders import heartbeat, launched, started
from tests.places import Ledgers, anywhere, in_a_file, on_both, tried
from tests.store.crowd import crowd
from tests.store.crowd import following as following_process
from tests.store.test_forks_and_threads import in_a_process

pytestmark = on_both

WRITERS, EACH = 4, 200


class Enough(Exception):
    """A follower goes on for ever; this ends it."""


class Follower:
    """A thread that follows, and what it has seen."""

    def __init__(self, book: Ledger, **wanted: object) -> None:
        self._events = book.follow(**wanted)  # type: ignore[arg-type]
        self._seen: Queue[Recorded | LedgerError] = Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._events:
                self._seen.put(event)
        except LedgerError as exc:
            self._seen.put(exc)

    def next(self, seconds: float = 10) -> Recorded | LedgerError:
        return self._seen.get(timeout=seconds)

    def positions(self, count: int) -> list[int]:
        return [getattr(self.next(), "position", -1) for _ in range(count)]

    def sees_nothing(self) -> bool:
        try:
            self._seen.get(timeout=0.1)
        except Empty:
            return True
        return False


@anywhere
def test_what_is_there_comes_first_and_then_what_comes(book: Ledger) -> None:
    """A follower gets the events from the first, then each as it is appended, also several of one commit."""
    book.append([launched(), started()])
    follower = Follower(book)
    assert follower.positions(2) == [1, 2]

    book.append(heartbeat())
    book.append([heartbeat() for _ in range(1200)])
    assert follower.positions(1201) == list(range(3, 1204))


@pytest.mark.parametrize(("after", "first"), [(None, 1), (0, 1), (2, 3), ("2", 3)])
def test_it_begins_behind_a_position(book: Ledger, after: int | None, first: int) -> None:
    """Without `after` from the first event, else from the one behind it."""
    book.append([heartbeat() for _ in range(3)])

    assert next(book.follow(after)).position == first


@anywhere
def test_types_and_runs_choose_among_what_comes(book: Ledger) -> None:
    """What is filtered away is not seen, and the run may be one that nobody has heard of."""
    follower = Follower(book, types=["started", "launched"], run_id="late")
    for run in ("early", "late"):
        book.append([launched(run=run), heartbeat(run=run), started(run=run)])

    assert follower.positions(2) == [4, 6]
    assert follower.sees_nothing()


@tried(st.data())
def test_a_follower_sees_what_events_gives(ledgers: Ledgers, data: st.DataObject) -> None:
    """Whatever is appended in whatever batches, and asked for, a follower sees what `events` gives afterwards."""
    kinds = {"launched": launched, "started": started, "heartbeat": heartbeat}
    batches = data.draw(
        st.lists(st.lists(st.tuples(st.sampled_from(sorted(kinds)), st.sampled_from("rs")), max_size=6))
    )
    types = data.draw(st.none() | st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=2))
    run_id = data.draw(st.none() | st.sampled_from("rs"))
    with ledgers() as book, pytest.MonkeyPatch.context() as patched:
        patched.setattr(following, "POSITIONS_MAX", data.draw(st.integers(1, 4)))
        patched.setattr("ledger.store.waiting.time.sleep", stop)  # on a server, too: it looks often at first
        seen: list[Recorded] = []
        events = book.follow(types=types, run_id=run_id)
        for batch in batches:
            book.append([kinds[kind](run=run) for kind, run in batch])
            try:
                seen.extend(events)
            except Enough:  # it had to wait; a generator that raised is over, so go on behind it
                after = max((event.position for event in book.events()), default=0)
                events = book.follow(after, types, run_id)
        wanted = [event for event in book.events(types=types) if run_id in (None, event.run_id)]
        assert seen == wanted


def stop(seconds: float) -> None:
    raise Enough


def test_what_is_filtered_away_is_not_read_again(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that wants nothing of what is there looks at each stretch once."""
    book.append([heartbeat() for _ in range(50)])
    monkeypatch.setattr(following, "POSITIONS_MAX", 10)
    looks: list[int] = []
    real = following.look

    def look(connection: sqlite3.Connection, after: int, *more: object) -> following.Look:
        looks.append(after)
        if len(looks) > 8:
            raise Enough
        return real(connection, after, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(following, "look", look)
    with pytest.raises(Enough):
        list(book.follow(types="started"))

    assert looks == [0, 10, 20, 30, 40, 50, 50, 50, 50]


@in_a_file
def test_a_look_goes_by_position(book: Ledger) -> None:
    """Whatever is asked for, SQLite walks along the positions, and never through a run's whole past."""
    for types in (None, ("started", "heartbeat")):
        with book._database.read() as connection:
            sql = following._paging(types, of_run=True, on_file=True).on(connection).sql
            names = ["x"] * sql.count("?")
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", names))
        assert plan == "SEARCH training_events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"


def test_four_writing_processes_and_a_following_one(path: Path) -> None:
    """The follower in a process of its own sees each of the events once, in order of position."""
    with Ledger(path) as book:
        book.init_db()
    follower = following_process(path)
    try:
        answers = crowd("append", WRITERS, path, EACH)
        assert follower.stdout is not None
        seen = [follower.stdout.readline().split() for _ in range(WRITERS * EACH)]
    finally:
        follower.kill()
        follower.communicate()

    assert [answer for answer in answers if "error" in answer] == []
    with Ledger(path) as book:
        assert seen == [[str(event.position), event.event_id] for event in book.events()]
    assert [int(position) for position, _ in seen] == list(range(1, WRITERS * EACH + 1))


@anywhere
def test_several_threads_follow_one_ledger(book: Ledger) -> None:
    """Each has a place of its own, while other threads write."""
    followers = [Follower(book) for _ in range(3)]
    writers = [threading.Thread(target=lambda: [book.append(heartbeat()) for _ in range(30)]) for _ in range(3)]
    for writer in writers:
        writer.start()

    seen = [follower.positions(90) for follower in followers]
    assert seen[0] == seen[1] == seen[2]
    # On a server transactions commit out of the order of their positions, which have holes; all see them in one order.
    positions = [event.position for event in book.events()]
    assert (sorted(seen[0]) if is_url(book._settings.url) else seen[0]) == positions
    assert len(positions) == 90


def test_where_there_is_no_ledger_there_is_none_to_follow(bare_place: str) -> None:
    """The call itself says so, and makes none."""
    with Ledger(bare_place) as book:
        for _ in range(2):
            with pytest.raises(NoLedger):
                book.follow()


def test_what_cannot_be_meant_is_refused_at_the_call(book: Ledger) -> None:
    """An unknown type, a position and a run that cannot be are errors before anything is fetched."""
    with pytest.raises(UnknownFilter):
        book.follow(types="startd")
    for wrong in ({"after": -1}, {"after": "x"}, {"types": 5}, {"run_id": "a\x00"}, {"run_id": 5}):
        with pytest.raises(InvalidValue):
            book.follow(**wrong)  # type: ignore[arg-type]


def test_recording_switched_off_gives_nothing_to_follow() -> None:
    """With TRAINING_DB_URL=off following is an error, as asking is."""
    with Ledger("off") as book:
        with pytest.raises(NotConfigured):
            book.follow()
        with pytest.raises(NotConfigured):
            book.subscription("slack")


@anywhere
def test_a_closed_ledger_ends_it(book: Ledger) -> None:
    """A follower in another thread learns that the Ledger was closed, and does not go on unseen."""
    book.append(started())
    follower = Follower(book)
    follower.next()
    book.close()

    assert isinstance(follower.next(), LedgerClosed)


def test_nobody_comes_in_while_a_ledger_is_closed(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads just when the connections were let go of, as followers do, opens none that would outlive the Ledger."""
    book.append(started())
    let_go = book._database.let_go

    def let_go_and_look() -> None:
        let_go()
        with pytest.raises(LedgerClosed):
            book.get_stats()

    monkeypatch.setattr(book._database, "let_go", let_go_and_look)
    book.close()
    monkeypatch.undo()


def test_the_caller_may_stop(book: Ledger) -> None:
    """Closing the generator ends it, and leaves the ledger as it was."""
    book.append([started(), heartbeat()])
    events = book.follow()
    next(events)
    events.close()

    assert list(events) == []
    assert len(list(book.events())) == 2


def test_an_unheard_of_position_is_refused(book: Ledger) -> None:
    """Who comes with a position that was not given out would skip what comes; the error names the newest."""
    book.append(started())
    with pytest.raises(PositionUnknown, match=r"newest is 1.*follow\(after="):
        next(book.follow(after=5))


@in_a_file
@pytest.mark.parametrize("newer", [0, 1, 2, 5])
def test_an_earlier_state_put_in_place_is_noticed(book: Ledger, path: Path, newer: int) -> None:
    """After a backup was put back, also when the ledger has grown past the follower since, nothing is skipped silently."""
    book.append(started())
    kept = book.backup(path.with_name("kept.db"))
    book.append([heartbeat(), heartbeat()])
    events = book.follow()
    assert [event.position for event in islice(events, 3)] == [1, 2, 3]
    book.restore_backup(kept)
    book.append([heartbeat() for _ in range(newer)])

    with pytest.raises(PositionUnknown):
        next(events)


@in_a_file
def test_a_moved_copy_of_the_same_ledger_is_followed_on(book: Ledger, path: Path) -> None:
    """Another file with the same events, put in place, is the same ledger: the follower goes on in it."""
    book.append([started(), heartbeat()])
    events = book.follow()
    assert [event.position for event in islice(events, 2)] == [1, 2]
    book.restore_backup(book.backup(path.with_name("copy.db")))
    book.append(heartbeat())

    assert next(events).position == 3


@in_a_file
def test_a_vanished_file_is_no_silence(book: Ledger, path: Path) -> None:
    """A follower whose ledger was taken away says so, and does not wait for ever."""
    book.append(started())
    follower = Follower(book)
    follower.next()
    shutil.move(path, path.with_name("away.db"))

    assert isinstance(follower.next(), NoLedger)


def test_a_fork_while_following(path: Path) -> None:
    """Threads follow while the process forks and both sides record; each side sees all in order."""
    in_a_process(
        """
        book = Ledger(sys.argv[1])
        book.append(Started(run_id="r"))
        seen, own = [], book.follow()
        threading.Thread(target=lambda: seen.extend(e.position for e in book.follow()), daemon=True).start()
        assert next(own).position == 1
        for number in range(20):
            child = os.fork()
            if child == 0:
                book.append(Heartbeat(run_id="child", step=number))
                assert next(own).position == 2 * number + 2
                book.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            book.append(Heartbeat(run_id="r", step=number))
            assert [next(own).position for _ in range(2)] == [2 * number + 2, 2 * number + 3]
        until = time.monotonic() + 20
        while len(seen) < 41 and time.monotonic() < until:
            time.sleep(0.01)
        assert seen == list(range(1, 42)), seen
        os._exit(0)
        """,
        path,
        timeout=60,
    )


def test_a_follower_stops_no_fork(book: Ledger) -> None:
    """Between two looks a follower holds no connection that a fork would have to wait for."""
    follower = Follower(book)
    before = time.monotonic()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    assert time.monotonic() - before < 10
    book.append(started())
    assert follower.positions(1) == [1]


def test_deleted_behind_its_back(book: Ledger, place: str) -> None:
    """What somebody deletes behind the ledger's back gives no new numbers to what comes, and is noticed."""
    book.append([started(), heartbeat(), heartbeat()])
    events = book.follow()
    assert len(list(islice(events, 3))) == 3
    with behind(place) as db:
        db.execute("DELETE FROM training_events WHERE position = 3")

    assert next(book.follow(after=1)).position == 2
    with pytest.raises(PositionUnknown):
        next(events)
