"""The words of the verb `report`: its reports, and what each is told."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ledger.cli.words import AGAIN, Words, add_as_of, add_common, add_filters, listed, pair, text

__all__ = ["add_reports"]


def add_reports(words: Words) -> None:
    """Add each report with its own options, and those that all have."""
    reports = words.add_subparsers(dest="report", metavar="NAME", required=True)
    for name, (help, add) in _REPORTS.items():
        made = reports.add_parser(name, help=help, description=help, allow_abbrev=False)
        add_common(made, db=argparse.SUPPRESS, as_json=argparse.SUPPRESS)
        add(made)
        if name != "diff":
            add_filters(made)
        add_as_of(made)


def _by(default: str | None) -> Callable[[Words], None]:
    said = f"default: {default}" if default else "default: all together"

    def add(words: Words) -> None:
        words.add_argument(
            "--by", metavar="NAME", action="append", type=text,
            help=f"a column, or a path such as config.training.lr; {AGAIN} ({said})",
        )  # fmt: skip

    return add


def _throughput(words: Words) -> None:
    words.add_argument("--per", metavar="PERIOD", default="week", type=text, help="day, week or month (default: week)")


def _cost(words: Words) -> None:
    words.add_argument(
        "--prices", metavar="FILE", required=True, type=text, help="a table of prices: CSV, JSON or YAML"
    )
    _by("instance_type; month is one, too")(words)


def _diff(words: Words) -> None:
    words.add_argument("runs", metavar="RUN", nargs="*", type=text, help="two runs")
    for name in ("one", "other"):
        words.add_argument(
            f"--{name}", metavar="NAME=VALUE", action="append", type=pair, default=[],
            help=f"a filter of the {name} group; {AGAIN}",
        )  # fmt: skip


def _metric(words: Words) -> None:
    words.add_argument("--metric", metavar="NAME", required=True, type=text, help="of the final metrics")


def _importance(words: Words) -> None:
    _metric(words)
    words.add_argument(
        "--parameters", metavar="A,B,...", action="extend", type=listed,
        help="columns and paths such as config.training.lr (default: the hyperparameters that vary)",
    )  # fmt: skip


def _effects(words: Words) -> None:
    _importance(words)
    words.add_argument("--bins", metavar="N", default="5", help="ranges for numbers of many values (default: 5)")


def _number(words: Words, default: str) -> None:
    words.add_argument("-n", "--number", metavar="N", default=default, help="how many at most (default: %(default)s)")


def _best(words: Words) -> None:
    _metric(words)
    _number(words, "10")
    words.add_argument("--minimize", action="store_true", help="the lowest is the best")


def _unposted(words: Words) -> None:
    words.add_argument("--min-hours", metavar="HOURS", help="that took so long at least")
    _number(words, "20")


def _nothing(_: Words) -> None:
    """This report takes filters alone."""


_REPORTS: dict[str, tuple[str, Callable[[Words], None]]] = {
    "outcomes": ("how runs ended, and which share completed", _by("gradient_method")),
    "durations": ("how long runs took; running ones up to now", _by(None)),
    "crashes": ("what crashed and failed, and after how long", _by("end_reason")),
    "time-to-crash": ("how many crashed and failed within a minute, an hour, a day", _by(None)),
    "throughput": ("what was launched and what ended in each week", _throughput),
    "cost": ("compute hours and money, at your prices", _cost),
    "diff": ("what differs between the configs of two runs, or of two groups", _diff),
    "last-good": ("the last run that completed, the first that crashed behind it, and what differs", _nothing),
    "effects": ("how a final metric goes with each hyperparameter", _effects),
    "importance": ("which hyperparameters foretell a final metric (extra: importance)", _importance),
    "best": ("the runs with the best final metric", _best),
    "methods": ("what completed with each gradient method, and in how many hours", _nothing),
    "unposted": ("completed runs without a blog post, the longest first", _unposted),
}
