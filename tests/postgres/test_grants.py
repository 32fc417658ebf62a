"""What `ledger grants` prints is enough for a writer and for a reader, and no more than that."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.doctor import examine
from ledger.errors import AskedWrongly, LedgerUnreachable, NoLedger, UnknownName
from ledger.events import Heartbeat, MetricsLogged
from tests.postgres.server import Server

Opened = Callable[[str], str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start() as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    """Give the owner's URL of a ledger in a schema of a database, both with names that have to be quoted."""
    url = server.create_database(f"it's {random.randrange(10**9)}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "Ledger"')
    url += "&options=-csearch_path%3D%22Ledger%22"
    with Ledger(url) as book:
        book.insert_run("r", "w1", {"batch_size": 8})
    return url


@pytest.fixture
def user(server: Server, url: str) -> Opened:
    """Give a call that makes a user with the grants of a kind of role, and nothing else, and returns its URL."""

    def made(kind: str) -> str:
        name = f"{kind} {random.randrange(10**9)}"
        with Ledger(url) as book, psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f'CREATE ROLE "{name}" LOGIN')
            owner.execute("REVOKE ALL ON SCHEMA public FROM public")
            owner.execute('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA "Ledger" FROM public')
            owner.execute(f'REVOKE ALL ON DATABASE "{owner.info.dbname}" FROM public')
            for _ in range(2):
                owner.execute(book.grants(kind, to=name))
        return url.replace("postgres@", f"{name.replace(' ', '%20')}@", 1)

    return made


def refused(url: str, statement: str) -> str:
    """Run a statement that this user may not run; return what the server says."""
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    return str(caught.value)


def test_a_writer_does_all_that_writers_do(url: str, user: Opened, tmp_path: Path) -> None:
    """Record, correct, void, crash, merge, sync, subscribe, follow, sweep and replay: a writer's grants are enough."""
    with Ledger(tmp_path / "other.db") as other:
        other.insert_run("elsewhere", "w2", {"batch_size": 9})
        other.append(Heartbeat(run_id="elsewhere", event_id="00000000-0000-0000-0000-000000000001", step=1))
    with Ledger(f"spool://{tmp_path / 'spool'}") as spool:
        spool.insert_run("spooled", None, {})
    with Ledger(user("writer")) as book:
        book.init_db()
        book.append(
            [Heartbeat(run_id="r", event_id="00000000-0000-0000-0000-000000000001", step=step) for step in (2,)]
        )
        book.append([Heartbeat(run_id=run_id, step=3) for run_id in ("r", "self-reported")])
        book.update_run_status("r", "running")
        book.amend("r", reason="it was", wandb_run_id="w3")
        book.void("r", reason="bogus")
        book.unvoid("r", reason="it was not")
        book.record_crash("r", exit_code=1)
        assert book.merge(tmp_path / "other.db").refused == 1
        assert book.sync(tmp_path / "spool").new == 1
        subscription = book.subscription("s", tries=1)
        assert subscription.for_each(lambda event: 1 / (event.run_id != "spooled")) > 5
        assert [kept.event.run_id for kept in subscription.parked()] == ["spooled"]
        assert subscription.retry(lambda event, connection: None, together=True) == 1
        subscription.rewind(0)
        assert next(book.follow()).run_id == "r"
        assert {verdict.action for verdict in book.sweep(witnesses=[])} == {"left"}
        assert book.replay() == 4
        assert list(book.replay(dry_run=True)) == []
        assert book.verify()


def test_a_writer_changes_no_event(url: str, user: Opened) -> None:
    """Neither rows nor triggers nor schema, however it is tried."""
    writer = user("writer")
    for statement in (
        "UPDATE training_events SET source = ''",
        "DELETE FROM training_events",
        "TRUNCATE training_events CASCADE",
        "DELETE FROM training_conflicts",
        "DELETE FROM ledger_migrations",
        "INSERT INTO ledger_migrations VALUES ('m999', '')",
        "SELECT setval('training_events_position_seq', 1)",
        "SET session_replication_role = replica",
        'CREATE TABLE "Ledger".mine (a int)',
    ):
        assert "permission denied" in refused(writer, statement)
    for statement in (
        "ALTER TABLE training_events DISABLE TRIGGER ALL",
        "ALTER TABLE training_events ALTER COLUMN source DROP NOT NULL",
        "DROP TRIGGER training_events_no_delete ON training_events",
        "CREATE RULE mine AS ON INSERT TO training_events DO INSTEAD NOTHING",
        "CREATE OR REPLACE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE sql AS ''",
        "DROP TABLE training_runs",
    ):
        assert any(words in refused(writer, statement) for words in ("must be owner", "permission denied"))
    with Ledger(writer) as book:
        assert book.verify()


def test_the_owner_changes_no_event_either(url: str) -> None:
    """Who has every right meets the triggers, also as a replica."""
    for prepared in ("", "SET session_replication_role = replica;"):
        for statement in ("UPDATE training_events SET source = ''", "DELETE FROM training_events",
                          "TRUNCATE training_events"):  # fmt: skip
            assert "append-only" in refused(url, f"{prepared} {statement}")


def test_a_reader_asks_everything(url: str, user: Opened) -> None:
    """A reader's grants are enough for every question, verify, export, the doctor and a replay that changes nothing."""
    reader = user("reader")
    with Ledger(reader) as book:
        row = book.get_run("r")
        assert row is not None
        assert row["batch_size"] == 8
        assert book.query_runs({"wandb_run_id": "w1"}) == [row]
        assert sum(book.get_stats().values()) > 0
        assert [entry.type for entry in book.timeline(run_id="r")] == ["launched", "wandb_attached"]
        with book.as_of("2100-01-01") as past:
            assert past.get_run("r") is not None
        assert len(book.explain("r")) > 2
        assert next(book.follow()).run_id == "r"
        assert len(list(book.events())) == 2
        assert book.subscriptions() == []
        assert book.export(io.BytesIO()).events == 2
        assert list(book.replay(dry_run=True)) == []
        assert book.verify()
    report = examine(reader)
    assert report.problems == []
    assert report.facts["verify"] == "no difference"


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_both_ask_the_timeline_by_sql(url: str, user: Opened, kind: str) -> None:
    """The view and the tables beside the rows are read by whoever reads; and nobody writes through the view."""
    with Ledger(url) as owner:
        owner.insert_objective("r", "QED", weight=2)
        owner.record_scaffolds("r", [{"scaffold_id": "s"}])
    of_kind = user(kind)
    with psycopg.connect(of_kind, autocommit=True) as connection:
        types = connection.execute("SELECT type FROM training_timeline WHERE run_id = 'r' ORDER BY position").fetchall()
        weights = connection.execute("SELECT weight FROM training_objectives").fetchall()
    assert [type for (type,) in types] == ["launched", "wandb_attached", "objective_stated", "scaffolds_recorded"]
    assert weights == [(2.0,)]
    assert "cannot delete from view" in refused(of_kind, "DELETE FROM training_timeline")
    with Ledger(of_kind) as book:
        assert [row["weight"] for row in book.get_run_objectives("r")] == [2.0]
        assert book.pareto_front("QED") == book.compare_gradient_methods("QED") == []
        assert [row["scaffold_id"] for row in book.get_run_scaffolds("r")] == ["s"]


def test_a_writer_states_what_a_run_reached(url: str, user: Opened) -> None:
    """A writer's grants are enough for objectives, scaffolds and metrics, to void and to replay them."""
    with Ledger(user("writer")) as book:
        book.insert_objective("r", "QED", weight=2)
        book.update_objective_metric("r", "QED", "raw_mean", 0.5)
        book.record_scaffolds("r", [{"scaffold_id": "s"}])
        book.append(MetricsLogged(run_id="r", columns={"step": [1], "loss": [0.5]}))
        book.void("r", reason="bogus")
        book.unvoid("r", reason="it was not")
        book.replay()
        assert [row["run_id"] for row in book.query_runs_by_objectives({"QED": {"min": 0.5}})] == ["r"]
        assert book.verify()


def test_a_reader_writes_nothing(url: str, user: Opened) -> None:
    """Whatever a reader would write is refused at once, in one line that names the mend."""
    with Ledger(user("reader")) as book:
        book.init_db()
        for write in (
            lambda: book.insert_run("other", None, {}),
            lambda: book.annotate("r", "a note"),
            lambda: book.replay(),
            lambda: book.subscription("s").for_each(lambda event: None),
        ):
            with pytest.raises(LedgerUnreachable, match="permission denied .* `ledger grants` prints") as caught:
                write()
            assert "\n" not in str(caught.value)
        assert book.verify()


def test_a_writer_becomes_a_reader(url: str, user: Opened) -> None:
    """What is granted is what is printed last: more than that is taken away."""
    writer = user("writer")
    with Ledger(url) as owner, psycopg.connect(writer) as connection:
        name = connection.info.user
        with psycopg.connect(url, autocommit=True) as granting:
            granting.execute(owner.grants("reader", to=name))
    assert "permission denied" in refused(writer, "DELETE FROM training_runs")
    with Ledger(writer) as book:
        assert book.verify()


def test_the_command_prints_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints SQL for psql; the role's name is the kind's, or what --to says."""
    assert main(["--db", url, "grants", "--role", "writer"]) == 0
    out = capsys.readouterr().out
    assert 'GRANT SELECT, INSERT ON TABLE "Ledger"."training_events" TO "ledger_writer";' in out
    assert main(["--db", url, "grants", "--role", "reader", "--to", "the web", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["role"], said["to"]) == ("reader", "the web")
    assert "INSERT" not in said["grants"]
    assert said["grants"].count('TO "the web";') > 10


def test_where_there_are_no_roles(tmp_path: Path, server: Server, url: str) -> None:
    """A file has none, an empty database no tables, and another kind of role no meaning: each is said."""
    with Ledger(tmp_path / "runs.db") as book, pytest.raises(AskedWrongly, match="is not on a server"):
        book.grants("writer")
    empty = server.create_database(f"empty {random.randrange(10**9)}")
    with Ledger(empty) as book, pytest.raises(NoLedger):
        book.grants("writer")
    with Ledger(url) as book:
        with pytest.raises(UnknownName, match="Did you mean 'writer'"):
            book.grants("writers")
        with pytest.raises(AskedWrongly, match="no name of a role"):
            book.grants("writer", to="x" * 64)
