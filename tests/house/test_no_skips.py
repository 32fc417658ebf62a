"""No test sleeps: one that is skipped or expected to fail says why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SLEEPS = {"skip", "skipif", "xfail", "importorskip", "skipTest", "skipUnless", "skipIf", "expectedFailure"}


def sleeps(tree: ast.AST) -> list[ast.Attribute]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in SLEEPS]


def reasons(tree: ast.AST) -> set[ast.expr]:
    """Return what is called with a reason: `reason="..."`, or for pytest.skip(...) and its like the first argument."""
    return {
        call.func
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and (
            any(word.arg == "reason" and says_something(word.value) for word in call.keywords)
            or (
                ast.unparse(call.func) in {"pytest.skip", "pytest.xfail"} and call.args and says_something(call.args[0])
            )
        )
    }


def says_something(value: ast.expr) -> bool:
    return not isinstance(value, ast.Constant) or bool(str(value.value or "").strip())


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_who_sleeps_says_why(path: Path) -> None:
    """Every skip and xfail of this file has a reason."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    given = reasons(tree)
    silent = [f"{path.relative_to(TESTS.parent)}:{node.lineno}: {ast.unparse(node)}" for node in sleeps(tree)
              if node not in given]  # fmt: skip
    assert not silent, "\n".join([*silent, 'Mend: say reason="...", or let the test run.'])
