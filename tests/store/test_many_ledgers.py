"""Several ledgers and spools at once, driven any way there is: each shows the fold of what it has seen, then and now."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ledger import Ledger
from ledger.errors import EventConflict, LedgerError
from ledger.events import EVENT_TYPES, Event, Fact, Recorded
from ledger.events.lines import parse_line
from ledger.events.times import parse_moment
from ledger.spool.reading import SpoolFolder
from ledger.store import answers, merging, past, replay, sources
from tests.builders import NOON, shown, told, trials
from tests.strategies import RUN_IDS, WANDB_IDS, events, events_of, moments

LEDGERS, SPOOLS = range(3), range(2)
SHARED_MEMORY = Path("/dev/shm")

# So small that what happens lies in several pages, batches and parts.
SMALL = [
    (sources, "PAGE_EVENTS_MAX", 3), (merging, "BATCH_EVENTS_MAX", 4), (past, "_PAGE", 3), (answers, "_PAGE", 3),
    (replay, "_RUNS_AT_ONCE", 2), (replay, "_RUNS_HELD", 3),
]  # fmt: skip

# W&B ids that pass from run to run, and signs of life alone, come up too seldom among events of every kind.
contested = st.sampled_from(["wandb_attached", "wandb_attached", "launched", "voided", "unvoided"]).flatmap(
    lambda name: events_of(EVENT_TYPES[name], st.sampled_from(RUN_IDS[:2]))
)
signs = st.sampled_from(["heartbeat", "metrics_logged"]).flatmap(
    lambda name: events_of(EVENT_TYPES[name], st.sampled_from(RUN_IDS[2:]))
)
batches = st.one_of(
    st.lists(kind, max_size=8, unique_by=lambda event: event.event_id) for kind in (events(), contested, signs)
)

Call = Callable[[Ledger], object]


def said(fact: Fact) -> Recorded:
    """Return what the maker of an event said, without what any ledger added."""
    return Recorded(
        0, fact.event_id, fact.run_id, 0, fact.type, fact.schema_version, parse_moment(fact.occurred_at), NOON,
        fact.source, fact.payload, fact.digest(), "",
    )  # fmt: skip


class Model:
    """What a ledger has seen: the first content of each id, in order of acceptance, and what else came under it."""

    def __init__(self) -> None:
        self.seen: dict[str, Recorded] = {}
        self.aside: dict[tuple[str, str], Recorded] = {}

    def takes_in(self, arriving: Iterable[Recorded]) -> tuple[int, int]:
        """Return how many are new, and how many are refused."""
        new = refused = 0
        for event in arriving:
            new += event.event_id not in self.seen
            first = self.seen.setdefault(event.event_id, event)
            if first.digest != event.digest:
                refused += 1
                self.aside.setdefault((event.event_id, event.digest), event)
        return new, refused

    def refuses(self, arriving: Iterable[Recorded]) -> bool:
        """Whether an append of these meets an id with other content."""
        known = dict(self.seen)
        return any(known.setdefault(event.event_id, event).digest != event.digest for event in arriving)

    @property
    def all(self) -> list[Recorded]:
        return [*self.seen.values(), *self.aside.values()]


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Call]:
    """A documented function with some arguments, and the run that it is about."""
    run, at = draw(st.sampled_from(RUN_IDS)), draw(st.none() | moments)
    wandb = draw(st.none() | st.sampled_from(WANDB_IDS))
    resumed = draw(st.sampled_from([None, None, *RUN_IDS]))
    number = draw(st.integers(0, 3))
    status = draw(st.sampled_from(["running", "completed", "failed", "crashed"]))
    column = draw(
        st.sampled_from([{"status": status}, {"wandb_run_id": wandb}, {"host": None}, {"batch_size": number}])
    )
    made: dict[str, Call] = {
        "insert_run": lambda book: book.insert_run(run, wandb, {"lr": number}, resumes_run_id=resumed, at=at),
        "update_run_status": lambda book: book.update_run_status(
            run, status, wandb_run_id=wandb, final_metrics_json={"n": number}, at=at
        ),
        "attach_conversation": lambda book: book.attach_conversation(run, f"talk {number}", at=at),
        "attach_crash_data": lambda book: book.attach_crash_data(run, f"log {number}", at=at),
        "attach_blog_post": lambda book: book.attach_blog_post(run, f"post {number}", at=at),
        "annotate": lambda book: book.annotate(run, tags=[f"tag {number}"], at=at, seen=number),
        "amend": lambda book: book.amend(run, reason="it was wrong", at=at, **column),
        "void": lambda book: book.void(run, reason="bogus", at=at),
        "unvoid": lambda book: book.unvoid(run, reason="it is not", at=at),
    }
    return run, made[draw(st.sampled_from(["insert_run", "update_run_status", *made]))]


class ManyLedgers(RuleBasedStateMachine):
    """Three ledgers in files, two spools, and the model of each."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)  # for what happens at the end
        self.small = ExitStack()
        for module, name, size in SMALL:
            self.small.enter_context(mock.patch.object(module, name, size))
        self.folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        self.books = [Ledger(self.folder / f"{number}.db") for number in LEDGERS]
        self.models = [Model() for _ in LEDGERS]
        self.spools = [Ledger(f"spool://{self.folder}/spool-{number}") for number in SPOOLS]
        self.spooled: list[list[Recorded]] = [[] for _ in SPOOLS]
        self.made: list[Event] = []
        self.files = 0
        for place in (*self.books, *self.spools):
            place.init_db()

    def check(self, number: int) -> None:
        """The ledger has what the model has, in its order, and shows the fold of it."""
        book, model = self.books[number], self.models[number]
        assert [(event.event_id, event.digest) for event in book.events()] == [
            (event.event_id, event.digest) for event in model.seen.values()
        ]
        assert self.kept_aside(number) == set(model.aside)
        assert shown(book) == told(model.seen.values())

    # Recording

    def batch(self, fresh: list[Event], again: int, other: bool) -> list[Event]:
        """New events, some that were made before, and seldom one of those ids with other content."""
        known = self.made[-again:] if again else []
        if other and self.made and fresh:
            known.append(fresh[0].model_copy(update={"event_id": self.made[-1].event_id}))
        self.made += fresh
        return [*fresh, *known]

    @rule(
        place=st.sampled_from(LEDGERS),
        fresh=batches,
        again=st.integers(0, 4),
        other=st.integers(0, 9).map(lambda number: number == 7),
    )
    def append(self, place: int, fresh: list[Event], again: int, other: bool) -> None:
        self.append_all(place, self.batch(fresh, again, other))

    def append_all(self, place: int, batch: list[Event]) -> None:
        arriving = [said(Fact.of(event, redacting=True)) for event in batch]
        refused = self.models[place].refuses(arriving)
        try:
            self.books[place].append(batch)
        except EventConflict:
            assert refused
        else:
            assert not refused
            self.models[place].takes_in(arriving)
        self.check(place)

    @rule(
        place=st.sampled_from(SPOOLS),
        fresh=batches,
        again=st.integers(0, 4),
        other=st.integers(0, 9).map(lambda number: number == 7),
    )
    def append_to_spool(self, place: int, fresh: list[Event], again: int, other: bool) -> None:
        batch = self.batch(fresh, again, other)
        self.spools[place].append(batch)
        self.spooled[place] += [said(Fact.of(event, redacting=True)) for event in batch]

    @rule(place=st.sampled_from(LEDGERS), fresh=batches)
    def append_one_by_one(self, place: int, fresh: list[Event]) -> None:
        """Each folds onto the row that the one before it left."""
        for event in fresh:
            self.append_all(place, self.batch([event], 0, False))

    @rule(place=st.sampled_from(LEDGERS), call=calls())
    def call(self, place: int, call: tuple[str, Call]) -> None:
        """What a documented function has said is of its run, and nothing where it was refused."""
        book, model = self.books[place], self.models[place]
        refused = False
        try:
            call[1](book)
        except LedgerError:
            refused = True
        recorded = list(book.events(after=len(model.seen)))
        assert not (refused and recorded)
        assert {event.run_id for event in recorded} <= {call[0]}
        model.takes_in(recorded)
        self.check(place)

    @rule(place=st.sampled_from(SPOOLS), call=calls())
    def call_on_spool(self, place: int, call: tuple[str, Call]) -> None:
        call[1](self.spools[place])
        lines = [line for _, _, line in SpoolFolder(self.folder / f"spool-{place}").lines()]
        self.spooled[place] += [said(parse_line(line)) for line in lines[len(self.spooled[place]) :]]

    # Carrying

    @rule(place=st.sampled_from(LEDGERS), spool=st.sampled_from(SPOOLS), clear=st.booleans(), closed=st.booleans())
    def sync(self, place: int, spool: int, clear: bool, closed: bool) -> None:
        """What is known is known, and what is cleared is in the ledger, be it aside."""
        folder = self.folder / f"spool-{spool}"
        if closed:
            self.spools[spool].close()
            self.spools[spool] = Ledger(f"spool://{folder}")
        new, refused = self.models[place].takes_in(self.spooled[spool])
        answer = self.books[place].sync(folder, clear=clear)
        assert (answer.events, answer.new, answer.refused) == (len(self.spooled[spool]), new, refused)
        left = [said(parse_line(line)) for _, _, line in SpoolFolder(folder).lines()]
        kept = {(event.event_id, event.digest) for event in (*left, *self.models[place].all)}
        assert {(event.event_id, event.digest) for event in self.spooled[spool]} <= kept
        assert len(left) == len(self.spooled[spool]) or clear
        self.spooled[spool] = left
        self.check(place)

    @rule(into=st.sampled_from(LEDGERS), of=st.sampled_from(LEDGERS))
    def merge(self, into: int, of: int) -> None:
        self.meet(into, of)
        self.check(into)

    def meet(self, into: int, of: int) -> None:
        arriving = self.models[of].all
        new, refused = self.models[into].takes_in(arriving)
        answer = self.books[into].merge(self.books[of].url)
        assert (answer.events, answer.new, answer.refused, answer.proved) == (len(arriving), new, refused, True)

    @rule(into=st.sampled_from(LEDGERS), of=st.sampled_from(LEDGERS), first=st.integers(0, 20), zipped=st.booleans())
    def merge_a_part(self, into: int, of: int, first: int, zipped: bool) -> None:
        """An export, of which the beginning was cut off: events, and behind them what is kept aside."""
        whole = self.folder / f"{self.new_name()}.jsonl"
        self.books[of].export(whole)
        exported = [said(parse_line(line)) for line in whole.read_text().splitlines()]
        assert {(event.event_id, event.digest) for event in exported} == {
            (event.event_id, event.digest) for event in self.models[of].all
        }
        export = self.folder / f"{self.new_name()}.jsonl{'.gz' if zipped else ''}"
        if zipped:
            first = 0
            self.books[of].export(export)
        else:
            export.write_bytes(b"".join(whole.read_bytes().splitlines(keepends=True)[first:]))
        new, refused = self.models[into].takes_in(exported[first:])
        answer = self.books[into].merge(export)
        assert (answer.new, answer.refused) == (new, refused)
        self.check(into)

    @rule(place=st.sampled_from(LEDGERS))
    def copy(self, place: int) -> None:
        """The copy is the same ledger, and goes on in its place."""
        book = self.books[place]
        target = self.folder / f"{self.new_name()}.db"
        book.copy(target)
        with Ledger(target) as copy:
            assert list(copy.events()) == list(book.events())
            assert copy.query_runs(limit=None, include_voided=True) == book.query_runs(limit=None, include_voided=True)
        book.close()
        self.books[place] = Ledger(target)
        self.check(place)

    def new_name(self) -> str:
        self.files += 1
        return f"file-{self.files}"

    # Keeping and asking

    @rule(place=st.sampled_from(LEDGERS))
    def replay(self, place: int) -> None:
        before = self.books[place].query_runs(limit=None, include_voided=True)
        assert self.books[place].replay() == len(before)
        assert self.books[place].query_runs(limit=None, include_voided=True) == before

    @rule(place=st.sampled_from(LEDGERS))
    def open_again(self, place: int) -> None:
        url = self.books[place].url
        self.books[place].close()
        self.books[place] = Ledger(url)

    @rule(place=st.sampled_from(LEDGERS), known=st.integers(0, 60))
    def ask_what_was_known(self, place: int, known: int) -> None:
        """The first so many events, folded."""
        with self.books[place].as_of(known=known) as then:
            rows = told(list(self.models[place].seen.values())[:known])
            assert shown(then) == rows
            assert then.count_runs() == sum(not row["voided"] for row in rows.values())

    @rule(place=st.sampled_from(LEDGERS), when=moments, run=st.sampled_from(RUN_IDS))
    def ask_what_had_happened(self, place: int, when: datetime, run: str) -> None:
        with self.books[place].as_of(when) as then:
            rows = told(event for event in self.models[place].seen.values() if event.occurred_at <= when)
            assert shown(then) == rows
            row = then.get_run(run)
            assert (row or {}).get("status") == rows.get(run, {}).get("status")
            assert (row or {}).get("wandb_run_id") == rows.get(run, {}).get("wandb_run_id")

    @precondition(lambda self: self.made)
    @rule(place=st.sampled_from(LEDGERS))
    def verify(self, place: int) -> None:
        assert self.books[place].verify().differences == ()

    def teardown(self) -> None:
        """All meet, in any order; then those that have seen the same show the same, and each is proved."""
        if not hasattr(self, "books"):
            return
        try:
            meetings = [(into, of) for into in LEDGERS for of in LEDGERS if into != of] * 2
            self.chance.shuffle(meetings)
            for into, of in meetings:
                self.meet(into, of)
            for number in LEDGERS:
                self.check(number)
                assert self.books[number].verify().differences == ()
            if not any(model.aside for model in self.models):
                seen = [{(event.event_id, event.digest) for event in model.seen.values()} for model in self.models]
                assert seen[0] == seen[1] == seen[2]
                assert shown(self.books[0]) == shown(self.books[1]) == shown(self.books[2])
        finally:
            self.small.close()
            for place in (*self.books, *self.spools):
                place.close()
            shutil.rmtree(self.folder)

    def kept_aside(self, number: int) -> set[tuple[str, str]]:
        with closing(sqlite3.connect(self.books[number].url)) as connection:
            return set(connection.execute("SELECT event_id, digest FROM training_conflicts"))


ManyLedgers.TestCase.settings = settings(
    max_examples=trials(50, 1000), stateful_step_count=trials(25, 40), deadline=None
)
TestManyLedgers = ManyLedgers.TestCase
