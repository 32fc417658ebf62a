"""Tests that test_server.py runs in a pytest of their own: each says where its server is, and some then hang."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.postgres.server import Server


def say(*urls: str) -> None:
    """Write whose process this is and where the databases are, all at once."""
    place = Path(os.environ["SAYS_TO"])
    place.with_suffix(".part").write_text(json.dumps({"pid": os.getpid(), "urls": urls}))
    place.with_suffix(".part").rename(place)


def hang() -> None:
    time.sleep(120)


def test_it_ends(postgres_url):
    """A test that needs a database."""
    say(postgres_url)


def test_it_needs_no_server():
    """A test that needs none."""
    say()


def test_it_hangs_on_the_shared_server(postgres_url):
    """A test in whose middle pytest is killed."""
    say(postgres_url)
    hang()


def test_it_hangs_on_servers_of_its_own():
    """A test with a primary and a standby of its own, in whose middle pytest is killed."""
    with Server.start() as primary, primary.standby() as standby:
        say(primary.url("postgres"), standby.url("postgres"))
        hang()
