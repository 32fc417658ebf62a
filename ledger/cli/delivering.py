"""What a command makes goes to stdout, or whole into the file that --output names: a failure leaves no half file."""

from __future__ import annotations

import sys
from pathlib import Path

from ledger.errors import AskedWrongly
from ledger.store.finishing import finished_file

__all__ = ["deliver", "note"]


def deliver(made: bytes, output: str | None, *, binary: bool = False) -> None:
    """Write *made* into the file, in the place of an older one, or to stdout where there is none.

    Raises AskedWrongly for what is *binary* and would go to a terminal.
    """
    if output is not None:
        _replace(_home_of(output), made)
        return
    if sys.stdout is None:
        return  # closed before we began, as whoever did it knows
    if binary and sys.stdout.isatty():
        raise AskedWrongly("that is binary, and stdout is a terminal. Name a file with --output FILE.")
    sys.stdout.flush()
    sys.stdout.buffer.write(made)


def note(text: str) -> None:
    """Say something beside what is delivered: on stderr, so that no reader of stdout takes it for data."""
    print(f"ledger: {text}", file=sys.stderr)


def _home_of(output: str) -> Path:
    try:
        return Path(output).expanduser()
    except RuntimeError as exc:
        raise AskedWrongly(f"--output {output}: there is no such home. For a name with ~ write ./{output}") from exc


def _replace(target: Path, made: bytes) -> None:
    target = target.resolve()  # a link stays one
    if target.exists() and not target.is_file():
        target.write_bytes(made)  # a pipe or a device; a folder says that it is one
        return
    with finished_file(target, "--output", replacing=True) as unfinished:
        unfinished.write_bytes(made)
