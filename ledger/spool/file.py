"""The file that one process appends to: what was acknowledged is on disk, and no line is torn but the last."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import weakref
from pathlib import Path

from ledger.spool.locking import hold
from ledger.spool.naming import FileName

__all__ = ["OpenFile", "make_folder"]

_CLOSED = -1  # a number that was closed may be another file's by now


class OpenFile:
    """A new file in a folder, of this process alone. It seals itself when it is dropped, and at exit.

    Everything here raises what the system raises.
    """

    def __init__(self, folder: Path, mark: str | None) -> None:
        make_folder(folder)
        self.path, self._descriptor = _begun(folder, mark)
        self._whole = True
        hold(self._descriptor)
        self._finisher = weakref.finalize(self, _seal, self._descriptor, self.path, os.getpid())
        try:
            _sync_folder(folder)
        except OSError:
            self.finish()
            raise

    def is_usable(self) -> bool:
        """Whether its end is whole, and it is still what lies at its path."""
        try:
            return self._whole and os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def append(self, data: bytes) -> None:
        """Write and flush *data* to the disk; where that fails, the file ends where it ended before."""
        end = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except BaseException:  # an interrupt too: half a line must not stand before the next
            self._cut_back(end)
            raise

    def _cut_back(self, end: int) -> None:
        self._whole = False
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, end)
            self._whole = True

    def finish(self) -> Path | None:
        """Close the file for good and return where it lies now: sealed, as it is where its end is torn, or nowhere."""
        if self._finisher.detach() is None:  # it has sealed itself
            return None
        descriptor, self._descriptor = self._descriptor, _CLOSED
        empty = _is_empty(descriptor)
        if self._whole and not empty:
            return _seal(descriptor, self.path, os.getpid())
        with contextlib.suppress(OSError):
            os.close(descriptor)
            if empty:
                self.path.unlink()
        return None if empty else self.path

    def abandon(self) -> None:
        """Leave the file to the process that we were forked from."""
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if self._finisher.detach() is not None:
            os.close(descriptor)


def _begun(folder: Path, mark: str | None) -> tuple[Path, int]:
    """Create a file whose name was never there, sealed or not, and open it."""
    while True:  # each name is another one, and only a simulation's clock and chance give one twice
        name = FileName.new(mark)
        path = folder / str(name)
        if not path.with_name(str(name.seal())).exists():
            with contextlib.suppress(FileExistsError):
                return path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)


def _is_empty(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_size == 0
    except OSError:  # the file's server has forgotten it; what was acknowledged is there under its name
        return False


def _seal(descriptor: int, path: Path, pid: int) -> Path:
    """Give the file the name of one that never changes again, if it is ours, and return where it lies."""
    name = FileName.parsed(path.name)
    try:
        if name is not None and os.getpid() == pid:
            sealed = path.with_name(str(name.seal()))
            path.rename(sealed)
            _sync_folder(path.parent)
            path = sealed
    except OSError:  # it keeps the name of one that is written to, and is removed when we are gone
        pass
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, that is still there after a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network filesystems have no such thing
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
