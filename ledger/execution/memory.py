"""Whether the kernel killed for want of memory: it counts that for each group of processes, and for the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Kills", "grown", "kills"]

_PROC = Path("/proc")


@dataclass(frozen=True)
class Kills:
    """How often it did so far: in the group that a process is in (None where that is not counted), and anywhere."""

    group: str | None
    in_group: int | None
    anywhere: int | None


def kills(pid: int) -> Kills:
    """Return the counts that concern a process, which may be dead as long as nobody has fetched it."""
    counters = _counters(pid)
    count = next((count for path in counters if (count := _count(path)) is not None), None)
    return Kills(str(counters[0]) if counters else None, count, _count(_PROC / "vmstat"))


def grown(before: Kills, after: Kills) -> bool:
    """Whether there was one in between, in the process's group; where that says nothing, anywhere on the machine."""
    if before.group == after.group and before.in_group is not None and after.in_group is not None:
        return after.in_group > before.in_group
    return before.anywhere is not None and after.anywhere is not None and after.anywhere > before.anywhere


def _count(path: Path) -> int | None:
    for line in _lines(path):
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdigit():
            return int(number)
    return None


def _counters(pid: int) -> list[Path]:
    """The files that count for the groups of memory that a process is in: of version 1 first, where it has that."""
    found: list[Path] = []
    for line in _lines(_PROC / str(pid) / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found[:0] = [place / "memory.oom_control" for place in _places("cgroup", path)]
        elif not controllers:
            found += [place / "memory.events" for place in _places("cgroup2", path)]
    return found


def _places(kind: str, path: str) -> list[Path]:
    """Where a group of that path is mounted; a container may see only what is below its own root."""
    found = []
    for line in _lines(_PROC / "self" / "mountinfo"):
        before, _, behind = line.partition(" - ")
        fields, (filesystem, _, options) = before.split(), behind.split(" ", 2)
        if filesystem != kind or (kind == "cgroup" and "memory" not in options.strip().split(",")):
            continue
        root = fields[3]
        if PurePosixPath(path).is_relative_to(root):
            found.append(Path(fields[4]) / PurePosixPath(path).relative_to(root))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
