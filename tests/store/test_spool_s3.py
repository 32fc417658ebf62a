"""A spool in a bucket: immutable objects, each flush on its own, that arrive exactly once; against moto's server."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from ledger import Ledger, fallback
from ledger.errors import AskedWrongly, LedgerClosed, LedgerUnreachable, MissingExtra, OnlyASpool
from ledger.events import Fact
from ledger.events.lines import line_of
from ledger.spool import s3
from ledger.spool.s3 import SpoolBucket, key_of
from tests.aws import at_moto, serving
from tests.builders import completed, heartbeat, launched, numbered, started
from tests.store.crowd import ROOT
from tests.store.test_fallback import locked

URL = "s3://spools/team/a"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an empty bucket, and an environment in which boto3 finds it."""
    at_moto(monkeypatch, server)
    s3._client.cache_clear()
    bucket = boto3.resource("s3").create_bucket(Bucket="spools")
    yield bucket
    bucket.objects.delete()
    bucket.delete()
    s3._client.cache_clear()


def keys(bucket: Any) -> list[str]:
    return sorted(found.key for found in bucket.objects.all())


def body(bucket: Any, key: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bucket.Object(key).get()["Body"].read().splitlines()]


def test_each_flush_is_an_object_of_its_run(bucket: Any) -> None:
    """Named by run and first event; what one call says of one run lies in one object."""
    with Ledger(URL) as spool:
        spool.init_db()
        spool.insert_run("r", "w", {"lr": 1})
        spool.append(
            [heartbeat(1, run="a/ü", number=2), heartbeat(2, run="r", number=3), heartbeat(3, run="a/ü", number=1)]
        )
        spool.attach_crash_data("r", "log")
    said = {key: [line["type"] for line in body(bucket, key)] for key in keys(bucket)}

    assert said.pop(f"team/a/a%2F%C3%BC/{numbered(2)}.jsonl") == ["heartbeat", "heartbeat"]
    assert said.pop(f"team/a/r/{numbered(3)}.jsonl") == ["heartbeat"]
    assert sorted(said.values()) == [["crashed", "crash_data_attached"], ["launched", "wandb_attached"]]
    assert all(key == f"team/a/r/{body(bucket, key)[0]['event_id']}.jsonl" for key in said)


def test_what_is_in_the_bucket_arrives_once(book: Ledger, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again nothing is new, and clearing leaves the bucket empty of what was ours."""
    monkeypatch.setattr(s3, "_KEYS_A_PAGE", 7)
    bucket.put_object(Key="team/another.txt", Body=b"not ours")
    bucket.put_object(Key="team/ab/r/x.jsonl", Body=b"of another prefix\n")
    with Ledger(URL) as spool:
        for step in range(30):  # more than one page of a listing
            spool.append(heartbeat(step, number=step + 1))
        spool.append(completed(9999))
    answers = [book.sync(URL), book.sync(f"{URL}/"), book.sync(URL, clear=True), book.sync(URL)]

    assert [(a.files, a.new, a.known, a.refused, a.cleared) for a in answers] == [
        (31, 31, 0, 0, 0), (31, 0, 31, 0, 0), (31, 0, 31, 0, 31), (0, 0, 0, 0, 0),
    ]  # fmt: skip
    assert keys(bucket) == ["team/ab/r/x.jsonl", "team/another.txt"]
    assert (book.query_runs()[0]["status"], bool(book.verify())) == ("completed", True)


def test_a_copy_of_the_bucket_is_a_folder_spool(book: Ledger, bucket: Any, tmp_path: Path) -> None:
    """As `aws s3 sync` makes it; it is read, and not cleared."""
    with Ledger(URL) as spool:
        spool.append([launched(0), started(1, run="b/c")])
    for key in keys(bucket):
        copy = tmp_path / "copy" / key
        copy.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(key, str(copy))
    answer = book.sync(tmp_path / "copy", clear=True)

    assert (answer.files, answer.new, answer.cleared) == (2, 2, 0)


def test_an_object_never_changes(book: Ledger, bucket: Any) -> None:
    """The same events again are no new object; the first of them with others, or with other content, takes another key."""
    with Ledger(URL) as spool:
        spool.append([started(0, number=1), heartbeat(1, number=2)])
        before = {key: body(bucket, key) for key in keys(bucket)}
        spool.append([started(0, number=1), heartbeat(1, number=2)])
        assert {key: body(bucket, key) for key in keys(bucket)} == before
        spool.append(started(0, number=1))
        spool.append(started(7, number=1))
        spool.append(started(7, number=1))
    after = {key: body(bucket, key) for key in keys(bucket)}

    assert {key: after[key] for key in before} == before
    assert len(after) == 3
    assert all(key.startswith(f"team/a/r/{numbered(1)}") for key in after)
    answer = book.sync(URL, clear=True)
    assert (answer.new, answer.known, answer.refused, answer.cleared) == (2, 1, 1, 3)


def test_clear_leaves_what_was_refused_and_what_is_not_ours(book: Ledger, bucket: Any) -> None:
    """An object with a line that is no event stays, and so does one of another name."""
    good = Fact.of(started(0, number=1), redacting=True)
    line = f"{line_of(good, good.digest())}\n"
    bucket.put_object(Key=f"team/a/r/{numbered(1)}.jsonl", Body=f'{line}{{"no": "event"}}\n'.encode())
    bucket.put_object(Key="team/a/r/export.jsonl", Body=line.encode())
    answer = book.sync(URL, clear=True)

    assert (answer.new, answer.known, answer.refused, answer.cleared) == (1, 1, 1, 0)
    assert answer.refusals[0].where == f"{URL}/team/a/r/{numbered(1)}.jsonl:2"
    assert len(keys(bucket)) == 2


def test_a_bucket_without_a_prefix_will_do(book: Ledger, bucket: Any) -> None:
    """Then keys begin with the run."""
    with Ledger("s3://spools") as spool:
        spool.append(started(0, number=1))

    assert keys(bucket) == [f"r/{numbered(1)}.jsonl"]
    assert book.sync("s3://spools", clear=True).cleared == 1


@pytest.mark.parametrize("run_id", ["r", "a/b", "..", ".", "ü" * 200, "x" * 1000, "a b?&#%", "/"])
def test_a_runs_key_is_one_part_of_a_path(run_id: str) -> None:
    """Whatever a run is called, it fits into a key and into the name of a folder, and no two runs share one."""
    key = key_of(run_id)

    assert "/" not in key
    assert not key.startswith(".")
    assert len(key) < 200
    assert key not in {key_of(other) for other in (f"{run_id}x", f"{run_id[:-1]}y", run_id + run_id)}


def test_a_bucket_is_a_spool_like_any(bucket: Any) -> None:
    """It knows no versions, answers nothing, and takes nothing when it is closed."""
    with Ledger(URL) as spool:
        with pytest.raises(OnlyASpool, match=f"sync {URL}"):
            spool.get_run("r")
        with pytest.raises(AskedWrongly, match="knows no versions"):
            spool.append(started(0), expected_version=0)
    with pytest.raises(LedgerClosed):
        spool.append(started(0))
    assert keys(bucket) == []


def test_a_bucket_that_is_not_there_says_so(bucket: Any, book: Ledger) -> None:
    """The mend names bucket, credentials and network."""
    mend = "See to the bucket's name, the credentials and the network"
    with Ledger("s3://nowhere/x") as spool, pytest.raises(LedgerUnreachable, match=mend):
        spool.append(started(0))
    with pytest.raises(LedgerUnreachable, match=mend):
        book.sync("s3://nowhere/x")


def test_a_network_that_is_away_says_so(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is taken for acknowledged."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    s3._client.cache_clear()
    with Ledger(URL) as spool, pytest.raises(LedgerUnreachable, match="the network"):
        spool.append(started(0))
    assert keys(bucket) == []


def test_a_fork_writes_objects_of_its_own(book: Ledger, bucket: Any) -> None:
    """With connections of its own, too."""
    with Ledger(URL) as spool:
        spool.append(started(0, run="parent"))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                spool.append(started(0, run="child"))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        spool.append(heartbeat(1, run="parent"))

    assert book.sync(URL).new == 3


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first moment that S3 is meant."""
    real = builtins.__import__

    def without(name: str, *said: Any) -> Any:
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(name)
        return real(name, *said)

    s3._client.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[aws\]"):
        Ledger(URL)
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[aws\]"):
        list(SpoolBucket(URL).files())


def test_a_bucket_is_what_a_ledger_falls_back_to(path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was flushed while the ledger was locked is brought in, and its objects removed, by the next call."""
    monkeypatch.setenv("TRAINING_DB_SPOOL", URL)
    monkeypatch.setattr(fallback, "PAUSE_SECONDS_MIN", 0.0)
    with Ledger(path, busy_seconds_max=0.1) as book:
        book.insert_run("r", None, {})
        with locked(path):
            book.update_run_status("r", "running")
            book.update_run_status("r", "completed")
        assert len(keys(bucket)) == 2
        book.annotate("r", "back")

        assert [event.type for event in book.events()] == ["launched", "started", "completed", "annotated"]
    assert keys(bucket) == []


def test_the_command_line_syncs_a_bucket(book: Ledger, bucket: Any) -> None:
    """`ledger sync s3://... --clear`, in a process of its own."""
    with Ledger(URL) as spool:
        spool.append(started(0))
    command = [sys.executable, "-m", "ledger", "--db", book.url, "sync", URL, "--clear"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == f"{URL}: 1 event in 1 file: 1 new, 0 known, 0 refused\n  1 file removed\n"
    assert keys(bucket) == []
