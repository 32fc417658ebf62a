"""What psycopg and the server raise, as what the ledger raises: in one line with the mend, and no password in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from ledger.errors import AppendOnly, LedgerBusy, LedgerDamaged, LedgerError, LedgerUnreachable, NotALedger
from ledger.store.tables import DERIVED_NAMES

__all__ = ["ELSEWHERE", "cause_of", "is_passing", "refused", "translating", "undone"]

_SPOOL = "Or let TRAINING_DB_SPOOL name a folder to record to meanwhile."
ELSEWHERE = "Choose another database, or another schema by ?options=-csearch_path%3Dledger in the URL."
_GRANT = "Let its owner run what `ledger grants` prints for this role, or use a role that may."

# What passes by itself, when the same is done again: a server that starts or stops, a lost race, a lost line.
_PASSING = (
    "08", "40", "53300", "57P01", "57P02", "57P03", "57P05", "25P03", "25006", "23505", "55P03",
)  # fmt: skip
# Why a server lets nobody in, it says in words alone, and in its own language: what is not known to last may pass.
_LASTING_WORDS = (
    "password", "authentication", "does not exist", "pg_hba.conf", "permission denied", "not permitted", "resolve",
    "translate host", "name or service", "no address associated", "not known", "invalid", "unsupported", "certificate",
    "does not support ssl", "not currently accepting",
)  # fmt: skip
_LOST_WORDS = ("connection is closed", "connection is lost")  # which is said of any use afterwards


def cause_of(exc: BaseException) -> BaseException | None:
    """What the driver or the server said."""
    return exc.__cause__ if isinstance(exc, LedgerUnreachable) else exc


def is_passing(exc: BaseException | None) -> bool:
    """Whether the same may succeed if it is done again, without anybody mending something."""
    if isinstance(exc, sa.exc.TimeoutError):
        return False
    if not isinstance(exc, psycopg.Error):
        return isinstance(exc, OSError)
    if exc.sqlstate is not None:
        return exc.sqlstate.startswith(_PASSING)
    known = _LASTING_WORDS if (may_pass := isinstance(exc, psycopg.OperationalError)) else _LOST_WORDS
    return any(words in str(exc).lower() for words in known) is not may_pass


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
    if code == "0A000" and "recovery" in str(exc):  # what may not be begun on a standby
        return _read_only(place, _words(exc))
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


_HOST = "Check the host in TRAINING_DB_URL or TRAINING_DB_HOST."
_FULL = f"Raise the server's max_connections, or put a pooler before it. {_SPOOL}"
_MENDS = (
    ("password", "Check the user and the password in TRAINING_DB_URL, or TRAINING_DB_USER and TRAINING_DB_PASSWORD."),
    ("authentication", "Check the user and how the server lets it in (pg_hba.conf)."),
    ("pg_hba.conf", "Let the server take this user from this host (pg_hba.conf), or check the user and the database."),
    ("too many connections for role", f"Raise the role's CONNECTION LIMIT, or use fewer processes. {_SPOOL}"),
    ("too many connections for database", f"Raise the database's CONNECTION LIMIT, or use fewer processes. {_SPOOL}"),
    ("connection slots", _FULL),
    ("too many", _FULL),
    ("permission denied for database", _GRANT),
    ("not permitted to log in", "Let its owner say ALTER ROLE ... LOGIN, or use a role that may log in."),
    ("not yet accepting", f"Wait until it is there, and do the same again. {_SPOOL}"),
    ("starting up", f"Wait until it is there, and do the same again. {_SPOOL}"),
    ("shutting down", f"Wait until it is there again, and do the same again. {_SPOOL}"),
    ("role", "Check the user in TRAINING_DB_URL, or TRAINING_DB_USER."),
    ("not currently accepting", "Let its owner say ALTER DATABASE ... ALLOW_CONNECTIONS true."),
    ("database", "Let its owner create it with `createdb`, or check the name in TRAINING_DB_URL or TRAINING_DB_NAME."),
    ("resolve", _HOST),
    ("name or service", _HOST),
    ("translate host", _HOST),
)


def undone(place: str) -> LedgerUnreachable:
    """Return that the server has taken back what was to be committed."""
    return LedgerUnreachable(
        f"the ledger at {place} took back what was recorded, after an error inside the transaction that was passed "
        "over; nothing was written. Let what runs there raise it."
    )


def _no_right(place: str, words: str) -> LedgerError:
    if "for schema" in words:
        return LedgerUnreachable(
            f"the ledger at {place}: {words}; nothing was written. Let the database's owner do `ledger init` there and "
            "run what `ledger grants` prints for this role, or grant it USAGE and CREATE on that schema."
        )
    if "must be owner" in words:
        return LedgerUnreachable(
            f"the ledger at {place}: {words}; nothing was written. It was made by a former version, or lacks "
            "something: let its owner open it once with this version, by `ledger init`, or do this."
        )
    return LedgerUnreachable(f"the ledger at {place}: {words}; nothing was written. {_GRANT}")


def _no_schema(place: str, words: str) -> LedgerError:
    return LedgerUnreachable(
        f"the ledger at {place}: {words}; nothing was written. The schema that the search path "
        "names first is not there: let the database's owner do CREATE SCHEMA, and grant this role USAGE on it."
    )


def _taken(place: str, words: str) -> LedgerError:
    return NotALedger(
        f"{place} has something that is not the ledger's under one of its names ({words}); it was left as it is. "
        f"{ELSEWHERE}"
    )


def _lacking(place: str, words: str) -> LedgerError:
    if any(f'"{name}"' in words for name in DERIVED_NAMES):
        return LedgerDamaged(
            f"{place} lacks a projected table ({words}). `ledger replay`, by its owner, makes it anew of the events."
        )
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
    "3F000": _no_schema,
    "42P07": _taken,
    "42723": _taken,
    "53300": refused,
    "53": _full,
    "57": refused,
    "25P": refused,
    "58": _full,
    "08": refused,
    "XX": _lacking,
}
