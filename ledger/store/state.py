"""What is true of a ledger as a whole: a few named texts in `ledger_state`."""

from __future__ import annotations

from ledger.store.statements import Connection, said

__all__ = ["FOLDED_BY", "HOLES", "SHIFT", "forget", "named", "remember"]

FOLDED_BY = "folded_by"  # the stamp of the rules by which the projected tables were folded
HOLES = "holes"  # how many positions the server that this file was copied from had given to nobody

SHIFT = "transaction_shift"  # what is added to this server's transaction ids, so that they go on from another's

_REMEMBERING = said(
    "INSERT INTO ledger_state (name, value) VALUES (:name, :value)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_FORGETTING = said("DELETE FROM ledger_state WHERE name = :name")
_NAMED = said("SELECT name, value FROM ledger_state ORDER BY name")


def remember(connection: Connection, name: str, value: str) -> None:
    """Set a text, in the open transaction."""
    _REMEMBERING.run(connection, {"name": name, "value": value})


def forget(connection: Connection, name: str) -> None:
    """Remove a text, in the open transaction."""
    _FORGETTING.run(connection, {"name": name})


def named(connection: Connection, prefix: str) -> dict[str, str]:
    """Return the texts whose names begin with *prefix*."""
    return {name: value for name, value in _NAMED.ask(connection) if name.startswith(prefix)}
