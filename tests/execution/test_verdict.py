"""The rules by which an end is read, as a table."""

from __future__ import annotations

import pytest

from ledger.execution.verdict import Ending, Verdict, judged, last_exception

FRAME = '  File "train.py", line 3, in <module>\n    step()\n'
TRACEBACK = f"epoch 1\nTraceback (most recent call last):\n{FRAME}"
CHAINED = (
    f"{TRACEBACK}MemoryError\n\nDuring handling of it:\n\nTraceback (most recent call last):\n{FRAME}ValueError: x\n"
)

CASES = [
    (Ending(exit_code=0), ("completed", None, 0)),
    (Ending(exit_code=0, tail=f"{TRACEBACK}ValueError: it was caught\n"), ("completed", None, 0)),
    (Ending(exit_code=1), ("failed", None, 1)),
    (Ending(exit_code=3), ("failed", None, 3)),
    (Ending(exit_code=255), ("failed", None, 255)),
    (Ending(exit_code=127), ("failed", None, 127)),
    (Ending(exit_code=1, tail=f"{TRACEBACK}ValueError: x\n"), ("crashed", "exception", 1)),
    (Ending(exit_code=1, tail=f"{TRACEBACK}ValueError: x\nwandb: see the log\n"), ("crashed", "exception", 1)),
    (Ending(exit_code=3, tail=f"{TRACEBACK}ValueError: x\n"), ("failed", None, 3)),
    (Ending(exit_code=1, tail=f"{TRACEBACK}MemoryError\n"), ("crashed", "oom", 1)),
    (Ending(exit_code=4, tail=f"{TRACEBACK}MemoryError: no room\n"), ("crashed", "oom", 4)),
    (Ending(exit_code=1, tail=f"{TRACEBACK}torch.cuda.OutOfMemoryError: CUDA out of memory.\n"), ("crashed", "oom", 1)),
    (Ending(exit_code=1, tail=f"{TRACEBACK}numpy._core._exceptions._ArrayMemoryError: x\n"), ("crashed", "oom", 1)),
    (Ending(exit_code=1, tail=CHAINED), ("crashed", "exception", 1)),
    (Ending(exit_code=1, tail="MemoryError is what I feared\n"), ("failed", None, 1)),
    (Ending(signal=9), ("crashed", "signal", 137)),
    (Ending(signal=9, out_of_memory=True), ("crashed", "oom", 137)),
    (Ending(exit_code=137, out_of_memory=True), ("crashed", "oom", 137)),
    (Ending(signal=11, out_of_memory=True), ("crashed", "signal", 139)),
    (Ending(signal=9, scheduled=True, past_time_limit=True), ("crashed", "timeout", 137)),
    (Ending(signal=9, scheduled=True), ("crashed", "signal", 137)),
    (Ending(signal=6), ("crashed", "signal", 134)),
    (Ending(signal=1), ("crashed", "signal", 129)),
    (Ending(exit_code=129), ("failed", None, 129)),
    (Ending(exit_code=137), ("crashed", "signal", 137)),
    (Ending(exit_code=143), ("crashed", "signal", 143)),
    (Ending(exit_code=139), ("crashed", "signal", 139)),
    (Ending(exit_code=134), ("crashed", "signal", 134)),
    (Ending(signal=2), ("failed", "user", 130)),
    (Ending(exit_code=130), ("failed", "user", 130)),
    (Ending(signal=15), ("crashed", "signal", 143)),
    (Ending(signal=15, past_time_limit=True), ("crashed", "signal", 143)),
    (Ending(signal=15, scheduled=True), ("failed", "user", 143)),
    (Ending(signal=15, scheduled=True, past_time_limit=True), ("crashed", "timeout", 143)),
    (Ending(exit_code=143, scheduled=True), ("failed", "user", 143)),
]


@pytest.mark.parametrize(("ending", "verdict"), CASES)
def test_an_end_is_read_by_the_rules(ending: Ending, verdict: tuple[str, str | None, int]) -> None:
    """Signal, exit code and the end of stderr decide, and nothing else."""
    assert judged(ending) == Verdict(*verdict)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", None),
        ("Traceback", None),
        (f"{TRACEBACK}ValueError: x", "ValueError"),
        (f"{TRACEBACK}KeyboardInterrupt\n", "KeyboardInterrupt"),
        (TRACEBACK.replace("\n", "\n[rank1]: ") + "a.b.OutOfMemoryError: x", "a.b.OutOfMemoryError"),
        (TRACEBACK, ""),
        ("  + Exception Group Traceback (most recent call last):\n  |   File\n  | ExceptionGroup: x\n", ""),
        (f"{TRACEBACK}\n", ""),
    ],
)
def test_the_last_traceback_names_its_exception(text: str, name: str | None) -> None:
    """The first line behind the frames bears the name, whatever a launcher puts before each line."""
    assert last_exception(text) == name
