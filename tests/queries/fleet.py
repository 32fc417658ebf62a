"""Random runs from a seed, as batches of events; the rows that the fold gives of them; ledgers that hold them.

Values are drawn from few, so that runs share them, and from those at which databases differ: numbers at the ends of
64 bits and of floats, text that spells numbers, other scripts, nulls, keys with dots and keys of digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from ledger import Ledger, events, origin
from ledger.events import Event
from ledger.events.times import text_of
from ledger.projections.liveness import Present, liveness
from ledger.projections.run import COLUMNS
from tests.builders import Row, lives, moment, told
from tests.strategies import HUGE, ODD_NUMBERS, put

__all__ = ["NOW", "Batch", "batches", "filled", "rows_of", "standing_at"]

NOW = moment(2 * 86400 + 0.25)
TEXTS = (
    "", " ", "mgda", "MGDA", "pcgrad", "ec2", "expanse", "é", "e\u0301", "\uffee", "😀", "😀b", "Z", "z", "~", "%", "a_b", "a\\b", "it's",
    '"', "null", "true", "True", "1", "1.0", " 1 ", "1e-4", "0x1", "NaN", "inf", "1_0", "٣", "-0", "9007199254740993", "a\tb\n", "ß" * 40,
)  # fmt: skip
IN_JSON = (*TEXTS, "\ud800", "b\ud800mgda", "9" * 400, "1e999")
NUMBERS = (
    *ODD_NUMBERS, HUGE + 1, -HUGE, 0, 1, 2, 8, -1, 0.1, 0.3, 0.1 + 0.2, 1.0, 2.0, 1e-4, 1e22, 1e23, 10**22, 10**23, 2**53, 2**53 - 1,
    float(2**53), 2**63 + 1025, 2.0**63, -(2.0**63), 2**60, 2.0**60, 2**70, 2.0**70, 2**70 + 1, 1.7976931348623157e308, 2.2e-308,
)  # fmt: skip
INTEGERS = tuple(number for number in NUMBERS if isinstance(number, int) and -(2**63) <= number < 2**63)
REALS = tuple(float(number) for number in NUMBERS if abs(number) < HUGE)
KEYS = ("a", "b", "0", "1", "01", "a.b", "x.0", "täg/1", "😀", "lr", "", "null", "#-1", "[0]", "$", "K", "k", "it's")
PREFIXES = ("run-", "Run-", "é", "😀", "\uffee", "_", "")
OBJECTIVES = ("QED", "tox", "tox_minimize", "tox_maximize", "é", "a:b", "a.b", "0")
METRICS = ("train/loss", "ok", "deep", "a:b", "x")
TAGS = ("paper", "Paper", "bad", "😀", "1", "true", "%", "é")
SECONDS = (
    0,
    1e-6,
    0.0004,
    0.0005,
    0.25,
    1,
    59.999999,
    3600,
    3600.000001,
    7200,
    43200,
    86400.25,
    86400,
    172000,
    172200,
    172795.25,
    172799.9,
)

Batch = tuple[datetime, list[Event]]


def batches(seed: int, size: int) -> list[Batch]:
    """Return *size* runs' events, each with the moment at which a ledger accepts it."""
    random = Random(f"fleet {seed}")
    told_of = [event for number in range(size) for event in _run(random, number)]
    random.shuffle(told_of)
    made: list[Batch] = []
    while told_of:
        count = random.choice((1, 7, 100, 300))
        made.append((NOW + timedelta(microseconds=random.randrange(-(10**9), 0)), told_of[:count]))
        del told_of[:count]
    return sorted(made, key=lambda batch: batch[0])


def scalar(random: Random) -> Any:
    kind = random.randrange(8)
    if kind < 2:
        return random.choice((None, True, False))
    if kind < 5:
        return random.choice(NUMBERS) if kind < 4 else round(random.uniform(0, 2), 3)
    return random.choice(IN_JSON if kind < 7 else TEXTS[:8])


def anything(random: Random, depth: int = 2) -> Any:
    """Any JSON value, not deep."""
    if depth == 0 or random.random() < 0.6:
        return scalar(random)
    length = random.randrange(4)
    if random.random() < 0.5:
        return [anything(random, depth - 1) for _ in range(length)]
    return {random.choice(KEYS): anything(random, depth - 1) for _ in range(length)}


def _config(random: Random) -> dict[str, Any]:
    made: dict[str, Any] = {key: anything(random) for key in random.sample(KEYS, random.randrange(7))}
    paths = ("training.batch_size", "training.lr", "reward.beta", "reward.gradient_method", "num_gpus", "seed", "bf16")
    for path in random.sample(paths, random.randrange(6)):
        value = random.choice((1, 2, 8, "8", 0.5, "1e-4", "mgda", "pcgrad", True, False, None, random.choice(NUMBERS)))
        put(made, path.split("."), value)
    if random.random() < 0.1:  # SQLite reads such a text up to its NUL, so it lies where no path leads
        made["\x00"] = ["a\x00b", {"\ud800": "\x00"}]
    if random.random() < 0.3:  # the same path as one key and as two
        made |= {"a.b": scalar(random), "a": {"b": scalar(random)}}
    if random.random() < 0.5:
        made["objectives"] = [{"name": random.choice(TEXTS), "w": anything(random)} for _ in range(random.randrange(4))]
    if random.random() < 0.5:
        made["objectives"] = [
            {"name": random.choice(OBJECTIVES), **_some(random, direction=random.choice(("maximize", "minimize")))}
            for _ in range(random.randrange(4))
        ]
    return made


def _measured(random: Random) -> dict[str, Any]:
    """Final metrics of objectives, few of whose values differ."""
    names = [
        f"objectives/{name}/{which}" for name in OBJECTIVES for which in ("raw_mean", "raw_std", "normalized_mean")
    ]
    return {name: random.choice((0, 1, 0.5, "0.5", None, random.choice(NUMBERS))) for name in random.sample(names, 6)}


def _mapping(random: Random, *keys: str) -> dict[str, Any]:
    return {key: anything(random) for key in random.sample(keys, random.randrange(len(keys) + 1))}


def _some(random: Random, **fields: Any) -> dict[str, Any]:
    """Some of the fields."""
    return {name: value for name, value in fields.items() if random.random() < 0.6}


def _run(random: Random, number: int) -> Iterator[Event]:
    run = f"{random.choice(PREFIXES)}{number:03}"

    def make(kind: type[Event], base: float = 0, **fields: Any) -> Event:
        at = _moment(random) if random.random() < 0.04 else moment(base + random.choice(SECONDS))
        return kind(run_id=run, event_id=str(UUID(int=random.getrandbits(128))), occurred_at=at, **fields)

    text = lambda: random.choice(TEXTS)  # noqa: E731 -- said nine times below
    is_launched = random.random() < 0.95
    if is_launched:
        ids = _some(
            random, run_name=text(), host=text(), instance_id=text(), instance_type=text(), config_file_path=text()
        )
        chain = _some(random, chain_of_custody_id=random.choice(("ABC123", "abc123", "XYZ789")))
        yield make(events.Launched, config=_config(random) if random.random() < 0.9 else {}, **ids, **chain)
    if not is_launched or random.random() < 0.6:
        yield make(events.Started)
    for _ in range(random.choice((0, 0, 1, 2))):
        said = _some(
            random,
            duration_seconds=random.choice((0, 5, 3600)),
            metrics=_mapping(random, "train/loss", "deep", "ok", "0"),
        )
        yield make(events.Heartbeat, 0.25, lease_seconds=random.choice((0, 30, 60, 600, 86400)), **said)
    if random.random() < 0.5:
        yield make(random.choice((events.Completed, events.Failed, events.Crashed)), 60, **_ending(random))
    yield from _further(random, make)


def _ending(random: Random) -> dict[str, Any]:
    return _some(
        random,
        final_metrics=_mapping(random, "train/loss", "deep", "ok", "best", "a.b", "0") | _measured(random),
        duration_seconds=random.choice((0, 1799, 1800, 3600, 5400, 2**53 + 1, 2**63 - 1)),
        end_reason=random.choice(("oom", "signal", "user")),
        exit_code=random.choice((0, 1, -9, 2**53 + 1, -(2**63))),
    )


def _further(random: Random, make: Any) -> Iterator[Event]:
    """What is said of a run beside its life."""
    if random.random() < 0.4:
        tags = random.sample(TAGS, random.randrange(4))
        said = _some(random, note=random.choice(TEXTS), metadata=_mapping(random, "who", "n", "a.b", "a", "0"))
        yield make(events.Annotated, tags=tags, **said)
    if random.random() < 0.3:
        yield make(events.WandbAttached, wandb_run_id=random.choice(("w1", "w2", "W1", f"w{random.randrange(99)}")))
    if random.random() < 0.3:
        yield make(events.BlogAttached, blog_post_url=f"https://b/{random.randrange(5)}")
    if random.random() < 0.3:
        yield make(events.CrashDataAttached, crash_analysis_s3_key=random.choice(TEXTS[2:]), error_log_s3_key="k")
    for _ in range(random.choice((0, 0, 1, 2))):
        said = _some(random, raw_mean=random.choice(REALS), raw_std=random.random(), direction="minimize")
        yield make(events.ObjectiveStated, objective_name=random.choice(OBJECTIVES), **said)
    for _ in range(random.choice((0, 1, 2))):
        some = [random.choice((*REALS, 0, 1, 0.5, "1e-4", None, "NaN")) for _ in range(random.choice((1, 2, 3)))]
        steps = [random.choice((0, 1, 2, 2**53 + 1, 2**63 - 1)) for _ in some]
        yield make(events.MetricsLogged, 1, columns={"step": steps, random.choice(METRICS): some, "x": some[::-1]})
    for _ in range(random.choice((0, 1, 2))):
        yield make(events.Amended, 100, reason="it was wrong", columns=_amendments(random))
    if random.random() < 0.15:
        yield make(events.Voided, 200, reason=random.choice(("bogus", "😀")))
        if random.random() < 0.3:
            yield make(events.Unvoided, 300, reason="it was not")


def _amendments(random: Random) -> dict[str, Any]:
    """New values of some columns, also such as no config gives; None clears one."""
    names = [name for name, column in COLUMNS.items() if column.column.amendable and name != "wandb_run_id"]
    return {
        name: _fitting(random, name) if random.random() < 0.85 else None
        for name in random.sample(names, random.randrange(6))
    }


def _fitting(random: Random, name: str) -> Any:
    column = COLUMNS[name]
    if column.choices:
        return random.choice(column.choices)
    match column.kind:
        case "integer":
            return random.choice(INTEGERS)
        case "real":
            return random.choice(REALS)
        case "moment":
            return text_of(_moment(random))
        case "json":
            return random.choice(
                ({}, [], ["paper"], [1, ["é"]], {"a": {"0": "x"}}, [{"a": 1}]) if name != "tags_json" else ([], ["bad"])
            )
        case _:
            return random.choice(TEXTS)


def _moment(random: Random) -> datetime:
    """Now and then a moment of another age."""
    odd = (datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(9999, 12, 30, 23, 59, 59, 999999))
    if random.random() < 0.3:
        return random.choice(odd).replace(tzinfo=NOW.tzinfo)
    return moment(random.choice(SECONDS))


class _Standing:
    """A clock that stands where it was put."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self._random = Random(0)

    def now(self) -> datetime:
        return self.at

    def random_bits(self, bits: int) -> int:
        return self._random.getrandbits(bits)

    def source(self) -> dict[str, str | int]:
        return {"host": "h"}


@contextmanager
def standing_at(at: datetime) -> Iterator[None]:
    """Let the clock stand inside a `with` block."""
    with origin.replaced(_Standing(at)):
        yield


def filled(book: Ledger, accepted: list[Batch]) -> Ledger:
    """Return *book* once it has accepted the batches, each at its moment."""
    for at, told_then in accepted:
        with standing_at(at):
            book.append(told_then)
    return book


def rows_of(accepted: list[Batch]) -> list[Row]:
    """Return what the fold says of every run at NOW, without any database."""
    said = [event for _, told_then in accepted for event in told_then]
    heard: dict[str, list[str]] = {}
    for at, told_then in accepted:
        for event in told_then:
            heard.setdefault(event.run_id, []).append(text_of(at))
    folded, present = lives(said), Present(NOW)
    made = []
    for run_id, row in told(said).items():
        local = {"created_at_db": heard[run_id][0], "updated_at_db": heard[run_id][-1]}
        lives_so = {"liveness": liveness(folded[run_id], text_of(NOW), present)}
        whole = {**row, **local, **lives_so}
        made.append({name: whole[name] for name in (*COLUMNS, "liveness", "reason", "voided", "details")})
    return made
