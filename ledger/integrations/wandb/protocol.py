"""W&B's own protobuf classes, as far as a log's records are read with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ledger.errors import MissingExtra

__all__ = ["Changes", "Exit", "Item", "Moment", "Output", "Record", "RunRecord", "decoder"]


class Moment(Protocol):
    seconds: int
    nanos: int


class Item(Protocol):
    """A key, or a path of keys, and a value as JSON text, in which NaN and Infinity may stand bare."""

    key: str
    nested_key: Sequence[str]
    value_json: str


class Changes(Protocol):
    """What a record of the config or the summary says: set these, remove those."""

    update: Sequence[Item]
    remove: Sequence[Item]


class _Step(Protocol):
    num: int


class History(Protocol):
    item: Sequence[Item]
    step: _Step

    def HasField(self, name: str) -> bool: ...  # noqa: N802 -- protobuf's word


class Git(Protocol):
    remote_url: str
    commit: str


class RunRecord(Protocol):
    run_id: str
    entity: str
    project: str
    config: Changes
    summary: Changes
    run_group: str
    job_type: str
    display_name: str
    notes: str
    tags: Sequence[str]
    sweep_id: str
    host: str
    start_time: Moment
    runtime: int
    git: Git


class Environment(Protocol):
    program: str
    python: str
    os: str
    host: str
    gpu_type: str
    gpu_count: int


class Exit(Protocol):
    exit_code: int
    runtime: int


class Output(Protocol):
    output_type: int
    timestamp: Moment
    line: str


class _Stats(Protocol):
    timestamp: Moment


class _Version(Protocol):
    producer: str


class _Header(Protocol):
    version_info: _Version


class Record(Protocol):
    header: _Header
    run: RunRecord
    environment: Environment
    config: Changes
    history: History
    summary: Changes
    output_raw: Output
    stats: _Stats
    exit: Exit

    def WhichOneof(self, group: str) -> str | None: ...  # noqa: N802 -- protobuf's word


def decoder() -> tuple[Callable[[bytes], Record], type[Exception]]:
    """Return what makes a record of its bytes, and what it raises for others.

    Raises MissingExtra where W&B's SDK is not installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from wandb.proto import wandb_internal_pb2
    except ImportError:
        raise MissingExtra("wandb") from None
    parse: Callable[[bytes], Record] = wandb_internal_pb2.Record.FromString
    return parse, DecodeError
