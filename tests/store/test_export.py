"""Exports: every event as of one moment, one a line, in a file that any ledger takes in again."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from ledger import Ledger
from ledger.cli.main import main
from ledger.errors import InvalidValue, LedgerUnreachable, NoLedger
from ledger.events import Event, Fact
from ledger.events.lines import line_of
from ledger.progress import Progress
from tests.behind import is_url
from tests.builders import completed, heartbeat, launched, shown, started, trials, unknown
from tests.places import Ledgers, in_a_file, on_both, tried
from tests.store.crowd import writing
from tests.store.test_merge_lines import counts, kept_aside, merged
from tests.strategies import histories

pytestmark = on_both


def exported(book: Ledger) -> list[str]:
    """Return the lines of an export."""
    out = io.BytesIO()
    book.export(out)
    return out.getvalue().decode("ascii").splitlines()


def test_an_export_has_the_lines_of_events_json(book: Ledger, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One stored event a line in order of acceptance, the same objects as in the array of `ledger events --json`."""
    book.append([launched(0, config={"ü": float("nan")}), unknown(1, type="moon_landed"), completed(-5)])
    found = book.export(path.with_name("all.jsonl"))
    main(["--db", book._settings.url, "events", "--json"])

    assert (found.path, found.events) == (path.with_name("all.jsonl"), 3)
    assert [json.loads(line) for line in found.path.read_text().splitlines()] == json.loads(capsys.readouterr().out)


@tried(histories(), st.booleans(), usual=trials(40, 400))
def test_any_ledger_comes_out_of_its_export(ledgers: Ledgers, events: list[Event], backwards: bool) -> None:
    """Merged into an empty ledger, in whatever order, an export gives the same events and the same rows."""
    with ledgers() as book, ledgers() as other:
        book.append(events)
        lines = exported(book)[:: -1 if backwards else 1]
        answer = merged(other, [(f"line {n}", line) for n, line in enumerate(lines)], "an export")

        assert counts(answer) == (len(events), len(events), 0, 0)
        assert {(e.event_id, e.digest) for e in other.events()} == {(e.event_id, e.digest) for e in book.events()}
        assert (shown(other), other.verify().differences) == (shown(book), ())


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "ALL"])
def test_an_export_is_a_source(book: Ledger, tmp_path: Path, name: str) -> None:
    """Zipped or not, told by what is in it; merged twice it is known."""
    book.append([launched(0), started(1), completed(2)])
    made = book.export(tmp_path / "folder" / name).path
    assert made is not None
    assert (made.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    made = made.rename(tmp_path / "renamed.txt")
    with Ledger(tmp_path / "other.db") as other:
        first, second = other.merge(made), other.merge(made)

        assert (counts(first), first.proved) == ((3, 3, 0, 0), True)
        assert counts(second) == (3, 0, 3, 0)
        assert shown(other) == shown(book)


def test_the_same_events_are_the_same_bytes(book: Ledger, tmp_path: Path) -> None:
    """No name and no time is in a zipped export, so that copies of it can be compared."""
    book.append([launched(0), started(1)])
    one, other = (book.export(tmp_path / name).path for name in ("one.gz", "other.gz"))

    assert one is not None
    assert other is not None
    assert one.read_bytes() == other.read_bytes()


def test_an_export_is_of_one_moment_while_writers_write(place: str, tmp_path: Path) -> None:
    """Each run's versions without a hole from 1 on, in a file positions too, and each export has all of the one before.

    On a server a position may be committed after a later one.
    """
    writers = [writing(place, f"r{number}") for number in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        with Ledger(place) as book:
            made = [book.export(tmp_path / f"{number}.jsonl.gz") for number in range(6)]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()

    before: set[int] = set()
    for export in made:
        assert export.path is not None
        lines = [json.loads(line) for line in gzip.decompress(export.path.read_bytes()).splitlines()]
        positions = [line["position"] for line in lines]
        for run_id in ("r0", "r1"):
            versions = [line["version"] for line in lines if line["run_id"] == run_id]
            assert versions == list(range(1, len(versions) + 1))
        assert positions == (sorted(set(positions)) if is_url(place) else list(range(1, export.events + 1)))
        assert before <= set(positions)
        before = set(positions)
    assert made[-1].events > 2


def test_conflicts_go_along(book: Ledger, place: str, tmp_path: Path) -> None:
    """What is kept aside stands behind the events, without what is local, and is kept aside where it is merged too."""
    book.append([started(0, number=1), heartbeat(1)])
    other = started(5, number=1)
    with Ledger(tmp_path / "other.db") as another:
        another.append(other)
        book.merge(tmp_path / "other.db")
    export = book.export(tmp_path / "all.jsonl")
    *_, kept = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    with Ledger(tmp_path / "third.db") as third:
        answer = third.merge(tmp_path / "all.jsonl")
        again = third.merge(tmp_path / "all.jsonl")

        assert shown(third) == shown(book)
    assert (export.events, export.conflicts) == (2, 1)
    fact = Fact.of(other, redacting=True)
    assert kept == json.loads(line_of(fact, fact.digest()))
    assert (counts(answer), counts(again)) == ((3, 2, 0, 1), (3, 0, 2, 1))
    assert [line[:2] for line in kept_aside(tmp_path / "third.db")] == [line[:2] for line in kept_aside(place)] != []


@in_a_file
def test_an_export_never_overwrites(book: Ledger, tmp_path: Path) -> None:
    """A file that is there is left as it is."""
    there = tmp_path / "there.jsonl"
    there.write_text("precious")

    with pytest.raises(InvalidValue, match="does not exist yet"):
        book.export(there)
    assert there.read_text() == "precious"


class Full(io.FileIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@in_a_file
def test_a_disk_that_is_full_leaves_no_part_of_an_export(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file, and neither it nor what was written aside is there."""
    book.append(launched(0))
    monkeypatch.setattr(Path, "open", lambda self, mode: Full(self, "w"))
    with pytest.raises(LedgerUnreachable, match="all.jsonl: No space left"):
        book.export(tmp_path / "out" / "all.jsonl")

    assert list((tmp_path / "out").iterdir()) == []


@in_a_file
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("kind", ["export", "backup"])
def test_two_at_once_do_not_spoil_each_other(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, links: bool
) -> None:
    """One that was there first, though it began last, stays whole; the other is refused, and leaves nothing."""
    book.append(launched(0))
    target = tmp_path / "out" / "all"
    fsync = os.fsync
    made: list[bytes] = []

    def overtaken(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        getattr(book, kind)(target)
        made.append(target.read_bytes())
        fsync(descriptor)

    def linkless(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", linkless)
    monkeypatch.setattr(os, "fsync", overtaken)
    with pytest.raises(InvalidValue, match="does not exist yet"):
        getattr(book, kind)(target)

    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == made


@in_a_file
def test_it_has_its_name_only_when_it_is_whole(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is on the disk before it is renamed."""
    book.append([heartbeat(step, step=step) for step in range(50)])
    seen: list[tuple[bool, int]] = []
    fsync = os.fsync

    def watching(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(((tmp_path / "all.jsonl").exists(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", watching)
    made = book.export(tmp_path / "all.jsonl").path

    assert made is not None
    assert seen == [(False, made.stat().st_size)]


def test_memory_does_not_grow_with_the_ledger(book: Ledger) -> None:
    """Fifty events of 200 kB each are written in the memory of a few."""
    for number in range(50):
        book.append(launched(0, run=f"r{number}", config={"text": "x" * 200_000}))
    tracemalloc.start()
    with open(os.devnull, "wb") as nowhere:
        book.export(nowhere)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 3_000_000


def test_progress_is_told(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Event by event."""
    monkeypatch.setattr("ledger.progress.TOLD_EVERY_SECONDS", 0)
    book.append([heartbeat(step, step=step) for step in range(3)])
    heard: list[Progress] = []
    book.export(io.BytesIO(), progress=heard.append)

    assert [(progress.done, progress.total) for progress in heard] == [(1, 3), (2, 3), (3, 3), (3, 3)]


def test_there_is_nothing_to_export_without_a_ledger(bare_place: str, tmp_path: Path) -> None:
    """And no file is made."""
    with Ledger(bare_place) as book, pytest.raises(NoLedger):
        book.export(tmp_path / "all.jsonl")
    assert list(tmp_path.iterdir()) == []


def lines_in(tmp_path: Path, book: Ledger) -> tuple[Path, bytes]:
    made = book.export(tmp_path / "all.jsonl").path
    assert made is not None
    return made, made.read_bytes()


@in_a_file
def test_a_damaged_export_gives_what_can_be_read(book: Ledger, tmp_path: Path) -> None:
    """Blank lines are passed over; what is torn, no UTF-8 or another thing altogether is refused by its number."""
    book.append([launched(0), started(1), completed(2)])
    made, whole = lines_in(tmp_path, book)
    first, second, third = whole.splitlines()
    made.write_bytes(b"\n".join([first, b"", b"\xff" + second, b"[1]", third, second[:-20]]) + b"\r\n\n")
    with Ledger(tmp_path / "other.db") as other:
        found = other.merge(made)

        assert (counts(found), found.proved) == ((5, 2, 0, 3), True)
        assert [refusal.where for refusal in found.refusals] == ["line 3", "line 4", "line 6"]
        assert counts(other.merge(made)) == (5, 0, 2, 3)


@in_a_file
@pytest.mark.parametrize("damage", [lambda z: z[:-30], lambda z: z[:-8] + b"12345678", lambda z: z + b"rubbish"])
def test_a_zipped_export_that_is_cut_off_says_so(book: Ledger, tmp_path: Path, damage: Any) -> None:
    """What could be unzipped is taken in, and one refusal says that the rest is missing."""
    for step in range(300):
        book.append(heartbeat(step, step=step, message=os.urandom(20).hex()))
    made = book.export(tmp_path / "all.jsonl.gz").path
    assert made is not None
    made.write_bytes(damage(made.read_bytes()))
    with Ledger(tmp_path / "other.db") as other:
        found = other.merge(made)

        assert (found.refused, found.proved, found.new > 100) == (1, True, True)
        assert "cut off or damaged" in found.refusals[0].reason
        assert other.verify()


@in_a_file
def test_an_export_that_grows_is_merged_as_it_was_found(book: Ledger, tmp_path: Path) -> None:
    """Somebody writes on while it is read: the proof is of what was there when the merge began."""
    book.append([launched(0), started(1)])
    made, whole = lines_in(tmp_path, book)
    late = whole.splitlines()[1]
    made.write_bytes(whole.splitlines()[0] + b"\n" + late[:50])
    with Ledger(tmp_path / "other.db") as other:
        found = other.merge(made, progress=lambda _: made.write_bytes(whole) and None)

        assert (counts(found), found.proved) == ((2, 1, 0, 1), True)
