"""A second process that folds spans of a ledger's file, as the first one sees it: asked, heard, and done without."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection as End
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

from ledger.store.beside import File, greeting
from ledger.store.folding import Span
from ledger.store.forking import at_forks, keep
from ledger.store.parts import Part, Plan
from ledger.store.starting import start

if sys.platform != "win32":
    from fcntl import fcntl

__all__ = ["Second"]

AHEAD = 4  # spans that it knows of, so that it need not wait while we write
SILENT_SECONDS_MAX = 600.0  # a part with runs of millions of events takes long, but not for ever
_END_SECONDS_MAX = 2.0
_PIPE_BYTES = 1 << 20  # what it may have folded before we take it
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, of Linux
_CODE = (
    "import sys; words, sys.path[:] = sys.argv[1:3], sys.argv[3:]; "
    "from ledger.store.beside import fold_beside; fold_beside(*map(int, words))"
)

_log = logging.getLogger("ledger")


class Second:
    """The process beside this one. Where it ends too early, what it has not folded is given back."""

    def __init__(self, file: File, plan: Plan) -> None:
        self.asked: deque[Span] = deque()
        self._total = self._folded = 0  # how many spans there are, and how many of them it has folded
        self._sent: set[str] = set()  # runs of the first span asked for that have come
        self._given_back: list[tuple[Span, set[str]]] = []
        self._is_known = False
        self._process: subprocess.Popen[bytes] | None = None
        self._open = ExitStack()
        try:
            self._start()
            self._asks.send((file, plan))
        except OSError as exc:
            self.close()
            _log.warning("the ledger is folded by one process; a second one could not be started: %s", exc)
        at_forks(self)

    def _start(self) -> None:
        # We keep the end from which it reads: so that to ask one that has ended is no signal to this process.
        reads, self._asks = self._pipe()
        self._answers, writes = self._pipe()
        self._errors: IO[bytes] = self._open.enter_context(TemporaryFile())  # noqa: SIM115 -- it is one
        with writes:
            if sys.platform != "win32":
                with suppress(OSError):
                    fcntl(writes.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)
            ends = (reads.fileno(), writes.fileno())
            self._process = start(_CODE, [*map(str, ends)], ends, self._errors)

    def _pipe(self) -> tuple[End, End]:
        read, write = Pipe(duplex=False)
        return self._open.enter_context(read), self._open.enter_context(write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let it end. Again, it does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._open.close()

    def ask(self, spans: deque[Span]) -> None:
        """Let it take the next of the *spans*, but not the last one: that is for who asks."""
        while self._process is not None and len(spans) > 1 and len(self.asked) < self._ahead(len(spans)):
            self.asked.append(spans.popleft())
            self._asks.send(self.asked[-1])

    def _ahead(self, left: int) -> int:
        """How many spans it may know of where so many are left: its share of what is open, by its pace so far.

        So both of us end together, also where it begins late or is slower.
        """
        open = left + len(self.asked)
        self._total = max(self._total, open)
        return max(1, min(AHEAD, open * self._folded // max(1, self._total - open)))

    def ready(self) -> Iterator[Part]:
        """Yield what it has folded by now."""
        while self.asked and self._answers.poll():
            yield from self._take()

    def rest(self) -> Iterator[Part]:
        """Yield what is still to come of what it was asked for."""
        while self.asked:
            if self._answers.poll(SILENT_SECONDS_MAX):
                yield from self._take()
            else:
                self._give_up(f"it said nothing for {SILENT_SECONDS_MAX:.0f} s")

    def given_back(self) -> list[tuple[Span, set[str]]]:
        """Return the spans that it will fold no more, each with the runs of it that have come."""
        given, self._given_back = self._given_back, []
        return given

    def _take(self) -> Iterator[Part]:
        try:
            said = self._answers.recv()
        except (EOFError, OSError):
            self._give_up(self._last_words())
            return
        if not self._is_known:
            self._is_known = said == greeting()
            if not self._is_known:
                self._give_up(f"it folds by the rules of {' '.join(said)}, and this process by {' '.join(greeting())}")
        elif said is None:
            self.asked.popleft()
            self._folded += 1
            self._sent = set()
        else:
            self._sent.update(run.run_id for run in said.runs)
            yield said

    def _last_words(self) -> str:
        code = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_END_SECONDS_MAX)
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"{words or 'it ended'} (exit code {code})"

    def _give_up(self, reason: str) -> None:
        _log.warning("the ledger is folded on by one process; of the second: %s", reason)
        self._leave()
        self.close()

    def _leave(self) -> None:
        self._given_back += [(span, self._sent if place == 0 else set()) for place, span in enumerate(self.asked)]
        self.asked.clear()

    fork_order = 2

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """Leave it to the parent, with whose end it ends: that nobody else holds the pipe open."""
        keep(self._process)  # who is dropped is waited for, and it is no child of this process
        self._process = None
        self._leave()
        self._open.close()
