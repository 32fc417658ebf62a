"""Ledgers that never met are merged, in any direction and order, and afterwards show the same."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import AskedWrongly, InvalidValue, LedgerError, LedgerUnreachable, NotALedger, NotTheSame
from ledger.events import Event
from ledger.progress import Progress
from ledger.store import merging, sources
from tests.builders import (
    amended,
    completed,
    heartbeat,
    launched,
    shown,
    started,
    told,
    trials,
    unknown,
    wandb_attached,
)
from tests.store.crowd import killed, writing
from tests.store.test_merge_lines import counts, kept_aside
from tests.strategies import histories


def filled(path: Path, *events: Event) -> Path:
    """Make a ledger of these events, and close it."""
    with Ledger(path) as book:
        book.init_db()
        book.append(events)
    return path


def contents(folder: Path) -> dict[str, str]:
    """Return each file of a folder with the hash of what is in it."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def digests(book: Ledger) -> set[tuple[str, str]]:
    return {(event.event_id, event.digest) for event in book.events()}


def test_two_ledgers_become_one(book: Ledger, tmp_path: Path) -> None:
    """What only the other knew is new, what both know is known, and the window shows the fold of all."""
    common = launched(0, config={"batch_size": 8})
    book.append([common, started(1)])
    other = filled(tmp_path / "other.db", common, completed(9), launched(0, run="s"))

    found = book.merge(other)

    assert (counts(found), found.proved, found.ok) == ((3, 2, 1, 0), True, True)
    assert shown(book) == told(book.events())
    assert book.verify()
    assert counts(book.merge(other)) == (3, 0, 3, 0)


def test_a_source_is_not_changed(book: Ledger, tmp_path: Path) -> None:
    """Neither its file nor what lies beside it."""
    other = filled(tmp_path / "there" / "other.db", launched(0), started(1))
    before = contents(other.parent)

    assert book.merge(other).new == 2
    assert contents(other.parent) == before


def test_a_merge_creates_the_ledger(tmp_path: Path) -> None:
    """As the first recording does."""
    other = filled(tmp_path / "other.db", launched(0))
    with Ledger(tmp_path / "new" / "runs.db") as book:
        assert book.merge(other).new == 1
        assert book.verify()


def test_several_sources_by_path_and_url(book: Ledger, tmp_path: Path) -> None:
    """Whatever they have in common, each event is accepted once; the answer is of all of them."""
    events = [launched(0), started(1), completed(2)]
    for name, some in (("a", events[:2]), ("b", events[1:])):
        filled(tmp_path / f"{name}.db", *some)

    found = book.merge(f"sqlite:///{tmp_path}/a.db", str(tmp_path / "b.db"))

    assert (counts(found), found.proved) == ((4, 3, 1, 0), True)


@st.composite
def divided(draw: st.DrawFn, parts: int = 3) -> list[list[Event]]:
    """A set of events over several ledgers, some of them in more than one, each in an order of its own."""
    events = draw(histories(size_max=14))
    homes = [draw(st.sets(st.integers(0, parts - 1), min_size=1)) for _ in events]
    return [
        draw(st.permutations([event for event, home in zip(events, homes, strict=True) if part in home]))
        for part in range(parts)
    ]


def meet(books: list[Ledger], merges: Iterable[tuple[int, int]]) -> None:
    """Let ledgers take in others, one after the other."""
    for into, of in merges:
        books[into].merge(books[of].url)


EVERY_DIRECTION = [(into, of) for into in range(3) for of in range(3) if into != of]


@settings(max_examples=trials(30, 300))
@given(divided(), st.data())
def test_ledgers_that_have_met_show_the_same(parts: list[list[Event]], data: st.DataObject) -> None:
    """Any division, merged in any order, partially, twice: at the end all tables are equal and each is its fold."""
    partial = data.draw(st.lists(st.sampled_from(EVERY_DIRECTION), max_size=4))
    whole = [*data.draw(st.permutations(EVERY_DIRECTION)), *data.draw(st.permutations(EVERY_DIRECTION))]
    with tempfile.TemporaryDirectory() as folder:
        books = [Ledger(Path(folder, f"{number}.db")) for number in range(3)]
        for book, events in zip(books, parts, strict=True):
            book.init_db()
            book.append(events[: len(events) // 2])
        meet(books, partial)
        for book, events in zip(books, parts, strict=True):
            book.append(events)
        meet(books, whole)

        every = {event.event_id: event for events in parts for event in events}
        assert [shown(book) for book in books] == [told(every.values())] * 3
        assert [book.verify().differences for book in books] == [()] * 3
        for book in books:
            book.close()


CLAIMS = [launched(0, run="a"), launched(1, run="b"), wandb_attached(5, run="a", wandb_run_id="w")]
CLAIMS += [wandb_attached(3, run="b", wandb_run_id="w"), amended(9, run="b", host="ec2")]
LAUNCHES = [launched(5, config={"lr": 1}), launched(2, config={"lr": 2}), launched(2, config={"lr": 3}), started(7)]


@pytest.mark.parametrize("events", [CLAIMS, LAUNCHES], ids=["one W&B id, two runs", "one run, several configs"])
@settings(max_examples=trials(20, 200))
@given(data=st.data())
def test_claims_are_decided_alike_everywhere(events: list[Event], data: st.DataObject) -> None:
    """Who holds a W&B id, and which launch is the birth, is the same on every ledger, whoever merged what first."""
    cut = data.draw(st.integers(0, len(events)))
    shuffled = data.draw(st.permutations(events))
    with tempfile.TemporaryDirectory() as folder:
        one, other = Ledger(Path(folder, "1.db")), Ledger(Path(folder, "2.db"))
        for book, some in ((one, shuffled[:cut]), (other, shuffled[cut:])):
            book.init_db()
            book.append(some)
        one.merge(other.url)
        other.merge(one.url)

        assert shown(one) == shown(other) == told(events)
        one.close()
        other.close()


def test_a_conflict_is_kept_on_both_sides(book: Ledger, path: Path, tmp_path: Path) -> None:
    """Each keeps what it accepted first and the other's content aside; merging again stores nothing twice."""
    book.append(completed(0, number=1, exit_code=0))
    with Ledger(filled(tmp_path / "other.db", completed(0, number=1, exit_code=1))) as other:
        rounds = [book.merge(other.url).refused for _ in range(3)] + [other.merge(path).refused for _ in range(3)]

        assert rounds == [1] * 6
        assert [payload for _, payload, _ in kept_aside(path)] == ['{"exit_code":1}']
        assert [payload for _, payload, _ in kept_aside(tmp_path / "other.db")] == ['{"exit_code":0}']
        assert (book.verify().ok, other.verify().ok) == (True, True)


def test_a_conflict_goes_on_to_a_third_ledger(book: Ledger, path: Path, tmp_path: Path) -> None:
    """What a source keeps aside is offered like its events, so that a chain of merges loses neither content."""
    book.append(completed(0, number=1, exit_code=0))
    book.merge(filled(tmp_path / "other.db", completed(0, number=1, exit_code=1)))
    with Ledger(tmp_path / "third.db") as third:
        found = third.merge(path)

    assert (counts(found), found.proved) == ((2, 1, 0, 1), True)
    assert [payload for _, payload, _ in kept_aside(tmp_path / "third.db")] == ['{"exit_code":1}']


def behind(path: Path, *sql: str) -> None:
    """Do something to a ledger's file that no ledger would do."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in sql:
            connection.execute(statement)


@pytest.mark.parametrize(
    "attack",
    [
        "payload = '{\"exit_code\":7}'",
        "payload = '{'",
        "run_id = 'x' || char(0) || 'y'",
        "occurred_at = 'yesterday'",
        "occurred_at = '2024-05-01T12:00:00.000001Z'",
        "digest = 'none'",
        "source = '[]'",
        "type = 'failed'",
        "payload = CAST(X'7b2261223a22ff227d' AS TEXT)",
    ],
)
def test_a_tampered_event_of_a_source_is_refused_and_named(book: Ledger, tmp_path: Path, attack: str) -> None:
    """Its digest does not fit any more; the rest of the source is taken in."""
    other = filled(tmp_path / "other.db", completed(0, number=1), started(1))
    behind(other, f"UPDATE training_events SET {attack} WHERE position = 1")

    found = book.merge(other)

    assert (counts(found), found.proved) == ((2, 1, 0, 1), True)
    assert (found.refusals[0].where, found.refusals[0].event_id) == ("position 1", str(completed(0, number=1).event_id))
    assert book.verify()


def test_a_source_of_the_first_schema_is_read_and_not_migrated(book: Ledger, tmp_path: Path) -> None:
    """It stays as it is; so does one that was written by a later version."""
    older, later = (filled(tmp_path / name, launched(0, run=name)) for name in ("older.db", "later.db"))
    behind(older, "DELETE FROM ledger_migrations WHERE name <> 'm001_the_ledger'", "DROP TABLE training_conflicts")
    behind(later, "INSERT INTO ledger_migrations VALUES ('m999_what_is_to_come', 'one day')")
    before = contents(tmp_path)

    assert book.merge(older, later).new == 2
    assert {name: found for name, found in contents(tmp_path).items() if not name.startswith("runs.db")} == {
        name: found for name, found in before.items() if not name.startswith("runs.db")
    }


def test_a_source_with_a_live_writer_is_read_as_of_one_moment(book: Ledger, tmp_path: Path) -> None:
    """The writer goes on, and every event that was there when the merge began is here."""
    other = tmp_path / "other.db"
    writer = writing(other, "r")
    try:
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(20)]
        found = [book.merge(other) for _ in range(4)]
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()

    assert set(said) <= {event.event_id for event in book.events()}
    assert all(merged.proved and merged.ok for merged in found)
    assert book.merge(other).proved
    assert book.verify()


def test_what_a_killed_writer_left_is_read_and_left(book: Ledger, tmp_path: Path) -> None:
    """A -wal that nobody has folded in belongs to the source: its events come, and it stays."""
    other = tmp_path / "there" / "other.db"
    writer = writing(other, "r")
    assert writer.stdout is not None
    said = {writer.stdout.readline().strip() for _ in range(5)}
    writer.kill()
    writer.communicate()
    before = {name: found for name, found in contents(other.parent).items() if not name.endswith("-shm")}
    assert before.keys() == {"other.db", "other.db-wal"}

    assert book.merge(other).proved
    assert said <= {event.event_id for event in book.events()}
    assert {name: found for name, found in contents(other.parent).items() if not name.endswith("-shm")} == before


def test_a_source_in_a_folder_that_nobody_may_write_to_is_read(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite wants to put something beside the file; where it cannot, and nobody else did, it is read as it lies."""
    other = filled(tmp_path / "other.db", launched(0), started(1))
    tried: list[str] = []
    reading = sources._reading

    def refusing(path: Path, how: str) -> sqlite3.Connection:
        tried.append(how)
        if how != "immutable=1":
            raise sqlite3.OperationalError("unable to open database file")
        return reading(path, how)

    monkeypatch.setattr(sources, "_reading", refusing)
    assert book.merge(other).new == 2
    assert tried == ["mode=rw", "immutable=1"]

    other.with_name("other.db-wal").write_bytes(b"somebody's")
    with pytest.raises(LedgerUnreachable, match=r"other\.db"):
        book.merge(other)


def test_a_ledger_merged_into_itself_is_as_it_was(book: Ledger, path: Path, tmp_path: Path) -> None:
    """All is known, under whatever name it is called, and nobody waits for himself."""
    book.append([launched(0), started(1)])
    link = tmp_path / "link.db"
    link.symlink_to(path)
    before = list(book.events())

    assert counts(book.merge(path, link)) == (4, 0, 4, 0)
    assert list(book.events()) == before


def test_a_ledger_on_a_network_filesystem_merges_itself_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rollback journal a reader stops every writer, so no page is read while a batch is written."""
    monkeypatch.setattr("ledger.store.sqlite.on_network", lambda path: True)
    monkeypatch.setattr(sources, "PAGE_EVENTS_MAX", 2)
    with Ledger(path, busy_seconds_max=2) as book:
        book.append([heartbeat(step, step=step) for step in range(7)])
        assert counts(book.merge(path)) == (7, 0, 7, 0)


def test_looking_at_a_source_gives_no_lock_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has a ledger locked still has it locked after merging from it: closing a file frees its locks."""
    monkeypatch.setattr("ledger.store.sqlite.on_network", lambda path: True)
    attempt = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    with Ledger(path) as book, Ledger(":memory:") as other:
        book.append(launched(0))
        with book._database.write():
            assert other.merge(path).new == 1
            tried = subprocess.run([sys.executable, "-c", attempt, str(path)], capture_output=True, text=True)
            assert "database is locked" in tried.stderr


@pytest.mark.parametrize("text", [b"", b"\n", b" " * 20, b"SQLite format 3\x00", b"{}" * 600])
def test_a_file_that_is_nearly_nothing_is_a_source(book: Ledger, tmp_path: Path, text: bytes) -> None:
    """It is told apart from a database, and has no event."""
    (tmp_path / "source").write_bytes(text)
    assert book.merge(tmp_path / "source").new == 0
    assert (tmp_path / "source").read_bytes() == text


def test_large_and_strange_events_arrive_as_they_are(book: Ledger, tmp_path: Path) -> None:
    """A payload of 5 MB, a run id of 100,000 characters, a type that nobody knows: verbatim."""
    events = [
        launched(0, run="r" * 100_000, config={"text": "x" * 5_000_000}),
        unknown(1, type="moon_landed", payload={"who": "Neil"}),
        *(launched(2, run=f"large-{number}", config={"text": "y" * 3_000_000}) for number in range(3)),
    ]
    with Ledger(filled(tmp_path / "other.db", *events)) as other:
        assert counts(book.merge(other.url)) == (5, 5, 0, 0)
        assert digests(book) == digests(other)
        assert shown(book) == shown(other)


def test_progress_is_told(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event counts twice: when it is taken in, and when it is proved."""
    monkeypatch.setattr("ledger.progress.TOLD_EVERY_SECONDS", 0)
    monkeypatch.setattr(merging, "BATCH_EVENTS_MAX", 2)
    heard: list[Progress] = []
    book.merge(filled(tmp_path / "other.db", *(heartbeat(step, step=step) for step in range(4))), progress=heard.append)

    assert [(progress.done, progress.total) for progress in heard] == [(2, 8), (4, 8), (6, 8), (8, 8), (8, 8)]


def test_a_merge_that_lost_an_event_says_so(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof reads the source again, and an event that is not here is an error that names it."""
    other = filled(tmp_path / "other.db", launched(0, number=1), started(1, number=2))
    append = merging.log.append
    monkeypatch.setattr(merging.log, "append", lambda connection, facts, **more: append(connection, facts[:-1], **more))

    with pytest.raises(NotTheSame, match="00000000-0000-0000-0000-000000000002"):
        book.merge(other)


def _nothing(path: Path) -> None:
    pass


def _songs(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title)")


def _cut(path: Path) -> None:
    filled(path, launched(0))
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "error"),
    [(_nothing, InvalidValue), (_songs, NotALedger), (_cut, LedgerError)],
)
def test_what_is_no_source_is_an_error(book: Ledger, tmp_path: Path, make: Any, error: type[LedgerError]) -> None:
    """It is named, and nothing is created in its place."""
    place = tmp_path / "source.db"
    make(place)
    before = place.exists()

    with pytest.raises(error, match=r"source\.db"):
        book.merge(place)
    assert (place.exists(), list(book.events())) == (before, [])


@pytest.mark.parametrize("spelled", ["spool://{}", "{}"])
def test_a_spool_is_a_source(book: Ledger, tmp_path: Path, spelled: str) -> None:
    """By its URL or its folder; a line that was torn was never acknowledged, one that was changed is refused."""
    folder = tmp_path / "spool"
    with Ledger(f"spool://{folder}") as spool:
        spool.append([launched(0, number=1), started(1, number=2), completed(2, number=3)])
    (file,) = folder.glob("*.jsonl")
    text = file.read_text()
    file.write_text(text.replace("started", "failed") + text[:100])

    found = book.merge(spelled.format(folder))

    assert (counts(found), found.proved) == ((3, 2, 0, 1), True)
    assert found.refusals[0].where == f"{file.name}:2"
    assert counts(book.merge(folder)) == (3, 0, 2, 1)
    assert file.exists()


def test_a_spool_that_is_written_to_is_merged_as_it_was_found(book: Ledger, tmp_path: Path) -> None:
    """What comes while it is read is left for the next time."""
    with Ledger(f"spool://{tmp_path}/spool") as spool:
        spool.append(launched(0))
        found = book.merge(tmp_path / "spool", progress=lambda _: spool.append(heartbeat(1, step=1)) and None)
        assert (counts(found), found.proved) == ((1, 1, 0, 0), True)
        assert book.merge(tmp_path / "spool").new > 0


def test_a_folder_that_is_no_spool_has_nothing_to_merge(book: Ledger, tmp_path: Path) -> None:
    """It holds no event, and that is what is said."""
    (tmp_path / "folder").mkdir()
    assert counts(book.merge(tmp_path / "folder")) == (0, 0, 0, 0)


def test_a_merge_of_nothing_is_asked_wrongly(book: Ledger) -> None:
    """And so are places that this version does not read."""
    with pytest.raises(AskedWrongly, match="needs a source"):
        book.merge()
    with pytest.raises(LedgerUnreachable, match=r"me:\*\*\*@hub"):
        book.merge("postgresql://me:secret@hub/runs")
    for place in (":memory:", "off"):
        with pytest.raises(LedgerError, match="is wanted"):
            book.merge(place)


def test_kill_9_during_a_merge_loses_nothing(tmp_path: Path) -> None:
    """Killed at a random moment, again and again; after each kill all is whole, and the same merge finishes the work."""
    events = [heartbeat(step, run=f"r{step % 7}", step=step) for step in range(600)]
    other = filled(tmp_path / "other.db", *events)
    count, partial = trials(20, 50), 0
    killed("merge", count, tmp_path / "into-{}.db", other)
    for number in range(count):
        with Ledger(tmp_path / f"into-{number}.db") as book:
            book.init_db()
            there = len(list(book.events()))
            assert (there % 20, book.verify().differences) == (0, ())
            partial += 0 < there < 600
            found = book.merge(other)
            assert (counts(found), found.proved) == ((600, 600 - there, there, 0), True)
            assert book.verify()
    assert partial
