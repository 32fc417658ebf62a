"""What a stranger hands over becomes plain, strict JSON, and never refuses a launch."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pydantic import BaseModel

from ledger import Ledger
from ledger.errors import InvalidFact
from ledger.events.plain import NESTING_MAX, json_text, plain, plain_mapping
from tests.strategies import HUGE, strangers


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Optimizer:
    name: str
    betas: tuple[float, float]


class Settings(BaseModel):
    seed: int = 7


class Rude:
    """Raises at whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Broken(UserDict[str, int]):
    """A mapping whose items cannot be had."""

    def __getitem__(self, key: str) -> int:
        raise OSError("gone")

    def __iter__(self) -> Iterator[str]:
        yield "a"


class Histogram:
    """As W&B's: the counts and the edges of its bins."""

    def __init__(self) -> None:
        self.histogram = [1, 2]
        self.bins = [0.0, 0.5, 1.0]


class LiveSummary:
    """As `wandb.run.summary` of a run that goes on."""

    def _as_dict(self) -> dict[str, Any]:
        return {"loss": np.float32(0.5)}

    def keys(self) -> list[str]:
        raise AssertionError("it is asked for all at once")


class ApiSummary:
    """As `run.summary` of W&B's public API."""

    def __init__(self) -> None:
        self._json_dict = {"loss": 0.5, "nan": float("nan")}


class OldStyle:
    """Has keys and items, and is no Mapping."""

    def keys(self) -> list[str]:
        return ["a"]

    def __getitem__(self, key: str) -> int:
        return 1


class Tensor:
    """As a tensor of torch: a dtype, and a list when it is asked for one."""

    dtype = "float32"

    def tolist(self) -> list[float]:
        return [1.0, float("inf")]


Point = namedtuple("Point", "x y")  # noqa: PYI024

STRANGERS: dict[str, tuple[Any, Any]] = {
    "numpy integer": (np.int64(7), 7),
    "numpy float": (np.float32(0.5), 0.5),
    "numpy nan": (np.float64("nan"), "NaN"),
    "numpy boolean": (np.bool_(True), True),
    "numpy text": (np.str_("a"), "a"),
    "numpy array": (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "numpy array of floats": (np.array([0.5, np.inf, -np.inf]), [0.5, "Infinity", "-Infinity"]),
    "numpy empty array": (np.array([]), []),
    "numpy array of no dimension": (np.array(3), 3),
    "numpy date": (np.datetime64("2024-05-01"), "2024-05-01"),
    "aware datetime": (datetime(2024, 5, 1, tzinfo=UTC), "2024-05-01T00:00:00+00:00"),
    "date": (date(2024, 5, 1), "2024-05-01"),
    "time": (time(12, 30), "12:30:00"),
    "timedelta": (timedelta(hours=1), "1:00:00"),
    "path": (Path("/data/a b"), "/data/a b"),
    "enum": (Color.RED, "red"),
    "integer enum": (Level.HIGH, 3),
    "dataclass": (Optimizer("adam", (0.9, 0.99)), {"name": "adam", "betas": [0.9, 0.99]}),
    "model": (Settings(), {"seed": 7}),
    "namespace": (SimpleNamespace(a=1, b=[2]), {"a": 1, "b": [2]}),
    "read-only mapping": (MappingProxyType({"a": 1}), {"a": 1}),
    "ordered mapping": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "mapping that is none": (OldStyle(), {"a": 1}),
    "named tuple": (Point(1, 2), [1, 2]),
    "tuple": ((1, "a", None), [1, "a", None]),
    "set": ({3, 1, 2}, [1, 2, 3]),
    "mixed set": (frozenset({"b", 1}), ["b", 1]),
    "deque": (deque([1, 2]), [1, 2]),
    "range": (range(3), [0, 1, 2]),
    "bytes": (b"abc", "abc"),
    "bytes that are no text": (b"\xff\x00", "\\xff\x00"),
    "decimal": (Decimal("0.10"), "0.10"),
    "fraction": (Fraction(1, 3), "1/3"),
    "histogram": (Histogram(), {"_type": "histogram", "values": [1, 2], "bins": [0.0, 0.5, 1.0]}),
    "live summary": (LiveSummary(), {"loss": 0.5}),
    "summary of the public API": (ApiSummary(), {"loss": 0.5, "nan": "NaN"}),
    "tensor": (Tensor(), [1.0, "Infinity"]),
    "nan": (float("nan"), "NaN"),
    "infinities": ([float("inf"), float("-inf")], ["Infinity", "-Infinity"]),
    "huge integer": (HUGE, HUGE),
    "integer beyond reading": (2**20_000, hex(2**20_000)),
    "keys of other types": ({1: "a", None: "b", 2.5: "c", True: "d", (1, 2): "e"}, {"1": "d", "null": "b", "2.5": "c", "[1,2]": "e"}),
    "text with NUL and surrogates": ("a\x00\ud800", "a\x00\ud800"),
    "rude": (Rude(), f"<{__name__}.Rude>"),
    "class": (Settings, str(Settings)),
}  # fmt: skip


@pytest.mark.parametrize(("given_value", "wanted"), STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_becomes_plain_data(given_value: Any, wanted: Any) -> None:
    """What is no JSON is stored as plain data where its shape is known, and else as its text."""
    made = plain(given_value)

    assert (made, type(made)) == (wanted, type(wanted))


@pytest.mark.parametrize("stranger", [pair[0] for pair in STRANGERS.values()], ids=STRANGERS)
def test_no_stranger_refuses_a_launch(stranger: Any) -> None:
    """A launch whose config holds any stranger is recorded and shows valid JSON."""
    with Ledger(":memory:") as book:
        book.insert_run("r", None, {"stranger": stranger})

        row = book.get_run("r")
        assert row is not None
        assert "stranger" in json.loads(row["config_json"])


def test_sets_have_one_order_on_every_machine() -> None:
    """A set is stored in an order that does not hang on hashes, which differ between processes."""
    assert plain({"b", "a", "c"}) == ["a", "b", "c"]


def test_what_contains_itself_says_so() -> None:
    """A circle ends where it would begin again."""
    circle: dict[str, Any] = {"a": []}
    circle["a"].append(circle)

    assert plain(circle) == {"a": ["[circular]"]}


def test_what_is_shared_is_no_circle() -> None:
    """The same list in two places is there twice."""
    shared = [1]

    assert plain([shared, shared]) == [[1], [1]]


def test_what_was_handed_over_can_change_and_the_fact_does_not() -> None:
    """Plain data shares nothing with what it was made of."""
    config = {"layers": [1, 2]}
    made = plain(config)
    config["layers"].append(3)

    assert made == {"layers": [1, 2]}


@given(strangers)
def test_plain_data_is_strict_json(value: Any) -> None:
    """Whatever it was, what is stored is JSON that any reader takes, in ASCII, and plain data already."""
    made = plain(value)
    text = json_text(made)

    assert text.isascii()
    assert json.loads(text, parse_constant=pytest.fail) == made
    assert plain(made) == made


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda v: [v],
    "dict": lambda v: {"k": v},
    "tuple": lambda v: (v,),
    "namespace": lambda v: SimpleNamespace(k=v),
    "mapping": lambda v: MappingProxyType({"k": v}),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_has_a_limit(wrap: Callable[[Any], Any]) -> None:
    """What is nested deeper than readers could take apart is refused in words, and what is not is kept."""
    assert json_text(plain(nested(NESTING_MAX // 2, wrap)))
    for depth in (NESTING_MAX + 1, 10_000):
        with pytest.raises(InvalidFact, match="nested deeper"):
            plain(nested(depth, wrap))


@pytest.mark.parametrize("nothing", [None, {}, SimpleNamespace(), OrderedDict()], ids=repr)
def test_nothing_is_an_empty_mapping(nothing: Any) -> None:
    """None, where a mapping is wanted, is an empty one."""
    assert plain_mapping(nothing) == {}


@pytest.mark.parametrize("no_mapping", ["a", 1, [1], {1, 2}, Rude(), np.array([1])], ids=lambda v: type(v).__name__)
def test_what_is_no_mapping_is_refused_as_one(no_mapping: Any) -> None:
    """Where a mapping is wanted, anything else is an error that says so."""
    with pytest.raises(InvalidFact, match="a mapping of names to values is wanted"):
        plain_mapping(no_mapping)


def test_a_mapping_that_breaks_is_kept_as_far_as_it_goes() -> None:
    """A W&B summary whose connection is gone does not refuse the end of a run."""
    made = plain_mapping(Broken())

    assert list(made) == ["unreadable"]


def test_an_array_that_is_a_data_set_is_only_described() -> None:
    """A config is no place for a million numbers: of these the text is stored, which numpy abbreviates."""
    made = plain(np.zeros(1_000_001))

    assert isinstance(made, str)
    assert len(made) < 1000
