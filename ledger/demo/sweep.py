"""Run the demo from end to end: a folder, the sweep in it, and what a user would ask of its ledger.

Numpy, scikit-learn and PyYAML are asked for when the sweep starts, so that where they are
missing the answer is one line with the mend.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ledger.errors import AskedWrongly, InvalidValue, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.demo.report import DemoResult

__all__ = ["run_demo"]

NEEDED = ("numpy", "sklearn", "yaml")


def run_demo(keep: Path | None = None, *, out: TextIO, max_steps: int = 1500) -> DemoResult:
    """Run the sweep, print what a user would ask, and return it.

    With *keep* everything stays in that folder, which must not hold a ledger yet; else nothing stays.
    """
    require_what_it_needs()
    from ledger.demo import report

    with ended_in_order(), folder(keep) as root:
        result = sweep(root, out, max_steps, kept=keep is not None)
        report.write(result, out)
    return result


def require_what_it_needs() -> None:
    if not all(map(find_spec, NEEDED)):
        raise MissingExtra("demo")
    if not hasattr(signal, "sigwaitinfo"):
        raise AskedWrongly(
            "the demo runs its processes with `ledger exec`, which this system has not. Use Linux for it."
        )


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the sweep as Ctrl-C does, so that neither a process nor a folder is left behind."""
    here = threading.current_thread() is threading.main_thread()
    asking = [n for n in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(n) is signal.SIG_DFL]
    for number in asking:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in asking:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ledger-demo-") as temporary:
            yield Path(temporary)
        return
    if keep.is_file() or (keep / "runs.db").exists():
        raise InvalidValue("keep", str(keep), "a folder that holds no ledger yet is wanted")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def sweep(root: Path, out: TextIO, max_steps: int, *, kept: bool) -> DemoResult:
    from ledger import Ledger
    from ledger.demo import digits, report
    from ledger.demo.fleet import Fleet
    from ledger.demo.place import Place
    from ledger.demo.plan import SWEEP
    from ledger.demo.progress import Progress

    began, place = time.monotonic(), Place(root)
    digits.prepare(place.pictures)
    with Ledger(str(place.ledger)) as book:
        Fleet(book, place, Progress(out), max_steps).run(SWEEP)
        return report.gather(book, folder=str(root) if kept else None, seconds=time.monotonic() - began)
