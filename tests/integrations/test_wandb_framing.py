"""The framing of W&B's log: whatever lies in it comes back, and what is torn or damaged is said and costs no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidValue
from ledger.integrations.wandb.framing import BLOCK_BYTES, Log
from tests.integrations.wandb_logs import framed

RECORDS = st.lists(
    st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 5, 300, 20_000, 32_000, 32_747, 32_754, 32_755, 33_000, 80_000])),
    max_size=12,
).map(lambda shapes: [bytes([byte]) * size for byte, size in shapes])  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "run-a.wandb"


def read(path: Path, data: bytes) -> tuple[list[bytes], Log]:
    path.write_bytes(data)
    log = Log(path)
    return [framed.data for framed in log], log


@given(records=RECORDS)
def test_what_was_written_is_read(place: Path, records: list[bytes]) -> None:
    """Records of any length, over any number of blocks, come back whole and in order, and nothing is missed."""
    found, log = read(place, framed(records))

    assert found == records
    assert (log.torn(), log.damages()) == (None, [])


@given(records=RECORDS, share=st.floats(0, 1))
def test_a_torn_log_gives_what_lies_before(place: Path, records: list[bytes], share: float) -> None:
    """Cut anywhere, a log gives its first records, and it is torn unless it was cut between two."""
    whole = framed(records)
    cut = round(share * len(whole))
    found, log = read(place, whole[:cut])

    assert found == records[: len(found)]
    assert log.damages() == []
    assert log.torn() is not None or whole[:cut] == framed(found) or not whole[len(framed(found)) : cut].strip(b"\0")


@given(records=RECORDS.filter(len), share=st.floats(0, 1), byte=st.integers(1, 255))
def test_a_damaged_byte_costs_a_block(place: Path, records: list[bytes], share: float, byte: int) -> None:
    """One wrong byte behind the header invents no record; it is said, unless it lies where nothing is kept."""
    whole = bytearray(framed(records))
    where = 7 + round(share * (len(whole) - 8))
    whole[where] ^= byte
    found, log = read(place, bytes(whole))
    rest = iter(records)

    assert all(record in rest for record in found), "in order, and each of them as it was written"
    assert found == records or log.torn() is not None or log.damages()


def test_the_blocks_behind_a_damage_are_read(place: Path) -> None:
    """A wrong checksum in the second of four blocks leaves those behind it, and is told from a torn end."""
    whole = bytearray(framed([b"%d" % number * 5000 for number in range(1, 25)]))
    whole[BLOCK_BYTES + 100] ^= 1
    found, log = read(place, bytes(whole))

    assert (found[0][:1], found[-1][:2]) == (b"1", b"24")
    assert [fault.offset for fault in log.damages()][0] == BLOCK_BYTES
    assert log.torn() is None


def test_places_are_those_of_the_file(place: Path) -> None:
    """A record lies in the block in which it ends, and its place is where its first piece begins."""
    place.write_bytes(framed([b"a" * 10, b"b" * 40_000, b"c"]))

    assert [(framed.offset, framed.block) for framed in Log(place)] == [(7, 0), (24, 1), (40_038, 1)]


@pytest.mark.parametrize("data", [b"SQLite format 3\0", b":W&B\xe1\xbe\x01" + bytes(40), b"\0" * 7])
def test_another_file_is_no_log(place: Path, data: bytes) -> None:
    """A file that does not begin as a W&B log of version 0 is refused by name."""
    with pytest.raises(InvalidValue, match=r"run-a\.wandb.* a W&B log is wanted"):
        read(place, data)


def test_an_empty_log_is_torn(place: Path) -> None:
    """Nothing, or half a header, is what a kill at the very start leaves."""
    assert read(place, b"")[1].torn() is not None
    assert read(place, b":W&")[1].torn() is not None
