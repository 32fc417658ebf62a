"""What a word of the command line can mean, and the words that several verbs take."""

from __future__ import annotations

import argparse

from ledger.cli.recording import name_and_value
from ledger.errors import AskedWrongly
from ledger.settings import seconds_of

__all__ = [
    "AGAIN",
    "Words",
    "add_as_of",
    "add_common",
    "add_filters",
    "listed",
    "moment_or_position",
    "pair",
    "span",
    "text",
]

Words = argparse.ArgumentParser

AGAIN = "repeat it for several"


def add_common(words: Words, **defaults: object) -> None:
    words.add_argument(
        "--db", metavar="PLACE", default=defaults["db"], help="the ledger, a path or URL; else TRAINING_DB_URL or _PATH"
    )
    words.add_argument(
        "--json", dest="as_json", action="store_true", default=defaults["as_json"], help="print JSON, for machines"
    )


def add_as_of(words: Words) -> None:
    add = words.add_argument
    add("--as-of", metavar="WHEN", help="with what had happened by then: 7d, 12h, 2026-01-31, ...")
    add("--known-at", metavar="WHEN-or-POSITION", type=moment_or_position,
        help="with what this ledger knew by then; digits are a position")  # fmt: skip


def add_filters(words: Words) -> None:
    add = words.add_argument
    add("-f", "--filter", dest="filters", metavar="NAME=VALUE", action="append", type=pair, default=[],
        help="any filter of query_runs; repeat it, with one name for 'one of these'")  # fmt: skip
    for name in ("status", "host", "method"):
        add(f"--{name}", action="append", default=[], type=text, help=f"these only; {AGAIN}")
    add("--since", metavar="WHEN", help="created after: 7d, 12h, 2026-01-31, ...")


def text(word: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise argparse.ArgumentTypeError(f"{word!r} is not UTF-8")
    return word


def span(word: str) -> float:
    try:
        seconds = seconds_of(text(word))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError("more than nothing is wanted")
    return seconds


def moment_or_position(word: str) -> str | int:
    # More digits than a position has are a position that cannot be meant, and are refused as one.
    return int(word[:30]) if word.isascii() and word.isdigit() else text(word)


def pair(word: str) -> tuple[str, str]:
    try:
        return name_and_value(text(word))
    except AskedWrongly as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def listed(word: str) -> list[str]:
    names = [name.strip() for name in text(word).split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("names with commas between are wanted")
    return names
