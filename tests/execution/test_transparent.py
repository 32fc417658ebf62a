"""A command under exec cannot tell that it is: stderr, terminal, signals, environment and exit code are its own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import random
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.execution.conftest import Ground, until

PYTHON = sys.executable
# Writes each signal that it gets as a line into `got`, and ends well at SIGTERM.
LISTENER = """
import os, signal, sys
got = os.open("got", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(number, _):
    os.write(got, (signal.Signals(number).name + "\\n").encode())
    if number == signal.SIGTERM:
        sys.exit(0)
for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "CONT"):
    signal.signal(getattr(signal, "SIG" + name), note)
os.write(got, b"ready\\n")
while True:
    signal.pause()
"""


def got(ground: Ground) -> list[str]:
    path = ground.folder / "got"
    return path.read_text().split() if path.exists() else []


def listening(ground: Ground) -> subprocess.Popen:
    """Start a listener in a process group of its own, and wait until it listens."""
    process = ground.start(PYTHON, "-c", LISTENER, process_group=0)
    until(lambda: got(ground) == ["ready"], "the child listens")
    return process


def test_a_signal_to_exec_reaches_the_child_once(ground: Ground) -> None:
    """What is sent to exec alone is handed on, once each; it ends when the child does, with its exit code."""
    names = [name for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGQUIT", "SIGCONT") for _ in range(2)]
    process = listening(ground)
    for count, name in enumerate(names, start=2):
        process.send_signal(getattr(signal, name))
        until(lambda seen=count: len(got(ground)) >= seen, "the child got it")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert got(ground) == ["ready", *names, "SIGTERM"]
    assert ground.end() == ("completed", None, 0)


def test_a_signal_to_the_group_reaches_the_child_once(ground: Ground) -> None:
    """What the whole process group is sent, as by `kill %1` or a scheduler, is not handed on a second time."""
    process = listening(ground)
    for name in ("SIGINT", "SIGUSR1", "SIGHUP", "SIGINT"):
        before = got(ground)
        os.killpg(process.pid, getattr(signal, name))
        until(lambda seen=len(before): len(got(ground)) > seen, "the child got it")
        process.send_signal(signal.SIGUSR2)  # which exec hands on behind what it did with the first
        until(lambda seen=len(before): len(got(ground)) > seen + 1, "the child got that, too")
        assert got(ground) == [*before, name, "SIGUSR2"]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert got(ground)[-2:] == ["SIGUSR2", "SIGTERM"]


def test_a_group_that_is_interrupted_ends_as_the_child_does(ground: Ground) -> None:
    """Ctrl-C: the child ends by it, exec stays until then, and the run has failed because a user wanted it."""
    process = ground.start(PYTHON, "-c", "import time; open('ready', 'w'); time.sleep(60)", process_group=0)
    until((ground.folder / "ready").exists, "the child runs")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert ground.end() == ("failed", "user", 130)


def test_a_child_that_ignores_it_is_waited_for(ground: Ground) -> None:
    """Exec leaves after its child, whatever it is told."""
    child = "trap '' TERM INT HUP; touch ready; until [ -e go ]; do sleep 0.05; done; exit 5"
    process = ground.start("sh", "-c", child)
    until((ground.folder / "ready").exists, "the child runs")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    (ground.folder / "go").touch()
    process.communicate(timeout=60)

    assert process.returncode == 5


def test_it_stops_and_goes_on_with_its_child(ground: Ground) -> None:
    """SIGTSTP stops the child and then exec, so that a shell sees a stopped job; SIGCONT wakes both."""
    process = ground.start("sh", "-c", "touch ready; until [ -e go ]; do sleep 0.05; done", process_group=0)
    until((ground.folder / "ready").exists, "the child runs")
    process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    (ground.folder / "go").touch()
    process.communicate(timeout=60)

    assert (process.returncode, ground.end()) == (0, ("completed", None, 0))


def test_stderr_passes_unchanged(ground: Ground) -> None:
    """Megabytes of any bytes come out as they went in, and the end of them is kept when the run goes wrong."""
    code = (
        "import os, random, sys\ndata = random.Random(1).randbytes(5_000_000)\n"
        "sys.stderr.buffer.write(data); sys.stderr.buffer.write(b'\\nthe end\\n'); sys.exit(9)"
    )
    with (ground.folder / "err").open("wb") as err:
        done = ground.exec(PYTHON, "-c", code, stderr=err)
    written = (ground.folder / "err").read_bytes()
    expected = random.Random(1).randbytes(5_000_000) + b"\nthe end\n"
    assert done.returncode == 9
    assert hashlib.sha256(written[: len(expected)]).digest() == hashlib.sha256(expected).digest()
    log = Path(str(ground.row()["error_log_s3_key"])).read_bytes()
    assert log == expected[-65_536:].decode("utf-8", "replace").encode()


def test_a_process_left_behind_holds_nobody_up(ground: Ground) -> None:
    """A grandchild that keeps stderr open delays nothing, and what it writes later still comes through."""
    child = "(until [ -e go ]; do sleep 0.05; done; echo late >&2) >/dev/null </dev/null & echo early >&2; exit 4"
    with (ground.folder / "err").open("wb") as err:
        process = ground.start("sh", "-c", child, stderr=err)
        process.communicate(timeout=60)
    assert (process.returncode, ground.end()) == (4, ("failed", None, 4))
    assert (ground.folder / "err").read_text().startswith("early\n")
    (ground.folder / "go").touch()
    until(lambda: "late\n" in (ground.folder / "err").read_text(), "what the grandchild wrote")


def test_nobody_waits_for_stdout_once_the_child_is_gone(ground: Ground) -> None:
    """Stdout ends with the child, also where a grandchild keeps stderr: `x=$(ledger exec ...)` does not hang."""
    done = ground.exec(
        "sh", "-c", "(exec >/dev/null; until [ -e go ]; do sleep 0.05; done) & echo out", stderr=subprocess.DEVNULL
    )
    (ground.folder / "go").touch()

    assert done.stdout == b"out\n"


def test_nobody_reading_stderr_hurts_nobody(ground: Ground) -> None:
    """Where the reader of stderr has gone, the child writes on, and its end is recorded."""
    read, write = os.pipe()
    os.close(read)
    done = ground.exec("sh", "-c", "echo a >&2 && echo b >&2 && exit 6", stderr=write)
    os.close(write)

    assert (done.returncode, ground.end()) == (6, ("failed", None, 6))
    assert Path(str(ground.row()["error_log_s3_key"])).read_text() == "a\nb\n"


def test_closed_files_stay_closed(ground: Ground) -> None:
    """Started without stdin, stdout and stderr it works as well."""
    command = " ".join(map(repr, ground.words(("--run-id", "r1"), ("sh", "-c", "echo x >&2; exit 3"))))
    done = subprocess.run(
        ["sh", "-c", f"{command} <&- >&- 2>&-"], env=ground.environment, cwd=ground.folder, timeout=60
    )

    assert (done.returncode, ground.end()) == (3, ("failed", None, 3))


def test_files_and_mask_are_handed_down(ground: Ground) -> None:
    """The child has our inherited files, and no signal blocked or ignored that would not be without us."""
    code = (
        "import os, re; status = open('/proc/self/status').read()\n"
        "masks = [int(found, 16) for found in re.findall(r'Sig(?:Blk|Ign):\\s*(\\w+)', status)]\n"
        "print([mask & ~(3 << 31) for mask in masks])\n"  # but for the two signals that the C library keeps for itself
    )
    handed, other = os.pipe()
    os.set_inheritable(other, True)
    plain = subprocess.run([PYTHON, "-c", code], capture_output=True).stdout
    done = ground.exec(PYTHON, "-c", f"{code}os.write({other}, b'here')", pass_fds=[other])
    os.close(other)
    with os.fdopen(handed, "rb") as file:
        assert file.read() == b"here"  # and nobody but the child had the other side, so that it ends
    assert done.stdout == plain


def test_the_environment_says_who_the_run_is(ground: Ground) -> None:
    """RUN_ID, CHAIN_OF_CUSTODY_ID and RESUMES_RUN_ID reach the child, and the ledger's place where --db said it."""
    names = ["RUN_ID", "CHAIN_OF_CUSTODY_ID", "RESUMES_RUN_ID", "TRAINING_DB_URL", "LEDGER_WITNESS_FILE"]
    code = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {names}}}))"
    words = ("--db", "other.db", "--run-id", "r1", "--chain", "C", "--resumes", "r0")
    said = json.loads(ground.exec(PYTHON, "-c", code, words=words).stdout)
    place = ground.folder / "other.db"

    witness = said.pop("LEDGER_WITNESS_FILE")
    assert said == dict(zip(names, ["r1", "C", "r0", f"sqlite:///{place}"], strict=False))
    assert not Path(witness).exists()
    assert place.exists()


def test_the_environment_may_say_it_to_exec(ground: Ground) -> None:
    """What no option says is read from the same variables; the config names a run that nobody named."""
    (ground.folder / "mgda.yaml").write_text("training: {batch_size: 384}\n")
    environment = {**ground.environment, "CHAIN_OF_CUSTODY_ID": "CHAIN1", "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0"}
    done = ground.exec("sh", "-c", "echo $RUN_ID", words=("--config", "mgda.yaml"), env=environment)
    row = ground.row("mgda_4711.0")

    assert done.stdout == b"mgda_4711.0\n"
    assert (row["chain_of_custody_id"], row["batch_size"], row["instance_id"]) == ("CHAIN1", 384, "4711")
    assert row["config_file_path"] == str(ground.folder / "mgda.yaml")

    done = ground.exec("true", words=(), env={**ground.environment, "RUN_ID": "r1", "RESUMES_RUN_ID": "mgda_4711.0"})
    assert ground.row()["resumes_run_id"] == "mgda_4711.0"
    assert "resumed" in ground.types("mgda_4711.0")


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Give both sides of a terminal of 40 lines with 120 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    try:
        yield ours, theirs
    finally:
        for file in (ours, theirs):
            os.close(file)


def shown(ours: int, until_text: bytes) -> bytes:
    """Read what the terminal shows until a text has come."""
    text = b""
    while until_text not in text:
        text += os.read(ours, 65_536)
    return text


def test_stderr_is_a_terminal_when_ours_is(ground: Ground) -> None:
    """A terminal for stderr of the same size, showing what is written to it byte for byte; a pipe where ours is one."""
    code = (
        "import os, sys, shutil; sys.stderr.write(f'{os.isatty(2)} {tuple(os.get_terminal_size(2))}\\n\\rbar\\x1b[K');"
        " print(os.isatty(1)); sys.exit(2)"
    )
    with terminal() as (ours, theirs):
        done = ground.exec(PYTHON, "-c", code, stderr=theirs)
        text = shown(ours, b"exit code 2)")
    piped = ground.exec(PYTHON, "-c", "import os, sys; sys.stderr.write(str(os.isatty(2)))", words=("--run-id", "r2"))

    assert text.startswith(b"True (120, 40)\r\n\rbar\x1b[K")
    assert (done.stdout, done.returncode, piped.stderr) == (b"False\n", 2, b"False")
    assert Path(str(ground.row()["error_log_s3_key"])).read_bytes() == b"True (120, 40)\n\rbar\x1b[K"


def on_a_terminal(ground: Ground, *command: str) -> tuple[int, int]:
    """Start exec as the leader of a session on a terminal of its own; return its pid and the terminal's other side."""
    words = ground.words(("--run-id", "r1"), command)
    pid, ours = pty.fork()
    if pid == 0:
        os.chdir(ground.folder)
        os.execve(words[0], words, ground.environment)
    return pid, ours


def test_what_a_terminal_sends_comes_once(ground: Ground) -> None:
    """Ctrl-C and Ctrl-\\ on a terminal reach the child once, by the terminal itself, and exec waits for it."""
    pid, ours = on_a_terminal(ground, PYTHON, "-c", LISTENER)
    until(lambda: got(ground) == ["ready"], "the child listens")
    for key, name in ((b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT")):
        os.write(ours, key)
        until(lambda sent=name: sent in got(ground), "the child got it")
        os.kill(pid, signal.SIGUSR2)
        until(lambda sent=name: got(ground)[-2:] == [sent, "SIGUSR2"], "the child got that, too")
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    os.close(ours)

    assert os.waitstatus_to_exitcode(status) == 0
    assert got(ground) == ["ready", "SIGINT", "SIGUSR2", "SIGQUIT", "SIGUSR2", "SIGTERM"]


def test_a_window_that_changes_changes_for_the_child(ground: Ground) -> None:
    """SIGWINCH comes when the child's terminal has its new size."""
    code = (
        "import os, signal, sys\n"
        "def note(*_):\n"
        "    size = os.get_terminal_size(2).columns\n"
        "    open('got', 'a').write(f'{size}\\n')\n"
        "signal.signal(signal.SIGWINCH, note)\n"
        "open('got', 'a').write('ready\\n')\n"
        "while os.get_terminal_size(2).columns != 99 or '99' not in open('got').read(): signal.pause()\n"
    )
    pid, ours = on_a_terminal(ground, PYTHON, "-c", code)
    until(lambda: "ready" in got(ground), "the child listens")
    time.sleep(0.05)
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 99, 0, 0))
    _, status = os.waitpid(pid, 0)
    os.close(ours)

    assert os.waitstatus_to_exitcode(status) == 0
    assert got(ground)[-1] == "99"
