"""A folder of spool files, or a copy of one: its events, and what may be removed of it.

Whatever bears the name of a JSON Lines file is read, in folders below too, so that the copies of many
machines can lie side by side. A last line without its newline was never acknowledged, and is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ledger.errors import FileUnreadable, LedgerUnreachable
from ledger.spool.locking import hold
from ledger.spool.naming import FileName

__all__ = ["OneFile", "SpoolFile", "SpoolFolder", "complete_lines"]

_SUFFIX = ".jsonl"


class SpoolFolder:
    """A folder that spool files lie in. Raises LedgerUnreachable, when it is read, where there is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.place = str(self._path)

    def files(self) -> Iterator[SpoolFile]:
        """Yield the files in the order of their names."""
        if self._path.is_file():
            raise LedgerUnreachable(
                f"{self.place} is no folder but one file. Take it in with `ledger merge {self.place}`, "
                "or give the folder that the spool files lie in."
            )
        if not self._path.is_dir():
            raise LedgerUnreachable(f"no spool at {self.place}. Give the folder that the spool files lie in.")
        for path in sorted(self._path.rglob(f"*{_SUFFIX}")):
            # A point begins what rsync has not finished yet; a folder may bear the name of a run.
            if not path.name.startswith(".") and not os.path.isdir(path):  # noqa: PTH112 -- is_dir() raises
                yield SpoolFile(path, path.relative_to(self._path).as_posix())

    def lines(self) -> Iterator[tuple[str, int, str]]:
        """Yield every complete line of every file, with the file's name and the line's number."""
        for file in self.files():
            for number, line in file.lines():
                yield file.name, number, line

    def left_on_this_host(self, mark: str | None) -> list[SpoolFile]:
        """Return the files of this host that wait for the ledger of this mark, and that nobody writes to any more."""
        return [file for file in self.files() if file.mark == mark and file.is_of_this_host() and file.is_at_rest()]


class OneFile:
    """One file of a spool, by itself."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._file = SpoolFile(path)

    def files(self) -> Iterator[SpoolFile]:
        yield self._file


class SpoolFile:
    """One file of a spool, as somebody else than its writer sees it."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._path = path
        self._said = FileName.parsed(path.name)
        self.name = name or path.name

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield each complete line with its number; nothing where somebody has moved the file in and removed it.

        Raises FileUnreadable.
        """
        try:
            file = self._opened()
            if file is not None:
                with file:
                    yield from complete_lines(file)
        except OSError as exc:
            raise FileUnreadable(str(self._path), exc.strerror or str(exc)) from exc

    def clear(self, holds: Callable[[Iterable[str]], bool]) -> bool:
        """Remove the file if nobody writes to it any more and *holds* says so of all its lines."""
        if not self.is_at_rest():
            return False
        try:
            with self._path.open("r+b") as file:
                if not self._is_finished(file) or not holds(line for _, line in complete_lines(file)):
                    return False
                self._path.unlink()
        except OSError:  # somebody else has removed it, or we may not
            return False
        return True

    @property
    def mark(self) -> str | None:
        return None if self._said is None else self._said.mark

    def is_of_this_host(self) -> bool:
        return self._said is not None and self._said.of_this_host()

    def is_at_rest(self) -> bool:
        """Whether its name says that nobody writes to it any more."""
        if self._said is None or self._said.sealed:
            return self._said is not None
        try:
            return self._said.writer_is_gone(self._path.stat().st_mtime)
        except OSError:
            return False

    def size(self) -> int:
        """Return how many bytes there are in it; raises what the system raises."""
        return self._path.stat().st_size

    def is_cut_off(self) -> bool:
        """Whether it is sealed, and ends in the middle of a line all the same: a copy that is not done."""
        if self._said is None or not self._said.sealed:
            return False
        try:
            with self._path.open("rb") as file:
                return not _ends_in_a_line(file)
        except OSError:
            return False

    def _is_finished(self, file: BinaryIO) -> bool:
        """Whether that is so: a lock confirms that a writer is gone, and a whole last line that a copy is done."""
        if self._said is None or not self._said.sealed:
            return hold(file.fileno())
        return _ends_in_a_line(file)

    def _opened(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            pass
        if self._said is None or self._said.sealed:
            return None
        try:  # its writer has sealed it since we saw it
            return self._path.with_name(str(self._said.seal())).open("rb")
        except FileNotFoundError:
            return None


def _ends_in_a_line(file: BinaryIO) -> bool:
    """Whether the last line is whole, or there is none; the file is at its beginning afterwards."""
    last = b"\n"
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
    file.seek(0)
    return last == b"\n"


def complete_lines(file: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield each line that has its newline, with its number, but for blank ones. What is no text becomes no JSON."""
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        if not line.isspace():
            yield number, line[:-1].decode("utf-8", "backslashreplace")
