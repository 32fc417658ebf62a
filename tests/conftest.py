"""How often laws are tried, and a place where no test meets a real ledger."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from ledger import Ledger
from tests.places import POSTGRESQL, SQLITE, InMemory, Ledgers, OnServer
from tests.postgres.sharing import Session

if TYPE_CHECKING:
    from tests.postgres.cluster import Cluster

# A shell that starts the tests in its background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

# LEDGER_PROOF=full tries what is new each time, and far more of it.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=80, suppress_health_check=_SLOW)
settings.register_profile("full", deadline=None, max_examples=2000, suppress_health_check=_SLOW)
settings.load_profile("full" if os.environ.get("LEDGER_PROOF") == "full" else "ci")


SESSION = pytest.StashKey[Session]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin a session, or join the one of the process that hands out the tests."""
    config.addinivalue_line("markers", "places(*kinds): the kinds of database on which a test is to run")
    config.stash[SESSION] = Session(*getattr(config, "workerinput", {}).get("postgres", ()))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist whose session it joins."""
    session = node.config.stash[SESSION]
    node.workerinput["postgres"] = (session.name, session.owner)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the session where it began."""
    session = config.stash.get(SESSION, None)
    if session is not None and session.owner == os.getpid():
        session.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the long proofs the time they take; the usual ones have pyproject.toml's limit, so that what hangs is named."""
    if os.environ.get("LEDGER_PROOF") == "full":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables away that could name somebody's ledger."""
    for name in [name for name in os.environ if name.startswith("TRAINING_DB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file in which there is no ledger yet."""
    return tmp_path / "runs.db"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that names several kinds of database on each of them."""
    named = metafunc.definition.get_closest_marker("places")
    if named is not None and "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", named.args, indirect=True)


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """Name the kind of database that a test is on: SQLite, unless it says otherwise (tests/places.py)."""
    return getattr(request, "param", SQLITE)


@pytest.fixture
def ledger_place(request: pytest.FixtureRequest, database_kind: str) -> Iterator[str]:
    """Name a place for a ledger, a file or the URL of a database; nothing is recorded there yet."""
    if database_kind == POSTGRESQL:
        with request.getfixturevalue("pg_ledgers").place() as url:
            yield url
    else:
        yield str(request.getfixturevalue("path")) if database_kind == SQLITE else ":memory:"


@pytest.fixture
def bare_place(request: pytest.FixtureRequest, database_kind: str) -> Iterator[str]:
    """Name a place in which there is nothing at all: no file, or a database without a table."""
    if database_kind == SQLITE:
        yield str(request.getfixturevalue("path"))
        return
    cluster, name = request.getfixturevalue("pg_cluster"), request.getfixturevalue("pg_session").database()
    yield cluster.create_database(name)
    cluster.drop_database(name)


@pytest.fixture
def place(ledger_place: str) -> str:
    """Name the same place; a module that has a place of its own keeps its books where they are."""
    return ledger_place


@pytest.fixture
def book(ledger_place: str) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with Ledger(ledger_place) as book:
        book.init_db()
        yield book


@pytest.fixture
def ledgers(request: pytest.FixtureRequest, database_kind: str) -> Ledgers:
    """Give a call for fresh, empty ledgers; in SQLite's case they are in memory."""
    made: Ledgers = request.getfixturevalue("pg_ledgers") if database_kind == POSTGRESQL else InMemory()
    return made


@pytest.fixture(scope="session")
def pg_session(pytestconfig: pytest.Config) -> Session:
    return pytestconfig.stash[SESSION]


@pytest.fixture(scope="session")
def pg_cluster(pg_session: Session) -> Iterator[Cluster]:
    """Give the PostgreSQL server that the session's processes share; nothing is stopped or set in it."""
    with pg_session.cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pg_template(pg_session: Session, pg_cluster: Cluster) -> str:
    """Name the database whose copies the tests get."""
    return pg_session.prepared(pg_cluster)


@pytest.fixture(scope="session")
def pg_ledgers(pg_session: Session, pg_cluster: Cluster, pg_template: str) -> Iterator[OnServer]:
    """Give fresh ledgers in databases that are used again, for tests that leave the schema and the server alone."""
    with closing(OnServer(pg_cluster, pg_session)) as ledgers:
        yield ledgers


@pytest.fixture
def new_postgres_url(pg_session: Session, pg_cluster: Cluster, pg_template: str) -> Iterator[Callable[[], str]]:
    """Give a call that makes a fresh database and returns its URL; all are dropped after the test."""
    made: list[str] = []

    def new() -> str:
        made.append(pg_session.database())
        return pg_cluster.create_database(made[-1], pg_template)

    yield new
    for name in made:
        pg_cluster.drop_database(name)


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """Give the URL of a database of the test's own."""
    return new_postgres_url()
