"""Show how far the sweep is: one line that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

CLEAR_LINE = "\r\x1b[K"


class Progress:
    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.live = out.isatty()
        self.shown = ""

    def show(self, text: str) -> None:
        """Show *text* until something else is shown; nothing where lines cannot be taken back."""
        if self.live and text != self.shown:
            width = shutil.get_terminal_size().columns - 1
            self.out.write(f"{CLEAR_LINE}{text[:width]}")
            self.out.flush()
            self.shown = text

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self.clear()
        self.out.write(f"{line}\n")
        self.out.flush()

    def clear(self) -> None:
        if self.shown:
            self.out.write(CLEAR_LINE)
            self.out.flush()
            self.shown = ""
