"""The Slurm witness asks real commands: one on the PATH, one behind a wrapper, broken ones and slow ones."""

from __future__ import annotations

import logging
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import InvalidValue, WitnessUnreachable
from ledger.witnesses import slurm
from ledger.witnesses.slurm import Slurm

RECORDED = Path(__file__).parent / "recorded"

# What stands in for sacct: it answers from a recorded output, about the jobs it is asked for, and notes how it was asked.
SACCT = """\
#!/bin/sh
echo "$SLURM_TIME_FORMAT $*" >> {calls}
while [ $# -gt 1 ]; do shift; done
for job in $(echo "$1" | tr , ' '); do
    grep -E "^(${{job}}[|_+]|[^|]*[|]${{job}}[|])" {recorded}
done
exit 0
"""
SSH = """\
#!/bin/sh
echo "ssh $*" >> {calls}
shift  # the host; the rest is one line for the shell over there
unset SLURM_TIME_FORMAT
exec env PATH={cluster}:/usr/bin:/bin sh -c "$*"
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls"


@pytest.fixture
def cluster(tmp_path: Path, calls: Path) -> Path:
    """Give a folder with a `sacct`, as a cluster's login node has it on its PATH."""
    folder = tmp_path / "cluster"
    script(folder / "sacct", SACCT.format(calls=calls, recorded=RECORDED / "sacct_23_11.txt"))
    return folder


def runs(**jobs: Any) -> list[dict[str, Any]]:
    return [{"run_id": run_id, "instance_id": job, "host": "expanse", "process": None} for run_id, job in jobs.items()]


def test_the_one_on_the_path_is_asked_once(cluster: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs in one call, with times as seconds since 1970; what is no job is not asked about."""
    monkeypatch.setenv("PATH", f"{cluster}{os.pathsep}{os.environ['PATH']}")
    words = Slurm().testify(
        runs(a="1008", b="1014", c="2000_2", d="2001.batch", e="i-0123456789abcdef0", f=None, g="77")
    )

    assert {run: (word.alive, word.end_reason) for run, word in words.items()} == {
        "a": (False, "timeout"),
        "b": (True, None),
        "c": (False, "timeout"),
        "d": (False, None),
    }
    fields = "JobID,JobIDRaw,State,ExitCode,Submit,End"
    assert calls.read_text() == f"%s -a -n -P -X --format={fields} -j 1008,1014,2000_2,2001,77\n"


def test_a_cluster_is_asked_over_ssh(cluster: Path, calls: Path, tmp_path: Path) -> None:
    """The other side gets no environment of ours, so that the format of the times is in the command itself."""
    ssh = script(tmp_path / "hub" / "ssh", SSH.format(calls=calls, cluster=cluster))
    words = Slurm(f"{ssh} login1 sacct").testify(runs(a="1010"))

    assert words["a"].end_reason == "oom"
    assert words["a"].ended_at is not None
    over_ssh, over_there = calls.read_text().splitlines()
    assert over_ssh.startswith("ssh login1 env SLURM_TIME_FORMAT=%s sacct -a -n -P -X")
    assert over_there.startswith("%s -a")


def test_nobody_is_asked_about_nothing(tmp_path: Path) -> None:
    """No run of a cluster, no call: not even of a command that is not there."""
    on_ec2 = [{"run_id": "a", "instance_id": "1008", "host": "ec2"}]

    assert Slurm(str(tmp_path / "none")).testify([*runs(b="i-0123456789abcdef0"), *on_ec2]) == {}
    assert Slurm(str(tmp_path / "none"), hosts=["delta"]).testify(runs(c="1008")) == {}


def test_many_jobs_are_asked_in_batches(cluster: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for so many jobs, not one a run; two runs of one job are one question."""
    monkeypatch.setattr(slurm, "JOBS_A_CALL", 4)
    asked = runs(**{f"r{number}": str(1001 + number % 10) for number in range(30)})
    words = Slurm(str(cluster / "sacct")).testify(asked)

    assert len(words) == 30
    assert [line.rpartition(" ")[2].count(",") + 1 for line in calls.read_text().splitlines()] == [4, 4, 2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n",
            "ended with 1: Slurm accounting storage",
        ),
        ("#!/bin/sh\nsleep 60\n", "gave no answer within 0.2 s"),
        ("#!/bin/sh\nsleep 60 &\nexit 0\n", "gave no answer within 0.2 s"),
        ("#!/bin/sh\nkill -9 $$\n", "ended with -9"),
    ],
)
def test_what_cannot_be_asked_says_why(tmp_path: Path, text: str, reason: str) -> None:
    """A failure and a time-out are errors with the command in them, and nothing that was started stays."""
    broken = script(tmp_path / "sacct", text)
    began = time.monotonic()
    with pytest.raises(WitnessUnreachable, match=reason) as caught:
        Slurm(str(broken), seconds_max=0.2 if "sleep" in text else 30.0).testify(runs(a="1001"))

    assert str(broken) in str(caught.value)
    assert time.monotonic() - began < 50, "it waited for what the script had started"


def test_a_command_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, mistyped, or simply not installed."""
    with pytest.raises(WitnessUnreachable, match="ended with 127"):
        Slurm(str(tmp_path / "none")).testify(runs(a="1001"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WitnessUnreachable, match="--sacct 'ssh cluster sacct'"):
        Slurm().testify(runs(a="1001"))


@pytest.mark.parametrize("line", ["", "  ", "ssh 'cluster sacct"])
def test_a_command_line_that_is_none_is_refused(line: str) -> None:
    """At once, and not when somebody is asked."""
    with pytest.raises(InvalidValue, match="a command line is wanted"):
        Slurm(line)


def test_the_controller_answers_where_accounting_does_not(
    tmp_path: Path, calls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`scontrol` is asked once for all jobs that it still has, where sacct fails or is not there."""
    sacct = script(tmp_path / "sacct", "#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    text = '#!/bin/sh\necho "$SLURM_TIME_FORMAT $*" >> {}\ncat {}\n'
    scontrol = script(tmp_path / "scontrol", text.format(calls, RECORDED / "scontrol_22_05.txt"))
    with caplog.at_level(logging.INFO, "ledger"):
        both = Slurm(str(sacct), str(scontrol)).testify(runs(a="1014", b="2000_2", c="1001"))
    alone = Slurm(scontrol=str(scontrol)).testify(runs(a="1014", b="2000_2", c="1001"))

    assert both == alone
    assert {run: (word.alive, word.end_reason) for run, word in both.items()} == {
        "a": (True, None),
        "b": (False, "oom"),
    }
    assert calls.read_text() == "%s -o show job\n" * 2
    assert "accounting storage is disabled" in caplog.text


def test_accounting_that_answers_is_not_doubted(cluster: Path, tmp_path: Path) -> None:
    """What it does not know, the controller is not asked for."""
    assert Slurm(str(cluster / "sacct"), str(tmp_path / "none")).testify(runs(a="77")) == {}
