"""Whatever becomes of the database's server, training goes on to its end, and afterwards every event is there, once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from tests.builders import trials
from tests.postgres.server import Server
from tests.tracking.processes import Place
from tests.tracking.test_it_never_hurts import STEPS as STEPS_THERE
from tests.tracking.test_it_never_hurts import TRAINING, finished

STEPS = trials(5_000, 100_000)
SCRIPT = TRAINING.replace(f"range({STEPS_THERE})", f"range({STEPS})")


class PlaceOnServer(Place):
    """The same on a server of its own."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder)
        self.server = server
        self.url = server.create_database("ledger")

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(TRAINING_DB_PATH="", TRAINING_DB_URL=self.url, **more)

    def ledger(self) -> Ledger:
        return Ledger(self.url)

    def sync(self) -> None:
        for spool in self.spool.glob("*"):
            with self.ledger() as book:
                book.sync(spool)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[PlaceOnServer]:
    with Server.start() as server:
        place = PlaceOnServer(tmp_path, server)
        with place.ledger() as book:
            book.insert_run("r", None, {"batch_size": 8})
        yield place


def begun(place: Place) -> subprocess.Popen[str]:
    process = place.start(SCRIPT, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def assert_all_is_there(place: Place) -> None:
    """Every step is in the ledger once, with the start and the end, and nothing is wrong with it."""
    place.sync()
    with place.ledger() as book:
        assert book.verify()
        events = list(book.events("r"))
    types = [event.type for event in events]
    steps = [step for event in events if event.type == "metrics_logged" for step in event.event.columns["step"]]
    assert steps == list(range(STEPS))
    assert (types.count("started"), types.count("completed"), types.count("annotated")) == (1, 1, 1)
    assert place.row()["status"] == "completed"


def test_with_the_server_stopped(place: PlaceOnServer) -> None:
    """From the first step to after the end it is away: all goes to the spool, that is said, and a sync brings it in."""
    process = begun(place)
    place.server.stop()
    err = finished(process)
    place.server.restart()

    assert "ledger --db URL sync" in err
    assert_all_is_there(place)


def test_with_the_server_stopped_before_the_start(place: PlaceOnServer) -> None:
    """A training that begins while it is away begins all the same."""
    place.server.stop()
    finished(begun(place))
    place.server.restart()

    assert_all_is_there(place)


def test_with_the_server_killed_in_the_middle(place: PlaceOnServer) -> None:
    """Killed and started again while steps are logged: nothing is lost, and nothing is there twice."""
    process = begun(place)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    place.server.kill()
    place.server.restart()
    process.communicate(timeout=120)
    assert process.returncode == 0

    assert_all_is_there(place)
