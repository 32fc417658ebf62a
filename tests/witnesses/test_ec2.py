"""The EC2 witness, through a real boto3 client against moto's server: states, spot requests, regions, and failures."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.utils import random_instance_id

from ledger import origin
from ledger.errors import MissingExtra, WitnessUnreachable
from ledger.events.times import text_of
from ledger.witnesses import ec2
from ledger.witnesses.ec2 import Ec2
from tests.aws import at_moto, serving

LONG_AGO = "2001-01-01T00:00:00.000000Z"
IMAGE = "ami-12c6146b"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def cloud(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give an EC2 client, and an environment in which boto3 finds the same."""
    at_moto(monkeypatch, server)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return boto3.client("ec2")


def begun(cloud: Any, count: int = 1) -> list[str]:
    made = cloud.run_instances(ImageId=IMAGE, MinCount=count, MaxCount=count)
    return [instance["InstanceId"] for instance in made["Instances"]]


def behind(instance_id: str, region: str = "us-east-1") -> Any:
    """Return the instance as moto holds it, to which happens what no call can bring about."""
    return ec2_backends[DEFAULT_ACCOUNT_ID][region].get_instance(instance_id)


def run(instance_id: object, run_id: str = "r", **row: Any) -> dict[str, Any]:
    return {"run_id": run_id, "instance_id": instance_id, "status": "running", "created_at": LONG_AGO, **row}


def reason(instance_id: str, code: str) -> None:
    behind(instance_id).state_reason.code = code


def test_who_was_terminated_by_a_user_has_failed(cloud: Any) -> None:
    """With the time at which it was."""
    (instance,) = begun(cloud)
    before = origin.utc_now().replace(microsecond=0)
    cloud.terminate_instances(InstanceIds=[instance])
    word = Ec2().testify([run(instance)])["r"]

    assert (word.alive, word.status, word.end_reason) == (False, "failed", "user")
    assert word.words == f"instance {instance} is terminated (Client.UserInitiatedShutdown)"
    assert word.ended_at is not None
    assert before <= word.ended_at <= origin.utc_now()


def test_a_running_instance_has_no_word(cloud: Any) -> None:
    """The machine may live on without the process; nor has one that nobody knows."""
    (instance,) = begun(cloud)

    assert Ec2().testify([run(instance), run(random_instance_id(), "gone")]) == {}


CODES = {
    "Server.SpotInstanceTermination": ("crashed", "preempted"),
    "Server.SpotInstanceShutdown": ("crashed", "preempted"),
    "Server.InsufficientInstanceCapacity": ("crashed", "node_failure"),
    "Server.InternalError": ("crashed", "node_failure"),
    "Server.ScheduledStop": ("crashed", "node_failure"),
    "Client.UserInitiatedShutdown": ("failed", "user"),
    "Client.InstanceInitiatedShutdown": ("crashed", "unknown"),
    "Client.VolumeLimitExceeded": ("crashed", "unknown"),
    "": ("crashed", "unknown"),
}


STATES = ("shutting-down", "terminated", "stopping", "stopped")


def test_what_each_reason_says(cloud: Any) -> None:
    """The code of the reason decides, in whichever state the instance is gone."""
    cases = [(code, state) for code in CODES for state in STATES]
    instances = dict(zip(begun(cloud, len(cases)), cases, strict=True))
    cloud.stop_instances(InstanceIds=[*instances])
    for instance, (code, state) in instances.items():
        behind(instance)._state.name = state
        behind(instance).state_reason.code = code
    words = Ec2().testify([run(instance, instance) for instance in instances])

    assert {instances[i]: (word.alive, word.status, word.end_reason) for i, word in words.items()} == {
        (code, state): (False, *CODES[code]) for code, state in cases
    }
    assert all(state in words[i].words and code in words[i].words for i, (code, state) in instances.items())
    own = {code for i, (code, _) in instances.items() if "may have shut down its own machine" in words[i].words}
    assert own == {"Client.InstanceInitiatedShutdown"}


def test_what_sleeps_is_not_dead(cloud: Any) -> None:
    """A hibernated instance goes on where it was."""
    (instance,) = begun(cloud)
    cloud.stop_instances(InstanceIds=[instance])
    reason(instance, "Client.UserInitiatedHibernate")

    assert Ec2().testify([run(instance)]) == {}


def test_a_stop_before_the_launch_says_nothing_of_it(cloud: Any) -> None:
    """A launcher may record a launch on a machine that it is about to start; a terminated one is never started."""
    (instance,) = begun(cloud)
    cloud.stop_instances(InstanceIds=[instance])
    later = text_of(origin.utc_now() + timedelta(hours=1))
    runs = [
        run(instance, "before", status="launched"),
        run(instance, "after", status="launched", created_at=later),
        run(instance, "runs", created_at=later),
    ]
    assert Ec2().testify(runs).keys() == {"before", "runs"}
    behind(instance)._reason = ""
    assert Ec2().testify(runs).keys() == {"runs"}
    cloud.terminate_instances(InstanceIds=[instance])
    assert Ec2().testify(runs).keys() == {"before", "after", "runs"}


SPOT = {
    "instance-terminated-by-price": True,
    "instance-terminated-no-capacity": True,
    "instance-stopped-capacity-oversubscribed": True,
    "marked-for-termination": True,
    "instance-terminated-by-experiment": True,
    "instance-terminated-by-user": False,
    "fulfilled": False,
}


def test_a_spot_request_tells_of_an_interruption(cloud: Any) -> None:
    """Whatever the instance itself gives as the reason."""
    asked = {"InstanceCount": len(SPOT), "LaunchSpecification": {"ImageId": IMAGE}}
    requests = cloud.request_spot_instances(**asked)["SpotInstanceRequests"]
    held = ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].spot_instance_requests
    codes: dict[str, str] = {}
    for request, code in zip(requests, SPOT, strict=True):
        made = held[request["SpotInstanceRequestId"]]
        made.instance.spot_instance_request_id = made.id
        made._status_code = code
        codes[made.instance_id] = code
    cloud.terminate_instances(InstanceIds=[*codes])
    described = cloud.describe_instances(InstanceIds=[*codes])["Reservations"]
    words = Ec2().testify([run(instance, instance) for instance in codes])

    assert all(instance["SpotInstanceRequestId"] for found in described for instance in found["Instances"])
    assert {code: words[i].end_reason == "preempted" for i, code in codes.items()} == SPOT
    assert {code: code in words[i].words for i, code in codes.items()} == SPOT


TRANSITIONS = {
    "User initiated (2026-11-01 10:00:00 GMT)": datetime(2026, 11, 1, 10, tzinfo=UTC),
    "User initiated shutdown (2026-11-01 10:00:00 UTC)": datetime(2026, 11, 1, 10, tzinfo=UTC),
    "User initiated (2026-13-01 10:00:00 GMT)": None,
    "Server.SpotInstanceTermination": None,
    "": None,
}


def test_when_it_was_is_read_where_it_is_said(cloud: Any) -> None:
    """From the reason of the transition, in both of its spellings."""
    instances = dict(zip(begun(cloud, len(TRANSITIONS)), TRANSITIONS, strict=True))
    cloud.terminate_instances(InstanceIds=[*instances])
    for instance, transition in instances.items():
        behind(instance)._reason = transition
    words = Ec2().testify([run(instance, instance) for instance in instances])

    assert {instances[i]: word.ended_at for i, word in words.items()} == TRANSITIONS


def calls_of(client: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Note each call of the API that a client of boto3 makes from now on."""
    made: list[tuple[str, Any]] = []
    kind = next(base for base in type(client).__mro__ if base.__name__ == "BaseClient")
    before = kind._make_api_call

    def noting(self: Any, name: str, said: Any) -> Any:
        made.append((name, said))
        return before(self, name, said)

    monkeypatch.setattr(kind, "_make_api_call", noting)
    return made


def test_many_are_asked_in_batches(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many ids in a call as a filter takes; what is no instance's id is asked of nobody."""
    instances = begun(cloud, 7)
    cloud.terminate_instances(InstanceIds=instances)
    monkeypatch.setattr(ec2, "VALUES_A_FILTER", 3)
    calls = calls_of(cloud, monkeypatch)
    odd = [run(odd, f"odd{n}") for n, odd in enumerate([None, "", "123", "i-abc", "I-0123456789abcdef0", 7])]
    words = Ec2().testify([*(run(instance, instance) for instance in instances), *odd])

    assert words.keys() == {*instances}
    assert [len(said["Filters"][0]["Values"]) for name, said in calls if name == "DescribeInstances"] == [3, 3, 1]
    calls.clear()
    assert Ec2().testify(odd) == {}
    assert calls == []


def test_several_regions_are_asked(cloud: Any) -> None:
    """The one that is configured, and those that are named."""
    far = boto3.client("ec2", region_name="eu-central-1")
    runs = [run(begun(cloud)[0], "near"), run(begun(far)[0], "far")]
    cloud.terminate_instances(InstanceIds=[runs[0]["instance_id"]])
    far.terminate_instances(InstanceIds=[runs[1]["instance_id"]])

    assert Ec2().testify(runs).keys() == {"near"}
    assert Ec2(["eu-central-1", "us-east-1"]).testify(runs).keys() == {"near", "far"}


def refusing(client: Any, monkeypatch: pytest.MonkeyPatch, refused: str, region: str | None = None) -> None:
    """Have one call refused, as it is for who has no right to it."""
    from botocore.exceptions import ClientError

    kind = next(base for base in type(client).__mro__ if base.__name__ == "BaseClient")
    before = kind._make_api_call

    def call(self: Any, name: str, said: Any) -> Any:
        if name == refused and region in (None, self.meta.region_name):
            raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "not authorized"}}, name)
        return before(self, name, said)

    monkeypatch.setattr(kind, "_make_api_call", call)


def test_one_region_that_refuses_takes_no_word_from_the_others(
    cloud: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said on the log."""
    (instance,) = begun(cloud)
    cloud.terminate_instances(InstanceIds=[instance])
    refusing(cloud, monkeypatch, "DescribeInstances", "eu-central-1")
    with caplog.at_level(logging.WARNING, "ledger"):
        assert Ec2(["eu-central-1"]).testify([run(instance)]).keys() == {"r"}
    assert "EC2 cannot be asked in eu-central-1" in caplog.text


def test_who_may_not_ask_is_told_what_to_see_to(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right, the credentials, the region, and the network, each as an error that a sweep survives."""
    (instance,) = begun(cloud)
    with monkeypatch.context() as patched:
        refusing(cloud, patched, "DescribeInstances")
        with pytest.raises(WitnessUnreachable, match="UnauthorizedOperation.*the right ec2:DescribeInstances"):
            Ec2().testify([run(instance)])
    with monkeypatch.context() as patched:
        patched.delenv("AWS_DEFAULT_REGION")
        patched.setenv("AWS_CONFIG_FILE", "/dev/null")
        with pytest.raises(WitnessUnreachable, match="--region us-east-1"):
            Ec2().testify([run(instance)])
        with pytest.raises(WitnessUnreachable, match="--region us-east-1"):
            Ec2(["not a region"]).testify([run(instance)])
    with monkeypatch.context() as patched:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.delenv(name)
        patched.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(WitnessUnreachable, match="See to the credentials"):
            Ec2().testify([run(instance)])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(ec2, "_ATTEMPTS", 1)
    with pytest.raises(WitnessUnreachable, match="EC2 cannot be asked in us-east-1"):
        Ec2().testify([run(instance)])


def test_spot_requests_that_may_not_be_read_take_no_word_away(
    cloud: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the instance itself says counts."""
    (instance,) = begun(cloud)
    behind(instance).spot_instance_request_id = "sir-00000001"
    cloud.terminate_instances(InstanceIds=[instance])
    refusing(cloud, monkeypatch, "DescribeSpotInstanceRequests")
    with caplog.at_level(logging.WARNING, "ledger"):
        assert Ec2().testify([run(instance)])["r"].end_reason == "user"
    assert "spot requests cannot be read in us-east-1" in caplog.text


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is an instance to ask about, and not before."""
    real = builtins.__import__

    def without(name: str, *said: Any) -> Any:
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(name)
        return real(name, *said)

    monkeypatch.setattr(builtins, "__import__", without)
    assert Ec2().testify([run("123")]) == {}
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[aws\]"):
        Ec2().testify([run("i-0123456789abcdef0")])
