"""The tree of errors is the drawn one, and every message says the mend."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger, errors
from ledger.errors import LedgerError
from ledger.events import Amended, Event, Launched, Started
from ledger.settings import Settings
from ledger.store.translation import translating
from ledger.witnesses.commands import output_of

CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LedgerError)
}
# Classes to catch, which nothing raises.
FAMILIES = {"LedgerError", "RunError", "AppendRefused", "Unreachable", "UnknownName"}

PLACE = "/data/runs.db"


def drawn() -> Iterator[tuple[str, str | None]]:
    """Yield every drawn class and the one that it is drawn under."""
    above: dict[int, str] = {}
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if entry := re.fullmatch(r"( *)[*x.-] (\w+(?:, \w+)*)(?:  .*)?", line):
            depth, names = len(entry[1]), entry[2].split(", ")
            for name in names:
                yield name, max(((d, n) for d, n in above.items() if d < depth), default=(0, None))[1]
            above = {**{d: n for d, n in above.items() if d < depth}, depth: names[-1]}


def raised(call: Callable[[], object]) -> LedgerError:
    """Return what the call raises."""
    with pytest.raises(LedgerError) as caught:
        call()
    return caught.value


def configured(monkeypatch: pytest.MonkeyPatch, **variables: str) -> LedgerError:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return raised(Settings.read)


def opened(path: Path, sql: str | None = None) -> LedgerError:
    """Return what comes of taking another file for a ledger."""
    if sql is None:
        path.write_text("dear diary, " * 100)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql)
    with Ledger(path) as book:
        return raised(book.init_db)


def test_the_tree_is_the_drawn_one() -> None:
    """Every class is drawn once, and under the one that it is derived from."""
    tree = list(drawn())
    names = [name for name, _ in tree]

    assert sorted(names) == sorted(CLASSES)
    parents = {
        name: [base.__name__ for base in kind.__bases__ if base in CLASSES.values()] for name, kind in CLASSES.items()
    }
    assert {name: [] if above is None else [above] for name, above in tree} == parents


def test_errors_are_made_in_one_place() -> None:
    """No other module has an exception of its own, but two that never leave their part of the house."""
    root = Path(errors.__file__).parent
    found = {
        f"{path.relative_to(root).as_posix()}:{node.name}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if path.name != "errors.py" and isinstance(node, ast.ClassDef)
        if any(re.search(r"(Exception|Error)$", ast.unparse(base)) for base in node.bases)
    }
    assert found == {"proof.py:Unproved", "store/swap.py:Unexchangeable"}


Case = tuple[str, Callable[[Path, pytest.MonkeyPatch], LedgerError], str]


def made(kind: type[LedgerError], *args: object, mend: str, **more: object) -> Case:
    """Give a case whose class words its message itself."""
    return kind.__name__, lambda *_: kind(*args, **more), mend


CASES: list[Case] = [
    made(errors.RunNotFound, "r1", mend=r"Record its launch with insert_run\("),
    made(errors.RunNotFound, "ABC123", chain=True, mend=r"or check that TRAINING_DB_URL"),
    made(errors.RunNotFound, "r1", by_then=True, mend="Ask as of a later moment or position"),
    made(errors.RunAlreadyExists, "r1", ["host"], mend=r"Launch under a new run_id, or correct .* amend\("),
    made(errors.WandbRunTaken, "w1", "r1", mend=r"say so with resumes_run_id='r1'; .*void it"),
    made(errors.EventConflict, "an-id", "r1", mend="Record a changed fact as a new event"),
    made(errors.WrongExpectedVersion, "r1", 1, 2, mend="then append with expected_version=2"),
    made(errors.AppendOnly, mend=r"Correct a run with amend\(\.\.\.\), or take it out of the tables with void\("),
    made(errors.UnknownFilter, "statu", ["status"], mend=r"Did you mean 'status'\?"),
    made(errors.UnknownFilter, "qqq", ["status", "host"], mend="There are: host, status"),
    made(errors.UnknownOrder, "creatd_at", ["created_at"], mend="Did you mean 'created_at'"),
    made(errors.UnknownColumn, "hots", ["host"], mend="Did you mean 'host'"),
    made(errors.UnknownKeyword, "run_nam", ["run_name"], mend="Did you mean 'run_name'"),
    made(errors.UnknownSubscription, "slak", ["slack"], mend="Did you mean 'slack'"),
    made(errors.UnknownWitness, "slrum", ["slurm"], mend="Did you mean 'slurm'"),
    made(errors.PositionUnknown, 9, 5, "follow(after=...)", mend=r"Go on from where they part, with follow\(after="),
    made(errors.InvalidValue, "limit", -1, "a whole number of 0 or more is wanted", mend="a whole number .* is wanted"),
    made(errors.NoLedger, PLACE, mend=r"Create it with `ledger init` or init_db\(\)"),
    made(errors.OnlyASpool, "/data/spool", mend="Move it into its ledger with `ledger --db LEDGER sync /data/spool`"),
    made(errors.NewerLedger, PLACE, ["m009"], mend="Update with: pip install --upgrade training-run-ledger"),
    made(errors.LedgerBusy, PLACE, 30, mend="Do the same again; .*find the holder"),
    made(errors.FileUnreadable, "/data/a.jsonl", "Permission denied", mend="See to its rights and its disk, then do"),
    made(errors.LedgerClosed, mend=r"Open a new one with Ledger\(url\)"),
    made(errors.LedgerClosed, "view", "as_of(...)", mend=r"Open a new one with as_of\("),
    made(errors.NotTheSame, "event 7", PLACE, mend="`ledger verify` on both, then do the same again"),
    made(errors.NotTheSame, "run 'r'", PLACE, replay_is_due=True, mend="do `ledger replay` there, then do the same again"),
    made(errors.NotKept, "a/b.log", "the bucket b", "no such bucket", "See to its name", mend="See to its name, then do"),
    made(errors.MissingExtra, "demo", mend=r"Install it with: pip install 'training-run-ledger\[demo\]'"),
    ("WitnessUnreachable", lambda *_: raised(lambda: output_of(["false"], 9.0)), "See that it answers at a prompt"),
    ("AskedWrongly", lambda path, _: raised(Ledger(path).timeline), r"needs run_id=\.\.\. or chain_of_custody_id="),
    ("AskedWrongly", lambda path, _: raised(lambda: Ledger(path).annotate("r1")), "needs a note, tags, or metadata"),
    ("AskedWrongly", lambda path, _: raised(lambda: Ledger(path).attach_crash_data("r1")), "at least one of error_log"),
    ("InvalidFact", lambda *_: raised(lambda: Started(run_id="r", lr=1)), r"go into annotate\(run_id, lr="),
    ("InvalidFact", lambda *_: raised(lambda: Amended(run_id="r", columns={})), "Amended needs reason"),
    ("InvalidFact", lambda *_: raised(lambda: Launched(run_id="")), "text that is not empty is wanted"),
    ("InvalidFact", lambda *_: raised(lambda: Event(run_id="r")), r"for example Started\(run_id"),
    ("NotConfigured", lambda _, env: configured(env), "export TRAINING_DB_PATH=~/training_runs.db"),
    ("NotConfigured", lambda *_: raised(Ledger("off").get_stats), "Set it to a ledger"),
    ("HalfConfigured", lambda _, env: configured(env, TRAINING_DB_HOST="db"), "Set the rest, or unset the group"),
    ("HalfConfigured", lambda _, env: configured(env, TRAINING_DB_PATH=" "), "Give a file"),
    ("HalfConfigured", lambda _, env: configured(env, TRAINING_DB_PATH="sqlite:///a.db"), "Set TRAINING_DB_URL to it"),
    ("HalfConfigured", lambda _, env: configured(env, TRAINING_DB_SYNCHRONOUS="OFF"), "one of FULL and NORMAL"),
    ("NotALedger", lambda path, _: opened(path), "Choose a new file"),
    ("NotALedger", lambda path, _: opened(path, "CREATE TABLE songs (title)"), "Choose a new file"),
    ("NotALedger", lambda path, _: opened(path, "CREATE TABLE training_runs (run_id)"), "Choose a new file"),
    ("HalfConfigured", lambda *_: raised(lambda: Ledger("mysql://db/runs")), "Give a path, or postgresql://user@host"),
    ("HalfConfigured", lambda *_: raised(lambda: Ledger("postgresql://u:a/b@c@h:x/runs")), "with %40 for @"),
    ("LedgerUnreachable", lambda *_: raised(Ledger("postgresql://u@localhost:1/runs", busy_seconds_max=0).init_db), "Check that the server is there"),
    ("LedgerUnreachable", lambda *_: raised(Ledger("postgresql://u@nowhere.invalid/runs").init_db), "Check the host in TRAINING_DB_URL"),
    ("LedgerUnreachable", lambda path, _: raised(Ledger(path.parent).init_db), "Check the disk's space and the rights"),
    ("LedgerUnreachable", lambda *_: driver(OSError(28, "No space left")), "Mend the place, then do the same again"),
    ("LedgerDamaged", lambda *_: driver(sqlite3.OperationalError("Could not decode to UTF-8")), "Find where with `ledger verify`"),
    ("LedgerBusy", lambda *_: driver(sqlite3.OperationalError("no such table: replaying_a_b")), "overtook .*Do the same again"),
    ("LedgerUnreachable", lambda *_: driver(sqlite3.DatabaseError("not authorized")), "start the process anew"),
    ("LedgerDamaged", lambda *_: driver(sqlite3.DatabaseError("malformed")), "Put a backup in its place with `ledger"),
    ("LedgerDamaged", lambda *_: driver(sqlite3.OperationalError("no such table: x")), "Put a backup in its place"),
]  # fmt: skip


def driver(exc: sqlite3.Error | OSError) -> LedgerError:
    """Return what the ledger makes of the driver's exception."""

    def use() -> None:
        with translating(PLACE):
            raise exc

    return raised(use)


def test_every_class_is_built_here() -> None:
    """No class that can be raised is without a case below."""
    assert {name for name, *_ in CASES} == CLASSES.keys() - FAMILIES


@pytest.mark.parametrize(("name", "make", "mend"), CASES, ids=[f"{n}-{place}" for place, (n, *_) in enumerate(CASES)])
def test_every_message_says_the_mend(
    name: str, make: Callable[..., LedgerError], mend: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has what is to be done, and a pool of processes hands the error on as it is."""
    error = make(path, monkeypatch)
    again = pickle.loads(pickle.dumps(error))

    assert type(error) is CLASSES[name]
    assert re.search(mend, str(error)), f"{name} without its mend: {error}"
    assert (type(again), str(again), again.args, vars(again)) == (type(error), str(error), error.args, vars(error))


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_a_wrong_call_is_a_value_error(kind: type[LedgerError]) -> None:
    """What is AskedWrongly can be caught as a ValueError, and nothing else can."""
    assert issubclass(kind, ValueError) == issubclass(kind, errors.AskedWrongly)


@pytest.mark.parametrize("kind", [errors.LedgerBusy, errors.LedgerDamaged])
def test_what_a_spool_is_there_for_is_one_class(kind: type[LedgerError]) -> None:
    """Locked out, damaged or away: who catches LedgerUnreachable catches all of it."""
    assert issubclass(kind, errors.LedgerUnreachable)
