"""Amazon's services as moto serves them over HTTP, and an environment in which boto3 finds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer

__all__ = ["at_moto", "serving"]


@contextmanager
def serving() -> Iterator[str]:
    """Serve inside the block; give the endpoint's URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def at_moto(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let boto3, here and in child processes, find the server at *endpoint*."""
    said = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing"}
    for name, value in {**said, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
