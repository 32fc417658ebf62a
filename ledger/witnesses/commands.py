"""Run a command of the system for what it prints, within a time."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from ledger.errors import InvalidValue, WitnessUnreachable

__all__ = ["command_of", "output_of"]

_LENGTH_MAX = 200  # of what is repeated from stderr


def command_of(name: str, line: str) -> list[str]:
    """Return the words of a command line, as a shell takes them apart."""
    try:
        words = shlex.split(line)
    except ValueError as exc:
        raise InvalidValue(name, line, f"a command line is wanted ({exc})") from None
    if not words:
        raise InvalidValue(name, line, "a command line is wanted")
    return words


def output_of(command: Sequence[str], seconds_max: float) -> str:
    """Return what *command* prints. Raises WitnessUnreachable where it fails, or takes longer than *seconds_max*.

    It has no terminal, so that nothing can ask for a password, and ends with all that it has started.
    """
    shown = shlex.join(command)[:_LENGTH_MAX]
    try:
        process = subprocess.Popen(  # noqa: S603 -- the words are the user's own, and job ids that were checked
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as exc:
        raise WitnessUnreachable(f"`{shown}` cannot be run ({exc}). Give a command that can.") from None
    with process:
        try:
            out, complaint = _said_by(process, seconds_max)
        except subprocess.TimeoutExpired:
            raise WitnessUnreachable(
                f"`{shown}` gave no answer within {seconds_max:g} s. See that it answers by itself at a prompt, "
                "without asking for a password."
            ) from None
    if process.returncode != 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:_LENGTH_MAX]
        said = f": {last}" if last else ""
        raise WitnessUnreachable(
            f"`{shown}` ended with {process.returncode}{said}. See that it answers at a prompt of this user."
        )
    return out.decode(errors="replace")


def _said_by(process: subprocess.Popen[bytes], seconds_max: float) -> tuple[bytes, bytes]:
    try:
        return process.communicate(timeout=seconds_max)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
