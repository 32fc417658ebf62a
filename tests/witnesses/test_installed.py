"""Which witnesses are asked: ours where they can be used, those that are named, and plug-ins from other packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ledger.errors import AskedWrongly, InvalidFact, InvalidValue, UnknownWitness, WitnessUnreachable
from ledger.witnesses import installed as module
from ledger.witnesses.installed import installed
from ledger.witnesses.kinds import Testimony, Witness
from ledger.witnesses.slurm import Slurm

PLUG_IN = """\
from ledger.witnesses.kinds import Testimony

made = []

class Kubernetes:
    name = "pods"

    def __init__(self):
        made.append(self)

    def testify(self, runs):
        return {run["run_id"]: Testimony(False, "pod was evicted", end_reason="preempted") for run in runs}

def nothing():
    return object()
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package with witnesses, as a folder on sys.path with its metadata."""
    (tmp_path / "our_pods.py").write_text(PLUG_IN)
    info = tmp_path / "our_pods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: our-pods\nVersion: 1.0\n")
    entries = ("kubernetes = our_pods:Kubernetes", "nothing = our_pods:nothing", "broken = our_nodes:Missing")
    (info / "entry_points.txt").write_text("\n".join(["[ledger.witnesses]", *entries, ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "our_pods", raising=False)
    return info


def names(*asked: str, **options: str) -> list[str]:
    return [witness.name for witness in installed(asked, **options)]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take Slurm's commands off the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("bare")
def test_what_can_be_used_here_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process always, Slurm with a command for it, EC2 with boto3."""
    assert names() == ["process", "ec2"]
    assert names(sacct="ssh cluster sacct") == ["process", "slurm", "ec2"]
    assert names(scontrol="ssh cluster scontrol") == ["process", "slurm", "ec2"]
    (tmp_path / "sacct").write_text("#!/bin/sh\n")
    (tmp_path / "sacct").chmod(0o755)
    assert names() == ["process", "slurm", "ec2"]
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert names() == ["process", "slurm"]
    assert [witness.name for witness in installed(regions=["eu-central-1"])] == ["process", "slurm", "ec2"]


@pytest.mark.usefixtures("bare")
def test_who_is_named_is_asked_alone() -> None:
    """In the order of the names, once each, whether or not they can be used."""
    assert names("slurm", "process", "slurm") == ["slurm", "process"]
    with pytest.raises(UnknownWitness, match="Did you mean 'slurm'"):
        names("slrum")
    with pytest.raises(AskedWrongly, match="slurm is not asked here"):
        names("process", sacct="sacct")
    with pytest.raises(InvalidValue, match="a command line is wanted"):
        names(sacct="'")


@pytest.mark.usefixtures("plugged", "bare")
def test_plug_ins_are_asked_too() -> None:
    """By the name of their entry point; each is made once, when it is first asked."""
    found = {witness.name: witness for witness in installed()}
    assert list(found) == ["process", "ec2", "kubernetes", "nothing", "broken"]
    words = [found["kubernetes"].testify([{"run_id": "a"}, {"run_id": "b"}]) for _ in range(2)]

    assert words == [{run: Testimony(False, "pod was evicted", end_reason="preempted") for run in "ab"}] * 2
    assert len(sys.modules["our_pods"].made) == 1
    assert names("kubernetes") == ["kubernetes"]


@pytest.mark.usefixtures("plugged")
def test_a_plug_in_that_is_broken_fails_when_it_is_asked() -> None:
    """And not while the others are gathered."""
    nothing, broken = installed(["nothing", "broken"])

    with pytest.raises(WitnessUnreachable, match=r"our_pods:nothing makes <object .*with a name and testify"):
        nothing.testify([])
    with pytest.raises(ModuleNotFoundError, match="our_nodes"):
        broken.testify([])


def test_a_plug_in_takes_the_place_of_ours(plugged: Path) -> None:
    """One that is called slurm is asked in place of ours, and takes none of our options."""
    (plugged / "entry_points.txt").write_text("[ledger.witnesses]\nslurm = our_pods:Kubernetes\n")

    (witness,) = installed(["slurm"])
    assert not isinstance(witness, Slurm)
    assert isinstance(witness, Witness)
    with pytest.raises(AskedWrongly, match="for our own witnesses"):
        installed(sacct="sacct")


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ({"status": "crash"}, "Did you mean 'crashed'"),
        ({"status": "running"}, "one of completed, failed, crashed is wanted"),
        ({"end_reason": "bored"}, "end_reason='bored'"),
        ({"exit_code": 2**70}, "exit_code="),
        ({"ended_at": "yesterday"}, "ended_at='yesterday'"),
        ({"words": "a\x00b"}, "testimony="),
    ],
)
def test_a_word_that_no_event_can_say_is_refused(said: dict[str, object], mend: str) -> None:
    """When it is spoken, by whoever wrote the witness."""
    with pytest.raises((InvalidFact, InvalidValue), match=mend):
        Testimony(**{"alive": False, "words": "w", **said})
