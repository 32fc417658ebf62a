"""The ledger that a command line means: `--db`, else what the environment says."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ledger.errors import NotConfigured

if TYPE_CHECKING:
    from ledger.api import Ledger

__all__ = ["opened"]


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
