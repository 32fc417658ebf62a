"""Where the ledger is, out of the environment: the only reader of `os.environ`."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, quote

from ledger.errors import HalfConfigured, NotConfigured, shortened

__all__ = [
    "IN_MEMORY",
    "OFF",
    "WITNESS_FILE",
    "Settings",
    "is_spool",
    "location",
    "mark_of",
    "pasted",
    "seconds_of",
    "shown",
    "spool_location",
    "state_folder",
    "witness_file",
]

OFF = "off"
IN_MEMORY = "sqlite://"
_GROUP = (
    "TRAINING_DB_HOST",
    "TRAINING_DB_PORT",
    "TRAINING_DB_NAME",
    "TRAINING_DB_USER",
    "TRAINING_DB_PASSWORD",
)
WITNESS_FILE = "LEDGER_WITNESS_FILE"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", re.ASCII)
_SPAN_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SYNCHRONOUS = ("FULL", "NORMAL")


@dataclass(frozen=True)
class Settings:
    """What the environment says: the ledger's *url*, how *synchronous* SQLite is, and whether to *redact*.

    *spool* takes what is recorded while the ledger is away. A run that is launched and gives no sign of life
    is late after *launch_late_seconds*, lost after *launch_lost_seconds*.
    """

    url: str
    synchronous: str = "FULL"
    redact: bool = True
    spool: str | None = None
    launch_late_seconds: float = 3600.0
    launch_lost_seconds: float = 86400.0

    @classmethod
    def read(cls, url: str | os.PathLike[str] | None = None) -> Settings:
        """Read the environment; *url* (a URL or a path) goes before its variables.

        Raises NotConfigured where no variable says where the ledger is.
        """
        synchronous = os.environ.get("TRAINING_DB_SYNCHRONOUS", "FULL").upper()
        if synchronous not in _SYNCHRONOUS:
            raise HalfConfigured(f"TRAINING_DB_SYNCHRONOUS={synchronous!r} is not one of FULL and NORMAL.")
        redact = os.environ.get("TRAINING_DB_REDACT", "on").lower() not in {"off", "0", "false", "no"}
        spool = os.environ.get("TRAINING_DB_SPOOL")
        return cls(
            location(url) if url is not None else _configured(),
            synchronous,
            redact,
            spool_location(spool) if spool else None,
            _seconds("TRAINING_DB_LATE_AFTER", cls.launch_late_seconds),
            _seconds("TRAINING_DB_LOST_AFTER", cls.launch_lost_seconds),
        )

    def spooling(self) -> Settings:
        """Return the same with a spool: one of this user for this ledger alone, where none is named."""
        return self if self.spool is not None else replace(self, spool=f"spool://{_own_spool(self.url)}")


def seconds_of(text: str) -> float:
    """Return the seconds that "90", "90s", "5m", "1.5h", "1d" or "2w" says. Raises ValueError for all else."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError('a span of time is wanted: seconds, or "90s", "5m", "1.5h", "1d"')
    return float(found[1]) * _SPAN_UNITS[found[2] or "s"]


def _seconds(name: str, usual: float) -> float:
    text = os.environ.get(name)
    try:
        return seconds_of(text) if text else usual
    except ValueError as exc:
        raise HalfConfigured(f"{name}={shortened(text)} has no meaning: {exc}.") from None


def location(place: str | os.PathLike[str]) -> str:
    """Return a URL for a URL or a plain path; `~` is expanded and relative paths become absolute."""
    text = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    if not isinstance(text, str):
        raise HalfConfigured(f"a URL or a path as text is wanted for the ledger, not {shortened(place)}.")
    if text.lower() == OFF:
        return OFF
    if text in {":memory:", "sqlite://", "sqlite:///:memory:"}:
        return IN_MEMORY
    if is_spool(text):
        return spool_location(text)
    if "://" not in text:
        return f"sqlite:///{_absolute(text)}"
    if not text.startswith("sqlite:"):
        return text
    if not text.startswith("sqlite:///"):
        raise HalfConfigured(f"{text}: a SQLite URL has three slashes and a path, sqlite:///runs.db")
    return f"sqlite:///{_absolute(text.removeprefix('sqlite:///'))}"


def is_spool(url: str) -> bool:
    """Whether *url* names a spool and not a ledger."""
    return url.startswith(("spool:", "s3:"))


def spool_location(place: str | os.PathLike[str]) -> str:
    """Return the URL of a spool for a URL or the plain path of a folder."""
    text = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip():
        raise HalfConfigured(f"a folder, spool:///a/folder or s3://bucket/prefix is wanted, not {shortened(place)}.")
    if text.startswith("s3:"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not text.startswith("s3://") or not bucket:
            raise HalfConfigured(f"{text}: a spool in S3 has two slashes and a bucket, s3://bucket/prefix")
        return f"s3://{bucket}/{prefix.strip('/')}".rstrip("/")
    if text.startswith("spool:"):
        path = text.removeprefix("spool://")
        if not path.startswith(("/", "~")) or not text.startswith("spool://"):
            raise HalfConfigured(f"{text}: a spool has three slashes and the path of a folder, spool:///some/dir")
        text = path
    elif "://" in text:
        raise HalfConfigured(f"{shown(text)} is no spool. Give a folder, spool:///a/folder or s3://bucket/prefix.")
    return f"spool://{_absolute(text)}"


def state_folder() -> Path:
    """Return where a program of ours keeps what has no other place: under XDG_STATE_HOME, else in the home folder."""
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        return Path(home) / "training-run-ledger"
    try:
        return Path.home() / ".local" / "state" / "training-run-ledger"
    except RuntimeError:  # a user without a home
        return _own_temporary()


def witness_file() -> Path | None:
    """Return where this process may say how it ended to the one that watches it; None where nobody does."""
    path = os.environ.get(WITNESS_FILE)
    return Path(path) if path else None


def _own_spool(url: str) -> Path:
    """The first place that can be written to: a full or read-only home must not be where events are lost.

    Each ledger has a folder of its own there, so that nobody brings in what is another ledger's.
    """
    name = f"{Path(shown(url)).stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    spools = state_folder() / "spool"
    try:
        spools.mkdir(parents=True, exist_ok=True)
    except OSError:
        spools = _own_temporary() / "spool"
    return (spools if os.access(spools, os.W_OK) else _own_temporary() / "spool") / name


def _own_temporary() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"training-run-ledger-{user}"


def _absolute(path: str) -> Path:
    if not path.strip():
        raise HalfConfigured("the path of the ledger is empty. Give a file, for example runs.db.")
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 -- resolve() would follow a symbolic link


def shown(url: str) -> str:
    """Return *url* as it may be printed: a path for SQLite, never a password."""
    if url.startswith("sqlite:///"):
        return url.removeprefix("sqlite:///")
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    # A query may carry a password, too, and a password a question mark.
    plain = rest.partition("?")[0]
    login, at, place = (plain if "@" in plain else rest).rpartition("@")
    place = place.partition("?")[0]
    return f"{scheme}://{login.partition(':')[0]}:***@{place}" if at else f"{scheme}://{place}"


def pasted(place: str) -> str:
    """Return a place as it is to be typed into a shell."""
    return shlex.quote(place)


def mark_of(url: str) -> str:
    """Return twelve hexadecimal digits that a ledger has to itself, however its place is written.

    Who asks and with which password is no part of it.
    """
    if url.startswith("sqlite:///"):
        place = os.path.realpath(url.removeprefix("sqlite:///"))
    else:
        query = parse_qs(url.partition("?")[2])
        place = f"{shown(url).rpartition('@')[2].rpartition('//')[2]} {query.get('host')} {query.get('port')}"
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:12]


def _configured() -> str:
    if url := os.environ.get("TRAINING_DB_URL"):
        return location(url)
    group = {name: os.environ.get(name) for name in _GROUP}
    if any(group.values()):
        return _postgresql(group)
    if path := os.environ.get("TRAINING_DB_PATH"):
        if "://" in path:
            raise HalfConfigured(
                f"TRAINING_DB_PATH is a URL ({shown(path)}), and a path is wanted. Set TRAINING_DB_URL to it instead."
            )
        return f"sqlite:///{_absolute(path)}"
    raise NotConfigured(
        "TRAINING_DB_PATH not set: no variable says where the ledger is. Set it with\n"
        "    export TRAINING_DB_PATH=~/training_runs.db\n"
        "or export TRAINING_DB_URL=..., in the environment of the process itself: "
        "cron, systemd and sbatch do not read ~/.bashrc."
    )


def _postgresql(group: dict[str, str | None]) -> str:
    missing = [name for name, value in group.items() if not value]
    if missing:
        raise HalfConfigured(
            f"the TRAINING_DB_HOST group is half set: {', '.join(missing)} missing. "
            "Set the rest, or unset the group and use TRAINING_DB_PATH."
        )
    host, port, name, user, password = (quote(group[key] or "", safe="") for key in _GROUP)
    return f"postgresql://{user}:{password}@{host}:{port}/{name}"
