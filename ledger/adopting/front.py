"""`Ledger.adopt`: a file of the earlier API into this ledger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.asking import Asking
from ledger.errors import InvalidValue
from ledger.settings import location, shown
from ledger.upkeep import Upkeep

if TYPE_CHECKING:
    from ledger.adopting.adoption import Adopted
    from ledger.progress import Watcher

__all__ = ["Adopting"]


class Adopting(Upkeep, Asking):
    """What takes over an earlier database."""

    def adopt(self, path: str | os.PathLike[str], *, progress: Watcher | None = None) -> Adopted:
        """Take over a `training_runs.db` of the earlier API, which is only read, and compare every documented column.

        Again, it tells only what is new. The answer counts runs and events, and lists each column that is not as it
        was, with the reason (docs/adopting.md). Raises InvalidValue where *path* is something else.
        """
        from ledger.adopting.adoption import adopt

        return adopt(self, self._database, _file(path), progress, redacting=self._settings.redact)


def _file(path: str | os.PathLike[str]) -> Path:
    """The file that is meant, by its path or its URL."""
    text = os.fspath(path)
    if "://" not in text:
        return Path(text).expanduser()
    if not (url := location(text)).startswith("sqlite:///"):
        raise InvalidValue("OLD.db", shown(text), "a training_runs.db of the earlier API is wanted, which is a file")
    return Path(url.removeprefix("sqlite:///"))
