"""What the doctor asks of a server: its version, its room for connections, and who holds followers back."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.store.statements import Connection, said

__all__ = ["ServerState", "state_of"]

LONG_SECONDS = 60

_FACTS = said(
    "SELECT current_setting('server_version'),"
    " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
    " CAST(current_setting('max_connections') AS int), pg_is_in_recovery()"
)
# Who writes holds the horizon, whatever he writes; what is of other databases does not.
_OLDEST = said(
    "SELECT pid, coalesce(application_name, ''), CAST(extract(epoch FROM now() - xact_start) AS double precision)"
    " FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()"
    f" AND xact_start < now() - interval '{LONG_SECONDS} seconds' ORDER BY xact_start LIMIT 1"
)


@dataclass(frozen=True)
class Oldest:
    """A transaction that has been writing for long: events after it wait for its end until followers see them."""

    pid: int
    program: str
    seconds: float


@dataclass(frozen=True)
class ServerState:
    """A server at one moment, as far as this role may see it."""

    version: str
    connections: int
    connections_max: int
    is_standby: bool
    oldest: Oldest | None


def state_of(connection: Connection) -> ServerState:
    """Look at the server."""
    version, connections, connections_max, is_standby = _FACTS.ask(connection).fetchone()
    found = _OLDEST.ask(connection).fetchone()
    oldest = None if found is None else Oldest(*found)
    return ServerState(version, connections, connections_max, is_standby, oldest)
