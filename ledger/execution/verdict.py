"""How a process ended, read as a status and a reason. Pure: the rules, and nothing else."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

__all__ = ["OUT_OF_MEMORY", "Ending", "Verdict", "judged", "last_exception"]

End = Literal["completed", "failed", "crashed"]
OUT_OF_MEMORY = "MemoryError"  # so end the names of Python's, NumPy's and PyTorch's (OutOfMemoryError)

# A shell whose last command died of a signal exits with 128 and its number. Other codes above 128 are a program's own.
_OF_SHELLS = frozenset({
    signal.SIGINT, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV,
    signal.SIGTERM,
})  # fmt: skip
# A launcher of several processes puts what it likes before each line, such as "[rank0]: ".
_TRACEBACK = re.compile(r"^(?P<before>.*?)Traceback \(most recent call last\):\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Ending:
    """What was seen of an end. *tail* is the end of stderr.

    *out_of_memory* says that the kernel killed for want of memory; *scheduled*, that a scheduler (Slurm) had
    started it; *past_time_limit*, that the time it had given was over.
    """

    exit_code: int | None = None
    signal: int | None = None
    tail: str = ""
    out_of_memory: bool = False
    scheduled: bool = False
    past_time_limit: bool = False

    @property
    def shell_code(self) -> int:
        """The exit code as a shell has it: 128 and the signal's number for a death by signal."""
        return 128 + self.signal if self.signal is not None else self.exit_code or 0


@dataclass(frozen=True)
class Verdict:
    """What an end comes to; *exit_code* is as a shell has it."""

    status: End
    end_reason: Literal["exception", "signal", "oom", "timeout", "user"] | None
    exit_code: int


def judged(ending: Ending) -> Verdict:
    """Return what *ending* comes to: of a signal, of the exit code 0, or of another and the end of stderr."""
    code = ending.shell_code
    died_of = code - 128 if ending.signal is not None or code - 128 in _OF_SHELLS else None
    if died_of is not None:
        return _of_signal(died_of, ending)
    if code == 0:
        return Verdict("completed", None, 0)
    exception = last_exception(ending.tail)
    if exception is not None and exception.endswith(OUT_OF_MEMORY):
        return Verdict("crashed", "oom", code)
    if exception is not None and code == 1:
        return Verdict("crashed", "exception", code)
    return Verdict("failed", None, code)


def _of_signal(number: int, ending: Ending) -> Verdict:
    code = 128 + number
    if number == signal.SIGINT:
        return Verdict("failed", "user", code)
    if number == signal.SIGKILL and ending.out_of_memory:
        return Verdict("crashed", "oom", code)
    if number in (signal.SIGTERM, signal.SIGKILL) and ending.scheduled and ending.past_time_limit:
        return Verdict("crashed", "timeout", code)
    if number == signal.SIGTERM and ending.scheduled:
        return Verdict("failed", "user", code)
    return Verdict("crashed", "signal", code)


def last_exception(text: str) -> str | None:
    """Return the name of the exception that the last traceback in *text* ends with; None where there is no traceback.

    "" where its end cannot be told, as in a group's.
    """
    found = None
    for found in _TRACEBACK.finditer(text):  # noqa: B007 -- the last one is wanted
        pass
    if found is None:
        return None
    before = found["before"]
    for line in text[found.end() :].splitlines():
        said = line.removeprefix(before)
        if said and not said[0].isspace():
            return said.partition(":")[0].strip()
    return ""
