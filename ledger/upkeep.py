"""Upkeep: create, replay, verify, back up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from ledger.handle import Handle
from ledger.progress import Watcher

if TYPE_CHECKING:
    from ledger.store.backup import Restored
    from ledger.store.dry_run import Change
    from ledger.store.inspect import Inspection
    from ledger.store.verify import Verification

__all__ = ["Upkeep"]


class Upkeep(Handle):
    """What proves a ledger, and what keeps it."""

    def init_db(self) -> None:
        """Create the ledger, with its folders, where there is none. Again, it does nothing."""
        if not self._off:
            with self._database.write():
                pass

    @overload
    def replay(self, *, dry_run: Literal[False] = False, progress: Watcher | None = None) -> int: ...
    @overload
    def replay(self, *, dry_run: Literal[True], progress: Watcher | None = None) -> Iterator[Change]: ...
    def replay(self, *, dry_run: bool = False, progress: Watcher | None = None) -> int | Iterator[Change]:
        """Throw the projected tables away and fold all events again; return the number of runs.

        Readers and writers go on meanwhile: new tables are built beside the old ones and exchanged with them.
        With *dry_run* it only yields what that would change, run by run and column by column, from one state
        of the ledger. *progress* is called now and then with how many events are done, of how many.
        """
        self._database.require()
        if dry_run:
            return self._changes()
        from ledger.store.replay import replay

        return replay(self._database, progress)

    def _changes(self) -> Iterator[Change]:
        from ledger.store.dry_run import changes

        with self._database.snapshot() as connection:
            yield from changes(connection)

    def verify(self) -> Verification:
        """Check digests, chains and heads, and that every row equals the fold of its events.

        The answer is true when all is well, and has the first of each kind of difference otherwise.
        """
        from ledger.store import verify

        with self._database.snapshot() as connection:
            return verify.verify(connection)

    def inspect(self, *, damages: bool = True) -> tuple[Inspection, str | None]:
        """Return what `ledger doctor` judges, and what SQLite itself says of damage: None for nothing, or not asked."""
        from ledger.store.inspect import damage, inspect

        with self._database.snapshot() as connection:
            return inspect(connection), damage(connection) if damages else None

    def backup(self, destination: str | os.PathLike[str]) -> Path:
        """Write the ledger as of one moment into one new file, while writers go on."""
        from ledger.store.backup import backup

        return backup(self._database, destination)

    def restore_backup(self, source: str | os.PathLike[str]) -> Restored:
        """Put a backup in this ledger's place, set its files aside, and return what the backup lacks.

        Raises LedgerBusy when another process has the ledger open.
        """
        from ledger.store.backup import restore

        database = self._database
        database.let_go()
        return restore(database.path, source)
