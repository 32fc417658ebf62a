"""Upkeep: create, replay, verify, back up; export, merge and copy; take in what spools hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast, overload

from ledger.errors import AskedWrongly
from ledger.handle import Handle
from ledger.progress import Watcher

if TYPE_CHECKING:
    from ledger.store.backup import Restored
    from ledger.store.copying import Copied
    from ledger.store.dry_run import Change
    from ledger.store.exporting import Exported
    from ledger.store.inspect import Inspection
    from ledger.store.merging import Merged
    from ledger.store.postgres.database import ServerDatabase
    from ledger.store.sqlite import SQLiteDatabase
    from ledger.store.verify import Verification
    from ledger.syncing import Synced

__all__ = ["Upkeep"]


class Upkeep(Handle):
    """What proves a ledger, and what keeps it."""

    def init_db(self) -> None:
        """Create the ledger, with its folders, where there is none. Again, it does nothing."""
        self._sink.create()

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

    def sync(self, *spools: str | os.PathLike[str], clear: bool = False) -> Synced:
        """Move the events of spools in: folders, copies of folders, or s3://bucket/prefix. Again, it does nothing.

        With *clear*, files that nobody writes to any more are removed once the ledger has all of them.
        """
        from ledger import syncing
        from ledger.spool.places import open_spool, require_spools

        if not spools:
            raise AskedWrongly("sync(...) needs a spool: a folder, or s3://bucket/prefix.")
        database = self._database  # which says so where this ledger is itself a spool
        require_spools(*spools)
        database.transact(lambda _: None)  # creates the ledger, as the first write does
        return syncing.sync(database, map(open_spool, spools), clear=clear)

    def backup(self, destination: str | os.PathLike[str]) -> Path:
        """Write the ledger as of one moment into one new file, while writers go on."""
        from ledger.store.backup import backup

        return backup(self._file(), destination)

    def _file(self) -> SQLiteDatabase:
        """The ledger's file; a server has its own ways."""
        from ledger.store.sqlite import SQLiteDatabase

        if not isinstance(self._database, SQLiteDatabase):
            raise AskedWrongly(
                f"{self.url} is on a server, which is backed up as a whole: by its provider's snapshots or pg_dump. "
                "A copy of the ledger in a file is made by `ledger copy --to FILE`."
            )
        return self._database

    def grants(self, role: str, *, to: str | None = None) -> str:
        """Return SQL that lets a role of the server append and read ("writer"), or read alone ("reader").

        It is printed and not run: who owns the ledger runs it. *to* is the role's name, else ledger_writer or
        ledger_reader; one that is not there is made.
        """
        if not self._settings.url.startswith("postgres"):
            raise AskedWrongly(
                f"{self.url} is not on a server, and knows no roles: who may write to a file is said by its rights "
                "(chmod). Grants are for a ledger on PostgreSQL, --db postgresql://user@host/name."
            )
        from ledger.store.postgres.granting import grants

        return grants(cast("ServerDatabase", self._database), role, to)

    def restore_backup(self, source: str | os.PathLike[str]) -> Restored:
        """Put a backup in this ledger's place, set its files aside, and return what the backup lacks.

        Raises LedgerBusy when another process has the ledger open.
        """
        from ledger.store.backup import restore

        database = self._file()
        database.let_go()
        return restore(database.path, source)

    def export(self, destination: str | os.PathLike[str] | IO[bytes], *, progress: Watcher | None = None) -> Exported:
        """Write all events as of one moment into a new file, one a line (docs/exports.md); gzip where it ends in .gz.

        Writers go on meanwhile. *destination* may also be an open binary file.
        """
        from ledger.store.exporting import export

        return export(self._database, destination, progress)

    def merge(self, *sources: str | os.PathLike[str], progress: Watcher | None = None) -> Merged:
        """Take in all events of other ledgers, exports and spools, and prove that each of them is here.

        Again, or after it was interrupted, it does what is left to do. What is refused is counted and named
        in the answer; a source is never changed.
        """
        from ledger.sources import opened_source, require_sources
        from ledger.store.merging import Merged, merge_source

        if not sources:
            raise AskedWrongly("merge(...) needs a source: another ledger's file or URL, an export, or a spool.")
        require_sources(*sources)
        merged = Merged(proved=True)
        for place in sources:
            with opened_source(place) as source:
                merged += merge_source(self._database, source, progress)
        return merged

    def copy(self, to: str | os.PathLike[str], *, progress: Watcher | None = None) -> Copied:
        """Write this ledger into an empty one, with positions, versions, recorded_at and chains kept.

        As of one moment, and wholly or not at all, while writers go on here. For ledgers that both have
        events, there is `merge`.
        """
        from ledger.store.copying import copy

        with Handle(to) as target:
            return copy(self._database, target._database, progress)  # noqa: SLF001 -- a ledger's place is its own kind
