"""A bucket on moto's server, as boto3 finds it, and a home in which no test meets a real state folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from ledger.spool import s3
from tests.aws import at_moto, serving


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the empty bucket `team`, and an environment in which boto3, here and in child processes, finds it."""
    at_moto(monkeypatch, server)
    s3._client.cache_clear()
    bucket = boto3.resource("s3").create_bucket(Bucket="team")
    yield bucket
    bucket.objects.delete()
    bucket.delete()
    s3._client.cache_clear()


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What handlers spool of their own accord stays with the test; no RUN_ID of a real run is handed down."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("RUN_ID", "ERROR_LOG", "EXIT_CODE", "END_REASON"):
        monkeypatch.delenv(name, raising=False)
