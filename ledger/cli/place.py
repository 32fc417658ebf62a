"""The ledger that a command line means: `--db`, else what the environment says."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ledger.errors import HalfConfigured, NotConfigured
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.asking import Asking

__all__ = ["asked", "lies_on_server", "opened"]


@contextmanager
def opened(said: Namespace) -> Iterator[Ledger]:
    """Open the ledger. Raises NotConfigured when recording is switched off: at a prompt that is no answer."""
    from ledger.api import Ledger

    with Ledger(said.db) as ledger:
        if ledger.url == "off":
            raise NotConfigured(
                "TRAINING_DB_URL=off: nothing is recorded, and there is nothing to ask. "
                "Set it to a ledger, or give one with --db."
            )
        yield ledger


def lies_on_server(said: Namespace) -> bool:
    """Whether the ledger that is meant is one on PostgreSQL; where none is named, it is not."""
    try:
        return Settings.read(said.db).url.startswith("postgres")
    except HalfConfigured:
        raise
    except NotConfigured:
        return False


@contextmanager
def asked(said: Namespace) -> Iterator[Asking]:
    """Open the ledger as it is, or as it was where --as-of or --known-at is said."""
    with opened(said) as ledger:
        if said.as_of is None and said.known_at is None:
            yield ledger
            return
        with ledger.as_of(said.as_of, known=said.known_at) as view:
            yield view
