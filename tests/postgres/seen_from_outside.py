"""Tests that test_server.py runs in a pytest of their own: each says where its server is, and some then hang."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.postgres.server import Server


def say(*urls: str, folder: Path | None = None) -> None:
    """Write whose process this is, where the databases are, and where the session meets; all at once."""
    place = Path(os.environ["SAYS_TO"])
    place.with_suffix(".part").write_text(
        json.dumps({"pid": os.getpid(), "urls": urls, "session": folder and str(folder)})
    )
    place.with_suffix(".part").rename(place)


def test_it_ends(postgres_url, pg_session):
    """A test that needs a database."""
    say(postgres_url, folder=pg_session.folder)


def test_it_needs_no_server():
    """A test that needs none."""
    say()


def test_it_hangs(postgres_url, pg_session):
    """A test with a database of the shared server, and a primary and a standby of its own, until somebody kills it."""
    with Server.start() as primary, primary.standby() as standby:
        say(postgres_url, primary.url("postgres"), standby.url("postgres"), folder=pg_session.folder)
        time.sleep(120)
