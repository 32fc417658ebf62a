"""The page on what runs reached shows what happens."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.house.test_docs import ROOT, fenced
from tests.house.test_docs_output import answered

PAGE = (ROOT / "docs/objectives.md").read_text(encoding="utf-8")


def test_the_page_is_true(tmp_path: Path) -> None:
    """Its script prints what is printed there."""
    assert answered([sys.executable, "-c", "\n".join(fenced(PAGE, "python"))], tmp_path) == "".join(
        fenced(PAGE, "text")
    )
