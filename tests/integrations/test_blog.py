"""A post is attached to every run that can have it, and the others are named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import InvalidValue
from ledger.integrations.blog import publish
from tests.store.test_fallback import locked

URL = "https://example.org/posts/mgda"


@pytest.fixture
def three(book: Ledger) -> Ledger:
    """Give a ledger with three runs."""
    for run_id in ("a", "b", "c"):
        book.insert_run(run_id, None, {})
    return book


def posts(book: Ledger) -> dict[str, Any]:
    return {run["run_id"]: run["blog_post_url"] for run in book.query_runs(order_by="run_id")}


def test_every_run_has_the_post(three: Ledger) -> None:
    """Each once, in the order in which they were named."""
    made = publish(["c", "a", "c", "b", "a"], f" {URL} ", ledger=three)

    assert (made.attached, made.failed) == (("c", "a", "b"), {})
    assert posts(three) == dict.fromkeys("abc", URL)
    assert len(list(three.events(types="blog_attached"))) == 3


def test_one_id_is_no_list_of_letters(three: Ledger) -> None:
    """A single run may be named by itself; any iterable will do."""
    three.insert_run("abc", None, {})

    assert publish("abc", URL, ledger=three).attached == ("abc",)
    assert publish((run for run in "ab"), URL, ledger=three).attached == ("a", "b")


def test_who_fails_keeps_nobody_from_it(three: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown run, and what is no id at all, are told with the reason, here and on the log."""
    unknown: Any = ["a", "nowhere", None, "", "b"]
    with caplog.at_level(logging.WARNING, "ledger"):
        made = publish(unknown, URL, ledger=three)

    assert made.attached == ("a", "b")
    assert list(made.failed) == ["nowhere", None, ""]
    assert "Record its launch with insert_run" in made.failed["nowhere"]
    assert all(why in caplog.text for why in made.failed.values())
    assert posts(three) == {"a": URL, "b": URL, "c": None}


def test_a_locked_ledger_fails_each(three: Ledger, path: Path) -> None:
    """Which is told, and raises nothing."""
    with Ledger(path, busy_seconds_max=0.1) as impatient, locked(path):
        made = publish(["a", "b"], URL, ledger=impatient)

    assert (made.attached, sorted(made.failed)) == ((), ["a", "b"])


@pytest.mark.parametrize("url", ["", "  ", None, 5])
def test_an_address_that_is_none_is_refused_first(url: Any, three: Ledger) -> None:
    """Nothing is attached."""
    with pytest.raises(InvalidValue, match="the address of the post is wanted"):
        publish(["a"], url, ledger=three)
    with pytest.raises(InvalidValue, match="the id of a run"):
        publish([], URL, ledger=three)
    assert list(three.events(types="blog_attached")) == []


def test_at_and_the_environment(three: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is the one that the environment names; an earlier post is said with its time."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    publish("a", URL, at="2024-05-01T00:00:00Z")

    assert [f"{event.occurred_at:%Y}" for event in three.events(types="blog_attached")] == ["2024"]
