"""The child's stderr on its way to ours, by a small process of its own.

The child writes into a pipe (a terminal, where ours is one); the relay writes all of it on, unchanged, and
remembers the end. It is a process and no thread so that nothing happens to the child's stderr when we
are killed: then it goes on relaying. It is in the child's process group and holds back every signal, so
that it can also say which signals the whole group got: those the child has got by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import termios
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

__all__ = ["GRACE_SECONDS", "TAIL_BYTES_MAX", "Relay"]

TAIL_BYTES_MAX = 65_536
GRACE_SECONDS = 0.5  # so long after the child's end its stderr may still be open, as by a process that it left behind
_ANSWER_SECONDS_MAX = 1.0
_SAME_MOMENT_SECONDS = 0.02  # within which a signal to a group has reached all of it
_AHEAD_BYTES_MAX = 1 << 20
_PIECE_BYTES = 4096  # a pipe that can be written to takes so many without a wait
_STDERR = 2
_SIGNALS, _END = b"S", b"E"

Got = tuple[int, int, int]  # a signal, how it came (si_code), and from which process


class Relay:
    """Our side: *inlet* is what the child is to have as its stderr."""

    def __init__(self, pid: int, channel: socket.socket, inlet: int, screen: int | None) -> None:
        self._pid = pid
        self._channel = channel
        self._screen = screen  # the terminal's other side, where there is one: by it the child's window is fitted
        self._got: list[Got] = []
        self.inlet = inlet

    @classmethod
    def begin(cls, held: Iterable[int]) -> Self:
        """Fork the relay. The signals *held* are blocked in this thread; call it before there is another."""
        _have_stderr()
        terminal = os.isatty(_STDERR)
        source, inlet = map(_away, _terminal() if terminal else os.pipe())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                _Relaying(source, theirs, list(held)).work()
            finally:
                os._exit(0)
        theirs.close()
        if not terminal:
            os.close(source)
        made = cls(pid, ours, inlet, source if terminal else None)
        made.fit_window()
        return made

    def fit_window(self) -> bool:
        """Give the child's terminal the size of ours. Return whether it has one."""
        if self._screen is None:
            return False
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(_STDERR, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._screen, termios.TIOCSWINSZ, size)
        return True

    def close_inlet(self) -> None:
        """Let go of the child's side: it alone is to hold it."""
        os.close(self.inlet)

    def also_got(self, got: Got) -> bool | None:
        """Whether a signal that we got came to the whole group; None where the relay does not answer."""
        for pause in (0.0, _SAME_MOMENT_SECONDS):
            time.sleep(pause)
            answer = self._ask(_SIGNALS, _ANSWER_SECONDS_MAX)
            if answer is None:
                return None
            self._got += [(number, code, pid) for number, code, pid in json.loads(answer)]
            if got in self._got:
                self._got.remove(got)
                return True
        return False

    def end(self) -> str:
        """Return the end of what the child wrote, once all of it has come or the grace is over."""
        tail = self._ask(_END, GRACE_SECONDS + _ANSWER_SECONDS_MAX) or b""
        self._channel.close()
        if self._screen is not None:
            os.close(self._screen)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, os.WNOHANG)
        return tail.decode("utf-8", "replace")

    def _ask(self, what: bytes, seconds_max: float) -> bytes | None:
        deadline = time.monotonic() + seconds_max
        try:
            self._channel.send(what)
            while (left := deadline - time.monotonic()) > 0:
                self._channel.settimeout(left)
                answer = self._channel.recv(2 * TAIL_BYTES_MAX)
                if answer[:1] == what:
                    return answer[1:]
                if not answer:
                    break
        except OSError:  # it was killed, or does not come to it in time
            pass
        return None


class _Relaying:
    """The relay's own side."""

    def __init__(self, source: int, channel: socket.socket, held: list[int]) -> None:
        self.source: int | None = source
        self.channel: socket.socket | None = channel
        self.held = held
        self.waiting = bytearray()  # what is still to be written on
        self.tail = bytearray()
        self.takes_it = True  # whoever reads our stderr
        self.answer_by: float | None = None

    def work(self) -> None:
        _let_go_of_all_but(self.source, self.channel)
        while self.source is not None or self.waiting:
            self._turn()
            if self.answer_by is not None and (self._is_done() or time.monotonic() >= self.answer_by):
                self._say_tail()
        while self.channel is not None:  # the child has closed its stderr and lives
            self._turn()
            if self.answer_by is not None:
                self._say_tail()

    def _turn(self) -> None:
        ahead_bytes_max = 0 if self.answer_by is None else _AHEAD_BYTES_MAX
        hears = self.channel.fileno() if self.channel is not None else None
        reads = self.source if len(self.waiting) <= ahead_bytes_max else None
        writes = [_STDERR] if self.waiting else []
        wait = None if self.answer_by is None else max(0.0, self.answer_by - time.monotonic())
        readable, writable, _ = select.select([file for file in (reads, hears) if file is not None], writes, [], wait)
        if hears in readable:
            self._hear()
        if reads in readable:
            self._read()
        if writable:
            self._write()

    def _is_done(self) -> bool:
        return self.source is None and not self.waiting

    def _read(self) -> None:
        try:
            data = os.read(self.source or 0, TAIL_BYTES_MAX)
        except OSError:  # how a terminal says that nobody has it open any more
            data = b""
        if not data:
            self.source = None
            return
        self.tail += data
        del self.tail[:-TAIL_BYTES_MAX]
        if self.takes_it:
            self.waiting += data

    def _write(self) -> None:
        try:
            del self.waiting[: os.write(_STDERR, self.waiting[:_PIECE_BYTES])]
        except BlockingIOError:  # whoever gave us this stderr reads it without waiting, and so do we
            time.sleep(0.001)
        except OSError:  # nobody reads it any more; that is no reason to hurt the child
            self.takes_it = False
            self.waiting.clear()

    def _hear(self) -> None:
        channel = self.channel
        try:
            asked = channel.recv(1) if channel is not None else b""
            if asked == _SIGNALS:
                self._say(_SIGNALS + json.dumps(self._signals()).encode())
        except OSError:
            asked = b""
        if asked == _END:
            self.answer_by = time.monotonic() + GRACE_SECONDS
        elif not asked:
            self.channel = self.answer_by = None

    def _signals(self) -> list[Got]:
        """Which signals have come to us since this was last asked."""
        found = []
        while (info := signal.sigtimedwait(self.held, 0)) is not None:
            found.append((info.si_signo, info.si_code, info.si_pid))
        return found

    def _say_tail(self) -> None:
        with contextlib.suppress(OSError):
            self._say(_END + self.tail)
        self.channel = self.answer_by = None

    def _say(self, answer: bytes) -> None:
        if self.channel is not None:
            self.channel.send(answer)


def _have_stderr() -> None:
    """Where we were started with a closed stderr, have one that goes nowhere: the child's is still worth reading."""
    try:
        os.fstat(_STDERR)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STDERR:
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)


def _terminal() -> tuple[int, int]:
    """Both sides of a new terminal; ours shows what is written, so this one makes nothing else of it."""
    screen, inlet = os.openpty()
    modes = termios.tcgetattr(inlet)
    modes[1] &= ~termios.OPOST
    modes[3] &= ~(termios.ECHO | termios.ECHONL)
    termios.tcsetattr(inlet, termios.TCSANOW, modes)
    return screen, inlet


def _away(file: int) -> int:
    """The same file under a number that is none of the child's first three."""
    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(file)
    return moved


def _let_go_of_all_but(source: int | None, channel: socket.socket | None) -> None:
    """Close whatever else we inherited, so that whoever waits for its end waits for nobody's but the child's."""
    kept = {_STDERR, source, None if channel is None else channel.fileno()}
    for file in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if file not in kept:
            with contextlib.suppress(OSError):  # the one by which we list them
                os.close(file)
