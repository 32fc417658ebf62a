"""What is true of a ledger as a whole: a few named texts in `ledger_state`."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from ledger.store.statements import Connection, Statement, compiled
from ledger.store.tables import state

__all__ = ["FOLDED_BY", "forget", "named", "remember"]

FOLDED_BY = "folded_by"  # the stamp of the rules by which the projected tables were folded


@cache
def _remembering() -> Statement:
    values = {"name": sa.bindparam("name", type_=sa.Text()), "value": sa.bindparam("value", type_=sa.Text())}
    return compiled(sa.insert(state).prefix_with("OR REPLACE").values(values))


@cache
def _forgetting() -> Statement:
    return compiled(sa.delete(state).where(state.c.name == sa.bindparam("the_name", type_=sa.Text())))


def remember(connection: Connection, name: str, value: str) -> None:
    """Set a text, in the open transaction."""
    _remembering().run(connection, {"name": name, "value": value})


def forget(connection: Connection, name: str) -> None:
    """Remove a text, in the open transaction."""
    _forgetting().run(connection, {"the_name": name})


def named(connection: Connection, prefix: str) -> dict[str, str]:
    """Return the texts whose names begin with *prefix*."""
    asked = compiled(sa.select(state.c.name, state.c.value).order_by(state.c.name))
    return {name: value for name, value in asked.ask(connection) if name.startswith(prefix)}
