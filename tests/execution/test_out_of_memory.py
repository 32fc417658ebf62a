"""The kernel kills for want of memory, and that is told from any other SIGKILL."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ledger.execution.memory import Kills, grown, kills
from tests.execution.conftest import Ground

LIMIT_BYTES = 200_000_000
HOG = "held = []\nwhile True: held.append(bytearray(1 << 22))"
# (folder of the groups, file with the limit): version 1 and version 2
KINDS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))
# Where nobody may make a group, the same hog meets a limit of addresses, which Python reports as MemoryError.
LIMITED_ADDRESSES = f"ulimit -v {LIMIT_BYTES // 1000}; exec "


@contextmanager
def group_of_little_memory() -> Iterator[Path | None]:
    """Give a control group with a limit, None where none can be made."""
    for folder, limit in KINDS:
        made = folder / f"ledger-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            if not (folder / "cgroup.procs").exists():
                continue
            made.mkdir()
            (made / limit).write_text(str(LIMIT_BYTES))
        except OSError:
            with suppress(OSError):
                made.rmdir()
            continue
        try:
            yield made
        finally:
            for _ in range(500):  # its dead are still being cleared away
                with suppress(OSError):
                    made.rmdir()
                    break
                time.sleep(0.01)
        return
    yield None


@pytest.mark.parametrize("inside", ["exec", "child"])
def test_the_kernels_kill_is_out_of_memory(inside: str, ground: Ground) -> None:
    """Whether the whole job or the child alone is in the group that ran out: the run crashed, for want of memory."""
    with group_of_little_memory() as group:
        if group is None:
            done = ground.exec("sh", "-c", f"{LIMITED_ADDRESSES}{sys.executable} -c '{HOG}'")
            assert (done.returncode, ground.end()) == (1, ("crashed", "oom", 1))
            return
        enter = f"echo $$ > {group}/cgroup.procs; "
        if inside == "child":
            done = ground.exec("sh", "-c", f'{enter}exec {sys.executable} -c "$0"', HOG)
        else:
            entered = lambda: (group / "cgroup.procs").write_text(str(os.getpid()))  # noqa: E731
            done = ground.exec(sys.executable, "-c", HOG, preexec_fn=entered)

    assert done.returncode == 137
    assert ground.end() == ("crashed", "oom", 137)


MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 {root} {folder}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 {root} {folder}/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.mark.parametrize(
    ("groups", "root", "file", "found"),
    [
        ("0::/job/step\n", "/", "unified/job/step/memory.events", 3),
        ("0::/docker/abc/job\n", "/docker/abc", "unified/job/memory.events", 3),
        ("5:cpu:/\n4:memory:/job\n0::/\n", "/", "memory/job/memory.oom_control", 3),
        ("5:cpu:/\n4:cpuset,memory:/job\n", "/elsewhere", "memory/job/memory.oom_control", None),
        ("0::/\n", "/", "unified/other", None),
        ("", "/", "unified/job/memory.events", None),
    ],
)
def test_the_groups_count_is_found(
    groups: str, root: str, file: str, found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either version, wherever it is mounted, and seen from within a container."""
    for path, text in {
        f"cgroups/{file}": "low 0\noom 7\noom_kill 3\noom_group_kill 1\n",
        "proc/7/cgroup": groups,
        "proc/self/mountinfo": MOUNTS.format(root=root, folder=tmp_path / "cgroups"),
        "proc/vmstat": "nr_free_pages 1\noom_kill 9\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr("ledger.execution.memory._PROC", tmp_path / "proc")

    seen = kills(7)
    assert (seen.in_group, seen.anywhere) == (found, 9)


def test_which_count_decides() -> None:
    """The counts decide by the process's own group where it has one, and by the machine's where it has none."""
    assert grown(Kills("a", 0, 5), Kills("a", 1, 6))
    assert not grown(Kills("a", 1, 5), Kills("a", 1, 6))
    assert grown(Kills("a", None, 5), Kills("a", None, 6))
    assert grown(Kills("a", 0, 5), Kills("b", 0, 6))
    assert not grown(Kills("a", 0, 5), Kills("b", 3, 5))
    assert not grown(Kills(None, None, None), Kills(None, None, None))
