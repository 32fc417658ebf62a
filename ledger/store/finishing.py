"""A file that is there wholly or not at all, and in another's place only where that is asked for."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger.errors import InvalidValue

__all__ = ["finished_file"]

_NAME_LENGTH_MAX = 40  # of the 255 bytes that a name may have, of which a letter may take four
_BESIDE = ("-journal", "-wal", "-shm", "")  # what SQLite puts beside a file


@contextmanager
def finished_file(target: Path, argument: str, *, replacing: bool = False) -> Iterator[Path]:
    """Give a file of this caller alone, which becomes *target* when all of it is on the disk, and else is removed.

    Raises InvalidValue, about *argument*, where *target* is there already, or is by then; unless it is *replacing*
    that, with the rights that it has. Makes the folders of a new one.
    """
    if not replacing:
        if os.path.lexists(target):
            raise _there_already(target, argument)
        target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name[:_NAME_LENGTH_MAX]}.{secrets.token_hex(8)}.unfinished")
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        if replacing:
            with suppress(FileNotFoundError):
                shutil.copymode(target, unfinished)
            unfinished.replace(target)
        else:
            _publish(unfinished, target, argument)
    finally:
        for suffix in _BESIDE:
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _publish(unfinished: Path, target: Path, argument: str) -> None:
    """Give the file its name, which a link, unlike a rename, only does where nobody else has taken that meanwhile."""
    try:
        target.hardlink_to(unfinished)
    except FileExistsError as exc:
        raise _there_already(target, argument) from exc
    except OSError as exc:  # a filesystem without links
        if os.path.lexists(target):
            raise _there_already(target, argument) from exc
        unfinished.rename(target)


def _there_already(target: Path, argument: str) -> InvalidValue:
    return InvalidValue(argument, str(target), "a file that does not exist yet is wanted")
