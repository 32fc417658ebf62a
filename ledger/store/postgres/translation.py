"""What psycopg and the server raise, as what the ledger raises: in one line with the mend, and no password in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from ledger.errors import AppendOnly, LedgerBusy, LedgerDamaged, LedgerError, LedgerUnreachable

__all__ = ["is_passing", "refused", "translating"]

_SPOOL = "Or let TRAINING_DB_SPOOL name a folder to record to meanwhile."
_GRANT = "Let its owner run what `ledger grants` prints for this role, or use a role that may."

# What passes by itself, when the same is done again: a server that starts or stops, a lock, a lost race, a lost line.
_PASSING = ("08", "40", "53300", "57P01", "57P02", "57P03", "25006", "23505", "55P03")
_PASSING_WORDS = (
    "connection refused", "no such file or directory", "starting up", "shutting down", "too many clients",
    "connection slots", "closed the connection", "connection is closed", "connection is lost", "timeout", "timed out",
    "in recovery mode", "reset by peer", "broken pipe", "terminating connection", "session is read-only",
    "not accepting", "could not receive data", "could not send data", "no host to connect to succeeded",
)  # fmt: skip


def is_passing(exc: BaseException | None) -> bool:
    """Whether the same may succeed if it is done again, without anybody mending something."""
    if isinstance(exc, LedgerUnreachable):
        return is_passing(exc.__cause__)
    if isinstance(exc, sa.exc.TimeoutError):
        return False
    if not isinstance(exc, psycopg.Error):
        return isinstance(exc, OSError)
    if exc.sqlstate is not None:
        return exc.sqlstate.startswith(_PASSING)
    return any(words in str(exc).lower() for words in _PASSING_WORDS)


@contextmanager
def translating(place: str, busy_seconds_max: float) -> Iterator[None]:
    """Turn what the driver raises into what the ledger raises, with its cause."""
    try:
        yield
    except (psycopg.Error, OSError, sa.exc.TimeoutError) as exc:
        made = _translated(exc, place, busy_seconds_max)
        if made is None:  # a bug of ours: let it be seen
            raise
        raise made from exc


def _translated(exc: Exception, place: str, busy_seconds_max: float) -> LedgerError | None:
    if isinstance(exc, sa.exc.TimeoutError):
        return LedgerBusy(place, busy_seconds_max, by="the other threads of this process")
    if not isinstance(exc, psycopg.Error):
        return LedgerUnreachable(f"{place}: {exc}. Check the network and the server. {_SPOOL}")
    code = exc.sqlstate or ""
    if "append-only" in str(exc):
        return AppendOnly()
    if code.startswith(("55P03", "40")):
        return LedgerBusy(place, busy_seconds_max, by="another writer of the same run")
    for beginning, make in _BY_CODE.items():
        if code.startswith(beginning):
            return make(place, _words(exc))
    if isinstance(exc, psycopg.OperationalError) or is_passing(exc):
        return refused(place, _words(exc))
    return None


def _words(exc: psycopg.Error) -> str:
    """What the server says in one line, without what libpq says of its way there."""
    primary = exc.diag.message_primary if exc.sqlstate else None
    text = primary or str(exc).strip().rpartition("FATAL:")[2]
    return " ".join(text.split()).removesuffix(".")


def refused(place: str, words: str) -> LedgerUnreachable:
    """Return why a server could not be connected to, or was lost."""
    lowered = words.lower()
    mend = next((mend for known, mend in _MENDS if known in lowered), f"Check that the server is there. {_SPOOL}")
    return LedgerUnreachable(f"the ledger at {place} cannot be used: {words}. {mend}")


_MENDS = (
    ("password", "Check the user and the password in TRAINING_DB_URL, or TRAINING_DB_USER and TRAINING_DB_PASSWORD."),
    ("authentication", "Check the user and how the server lets it in (pg_hba.conf)."),
    ("role", "Check the user in TRAINING_DB_URL, or TRAINING_DB_USER."),
    ("database", "Let its owner create it with `createdb`, or check the name in TRAINING_DB_URL or TRAINING_DB_NAME."),
    ("connection slots", f"Raise the server's max_connections, or put a pooler before it. {_SPOOL}"),
    ("too many", f"Raise the server's max_connections, or put a pooler before it. {_SPOOL}"),
    ("resolve", "Check the host in TRAINING_DB_URL or TRAINING_DB_HOST."),
    ("name or service", "Check the host in TRAINING_DB_URL or TRAINING_DB_HOST."),
    ("translate host", "Check the host in TRAINING_DB_URL or TRAINING_DB_HOST."),
)


def _no_right(place: str, words: str) -> LedgerError:
    return LedgerUnreachable(f"the ledger at {place}: {words}; nothing was written. {_GRANT}")


def _lacking(place: str, words: str) -> LedgerError:
    return LedgerDamaged(f"{place} lacks a part of the ledger ({words}). Restore it from a backup of the server.")


def _full(place: str, words: str) -> LedgerError:
    return LedgerUnreachable(f"the ledger at {place}: {words}; nothing was written. Make room there. {_SPOOL}")


def _read_only(place: str, words: str) -> LedgerError:
    return LedgerUnreachable(
        f"the ledger at {place}: {words}; nothing was written. It is a standby: name the primary, or all hosts in one "
        f"URL, postgresql://one,other/name. {_SPOOL}"
    )


_BY_CODE = {
    "25006": _read_only,
    "42501": _no_right,
    "42P01": _lacking,
    "42703": _lacking,
    "42883": _lacking,
    "3F000": _no_right,
    "53": _full,
    "57": refused,
    "58": _full,
    "08": refused,
    "XX": _lacking,
}
