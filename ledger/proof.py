"""Every documented operation, done on scratch ledgers in a temporary folder: what the doctor proves first."""

from __future__ import annotations

import json
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ledger.api import Ledger
from ledger.errors import InvalidValue, LedgerError, RunAlreadyExists, RunNotFound, UnknownFilter
from ledger.events import Heartbeat
from ledger.events.times import parse_moment
from ledger.store.statements import Row

__all__ = ["Proof", "prove"]

CONFIG = {
    "training": {"batch_size": 384, "learning_rate": "1e-4", "num_processes": 4},
    "reward": {"gradient_method": "mgda", "beta": 0.05},
    "objectives": [{"name": "COMT_activity"}, {"name": "toxicity"}],
}
REASON = "a proof"


@dataclass(frozen=True)
class Proof:
    """One operation: what it has to do, and what it did instead; None where it did it."""

    operation: str
    claim: str
    failure: str | None

    @property
    def ok(self) -> bool:
        return self.failure is None


class Unproved(Exception):
    """The operation did something else than it has to."""


def prove() -> Iterator[Proof]:
    """Do every operation on a scratch ledger of its own; the caller's ledger is not touched."""
    with tempfile.TemporaryDirectory(prefix="ledger-proof-") as folder, _unheard(folder):
        for operation, step in STEPS.items():
            yield Proof(operation, step.__doc__ or "", _failure(step, Path(folder) / f"{operation}.db"))


@contextmanager
def _unheard(folder: str) -> Iterator[None]:
    """Keep out of the log what is said of scratch ledgers: it is nobody's to follow."""

    def is_of_others(record: logging.LogRecord) -> bool:
        return folder not in record.getMessage()

    log = logging.getLogger("ledger")
    log.addFilter(is_of_others)
    try:
        yield
    finally:
        log.removeFilter(is_of_others)


def _failure(step: Callable[[Ledger], None], place: Path) -> str | None:
    try:
        with Ledger(place) as book:
            step(book)
    except (Unproved, LedgerError, sqlite3.Error, OSError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def _insert(book: Ledger) -> None:
    """A launch becomes a row, with hyperparameters from its config; again, it changes nothing; another is refused."""
    _launched(book)
    _launched(book)
    row = _row(book)
    _expect("status", row["status"], "launched")
    _expect("hyperparameters", [row[name] for name in ("batch_size", "learning_rate", "beta")], [384, 1e-4, 0.05])
    _expect("config_json", json.loads(row["config_json"]), CONFIG)
    _expect_refusal(RunAlreadyExists, lambda: book.insert_run("r1", None, {}))


def _status(book: Ledger) -> None:
    """A run starts and completes, with duration and metrics; an unknown run and status are refused."""
    _launched(book)
    book.update_run_status("r1", "running", wandb_run_id="w1")
    book.update_run_status("r1", "completed", duration_seconds=3600, final_metrics_json={"loss": float("nan")})
    row = _row(book)
    found = [row[name] for name in ("status", "wandb_run_id", "duration_seconds", "final_metrics_json")]
    _expect("the row", found, ["completed", "w1", 3600, '{"loss":null}'])
    _expect_refusal(RunNotFound, lambda: book.update_run_status("r2", "running"))
    _expect_refusal(InvalidValue, lambda: book.update_run_status("r1", "banana"))


def _attachments(book: Ledger) -> None:
    """Conversation, crash data and blog post show in the row; crash data of a live run says that it crashed."""
    _launched(book)
    book.attach_conversation("r1", "talk.json")
    book.attach_crash_data("r1", "error.log", "report.md", "analysis.md")
    book.attach_blog_post("r1", "https://example.org/post")
    row = _row(book)
    _expect("status", row["status"], "crashed")
    found = [value for name, value in row.items() if name.endswith("_s3_key")] + [row["blog_post_url"]]
    wanted = ["talk.json", "report.md", "error.log", "analysis.md", "https://example.org/post"]
    _expect("the keys", found, wanted)


def _queries(book: Ledger) -> None:
    """Filters, order, limit and count agree; an unknown filter is refused; an unknown run is None."""
    for number in range(3):
        book.insert_run(f"r{number}", None, CONFIG, host="ec2" if number else "expanse")
    found = book.query_runs({"host": "ec2", "gradient_method": "mgda"}, order_by="run_id DESC", limit=1)
    _expect("query_runs", [row["run_id"] for row in found], ["r2"])
    _expect("count_runs", book.count_runs({"host": "ec2"}), 2)
    _expect("get_run", book.get_run("r9"), None)
    _expect_refusal(UnknownFilter, lambda: book.query_runs({"hots": "ec2"}))


def _stats(book: Ledger) -> None:
    """Runs are counted by status."""
    for run_id in ("r1", "r2"):
        _launched(book, run_id)
    book.update_run_status("r2", "failed")
    counts = book.get_stats()
    _expect("get_stats", [counts[name] for name in ("total_runs", "launched", "failed", "crashed")], [2, 1, 1, 0])


def _annotate(book: Ledger) -> None:
    """The latest note shows, tags gather, metadata is merged."""
    _launched(book)
    book.annotate("r1", "odd", tags=["a"], owner="me")
    book.annotate("r1", "fine", tags=["b"], owner="you")
    row = _row(book)
    found = [row["note"], json.loads(row["tags_json"]), json.loads(row["metadata_json"])]
    _expect("the row", found, ["fine", ["a", "b"], {"owner": "you"}])


def _amend(book: Ledger) -> None:
    """A column is corrected and another cleared, and the history keeps what was said before."""
    _launched(book)
    book.amend("r1", reason=REASON, gradient_method="pcgrad", host=None)
    row = _row(book)
    _expect("the row", [row["gradient_method"], row["host"]], ["pcgrad", None])
    _expect("the first event", json.loads(next(book.events("r1")).payload)["host"], "ec2")


def _void(book: Ledger) -> None:
    """A voided run leaves lists and counts, get_run still finds it, and unvoid brings it back."""
    _launched(book)
    book.void("r1", reason=REASON)
    _expect("when voided", [book.count_runs(), _row(book)["reason"]], [0, REASON])
    book.unvoid("r1", reason=REASON)
    _expect("count_runs", book.count_runs(), 1)


def _timeline(book: Ledger) -> None:
    """A chain of custody is told in the order in which it happened, whatever order it arrived in."""
    _launched(book)
    book.update_run_status("r1", "running", at="2020-01-02")
    book.attach_conversation("r1", "talk.json", at="2020-01-01")
    told = [entry.type for entry in book.timeline(chain_of_custody_id="ABC123")]
    _expect("the order", told, ["conversation_attached", "started", "launched"])


def _as_of(book: Ledger) -> None:
    """The ledger as it was: by what had happened, and by what was known."""
    _launched(book)
    book.update_run_status("r1", "running", at="2020-01-02")
    _expect("what had happened", [row["status"] for row in book.as_of("2020-01-02").query_runs()], ["running"])
    _expect("what was known", book.as_of(known=1).get_stats()["launched"], 1)


def _explain(book: Ledger) -> None:
    """A column names the event that gave its value, and what it replaced."""
    _launched(book)
    book.amend("r1", reason=REASON, host="expanse")
    (host,) = (explained for explained in book.explain("r1") if explained.column == "host")
    _expect("what is said", [host.value, host.type, host.replaced[0].value], ["expanse", "amended", "ec2"])


def _append_only(book: Ledger) -> None:
    """UPDATE, DELETE and REPLACE of an event are refused by the database."""
    _launched(book)
    for attack in (
        "UPDATE training_events SET run_id = 'r2'",
        "DELETE FROM training_events",
        "REPLACE INTO training_events SELECT * FROM training_events",
    ):
        _expect_refusal(sqlite3.IntegrityError, partial(_behind, book, attack))
    _expect("the events left", len(list(book.events())), 1)


def _replay(book: Ledger) -> None:
    """Tables that were damaged come out of a replay as they were."""
    _launched(book)
    before = _row(book)
    _behind(book, "UPDATE training_runs SET status = 'crashed'")
    _expect("what it would change", [change.column for change in book.replay(dry_run=True)], ["status"])
    _expect("the number of runs", book.replay(), 1)
    _expect("the row", _row(book), before)


def _verify(book: Ledger) -> None:
    """A whole ledger passes, and a row that was changed behind its back is named."""
    _launched(book)
    _expect("the whole ledger", book.verify().differences, ())
    _behind(book, "UPDATE training_runs SET host = 'elsewhere'")
    _expect("the changed row", [found.column for found in book.verify().differences], ["host"])


def _backup(book: Ledger) -> None:
    """A backup put back gives the ledger of then, and says what came after it."""
    _launched(book)
    copy = book.backup(f"{book.url}.copy")
    _launched(book, "r2")
    restored = book.restore_backup(copy)
    _expect("what is newer", [restored.newer_events, restored.newer_runs], [1, ("r2",)])
    _expect("the runs", [row["run_id"] for row in book.query_runs()], ["r1"])


def _merge(book: Ledger) -> None:
    """What two ledgers know apart is known to one after a merge, through an export too; again, all of it is known."""
    _launched(book)
    with Ledger(f"{book.url}.other") as other:
        _launched(other, "r2")
        export = other.export(f"{book.url}.jsonl.gz").path
        merged = book.merge(other.url, str(export))
        _expect("new, known and refused", [merged.new, merged.known, merged.refused], [1, 1, 0])
        _expect("what the other lacks", other.merge(book.url).new, 1)
        _expect("the rows of both", _runs(other), _runs(book))


def _copy(book: Ledger) -> None:
    """A copy has the same positions, versions and chains, and is made once."""
    _launched(book)
    book.copy(f"{book.url}.copy")
    with Ledger(f"{book.url}.copy") as copy:
        _expect("the events", list(copy.events()), list(book.events()))
    _expect_refusal(InvalidValue, lambda: book.copy(f"{book.url}.copy"))


def _sync(book: Ledger) -> None:
    """What was recorded to a spool arrives once, and is removed there when it has."""
    _launched(book)
    place = f"{book.url}.spool"
    with Ledger(f"spool://{place}") as spool:
        spool.update_run_status("r1", "completed")
    found = [book.sync(place), book.sync(place, clear=True), book.sync(place)]
    _expect("new, known and removed", [(f.new, f.known, f.cleared) for f in found], [(1, 0, 0), (0, 1, 1), (0, 0, 0)])
    _expect("status", _row(book)["status"], "completed")


def _sweep(book: Ledger) -> None:
    """A run that fell silent is presumed to have crashed, and runs again by its next sign of life."""
    book.append(Heartbeat(run_id="r1", occurred_at=parse_moment("2020-01-02")))
    found = [(verdict.action, verdict.ended_at, verdict.presumed) for verdict in book.sweep(witnesses=())]
    _expect("the verdict", found, [("crashed", "2020-01-02T00:00:00.000000Z", True)])
    _expect("status", _row(book)["status"], "crashed")
    book.append(Heartbeat(run_id="r1"))
    _expect("status after a sign of life", _row(book)["status"], "running")


STEPS: dict[str, Callable[[Ledger], None]] = {
    "insert_run": _insert,
    "update_run_status": _status,
    "attach": _attachments,
    "query_runs": _queries,
    "get_stats": _stats,
    "annotate": _annotate,
    "amend": _amend,
    "void": _void,
    "timeline": _timeline,
    "as_of": _as_of,
    "explain": _explain,
    "append-only": _append_only,
    "replay": _replay,
    "verify": _verify,
    "backup": _backup,
    "merge": _merge,
    "copy": _copy,
    "sync": _sync,
    "sweep": _sweep,
}


def _launched(book: Ledger, run_id: str = "r1") -> None:
    book.insert_run(run_id, None, CONFIG, chain_of_custody_id="ABC123", host="ec2")


def _row(book: Ledger) -> Row:
    row = book.get_run("r1")
    if row is None:
        raise Unproved("get_run does not find the run")
    return row


def _runs(book: Ledger) -> list[tuple[object, ...]]:
    return [(row["run_id"], row["status"], row["config_json"]) for row in book.query_runs(order_by="run_id")]


def _behind(book: Ledger, sql: str) -> None:
    """Do something to the scratch ledger's file that the ledger would not do."""
    with closing(sqlite3.connect(book.url)) as connection, connection:
        connection.execute(sql)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Unproved(f"{what}: {found!r} instead of {wanted!r}")


def _expect_refusal(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise Unproved(f"{kind.__name__} was not raised")
