"""The framing of a W&B log (`run-*.wandb`): seven bytes of header, then records in blocks as LevelDB's log has them.

A block is 32 KiB; a record is one piece, or a first, middle ones and a last that lie in several blocks. W&B writes
block by block, so that the last record which a killed process leaves is often torn.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ledger.errors import InvalidValue

__all__ = ["BLOCK_BYTES", "Fault", "Framed", "Log"]

BLOCK_BYTES = 32_768

_LOG_HEADER = struct.Struct("<4sHB")
_IDENTITY = (b":W&B", 0xBEE1, 0)
_PIECE = struct.Struct("<IHB")  # crc32 of type and payload, length of the payload, type
_WHOLE, _FIRST, _MIDDLE, _LAST = range(1, 5)


class Framed(NamedTuple):
    """A record's bytes: the place in the file at which it begins, and the block in which it ends."""

    offset: int
    block: int
    data: bytes


class Fault(NamedTuple):
    """Where something could not be read, and what is wrong there."""

    offset: int
    what: str


class _Piece(NamedTuple):
    offset: int
    kind: int
    data: bytes


class Log:
    """The records of one log, a block at a time. *faults*, and what was torn, are known when all were read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self._read_until = 0  # behind the last record that could be read

    def torn(self) -> Fault | None:
        """Return the fault behind which nothing could be read any more: what a kill leaves, or a copy cut short."""
        return min((fault for fault in self.faults if fault.offset >= self._read_until), default=None)

    def damages(self) -> list[Fault]:
        """Return the faults behind which the log goes on: somebody, or a disk, changed it."""
        return sorted(fault for fault in self.faults if fault.offset < self._read_until)

    def __iter__(self) -> Iterator[Framed]:
        """Yield the records that can be read. Raises InvalidValue for a file that is no such log."""
        self.faults.clear()
        self._read_until = 0
        with self.path.open("rb") as file:
            yield from self._records(file)

    def _records(self, file: IO[bytes]) -> Iterator[Framed]:
        begun: int | None = None
        parts: list[bytes] = []
        end = 0
        for piece in self._pieces(file):
            if piece is None:  # what was begun may go on in what cannot be read
                begun = None
                continue
            if piece.kind in {_WHOLE, _FIRST}:
                if begun is not None:
                    self._fault(begun, "a record without its end")
                begun, parts = piece.offset, [piece.data]
            elif begun is None:
                self._fault(piece.offset, "a record without its beginning")
                continue
            else:
                parts.append(piece.data)
            end = piece.offset + _PIECE.size + len(piece.data)
            if piece.kind in {_WHOLE, _LAST}:
                self._read_until = end
                yield Framed(begun, (end - 1) // BLOCK_BYTES, b"".join(parts))
                begun = None
        if begun is not None:
            self._fault(begun, "a record without its end")

    def _pieces(self, file: IO[bytes]) -> Iterator[_Piece | None]:
        """Yield the pieces in order, and None where some may be missing."""
        start = 0
        while block := file.read(BLOCK_BYTES):
            place = 0
            if start == 0:
                if not self._begins_well(block):
                    return
                place = _LOG_HEADER.size
            yield from self._of_block(block, place, start)
            start += len(block)
        if start == 0:
            self._fault(0, "an empty file")

    def _begins_well(self, block: bytes) -> bool:
        if len(block) < _LOG_HEADER.size:
            self._fault(0, "the log's header is cut")
            return False
        if _LOG_HEADER.unpack_from(block) != _IDENTITY:
            raise InvalidValue("PATH", str(self.path), "a W&B log is wanted, which begins with `:W&B` and version 0")
        return True

    def _of_block(self, block: bytes, place: int, start: int) -> Iterator[_Piece | None]:
        while place + _PIECE.size <= len(block):
            crc, length, kind = _PIECE.unpack_from(block, place)
            data = block[place + _PIECE.size : place + _PIECE.size + length]
            if len(data) < length or not _WHOLE <= kind <= _LAST:
                self._fault(start + place, "no whole piece of a record")
                yield None
                return
            if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
                self._fault(start + place, "a checksum that does not fit")
                yield None
                return  # where the next piece begins, only this one's length could say
            yield _Piece(start + place, kind, data)
            place += _PIECE.size + length
        if place < len(block) < BLOCK_BYTES:
            self._fault(start + place, "no whole piece of a record")

    def _fault(self, offset: int, what: str) -> None:
        self.faults.append(Fault(offset, what))
