"""The command line: words in, tables or JSON out, and an exit code that says whose turn it is."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.cli.parser import parse, parser
from tests.adopting.old import SCHEMA, made
from tests.integrations.wandb_logs import run_record, written

CONFIG = {"training": {"batch_size": 384, "max_steps": 2000}, "reward": {"gradient_method": "mgda"}}

# The words that each verb needs; {backup} is a backup, {new} a file that is not there, {spool} a folder, {log} W&B's,
# {old} a file of the earlier API.
VERBS: dict[str, list[str]] = {
    "init": [],
    "exec": ["--", "true"],
    "runs": [],
    "show": ["r1"],
    "timeline": ["r1"],
    "plot": ["chain", "ABC123"],
    "stats": [],
    "report": ["outcomes"],
    "events": ["--types", "started"],
    "explain": ["r1"],
    "subscriptions": [],
    "annotate": ["r1", "--note", "odd"],
    "amend": ["r1", "--reason", "typo", "host=expanse"],
    "void": ["r1", "--reason", "bogus"],
    "unvoid": ["r1", "--reason", "not bogus"],
    "replay": [],
    "verify": [],
    "sync": ["{spool}", "--clear"],
    "sweep": ["--dry-run"],
    "backup": ["{new}"],
    "restore-backup": ["{backup}"],
    "export": ["{new}"],
    "merge": ["{backup}"],
    "import": ["wandb", "{log}"],
    "adopt": ["{old}"],
    "copy": ["--to", "{new}"],
    "grants": ["--role", "reader"],
    "schema": [],
    "doctor": ["--no-verify"],
    "demo": [],
}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> object:
        return json.loads(self.out)


Ask = Callable[..., Answer]


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a ledger of three runs."""
    path.with_name("spool").mkdir()
    with Ledger(path) as book:
        book.insert_run("r1", "w1", CONFIG, "ABC123", host="ec2", run_name="first", at="2026-01-01")
        book.insert_run("r2", None, CONFIG, "ABC123", host="expanse", at="2026-01-02")
        book.insert_run("r3", None, None, host="laptop", at="2026-01-03")
        book.update_run_status("r1", "running", at="2026-01-01T00:05:00Z")
        book.update_run_status("r1", "completed", duration_seconds=3723, at="2026-01-01T02:00:00Z")
        book.update_run_status("r2", "crashed", at="2026-01-02T02:00:00Z")
        book.backup(path.with_name("kept.db"))

    def ask(*words: str) -> Answer:
        capsys.readouterr()
        code = main(["--db", str(path), *words])
        return Answer(code, *capsys.readouterr())

    return ask


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_lists_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`ledger --help` names the verb, and the verb's own help lists the exit codes."""
    assert (main(["--help"]), main([verb, "--help"])) == (0, 0)
    out = capsys.readouterr().out

    assert f"\n    {verb} " in out or f"\n    {verb}\n" in out
    assert out.count("70   a bug of ours") == 2


def test_no_verb_is_forgotten_here() -> None:
    """The list of verbs above is that of the command line."""
    (verbs,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))

    assert list(verbs) == list(VERBS)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("demo", "exec", "grants")])
@pytest.mark.parametrize("before", [True, False])
def test_every_verb_takes_db_and_json_on_either_side(ask: Ask, verb: str, path: Path, before: bool) -> None:
    """--db and --json before or after the verb make it answer about that ledger, with JSON."""
    common = ["--db", str(path), "--json"]
    places = {"new": path.with_name("new.db"), "backup": path.with_name("kept.db"), "spool": path.with_name("spool")}
    places["log"] = written(path.with_name("run-abc.wandb"), run_record())
    places["old"] = made(path.with_name("old.db"), SCHEMA)
    words = [word.format(**places) for word in VERBS[verb]]
    answer = ask(*common, verb, *words) if before else ask(verb, *words, *common)

    assert (answer.code, answer.err) == (0, "")
    assert answer.document


def test_exec_takes_db_and_json_before_its_command() -> None:
    """What stands behind the two dashes is the command's, and stdout, too."""
    for words in (
        ["--db", "x", "--json", "exec", "--", "a", "--json"],
        ["exec", "--db", "x", "--json", "--", "a", "--json"],
    ):
        said = parse(words)
        assert (said.db, said.as_json, said.command[-2:]) == ("x", True, ["a", "--json"])
    assert not parse(["exec", "a", "--json"]).as_json


def test_the_demo_takes_db_and_json_on_either_side() -> None:
    """The demo, too long to be run twice more, understands the same words."""
    for words in (["--db", "x", "--json", "demo"], ["demo", "--db", "x", "--json"]):
        said = parse(words)
        assert (said.verb, said.db, said.as_json) == ("demo", "x", True)


def test_runs_are_a_table(ask: Ask) -> None:
    """`runs` shows who needs a look, then the newest, with times and durations as people write them."""
    heading, _, *lines = ask("runs").out.splitlines()

    assert heading.split() == "run_id status liveness gradient_method host created_at duration run_name".split()
    assert [line.split()[0] for line in lines] == ["r3", "r2", "r1"]
    assert lines[2].split() == "r1 completed ended mgda ec2 2026-01-01 00:00:00Z 1:02:03 first".split()


def test_a_cut_table_says_so(ask: Ask) -> None:
    """The last line says how many of how many are shown, and only when some are not."""
    assert ask("runs", "--limit", "2").out.splitlines()[-1] == "2 of 3 shown"
    assert "shown" not in ask("runs", "--limit", "all").out


def test_no_runs_are_no_table(ask: Ask) -> None:
    """Where nothing meets the filters, one line says so."""
    assert ask("runs", "--host", "moon").out == "no runs\n"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--status", "completed"], ["r1"]),
        (["--status", "completed", "--status", "crashed"], ["r2", "r1"]),
        (["--method", "mgda", "--host", "ec2"], ["r1"]),
        (["-f", "config.training.max_steps=2000", "--filter", "has_blog_post=false"], ["r2", "r1"]),
        (["-f", "host=ec2", "-f", "host=laptop"], ["r3", "r1"]),
        (["-f", "min_duration_hours=1"], ["r1"]),
        (["--since", "2026-01-01T12:00:00Z"], ["r3", "r2"]),
        (["--since", "1h"], []),
        (["--order-by", "duration_seconds DESC, run_id", "--limit", "2"], ["r1", "r2"]),
        (["--limit", "1", "--offset", "1"], ["r2"]),
    ],
)
def test_runs_meet_what_was_asked(ask: Ask, words: list[str], found: list[str]) -> None:
    """Filters, order, limit and offset are those of query_runs."""
    assert [row["run_id"] for row in ask("runs", "--json", *words).document["runs"]] == found


def test_json_rows_are_those_of_query_runs(ask: Ask, path: Path) -> None:
    """--json gives the rows as Python gets them, and how many there are in all."""
    document = ask("runs", "--json", "--limit", "2").document

    with Ledger(path) as book:
        assert document == {"total": 3, "runs": book.query_runs(limit=2)}


def test_columns_are_chosen_by_name(ask: Ask) -> None:
    """--columns shows these and no others; an unknown one is refused with the nearest name."""
    assert ask("runs", "--columns", "run_id,batch_size", "--host", "ec2").out.split()[-2:] == ["r1", "384"]
    assert "Did you mean 'host'" in ask("runs", "--columns", "hots").err


def test_voided_runs_are_shown_on_demand(ask: Ask) -> None:
    """A voided run is in the table only with --include-voided."""
    ask("void", "r2", "--reason", "bogus")

    assert "r2" not in ask("runs").out
    assert "crashed" in ask("runs", "--include-voided").out


def test_a_card_has_groups_and_no_empty_columns(ask: Ask) -> None:
    """`show` groups a run's columns, leaves out what is not known, and spreads JSON out."""
    out = ask("show", "r1").out

    assert [line for line in out.splitlines() if line[:1] > " "] == ["Run", "Life", "Hyperparameters", "Further"]
    assert "blog_post_url" not in out
    assert '      "training": {\n        "batch_size": 384,' in out


def test_a_card_in_json_is_the_row(ask: Ask, path: Path) -> None:
    """`show --json` gives what get_run gives."""
    with Ledger(path) as book:
        assert ask("show", "r1", "--json").document == book.get_run("r1")


def test_a_voided_run_says_so_first(ask: Ask) -> None:
    """The card of a voided run begins with the reason."""
    ask("void", "r1", "--reason", "bogus")

    assert ask("show", "r1").out.split()[:3] == ["Voided", "reason", "bogus"]


def test_a_timeline_has_a_line_an_event(ask: Ask) -> None:
    """A run's timeline tells its events in order; that of a chain also says of which run."""
    lines = ask("timeline", "r1").out.splitlines()

    assert [line.split()[2] for line in lines[2:]] == ["launched", "wandb_attached", "started", "completed"]
    assert lines[-1].endswith("completed after 1:02:03")
    assert "r2" in ask("timeline", "--chain", "ABC123").out


def test_a_timeline_of_nothing_is_refused(ask: Ask) -> None:
    """Without a run and without a chain there is nothing to tell."""
    assert ask("timeline").err == "ledger: timeline needs a RUN or --chain ID. See: ledger timeline --help\n"


def test_stats_are_counts(ask: Ask) -> None:
    """`stats` prints a count a line."""
    assert ask("stats").out.splitlines()[:2] == ["total_runs           3", "launched             1"]


def test_events_are_one_document_with_a_line_an_event(ask: Ask) -> None:
    """`events --json` gives an array with a stored event on each of its lines, and an empty one where there is none."""
    answer = ask("events", "--run", "r1", "--json")
    first, *lines, last = answer.out.splitlines()

    assert [json.loads(line.rstrip(",")) for line in lines] == answer.document
    assert (first, last) == ("[", "]")
    assert ask("events", "--types", "voided,failed", "--json").out == "[]\n"


def test_events_come_with_the_texts_of_their_digests(ask: Ask) -> None:
    """The texts that a digest covers are in `events --json`."""
    records = json.loads(ask("events", "--run", "r1", "--json").out)

    assert [record["version"] for record in records] == [1, 2, 3, 4]
    for record in records:
        texts = {name: record[name] for name in ("payload", "source")}
        names = ("event_id", "occurred_at", "payload", "run_id", "schema_version", "source", "type")
        said = ",".join(f'"{name}":{texts.get(name) or json.dumps(record[name])}' for name in names)
        assert sha256(f"{{{said}}}".encode()).hexdigest() == record["digest"]


def test_events_begin_behind_a_position(ask: Ask) -> None:
    """--after, --chain and --types choose among the events."""
    lines = ask("events", "--after", "1", "--chain", "ABC123", "--types", "launched,completed").out.splitlines()

    assert [line.split()[3:5] for line in lines] == [["r2", "launched"], ["r1", "completed"]]


def test_types_that_are_said_twice_add_up(ask: Ask) -> None:
    """`--types a --types b` is `--types a,b`."""
    once = ask("events", "--types", "launched,completed").out

    assert ask("events", "--types", "launched", "--types", "completed").out == once != ""


def test_subscriptions_are_listed(ask: Ask, path: Path) -> None:
    """`subscriptions` says how far each has come; with a name also what it has parked, and why."""
    assert ask("subscriptions").out == "no subscriptions\n"
    with Ledger(path) as book:
        book.subscription("slack", types="crashed", tries=1).for_each(lambda event: 1 / 0)
        book.subscription("mail").rewind(1)
    heading, _, *lines = ask("subscriptions").out.splitlines()
    assert heading.split() == ["name", "position", "behind", "parked", "updated_at", "wanted"]
    assert [line.split()[:4] for line in lines] == [["mail", "1", "6", "0"], ["slack", "7", "0", "1"]]
    assert [line.split()[-1] for line in lines] == ["all", "crashed"]

    *_, event, error = ask("subscriptions", "slack").out.splitlines()
    assert (event.split()[0], event.split()[3:]) == ("7", ["r2", "crashed"])
    assert error.strip() == "ZeroDivisionError: division by zero"
    assert ask("subscriptions", "slak").err.startswith("ledger: unknown subscription 'slak'. Did you mean 'slack'?")


def test_subscriptions_in_json(ask: Ask, path: Path) -> None:
    """--json lists them with what they are behind; with a name, `parked` has the events."""
    with Ledger(path) as book:
        book.subscription("slack", types="crashed", tries=1).for_each(lambda event: 1 / 0)
    (listed,) = ask("subscriptions", "--json").document["subscriptions"]
    one = ask("subscriptions", "slack", "--json").document

    assert {**listed, "parked": one["parked"]} == one
    assert (listed["name"], listed["position"], listed["behind"], listed["parked"]) == ("slack", 7, 0, 1)
    assert [(event["position"], event["run_id"], event["type"]) for event in one["parked"]] == [(7, "r2", "crashed")]


def test_metadata_is_json_where_it_is_json(ask: Ask) -> None:
    """A --set value that is JSON is a number or an object, any other is text."""
    ask("annotate", "r1", "--tag", "a", "--tag", "b", "--set", "gpu_hours=12.5", "--set", "owner=m=n")
    row = ask("show", "r1", "--json").document

    assert json.loads(row["metadata_json"]) == {"gpu_hours": 12.5, "owner": "m=n"}
    assert json.loads(row["tags_json"]) == ["a", "b"]


@pytest.mark.parametrize("name", ["note", "tags", "at", "run_id"])
def test_metadata_cannot_be_called_like_an_argument(ask: Ask, name: str) -> None:
    """--set does not reach the function's own arguments."""
    assert ask("annotate", "r1", "--set", f"{name}=x").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["host=ec9", "learning_rate=1e-4", "--reason", "typo", "--clear", "run_name"],
        ["--reason", "typo", "host=ec9", "learning_rate=1e-4", "--clear", "run_name"],
        ["host=ec9", "--clear", "run_name", "--reason", "typo", "learning_rate=1e-4"],
    ],
)
def test_columns_are_amended_on_either_side_of_the_reason(ask: Ask, words: list[str]) -> None:
    """column=value may stand anywhere behind the run, and --clear makes a column NULL."""
    row = ask("amend", "r1", *words, "--json").document["run"]

    assert (row["host"], row["learning_rate"], row["run_name"]) == ("ec9", 1e-4, None)


def test_an_amendment_says_what_it_changed(ask: Ask) -> None:
    """The answer names each column with what it is now and what it was."""
    assert "host: 'moon' (was 'ec2')" in ask("amend", "r1", "--reason", "typo", "host=moon").out


@pytest.mark.parametrize(
    "words",
    [["host"], ["hots=x"], ["run_id=x"], ["reason=x"], ["host=x", "--clear", "host"], ["--bogus", "host=x"], []],
)
def test_what_cannot_be_amended_is_refused(ask: Ask, words: list[str], path: Path) -> None:
    """A wrong word, an unknown column or no column at all changes nothing."""
    answer = ask("amend", "r1", "--reason", "typo", *words)

    assert (answer.code, answer.err.count("\n"), answer.out) == (2, 1, "")
    assert "amended" not in ask("timeline", "r1").out


def test_what_is_said_late_is_dated_back(ask: Ask) -> None:
    """--at says when it happened."""
    ask("annotate", "r1", "--note", "odd", "--at", "2025-12-31")

    assert ask("timeline", "r1").out.splitlines()[2].startswith("2025-12-31 00:00:00Z  annotated")


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("sync", "no file of a spool, named *.jsonl, lies there"),
        ("merge", "no event was there; of a folder, the files"),
    ],
)
def test_a_folder_with_nothing_to_take_in_says_so(ask: Ask, path: Path, verb: str, said: str) -> None:
    """An empty spool is no error; a wrong folder, or one of zipped exports, is not told that all of it is here."""
    folder = path.with_name("folder")
    folder.mkdir()
    (folder / "export.jsonl.gz").write_bytes(b"")
    answer = ask(verb, str(folder))
    assert (answer.code, said in answer.out, "same digest" in answer.out) == (0, True, False)


def test_verify_ends_with_one_when_it_finds_something(ask: Ask, path: Path) -> None:
    """`verify` names run, column, and what is stored and computed, and its exit code is 1."""
    assert ask("verify").code == 0
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE training_runs SET host = 'elsewhere' WHERE run_id = 'r1'")
    answer = ask("verify")

    assert answer.out.splitlines()[:3] == ["row: run 'r1', host", "  stored    'elsewhere'", "  computed  'ec2'"]
    assert answer.code == ask("verify", "--json").code == 1
    assert (ask("replay").out, ask("verify").code) == ("3 runs folded again\n", 0)


def test_a_restored_backup_says_what_it_lacks(ask: Ask, path: Path) -> None:
    """`restore-backup` names the former file and the runs of which the backup lacks events."""
    ask("annotate", "r3", "--note", "new")
    answer = ask("restore-backup", str(path.with_name("kept.db")))

    (former,) = path.parent.glob("runs.db.before-restore-*")
    assert f"the former file is {former}" in answer.out
    assert "it has 1 event that the backup lacks, of: r3" in answer.out


def test_a_backup_overwrites_nothing(ask: Ask, path: Path) -> None:
    """A backup goes to a new file only, which is said with its size."""
    new = path.with_name("new.db")

    assert ask("backup", str(new)).out == f"{new}: {new.stat().st_size:,} bytes\n"
    assert ask("backup", str(new)).code == 2


def test_init_says_whether_it_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`init` creates the ledger once, folders and all."""
    for _ in range(2):
        main(["init", "--db", str(tmp_path / "new" / "runs.db")])

    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == ["created", "is there already"]


def test_the_schema_runs_as_printed(ask: Ask, path: Path) -> None:
    """The printed SQL makes the same tables, indexes and triggers as the ledger has."""
    asked = "SELECT name FROM sqlite_master ORDER BY name"
    with closing(sqlite3.connect(":memory:")) as made, closing(sqlite3.connect(path)) as real:
        made.executescript(ask("schema").out)

        assert made.execute(asked).fetchall() == real.execute(asked).fetchall()
