"""Who may do what with a ledger on a server: grants."""

from __future__ import annotations

from argparse import Namespace

from ledger.cli.output import say, say_document
from ledger.cli.place import opened

__all__ = ["grants"]


def grants(said: Namespace) -> int:
    """Print SQL that lets a role of the server append and read, or read alone; its owner runs it with psql.

    With --json: {"role", "to": the role's name, "grants": the same text}.
    """
    to = said.to or f"ledger_{said.role}"
    with opened(said) as ledger:
        text = ledger.grants(said.role, to=to)
    if said.as_json:
        say_document({"role": said.role, "to": to, "grants": text})
    else:
        say(text.rstrip())
    return 0
