"""Whether a path lies on a network filesystem, where SQLite's WAL does not work."""

from __future__ import annotations

from pathlib import Path

__all__ = ["on_network"]

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
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        real = path.resolve().parent  # through symbolic links: what matters is where the file lies
    except OSError:
        return False
    found = (len(Path("/").parts), "")
    for line in lines:
        _, mount_point, kind, *_ = [*line.split(), "", "", ""]
        point = Path(mount_point.replace("\\040", " "))
        if real.is_relative_to(point) and len(point.parts) >= found[0]:
            found = (len(point.parts), kind)
    return found[1] in _NETWORK
