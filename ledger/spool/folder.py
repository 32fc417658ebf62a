"""A spool in a folder, as a process writes to it: a file of its own, one line an event.

No two processes write to one file, so nothing here depends on locks between them, and it works the
same on NFS and Lustre. Threads take turns; a fork begins a file of its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import LedgerClosed, LedgerUnreachable
from ledger.events import Fact
from ledger.events.lines import line_of
from ledger.spool.file import OpenFile, make_folder
from ledger.spool.reading import SpoolFile, SpoolFolder

if TYPE_CHECKING:
    from ledger.spool.kinds import Spooled

__all__ = ["FolderWriter"]

_writers: weakref.WeakSet[FolderWriter] = weakref.WeakSet()


class FolderWriter:
    """The spool in one folder, which it creates on first use; with a *mark*, what waits there for that ledger."""

    def __init__(self, path: str | os.PathLike[str], mark: str | None = None) -> None:
        self._path = Path(path)
        self._mark = mark
        self.place = str(self._path)
        self._closed = False
        self._file: OpenFile | None = None
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        self._turn = threading.RLock()  # a signal handler may record while its own thread is in here
        self._writing = False
        self._done: list[SpoolFile] = []

    def create(self) -> None:
        with self._translating():
            make_folder(self._path)

    def append(self, facts: Sequence[Fact]) -> None:
        """Put the events on disk before returning. Raises LedgerUnreachable, with nothing acknowledged."""
        data = "".join(f"{line_of(fact, fact.digest())}\n" for fact in facts).encode("ascii")
        with self._turn, self._translating():
            if self._closed:
                raise LedgerClosed
            if not data:
                return
            if self._writing:  # we are a signal handler in the middle of our own thread's write
                self._append_aside(data)
                return
            self._writing = True
            try:
                self._append(data)
            finally:
                self._writing = False

    def _append(self, data: bytes) -> None:
        if self._file is not None and self._file.is_usable():
            try:
                self._file.append(data)
            except OSError:  # too large for this filesystem, or broken: another file may do
                pass
            else:
                return
        self._retire()
        self._file = OpenFile(self._path, self._mark)
        try:
            self._file.append(data)
        except OSError:
            self._retire()
            raise

    def _append_aside(self, data: bytes) -> None:
        file = OpenFile(self._path, self._mark)
        try:
            file.append(data)
        finally:
            self._set_down(file)

    def _retire(self) -> None:
        """Let go of the file for good: a failed one is not written to again, nor a sealed one."""
        file, self._file = self._file, None
        if file is not None:
            self._set_down(file)

    def _set_down(self, file: OpenFile) -> None:
        left = file.finish()
        if left is not None:
            self._done.append(SpoolFile(left))

    def own(self) -> list[Spooled]:
        """Return what this process has put there and was not told to forget; none of it changes any more."""
        with self._turn:
            if not self._writing:
                self._retire()
            return list(self._done)

    def has_own(self) -> bool:
        return self._file is not None or bool(self._done)

    def forget(self, files: Iterable[Spooled]) -> None:
        with self._turn:
            gone = set(map(id, files))
            self._done = [file for file in self._done if id(file) not in gone]

    def left_on_this_host(self, *, bytes_max: int | None = None) -> list[SpoolFile]:
        """Return what writers of this host that are done, or gone, have left here for the same ledger."""
        left = SpoolFolder(self._path).left_on_this_host(self._mark) if self._path.is_dir() else []
        return left if bytes_max is None or sum(file.size() for file in left) <= bytes_max else []

    def close(self) -> None:
        """Seal the file. Closing again does nothing."""
        with self._turn:
            self._closed = True
            self._retire()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise LedgerUnreachable(
                f"the spool at {self.place} cannot be used ({exc.strerror or exc}); nothing of this call is kept. "
                "See to the disk's space and the rights on the folder, then do the same again."
            ) from exc

    def after_fork_in_child(self) -> None:
        """Leave the file to the parent; threads that hold or await the old lock are not here."""
        file, self._file = self._file, None
        self._begin()
        if file is not None:
            with suppress(OSError):  # whatever became of it, the next writer is told of the fork too
                file.abandon()


def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
