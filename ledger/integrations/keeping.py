"""Where texts are kept under the documented keys: in a bucket of S3, or in a folder that stands in for one.

conversations/RUN/conversation.json
crash-reports/RUN/error.log, report.md, analysis.md
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal, Protocol
from urllib.parse import quote

from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, NotKept

__all__ = ["Keeper", "keeper_of", "key_of"]

Kind = Literal["conversations", "crash-reports"]

_RUN_LENGTH_MAX = 200  # of the 255 that the name of a folder may have
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER, _ATTEMPTS = 5, 20, 4


class Keeper(Protocol):
    """Keeps texts under keys."""

    def keep(self, key: str, data: bytes | str, content_type: str) -> str:
        """Put *data* where it stays and return *key*, under which earlier data gives way. Raises NotKept."""


class _Client(Protocol):
    def put_object(self, **said: object) -> object: ...


class _Bucket:
    """Objects of one bucket, through boto3, with the credentials that it finds."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def keep(self, key: str, data: bytes | str, content_type: str) -> str:
        client = self._client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client.put_object(Bucket=self._bucket, Key=key, Body=_as_bytes(data), ContentType=content_type)
        except (BotoCoreError, ClientError) as exc:
            mend = "See to the bucket's name, the credentials and the network"
            raise NotKept(key, f"the bucket {self._bucket}", str(exc), mend) from exc
        return key

    @cached_property
    def _client(self) -> _Client:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as exc:
            raise MissingExtra("aws") from exc
        patience = {"connect_timeout": _SECONDS_TO_CONNECT, "read_timeout": _SECONDS_TO_ANSWER}
        try:
            made: _Client = boto3.client("s3", config=Config(retries={"total_max_attempts": _ATTEMPTS}, **patience))
        except (BotoCoreError, ValueError) as exc:  # a profile that is not there, an endpoint that is no URL
            mend = "See to the profile, the region and the endpoint in the AWS variables"
            raise NotKept("nothing", f"the bucket {self._bucket}", str(exc), mend) from exc
        return made


class _Folder:
    """Files below one folder: a key is the path of its file from there."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._root = Path(folder).expanduser()

    def keep(self, key: str, data: bytes | str, content_type: str) -> str:  # noqa: ARG002 -- a Keeper
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, _as_bytes(data))
        except OSError as exc:
            mend = "See to the disk's space and the rights on the folder"
            raise NotKept(key, f"the folder {self._root}", exc.strerror or str(exc), mend) from exc
        return key


def keeper_of(*, bucket: str | None = None, folder: str | os.PathLike[str] | None = None) -> Keeper | None:
    """Return what keeps texts in a bucket or a folder; None where neither is named. It reaches for nothing yet."""
    if bucket is not None and folder is not None:
        raise AskedWrongly("bucket=... and folder=... are both given: name the one that the texts are to be kept in.")
    if folder is not None:
        if not os.fspath(folder):
            raise InvalidValue("folder", folder, "the path of a folder is wanted")
        return _Folder(folder)
    if bucket is None:
        return None
    if not bucket.strip() or "/" in bucket:
        raise InvalidValue(
            "bucket", bucket, "the bare name of a bucket is wanted; the keys in it are the documented ones"
        )
    return _Bucket(bucket)


def key_of(kind: Kind, run_id: str, name: str) -> str:
    """Return the documented key of a run's text; an odd run id is quoted, so that it stays one part of a path."""
    part = quote(run_id, safe=" +,=@")
    if part.startswith("."):
        part = f"%2E{part[1:]}"
    if len(part) > _RUN_LENGTH_MAX:
        part = f"{part[:_RUN_LENGTH_MAX]}-{sha256(run_id.encode()).hexdigest()[:16]}"
    return f"{kind}/{part}/{name}"


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whoever reads it meanwhile."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as made:
        try:
            made.write(data)
            made.flush()
            os.fchmod(made.fileno(), 0o644)
            os.fsync(made.fileno())
            Path(made.name).replace(path)
        except OSError:
            with suppress(OSError):
                Path(made.name).unlink()
            raise


def _as_bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
