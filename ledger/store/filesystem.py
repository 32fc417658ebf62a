"""Where a ledger's file lies: its folders, and whether they are on a network, where SQLite's WAL does not work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

__all__ = ["is_mounted", "make_room", "on_network"]

_log = logging.getLogger("ledger")

# WAL needs memory shared between all who have the file open: one machine. Names as in /proc/mounts.
_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "afs",
        "ceph",
        "glusterfs",
        "pvfs2",
        "panfs",
        "wekafs",
        "ocfs2",
        "gfs2",
        "9p",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.juicefs",
        "fuse.ceph",
        "fuse.rclone",
    ]
)


def on_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether *path* lies on a network filesystem; False where the system does not say."""
    try:
        real = path.resolve().parent  # through symbolic links: what matters is where the file lies
    except OSError:
        return False
    found = (len(Path("/").parts), "")
    for point, kind in _mounted(mounts):
        if real.is_relative_to(point) and len(point.parts) >= found[0]:
            found = (len(point.parts), kind)
    return found[1] in _NETWORK


def is_mounted(path: Path) -> bool:
    """Whether a file is itself mounted there, so that what lies beside it elsewhere does not lie beside it here."""
    return any(point == path for point, _ in _mounted(Path("/proc/mounts")))


def _mounted(mounts: Path) -> Iterator[tuple[Path, str]]:
    """Yield where something is mounted, and of which kind; nothing where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, point, kind, *_ = [*line.split(), "", "", ""]
        yield Path(point.replace("\\040", " ")), kind


def make_room(path: Path) -> None:
    """Make the folders of a file that is not there yet."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _log.info("creating a new ledger at %s", path)
