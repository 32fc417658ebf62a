"""A spool in S3, for machines whose disk dies with them: each flush is one immutable object a run.

    PREFIX/RUN/FIRST-EVENT-ID.jsonl

A copy of it on disk is a spool folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import quote

from ledger.errors import LedgerClosed, LedgerUnreachable, MissingExtra
from ledger.events import Fact
from ledger.events.lines import line_of
from ledger.spool.reading import complete_lines

if TYPE_CHECKING:
    from ledger.spool.kinds import Spooled

__all__ = ["BucketWriter", "SpoolBucket", "SpooledObject", "key_of"]

_OURS = re.compile(r"(.*/)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(_[0-9a-f]{16})?\.jsonl")
T = TypeVar("T")

_RUN_LENGTH_MAX = 100  # of a key's 1,024 bytes, and of the 255 of a file's name in a copy
_KEYS_A_PAGE = 1000
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER, _ATTEMPTS = 5, 20, 4


class _Body(Protocol):
    def read(self) -> bytes: ...


class _Client(Protocol):
    def put_object(self, **said: object) -> object: ...
    def get_object(self, **said: object) -> Mapping[str, _Body]: ...
    def delete_object(self, **said: object) -> object: ...
    def get_paginator(self, name: str) -> _Paginator: ...


class _Paginator(Protocol):
    def paginate(self, **said: object) -> Iterable[Mapping[str, Sequence[Mapping[str, str]]]]: ...


@cache
def _client(_: int) -> _Client:
    """The client of the process with this pid: its connections are not to be shared over a fork."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as exc:
        raise MissingExtra("aws") from exc
    patience = {"connect_timeout": _SECONDS_TO_CONNECT, "read_timeout": _SECONDS_TO_ANSWER}
    made: _Client = boto3.client("s3", config=Config(retries={"total_max_attempts": _ATTEMPTS}, **patience))
    return made


class _Bucket:
    """A prefix of a bucket."""

    def __init__(self, url: str) -> None:
        self.place = url
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    @contextmanager
    def _client(self) -> Iterator[_Client]:
        client = _client(os.getpid())
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield client
        except (BotoCoreError, ClientError) as exc:
            raise LedgerUnreachable(
                f"the spool at {self.place} cannot be used ({exc}). "
                "See to the bucket's name, the credentials and the network, then do the same again."
            ) from exc

    def read(self, key: str) -> bytes | None:
        """Return an object, or None where there is none."""
        with self._client() as client:
            found = _unless("NoSuchKey", lambda: client.get_object(Bucket=self._bucket, Key=key))
            return None if found is None else found["Body"].read()

    def put(self, key: str, data: bytes) -> bool:
        """Write an object that is not there yet; return whether that was so."""
        with self._client() as client:
            said = {"Bucket": self._bucket, "Key": key, "Body": data, "ContentType": "application/jsonl"}
            return _unless("PreconditionFailed", lambda: client.put_object(**said, IfNoneMatch="*")) is not None

    def delete(self, key: str) -> None:
        with self._client() as client:
            client.delete_object(Bucket=self._bucket, Key=key)

    def keys(self) -> Iterator[str]:
        with self._client() as client:
            listing = client.get_paginator("list_objects_v2")
            asked = {"Bucket": self._bucket, "Prefix": self._prefix}
            for page in listing.paginate(**asked, PaginationConfig={"PageSize": _KEYS_A_PAGE}):
                for found in page.get("Contents", ()):
                    if found["Key"].endswith(".jsonl"):
                        yield found["Key"]

    def key_in(self, run_id: str, name: str) -> str:
        return f"{self._prefix}{key_of(run_id)}/{name}.jsonl"


class SpoolBucket(_Bucket):
    """The spool in a bucket as `ledger sync` reads it."""

    def files(self) -> Iterator[SpooledObject]:
        for key in self.keys():
            yield SpooledObject(self, key)

    def lines(self) -> Iterator[tuple[str, int, str]]:
        """Yield every line of every object, with the object's key and the line's number."""
        for file in self.files():
            for number, line in file.lines():
                yield file.name, number, line


class SpooledObject:
    """One object of a spool. It never changes."""

    def __init__(self, bucket: _Bucket, key: str) -> None:
        self._bucket = bucket
        self.name = key

    def lines(self) -> Iterator[tuple[int, str]]:
        data = self._bucket.read(self.name) or b""
        yield from complete_lines(data.splitlines(keepends=True))

    def is_cut_off(self) -> bool:
        """Never: an object is there as a whole, or not at all."""
        return False

    def clear(self, holds: Callable[[Iterable[str]], bool]) -> bool:
        """Delete the object if it bears a name of ours and *holds* says so of all its lines."""
        if _OURS.fullmatch(self.name) is None or not holds(line for _, line in self.lines()):
            return False
        self._bucket.delete(self.name)
        return True


class BucketWriter:
    """The spool in a bucket as a process writes to it."""

    def __init__(self, url: str) -> None:
        self.place = url
        self._bucket = _Bucket(url)
        self._own: dict[int, list[SpooledObject]] = {}  # by process: what a parent wrote is the parent's
        self._closed = False
        _client(os.getpid())

    def create(self) -> None:
        """Nothing has to be there but the bucket, and whoever may only write cannot look for that."""

    def append(self, facts: Sequence[Fact]) -> None:
        """Put the events where they stay before returning. Raises LedgerUnreachable."""
        if self._closed:
            raise LedgerClosed
        by_run: dict[str, list[Fact]] = {}
        for fact in facts:
            by_run.setdefault(fact.run_id, []).append(fact)
        for run_id, of_run in by_run.items():
            data = "".join(f"{line_of(fact, fact.digest())}\n" for fact in of_run).encode("ascii")
            key = self._put(run_id, of_run[0].event_id, data)
            self._own.setdefault(os.getpid(), []).append(SpooledObject(self._bucket, key))

    def _put(self, run_id: str, event_id: str, data: bytes) -> str:
        key = self._bucket.key_in(run_id, event_id)
        if self._bucket.put(key, data) or self._bucket.read(key) == data:
            return key
        # The same event was flushed before, with others, or with other content: that stays, and sorts first.
        key = self._bucket.key_in(run_id, f"{event_id}_{sha256(data).hexdigest()[:16]}")
        self._bucket.put(key, data)
        return key

    def own(self) -> list[Spooled]:
        return list(self._own.get(os.getpid(), ()))

    def has_own(self) -> bool:
        return bool(self._own.get(os.getpid()))

    def forget(self, files: Iterable[Spooled]) -> None:
        gone = set(map(id, files))
        kept = [file for file in self._own.get(os.getpid(), ()) if id(file) not in gone]
        self._own[os.getpid()] = kept

    def left_on_this_host(self, *, bytes_max: int | None = None) -> Sequence[Spooled]:  # noqa: ARG002 -- a SpoolWriter
        """Objects do not say which host they are of, so that none is known to be."""
        return ()

    def close(self) -> None:
        self._closed = True


def key_of(run_id: str) -> str:
    """Return a run id as one part of a key, and of a path in a copy."""
    quoted = quote(run_id, safe="")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) <= _RUN_LENGTH_MAX:
        return quoted
    return f"{quoted[:_RUN_LENGTH_MAX]}-{sha256(run_id.encode()).hexdigest()[:16]}"


def _unless(code: str, call: Callable[[], T]) -> T | None:
    """The call's answer, or None where S3 answers with this code."""
    from botocore.exceptions import ClientError

    try:
        return call()
    except ClientError as exc:
        if exc.response.get("Error", {}).get("Code") != code:
            raise
        return None
