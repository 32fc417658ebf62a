"""What a stranger hands over becomes plain, strict JSON, and never refuses a launch."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

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


@dataclass(slots=True)
class Slotted:
    a: int


class Settings(BaseModel):
    seed: int = 7


class Boxed(BaseModel):
    k: Any


class Proxy:
    """Passes itself off as what it stands for, as those of wrapt and werkzeug do."""

    def __init__(self, behind: Any) -> None:
        self.behind = behind

    @property
    def __class__(self) -> Any:
        return type(self.behind)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.behind)

    def __getitem__(self, key: str) -> Any:
        return self.behind[key]

    def __str__(self) -> str:
        return str(self.behind)


class Quiet:
    """Has nothing to say but what Python says of every object."""

    def speak(self) -> None:
        raise AssertionError


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
    """As a tensor of torch: a dtype, a `size` that is a method, and a list when it is asked for one."""

    dtype = "float32"

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def size(self) -> tuple[int, ...]:
        return self.shape

    def tolist(self) -> list[float]:
        return [1.0, float("inf")]

    def __str__(self) -> str:
        return "tensor([1., ...])"


class Counted(Tensor):
    """As one that says how many values it has."""

    def numel(self) -> int:
        return math.prod(self.shape)

    size: Any = None


class Shaped(Tensor):
    """As one that says only its shape."""

    size: Any = None


class Sparse(Tensor):
    """As one that gives no list."""

    def tolist(self) -> list[float]:
        raise NotImplementedError


def quiet() -> None:
    raise AssertionError


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
    "tensor": (Tensor(2), [1.0, "Infinity"]),
    "tensor of no dimension": (Tensor(), [1.0, "Infinity"]),
    "tensor that counts": (Counted(2), [1.0, "Infinity"]),
    "tensor with a shape": (Shaped(1000, 1000), [1.0, "Infinity"]),
    "tensor without a list": (Sparse(2), "tensor([1., ...])"),
    "dataclass with slots": (Slotted(1), {"a": 1}),
    "object": (object(), "<object object>"),
    "function": (quiet, "<function quiet>"),
    "bound method": (Quiet().speak, f"<bound method Quiet.speak of <{__name__}.Quiet object>>"),
    "proxy of a list": (Proxy([1, (2,)]), [1, [2]]),
    "proxy of a mapping": (Proxy({"a": 1}), {"a": 1}),
    "proxy of a text": (Proxy("a"), "a"),
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
    "ordered mapping": lambda v: OrderedDict(k=v),
    "mapping with a default": lambda v: defaultdict(list, k=v),
    "dataclass": Slotted,
    "deque": lambda v: deque([v]),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_has_a_limit(wrap: Callable[[Any], Any]) -> None:
    """What is nested deeper than readers could take apart is refused in words, and what is not is kept."""
    assert json_text(plain(nested(NESTING_MAX, wrap)))
    for depth in (NESTING_MAX + 1, 10_000):
        with pytest.raises(InvalidFact, match="nested deeper"):
            plain(nested(depth, wrap))


def test_a_model_is_no_deeper_than_it_is() -> None:
    """What is converted to a mapping counts as the one level that it is."""
    assert json_text(plain(nested(NESTING_MAX // 2, lambda v: Boxed(k=[v]))))


MOCKS: dict[str, Any] = {
    "mock": Mock(),
    "magic mock": MagicMock(),
    "named": Mock(name="model"),
    **{f"of {kind.__name__}": Mock(spec=kind) for kind in (str, int, float, bool, dict, list, Enum, datetime, Path)},
    **{f"magic, of {kind.__name__}": MagicMock(spec=kind) for kind in (str, int, float, dict, list, set)},
    "an array": Mock(spec=["tolist", "dtype"]),
}


@pytest.mark.parametrize("mock", MOCKS.values(), ids=MOCKS)
def test_a_mock_refuses_no_launch(mock: Any) -> None:
    """What says yes to every question ends as something, the same in every process, and never as an error."""
    text = json_text(plain({"mock": mock}))

    assert "id='" not in text
    assert " at 0x" not in text


def test_a_mock_ends_as_its_text() -> None:
    """It converts to mocks for ever."""
    assert plain([Mock(name="model"), MagicMock()]) == ["<Mock name='model'>", "<MagicMock>"]


def test_equal_launches_of_strangers_are_equal() -> None:
    """A second launch whose config holds another object of the same kind is the launch that is known."""
    with Ledger(":memory:") as book:
        for _ in range(2):
            book.insert_run("r", None, {"model": Quiet(), "hook": Quiet().speak})

        assert len(list(book.events())) == 1


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


@pytest.mark.parametrize("kind", [Tensor, Counted, Shaped])
def test_a_tensor_that_is_a_data_set_is_only_described(kind: type[Tensor]) -> None:
    """Also where its size is a method, or is told by its shape only."""
    assert plain(kind(1001, 1000)) == "tensor([1., ...])"
