"""A ledger's URL as what libpq connects by."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.errors import HalfConfigured
from ledger.settings import shown

__all__ = ["conninfo"]

# A line that is lost without a word is noticed within half a minute.
_USUAL = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "ledger",
}


def conninfo(url: str) -> str:
    """Return what to connect by. Raises HalfConfigured for a URL that libpq does not understand."""
    scheme, _, rest = url.partition("://")
    try:
        said = conninfo_to_dict(f"postgresql://{_with_hosts_of_query(rest)}")
    except psycopg.Error:  # whose words may hold a part of the password
        said = {"port": "unknown"}
    if not all(port.isdigit() for port in str(said.get("port") or "0").split(",") if port):
        raise HalfConfigured(
            f"{shown(url)} is no URL of PostgreSQL. It has the form postgresql://user:password@host:5432/name, "
            "with %40 for @, %3A for : and %2F for / in a password."
        )
    if scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise HalfConfigured(f"{shown(url)}: the driver is psycopg. Write postgresql://... instead of {scheme}://...")
    several = "," in str(said.get("host", "")) or "," in str(said.get("hostaddr", ""))
    usual = {**_USUAL, "target_session_attrs": "read-write"} if several else _USUAL
    return make_conninfo("", **{**usual, **{name: value for name, value in said.items() if value is not None}})


def _with_hosts_of_query(rest: str) -> str:
    """SQLAlchemy's way to name several hosts, host=one:5432&host=other:5432, in libpq's way."""
    before, found, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    hosts = [value for name, value in pairs if name == "host"]
    if not found or len(hosts) < 2:
        return rest
    named = [host.rpartition(":") if ":" in host else (host, "", "5432") for host in hosts]
    left = [(name, value) for name, value in pairs if name != "host"]
    left += [("host", ",".join(host for host, _, _ in named)), ("port", ",".join(port for _, _, port in named))]
    return f"{before}?{urlencode(left, quote_via=quote)}"
