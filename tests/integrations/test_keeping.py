"""What is kept lies whole under its documented key, or the error says what to mend."""

from __future__ import annotations

import builtins
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, NotKept
from ledger.integrations import keeping
from ledger.integrations.keeping import keeper_of, key_of

ODD = ["..", ".", "a/b", "../../etc/passwd", "/", "ü" * 300, "x" * 1000, "a%2Fb", ".hidden", "a\nb", "a\\b", "a?b#c"]


@pytest.mark.parametrize("run_id", ["mgda_i-abc123", "run 7, b=2", "A.b~c-d_e", "x" * 200])
def test_an_ordinary_run_has_the_documented_key(run_id: str) -> None:
    """`crash-reports/<run_id>/error.log`, as it stands in the document."""
    assert key_of("crash-reports", run_id, "error.log") == f"crash-reports/{run_id}/error.log"


@pytest.mark.parametrize("run_id", ODD)
def test_no_run_leaves_the_folder(run_id: str, tmp_path: Path) -> None:
    """Whatever a run is called, its text lies three levels below the folder, and the key is its path."""
    place = keeper_of(folder=tmp_path / "kept")
    assert place is not None
    key = place.keep(key_of("conversations", run_id, "conversation.json"), "{}", "application/json")

    made = (tmp_path / "kept" / key).resolve()
    assert made.read_text() == "{}"
    assert made.relative_to((tmp_path / "kept").resolve()).parts[0] == "conversations"
    assert len(made.relative_to((tmp_path / "kept").resolve()).parts) == 3


def test_no_two_runs_share_a_key() -> None:
    """Quoting and shortening keep odd ids apart."""
    ids = [*ODD, "x" * 1001, "a/b ", "a%252Fb", "%2E."]

    assert len({key_of("conversations", run_id, "c") for run_id in ids}) == len(ids)


@pytest.mark.parametrize("run_id", ["mgda_i-abc123", *ODD])
def test_a_bucket_takes_the_same_keys(run_id: str, bucket: Any) -> None:
    """Through a real client: the object has that key, that content and that type."""
    place = keeper_of(bucket="team")
    assert place is not None
    key = place.keep(key_of("crash-reports", run_id, "report.md"), "ü\udc80", "text/markdown")

    (found,) = bucket.objects.all()
    assert found.key == key
    assert found.get()["Body"].read() == "ü\\udc80".encode()
    assert found.get()["ContentType"] == "text/markdown"


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A reader meanwhile sees one of the versions whole, and no temporary file stays behind."""
    place = keeper_of(folder=tmp_path)
    assert place is not None
    texts = {letter * 500_000 for letter in "ab"}
    place.keep("a/b/c", min(texts), "text/plain")
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add((tmp_path / "a/b/c").read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for text in texts:
            place.keep("a/b/c", text, "text/plain")
    done.set()
    reader.join()

    assert seen <= texts
    assert os.listdir(tmp_path / "a/b") == ["c"]


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file where the folder should be; nothing is left of the attempt."""
    (tmp_path / "kept").write_text("a file")
    place = keeper_of(folder=tmp_path / "kept")

    assert place is not None
    with pytest.raises(NotKept, match="See to the disk's space and the rights on the folder"):
        place.keep("a/b/c", "x", "text/plain")


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder where the file should be: the temporary file goes."""
    (tmp_path / "a/c").mkdir(parents=True)
    (tmp_path / "a/c/d").write_text("x")
    place = keeper_of(folder=tmp_path)

    assert place is not None
    with pytest.raises(NotKept):
        place.keep("a/c", "x", "text/plain")
    assert os.listdir(tmp_path / "a") == ["c"]


def test_a_bucket_that_is_not_there_says_so(bucket: Any) -> None:
    """The mend names bucket, credentials and network."""
    place = keeper_of(bucket="nowhere")

    assert place is not None
    with pytest.raises(NotKept, match="See to the bucket's name, the credentials and the network"):
        place.keep("a/b/c", "x", "text/plain")


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ENDPOINT_URL", "no url"), ("AWS_PROFILE", "not-there")],
)
def test_an_aws_that_cannot_be_reached_says_so(
    name: str, value: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network, no endpoint or no profile: it is NotKept, whatever botocore calls it."""
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(keeping, "_ATTEMPTS", 1)
    place = keeper_of(bucket="team")

    assert place is not None
    with pytest.raises(NotKept, match="then do the same again"):
        place.keep("a/b/c", "x", "text/plain")


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """When something is to be kept, and not before: the launch or the crash is recorded by then."""
    real = builtins.__import__

    def without(name: str, *said: Any) -> Any:
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(name)
        return real(name, *said)

    monkeypatch.setattr(builtins, "__import__", without)
    place = keeper_of(bucket="team")

    assert place is not None
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[aws\]"):
        place.keep("a/b/c", "x", "text/plain")


def test_a_place_is_one_of_two() -> None:
    """Both are an error, neither is none, and a bucket is a bare name."""
    with pytest.raises(AskedWrongly, match="name the one"):
        keeper_of(bucket="team", folder="kept")
    for wrong in ("", "s3://team", "team/prefix"):
        with pytest.raises(InvalidValue, match="bare name"):
            keeper_of(bucket=wrong)
    with pytest.raises(InvalidValue, match="path of a folder"):
        keeper_of(folder="")
    assert keeper_of() is None
