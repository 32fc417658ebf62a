"""The witness of EC2: whether a run's instance is there, and who ended it if it is not."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypedDict

from ledger.errors import MissingExtra, WitnessUnreachable
from ledger.events.lifecycle import EndReason
from ledger.events.times import text_of
from ledger.witnesses.kinds import End, Row, Testimony

__all__ = ["Ec2"]

VALUES_A_FILTER = 200  # EC2 takes no more
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER, _ATTEMPTS = 5, 20, 3

_INSTANCE = re.compile("i-[0-9a-f]{8,17}")
_DEAD = ("shutting-down", "terminated", "stopping", "stopped")
_HALTED = ("stopping", "stopped")  # what may be started again
_ENDS: dict[str, tuple[End, EndReason]] = {
    "Server.SpotInstanceTermination": ("crashed", "preempted"),
    "Server.SpotInstanceShutdown": ("crashed", "preempted"),
    "Server.InsufficientInstanceCapacity": ("crashed", "node_failure"),
    "Server.InternalError": ("crashed", "node_failure"),
    "Server.ScheduledStop": ("crashed", "node_failure"),
    "Client.UserInitiatedShutdown": ("failed", "user"),
}
_INTERRUPTED = re.compile(
    "marked-for-(termination|stop)"
    "|instance-(terminated|stopped)-"
    "(by-price|no-capacity|capacity-oversubscribed|launch-group-constraint|by-service|by-experiment)"
)
_REMARKS = {"Client.InstanceInitiatedShutdown": "the run may have shut down its own machine at its end"}
_HIBERNATED = "Client.UserInitiatedHibernate"  # it goes on where it was
_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", re.ASCII)
_log = logging.getLogger("ledger")


class _State(TypedDict, total=False):
    Name: str


class _Reason(TypedDict, total=False):
    Code: str
    Message: str


class _Instance(TypedDict, total=False):
    InstanceId: str
    State: _State
    StateReason: _Reason
    StateTransitionReason: str
    SpotInstanceRequestId: str


class _Reservation(TypedDict, total=False):
    Instances: Sequence[_Instance]


class _SpotStatus(TypedDict, total=False):
    Code: str
    UpdateTime: datetime


class _SpotRequest(TypedDict, total=False):
    SpotInstanceRequestId: str
    Status: _SpotStatus


class _Page(TypedDict, total=False):
    Reservations: Sequence[_Reservation]
    SpotInstanceRequests: Sequence[_SpotRequest]


class _Paginator(Protocol):
    def paginate(self, **said: object) -> Iterable[_Page]: ...


class _Client(Protocol):
    def get_paginator(self, name: str) -> _Paginator: ...


class Ec2:
    """Tells of runs whose `instance_id` is that of an instance, in the region that boto3 finds and in *regions*."""

    name = "ec2"

    def __init__(self, regions: Iterable[str] = ()) -> None:
        self._regions = tuple(regions)

    def testify(self, runs: Sequence[Row], /) -> dict[str, Testimony]:
        asked: dict[str, list[Row]] = {}
        for run in runs:
            instance_id = run.get("instance_id")
            if isinstance(instance_id, str) and _INSTANCE.fullmatch(instance_id):
                asked.setdefault(instance_id, []).append(run)
        words: dict[str, Testimony] = {}
        for instance, spot in self._found(sorted(asked)) if asked else ():
            for run in asked.get(instance["InstanceId"], ()):
                word = _testimony(instance, spot, run)
                if word is not None:
                    words[str(run["run_id"])] = word
        return words

    def _found(self, instance_ids: Sequence[str]) -> Iterator[tuple[_Instance, _SpotStatus]]:
        """Yield each instance that is known in some region, with the status of its spot request if that is told."""
        clients = _clients(self._regions)
        from botocore.exceptions import BotoCoreError, ClientError

        failures: list[str] = []
        for region, client in clients.items():
            try:
                instances = _instances(client, instance_ids)
            except (BotoCoreError, ClientError) as exc:
                failures.append(f"EC2 cannot be asked in {region} ({exc})")
                continue
            try:
                spots = _spot_requests(client, instances)
            except (BotoCoreError, ClientError) as exc:
                _log.warning(
                    "spot requests cannot be read in %s (%s); whether a run was preempted may not show", region, exc
                )
                spots = {}
            for instance in instances:
                yield instance, spots.get(instance.get("SpotInstanceRequestId", ""), {})
        if len(failures) == len(clients):
            raise WitnessUnreachable(
                f"{'; '.join(failures)}. See to the credentials, to the right ec2:DescribeInstances, and to the region."
            )
        for failure in failures:
            _log.warning("%s", failure)


def _clients(regions: Sequence[str]) -> dict[str, _Client]:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as exc:
        raise MissingExtra("aws") from exc
    patience = {"connect_timeout": _SECONDS_TO_CONNECT, "read_timeout": _SECONDS_TO_ANSWER}
    config = Config(retries={"total_max_attempts": _ATTEMPTS}, **patience)
    session = boto3.session.Session()
    names = dict.fromkeys(name for name in (session.region_name, *regions) if name)
    try:
        # Without any region boto3 says itself what is missing.
        return {name or "": session.client("ec2", region_name=name, config=config) for name in names or (None,)}
    except (BotoCoreError, ValueError) as exc:
        raise WitnessUnreachable(f"EC2 cannot be asked ({exc}). Name a region, such as --region us-east-1.") from exc


def _pages(client: _Client, what: str, name: str, values: Sequence[str]) -> Iterator[_Page]:
    for start in range(0, len(values), VALUES_A_FILTER):
        # A filter, since an id that EC2 does not know is an error when it is asked for by itself.
        wanted = [{"Name": name, "Values": list(values[start : start + VALUES_A_FILTER])}]
        yield from client.get_paginator(what).paginate(Filters=wanted)


def _instances(client: _Client, instance_ids: Sequence[str]) -> list[_Instance]:
    return [
        instance
        for page in _pages(client, "describe_instances", "instance-id", instance_ids)
        for reservation in page.get("Reservations", ())
        for instance in reservation.get("Instances", ())
    ]


def _spot_requests(client: _Client, instances: Iterable[_Instance]) -> dict[str, _SpotStatus]:
    """The status of the spot requests behind the instances that are dead, by id."""
    wanted = [i["SpotInstanceRequestId"] for i in instances if i.get("SpotInstanceRequestId") and _state(i) in _DEAD]
    pages = _pages(client, "describe_spot_instance_requests", "spot-instance-request-id", sorted(set(wanted)))
    return {
        request.get("SpotInstanceRequestId", ""): request.get("Status", {})
        for page in pages
        for request in page.get("SpotInstanceRequests", ())
    }


def _state(instance: _Instance) -> str:
    return instance.get("State", {}).get("Name", "")


def _testimony(instance: _Instance, spot: _SpotStatus, run: Row) -> Testimony | None:
    """What an instance says of its run: that it is gone, or nothing; on one that runs the process may be dead."""
    state, code = _state(instance), instance.get("StateReason", {}).get("Code", "")
    ended_at = _when(instance.get("StateTransitionReason", ""))
    if state not in _DEAD or code == _HIBERNATED:
        return None
    if state in _HALTED and run.get("status") == "launched" and _was_before(ended_at, run):
        return None  # the launch may be about to start it
    what = f"instance {instance['InstanceId']} is {state}"
    interrupted = spot.get("Code", "")
    if _INTERRUPTED.fullmatch(interrupted):
        ended_at = ended_at or spot.get("UpdateTime")
        return Testimony(alive=False, words=f"{what} ({interrupted})", end_reason="preempted", ended_at=ended_at)
    status, reason = _ENDS.get(code, ("crashed", "unknown"))
    remarks = "; ".join(remark for remark in (code, _REMARKS.get(code)) if remark)
    words = f"{what} ({remarks})" if remarks else what
    return Testimony(alive=False, words=words, status=status, end_reason=reason, ended_at=ended_at)


def _was_before(ended_at: datetime | None, run: Row) -> bool:
    return ended_at is None or text_of(ended_at) < str(run.get("created_at"))


def _when(transition: str) -> datetime | None:
    """The time in "User initiated (2026-11-01 10:00:00 GMT)"."""
    found = _WHEN.search(transition)
    try:
        return None if found is None else datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    except ValueError:
        return None
