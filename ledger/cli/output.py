"""What leaves by stdout and stderr: lines for people, JSON for machines, colour only where it is seen."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ledger.cli.delivering import deliver
from ledger.progress import Progress, Watcher
from ledger.table import visible

__all__ = [
    "counted",
    "flush",
    "in_colour",
    "say",
    "say_array",
    "say_document",
    "say_error",
    "say_record",
    "short_duration",
    "short_moment",
    "status_paint",
    "watched",
    "width",
]

_COLOURS = {"running": "36", "completed": "32", "failed": "31", "crashed": "31", "late": "33", "lost": "31"}


def say(text: str, output: str | None = None) -> None:
    """Print *text*, with escapes for the characters that the terminal's encoding lacks, or write it into a file."""
    if output is not None:
        deliver(f"{text}\n".encode(), output)
        return
    if sys.stdout is None:
        return  # closed before we began, as whoever did it knows
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def flush() -> None:
    """Let what was printed go to its reader; there is none where we were started with stdout closed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def say_document(value: object, output: str | None = None) -> None:
    """Print one JSON document, or write it into a file."""
    text = _as_json(value, indent=2)
    if output is None:
        print(text)
    else:
        deliver(f"{text}\n".encode(), output)


def say_record(value: object) -> None:
    """Print one line of JSON Lines."""
    print(_as_json(value))


def say_array(values: Iterable[object]) -> None:
    """Print one JSON document that is an array, as its elements come: one on a line."""
    before = "[\n"
    for value in values:
        print(before, _as_json(value), sep="", end="")
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


def _as_json(value: object, indent: int | None = None) -> str:
    """Strict JSON: a float that is not finite is the text that the ledger has for it."""
    try:
        return json.dumps(value, indent=indent, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_said(value), indent=indent, default=str, allow_nan=False)


def _said(value: object) -> object:
    from ledger.events.plain import plain

    if isinstance(value, dict):
        return {key: _said(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_said(item) for item in value]
    return plain(value) if isinstance(value, float) else value


def say_error(text: str, kind: str, *, as_json: bool) -> None:
    """Print one line on stderr and, for machines, an object on stdout."""
    line = visible(" ".join(text.split()))
    print(f"ledger: {line}", file=sys.stderr)
    if as_json:
        say_document({"error": line, "kind": kind})


def counted(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def short_moment(moment: str) -> str:
    """Return `2026-01-02T12:00:05.123456Z` to the second, as people write it."""
    return f"{moment[:10]} {moment[11:19]}Z"


def short_duration(seconds: int) -> str:
    """Return seconds as h:mm:ss."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def status_paint(column: str, value: object, text: str) -> str:
    """Colour a status or liveness where somebody looks at it and NO_COLOR is not set."""
    code = _COLOURS.get(str(value)) if column in ("status", "liveness") and in_colour() else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def width() -> int | None:
    """Return how wide the terminal is, None where there is none."""
    return shutil.get_terminal_size().columns if _is_terminal(sys.stdout) else None


def in_colour() -> bool:
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it; there is none where we were started with it closed."""
    return stream is not None and stream.isatty()


@contextmanager
def watched(doing: str) -> Iterator[Watcher | None]:
    """Give what shows on stderr how far a work has come, where that is a terminal; else None."""
    if not _is_terminal(sys.stderr):
        yield None
        return
    try:
        yield lambda progress: print(
            f"\r{visible(doing)}: {_so_far(progress)}\x1b[K", end="", file=sys.stderr, flush=True
        )
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _so_far(progress: Progress) -> str:
    """How much is done in percent, and how long the rest will take."""
    if not progress.total:
        return f"{progress.done:,}"
    left = progress.seconds_left
    rest = "" if left is None else f", {short_duration(math.ceil(left))} left"
    return f"{100 * progress.done // progress.total} %{rest}"
