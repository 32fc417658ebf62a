"""Words in, exit code out: the only place where an error becomes a line and a number.

0 done; 1 verify or doctor found something, or merge, sync or import refused something; 2 asked wrongly;
3 the ledger cannot be used; 70 a bug of ours; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from ledger.cli.output import flush, say_error
from ledger.errors import LedgerError, MissingExtra, Unreachable

__all__ = ["main"]

ASKED_WRONGLY, CANNOT_BE_USED, BUG, INTERRUPTED, READER_GONE = 2, 3, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (`ledger --help` lists them)."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)  # behind it others' words begin
    try:
        return _run(words)
    except BrokenPipeError:
        _let_go_of_stdout()
        return READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as exc:
        _say(f"{exc}. Mend the place, then do the same again.", type(exc).__name__, as_json=as_json)
        return CANNOT_BE_USED
    except (Unreachable, MissingExtra) as exc:
        _say(str(exc), type(exc).__name__, as_json=as_json)
        return CANNOT_BE_USED
    except LedgerError as exc:
        _say(str(exc), type(exc).__name__, as_json=as_json)
        return ASKED_WRONGLY
    except Exception as exc:  # noqa: BLE001 -- the last resort: nobody at a prompt is helped by a traceback
        _say(_bug(exc), "Bug", as_json=as_json)
        return BUG


def _run(words: list[str]) -> int:
    from ledger.cli.parser import parse, parser

    if not words:
        parser().print_help()
        return ASKED_WRONGLY
    try:
        said = parse(words)
    except SystemExit:  # --help and --version have printed what was asked for
        return 0
    code: int = said.run(said)
    flush()
    return code


def _say(text: str, kind: str, *, as_json: bool) -> None:
    """Say what went wrong; where that is stdout itself, the line on stderr is all that can be said."""
    try:
        say_error(text, kind, as_json=as_json)
        print(end="", flush=True)  # which takes a stdout that was closed before we began
    except OSError:
        _let_go_of_stdout()


def _let_go_of_stdout() -> None:
    """Nobody takes our output; the interpreter would complain once more when it flushes the rest at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(exc: Exception) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="ledger-bug-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
    ) as file:
        file.write("".join(traceback.format_exception(exc)))
    return f"a bug of ours, {type(exc).__name__}: {exc}. Please report it with {file.name}, which has the traceback."
