"""Whatever the earlier database holds, it is adopted, proved, and known the second time."""

from __future__ import annotations

import base64
import json
import math
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger
from ledger.adopting.adoption import Adopted
from ledger.adopting.wanted import DOCUMENTED
from tests.adopting.old import LATER, SCHEMA
from tests.strategies import histories

LOOSE = "CREATE TABLE training_runs (run_id, " + ", ".join(
    line.split()[0] for line in SCHEMA.split("(", 1)[1].split(");")[0].splitlines()[2:] if line.strip()
) + ", final_loss, note, history_json)"  # fmt: skip

MOMENTS = st.sampled_from(
    [
        None, "2025-11-11 10:22:33", "2025-11-11T10:22:33Z", "2025-11-11T10:22:33.5+02:00", "2025-11-11", "2025-11-12 00:00:00",
        "2025-11-11T10:22:33.123456", "2025-11-11 10:22:33+00:00Z", "0001-01-01 00:00:00", "9999-12-31T23:59:59Z", "", "soon",
        "20251111", 1731320553, 1731320553.25, "9999-12-31T23:59:59-12:00", b"2025", "0001-01-01T00:00:00+10:00",
    ]
)  # fmt: skip
JSONS = st.sampled_from(
    [
        None, "", "{}", "null", "[]", "[1, NaN]", '"text"', "7", '{"loss": NaN, "at": -Infinity, "big": 1e400}', '{"cut": ',
        '{"batch_size": 32, "lr": "1e-4", "objectives": [1, 2]}', '{"api_key": "sk-1", "batch_size": 8}', '{"eval/secret": 0.5}',
        "[" * 99 + "]" * 99, "[" * 5000, '{"n": ' + "9" * 4000 + "}", '{"n": ' + "9" * 5000 + "}", '{"a": "\\ud800", "\\u0000": 1}',
        '[{"password": "x"}]', 3, 0.5, b"{}", '{"training": {"batch_size": true, "learning_rate": 1}, "reward": {"beta": []}}',
        " {}", '{"a": 1, "a": 2}',
    ]
)  # fmt: skip
WORDS = st.sampled_from([None, "", " ", "x", "mgda", "a\x00b", "é", 5, 0.5, b"\xff\x00", "https://a/b", "1e-4"])
NUMBERS = st.sampled_from(
    [None, 0, 1, 32, -1, 0.5, 3600.7, 1e300, float("inf"), 2**62, "many", "32", "1e-4", "", b"1", -0.0]
)
STATUSES = st.sampled_from(
    ["launched", "running", "completed", "failed", "crashed", "not_running", "pending", "Completed ", "finished", "killed",
     "", None, 7, b"x"]
)  # fmt: skip
ROW = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ["wandb_url", "run_name", "chain_of_custody_id", "config_file_path", "host", "instance_id", "gradient_method",
             "blog_post_url", "conversation_s3_key", "crash_report_s3_key", "error_log_s3_key", "crash_analysis_s3_key"],
            WORDS,
        ),
        **dict.fromkeys(["created_at", "started_at", "ended_at", "created_at_db", "updated_at_db"], MOMENTS),
        **dict.fromkeys(["batch_size", "learning_rate", "beta", "num_gpus", "num_objectives", "num_scaffolds"], NUMBERS),
        "duration_seconds": NUMBERS,
        "final_loss": NUMBERS,
        "status": STATUSES,
        "config_json": JSONS,
        "final_metrics_json": JSONS,
        "history_json": JSONS,
        "wandb_run_id": st.sampled_from([None, "", " ", "w1", "w2", "a\x00b", 5, b"w"]),
    },
)  # fmt: skip
RUN_IDS = st.sampled_from(["r1", "r2", "r3", "r-é", "R1", " ", "", "a\x00b", None, 7, b"r1"])
TABLE = st.lists(st.tuples(RUN_IDS, ROW), max_size=5)


def table(folder: Path, rows: list, *, name: str = "old.db", strict: bool = False) -> Path:
    """Make the file; the strict one has the documented types, and leaves out what they refuse."""
    path = folder / name
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(SCHEMA + LATER if strict else LOOSE)
        for run_id, row in rows:
            said = {"run_id": run_id, **row}
            names, marks = ", ".join(said), ", ".join("?" * len(said))
            try:
                db.execute(f"INSERT INTO training_runs ({names}) VALUES ({marks})", list(said.values()))
            except sqlite3.IntegrityError:
                assert strict
        db.commit()
    return path


def shown(book: Ledger) -> list[dict]:
    """Return what the ledger shows, but for what is its own."""
    rows = book.query_runs(limit=None, order_by="run_id", include_voided=True)
    return [{n: v for n, v in row.items() if n not in {"created_at_db", "updated_at_db", "liveness"}} for row in rows]


def explained(adopted: Adopted) -> bool:
    return all(difference.why for difference in adopted.differences)


@given(rows=TABLE, strict=st.booleans())
def test_any_table_is_adopted_once(rows: list, strict: bool) -> None:
    """Each documented column is equal or its difference has a reason; a second adoption tells nothing; all is in order."""
    with tempfile.TemporaryDirectory() as folder, Ledger("sqlite://") as book:
        path = table(Path(folder), rows, strict=strict)
        before = path.read_bytes()
        first = book.adopt(path)
        rows_then = shown(book)
        second = book.adopt(path)

        assert explained(first), first.differences
        assert (second.new, second.known) == (0, first.new)
        assert (second.runs, second.refused, second.differences) == (first.runs, first.refused, first.differences)
        assert book.verify().ok
        book.replay()
        assert shown(book) == rows_then
        assert path.read_bytes() == before


@given(rows=TABLE, later=TABLE)
def test_a_table_that_changed_is_adopted_again(rows: list, later: list) -> None:
    """Whatever became of the rows, and if they went back: each column is as it is now, or has a reason; then all is known."""
    with tempfile.TemporaryDirectory() as folder, Ledger("sqlite://") as book:
        files = [table(Path(folder), rows), table(Path(folder), later, name="later.db")]
        for path in (*files, *files):
            adopted = book.adopt(path)
            again = book.adopt(path)

            assert explained(adopted), adopted.differences
            assert (again.new, again.differences) == (0, adopted.differences)
        assert book.verify().ok


@given(rows=TABLE, life=histories(("r1", "r2", "r3"), 8))
def test_what_others_say_of_the_runs_breaks_nothing(rows: list, life: list) -> None:
    """With any events of the same runs in the ledger, before and after, each difference has a reason, and all is known."""
    with tempfile.TemporaryDirectory() as folder, Ledger("sqlite://") as book:
        path = table(Path(folder), rows)
        book.append(life[::2])
        first = book.adopt(path)
        book.append(life[1::2])
        second = book.adopt(path)

        assert explained(first), first.differences
        assert explained(second), second.differences
        assert (book.adopt(path).new, book.verify().ok) == (0, True)


@given(rows=TABLE, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_is_nothing(rows: list, random) -> None:
    """The same rows in another order make the same ledger."""
    others = list(rows)
    random.shuffle(others)
    with tempfile.TemporaryDirectory() as folder, Ledger("sqlite://") as one, Ledger("sqlite://") as two:
        first = one.adopt(table(Path(folder), rows, name="one.db"))
        second = two.adopt(table(Path(folder), others, name="two.db"))

        assert (first.new, first.differences) == (second.new, second.differences)
        assert shown(one) == shown(two)
        assert {event.digest for event in one.events()} == {event.digest for event in two.events()}


def parsed(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None


def is_in(kept: object, value: object) -> bool:
    """Whether what an event keeps is this value: itself, a blob in base64, a float that is none as its word, or JSON."""
    if isinstance(value, bytes):
        return kept == {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return kept == str(value).replace("inf", "Infinity")
    return kept == value or (parsed(value) is not None and isinstance(kept, dict | list))


@given(row=ROW)
def test_nothing_of_a_row_is_lost(row: dict) -> None:
    """A value of the row stands in its column as it was, or else an event keeps it: a JSON's secrets and NaN aside."""
    with tempfile.TemporaryDirectory() as folder, Ledger("sqlite://") as book:
        adopted = book.adopt(table(Path(folder), [("r1", row)]))
        differing = {found.column for found in adopted.differences}
        kept: dict = {}
        for event in book.events("r1", types="imported"):
            kept |= event.row

        for name, value in row.items():
            if value is None or (name in DOCUMENTED and name not in differing):
                continue
            if name in {"config_json", "final_metrics_json"} and isinstance(parsed(value), dict | list):
                if book.get_run("r1")[name] is not None:
                    continue
            assert is_in(kept.get(name), value), (name, value, kept.get(name))
