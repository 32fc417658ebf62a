"""The house's habits, measured over `ledger/`. A failure names file, line and mend."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("ledger/**/*.py"))
}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}
PURE = ("ledger/events/", "ledger/projections/")

FILE_LINES_MAX = 400
FILE_LINES_MEDIAN_MAX = 150
BODY_LINES_MAX = 40
BODY_LINES_OF_NINE_IN_TEN = 20
DOCSTRING_LINES_MAX = 8
# What the drivers give, by position and by name; expressions whose type the database decides; a stranger's object.
ANYS_MAX = 12

# Who reads the environment beside settings.py, and why.
ENVIRONMENT_READERS = {
    "ledger/settings.py": "it is the reader",
    "ledger/cli/output.py": "NO_COLOR is the terminal's business, not the ledger's",
    "ledger/execution/identity.py": "a launcher reads who its run is, and hands its environment down",
    "ledger/demo/launch.py": "a launcher hands its environment down to the process that it starts",
    "ledger/tracking/surroundings.py": "a training process is told its ids, rank and job by who started it",
    "ledger/integrations/crash/__main__.py": "whoever saw the end hands down RUN_ID, ERROR_LOG, EXIT_CODE and END_REASON",
    "ledger/integrations/wrapper.py": "a training process reads RUN_ID, as the documented snippets do",
}
# Who swallows whatever comes, and why.
BROAD_EXCEPTS = {
    "ledger/cli/main.py": "the last resort: nobody at a prompt is helped by a traceback",
    "ledger/events/plain.py": "a stranger's own methods may raise anything, and no launch fails for that",
    "ledger/tracking/harmless.py": "nothing that recording does wrong may end a training run",
    "ledger/tracking/writer.py": "what interrupts the wait for an end is raised once the end is told",
    "ledger/wandb_run.py": "W&B's objects may raise anything, and no training run ends for that",
    "ledger/integrations/problems.py": "analyzers and notifiers are strangers', and no step of a handler undoes another",
    "ledger/store/own_tables.py": "a subscription's handler is a stranger's, and what it raises parks one event",
}
IMPURE = {"os", "random", "secrets", "socket", "sqlalchemy", "sqlite3", "subprocess", "time"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Found = Iterator[tuple[str, int, ast.AST]]


def nodes(*kinds: type[ast.AST], under: tuple[str, ...] = ("ledger/",)) -> Found:
    """Yield every node of these kinds, with its file and line."""
    for name, tree in TREES.items():
        if name.startswith(under):
            for node in ast.walk(tree):
                if isinstance(node, kinds):
                    yield name, getattr(node, "lineno", 1), node


def comments() -> Iterator[tuple[str, int, str]]:
    for name, text in SOURCES.items():
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield name, token.start[0], token.string


def body_lines(function: Function) -> int:
    """Count the lines of a body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions() -> Iterator[tuple[str, int, Function]]:
    for name, line, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, Function)
        yield name, line, node


def refuse(faults: list[str], mend: str) -> None:
    """Fail with each place on a line of its own, and what to do about it."""
    if faults:
        pytest.fail("\n".join([*faults, f"Mend: {mend}"]), pytrace=False)


def test_no_file_is_long() -> None:
    """No file has more than 400 lines, and half of them have at most 150."""
    lengths = {name: len(text.splitlines()) for name, text in SOURCES.items()}
    refuse(
        [f"{name}:{length}: {length} lines" for name, length in lengths.items() if length > FILE_LINES_MAX],
        f"split it along a duty before it passes {FILE_LINES_MAX} lines.",
    )
    assert median(lengths.values()) <= FILE_LINES_MEDIAN_MAX


def test_functions_fit_the_eye() -> None:
    """No body has more than 40 lines, and nine in ten have at most 20."""
    measured = [(name, line, function.name, body_lines(function)) for name, line, function in functions()]
    refuse(
        [
            f"{name}:{line}: {what} has {length} lines"
            for name, line, what, length in measured
            if length > BODY_LINES_MAX
        ],
        f"keep the branches here and move the leaves out, until at most {BODY_LINES_MAX} lines are left.",
    )
    assert quantiles([length for *_, length in measured], n=10)[-1] <= BODY_LINES_OF_NINE_IN_TEN


def test_only_the_command_line_prints() -> None:
    """A library logs or returns; `print` is the command line's."""
    refuse(
        [
            f"{name}:{line}: print"
            for name, line, node in nodes(ast.Name)
            if isinstance(node, ast.Name) and node.id == "print" and not name.startswith("ledger/cli/")
        ],
        "return the text, or log it with the logger 'ledger'.",
    )


def test_no_type_is_ignored() -> None:
    """mypy's word is never overruled."""
    refuse(
        [f"{name}:{line}: {text}" for name, line, text in comments() if re.search(r"\btype:\s*ignore", text)],
        "say the type so that it is true; where a stub lies, narrow at that edge.",
    )


def test_every_silenced_rule_says_why() -> None:
    """A noqa has its reason beside it."""
    refuse(
        [f"{name}:{line}: {text}" for name, line, text in comments() if re.fullmatch(r"#\s*noqa(:[\w\s,]*)?", text)],
        "write `# noqa: RULE -- why`.",
    )


def test_any_stays_at_the_edges() -> None:
    """Any is said where the driver's values come in, and for a stranger's object; nowhere else."""
    found = [
        f"{name}:{line}: Any"
        for name, line, node in nodes(ast.Name, ast.Attribute)
        if (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) == "Any"
    ]
    refuse(
        found if len(found) > ANYS_MAX else [],
        f"at most {ANYS_MAX} are wanted; take `Row` or `StoredRow` for the driver's values, JsonValue for what is "
        "JSON, object for what is only handed on.",
    )


def is_broad(caught: ast.expr | None) -> bool:
    return caught is None or any(
        isinstance(node, ast.Name) and node.id in {"Exception", "BaseException"} for node in ast.walk(caught)
    )


def handlers() -> Iterator[tuple[str, int, ast.ExceptHandler]]:
    for name, line, node in nodes(ast.ExceptHandler):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
            yield name, line, node


def test_few_excepts_are_broad() -> None:
    """Only those named above swallow whatever comes, once each; who clears up and raises again swallows nothing."""
    swallowing: list[str] = []
    for name, line, handler in handlers():
        last = handler.body[-1]
        if not (isinstance(last, ast.Raise) and last.exc is None):
            swallowing.append(name)
    for name, line, node in nodes(ast.Call):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") and any(map(is_broad, node.args)):
            swallowing.append(name)
    refuse(
        [name for name in set(swallowing) if name not in BROAD_EXCEPTS or swallowing.count(name) > 1],
        "name what can be raised, or end with a bare `raise`.",
    )
    stale = BROAD_EXCEPTS.keys() - set(swallowing)
    assert not stale, f"{sorted(stale)} swallow nothing any more: drop them from BROAD_EXCEPTS"


def test_nothing_is_passed_over() -> None:
    """No except is bare, and none that is broad passes."""
    refuse(
        [
            f"{name}:{line}: except that passes"
            for name, line, handler in handlers()
            if handler.type is None or all(isinstance(step, ast.Pass) for step in handler.body)
        ],
        "name the exception, and say what is done about it.",
    )


def test_every_module_says_its_duty() -> None:
    """A module opens with a docstring."""
    refuse(
        [f"{name}:1: no docstring" for name, tree in TREES.items() if not ast.get_docstring(tree)],
        "open the module with one sentence that says its one duty.",
    )


def test_docstrings_are_short() -> None:
    """No function's docstring has more than eight lines."""
    found = [(name, line, function.name, ast.get_docstring(function) or "") for name, line, function in functions()]
    refuse(
        [
            f"{name}:{line}: {what}'s docstring has {len(text.splitlines())} lines"
            for name, line, what, text in found
            if len(text.splitlines()) > DOCSTRING_LINES_MAX
        ],
        "keep what the signature cannot say; the rest belongs into docs/ or goes.",
    )


def test_no_banners() -> None:
    """A comment is a sentence, not a rule across the page."""
    refuse(
        [f"{name}:{line}: {text}" for name, line, text in comments() if re.search(r"[=\-*#~_+]{4,}", text)],
        "drop it; what needs a heading inside a file needs a file.",
    )


def test_the_environment_is_read_in_one_place() -> None:
    """Only settings.py reads os.environ, but for the few that say why not."""
    readers = [
        (name, line)
        for name, line, node in nodes(ast.Attribute, ast.alias)
        if getattr(node, "attr", getattr(node, "name", "")) in {"environ", "environb", "getenv"}
    ]
    refuse(
        [f"{name}:{line}: the environment is read" for name, line in readers if name not in ENVIRONMENT_READERS],
        "let ledger/settings.py read it, and take the value as an argument.",
    )
    stale = ENVIRONMENT_READERS.keys() - {name for name, _ in readers}
    assert not stale, f"{sorted(stale)} read no environment any more: drop them from ENVIRONMENT_READERS"


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_facts_and_their_meaning_do_no_io() -> None:
    """events/ and projections/ import no SQL, no clock, no environment, no randomness."""
    refuse(
        [
            f"{name}:{line}: imports {module}"
            for name, line, node in nodes(ast.Import, ast.ImportFrom, under=PURE)
            for module in imported(node)
            if module.partition(".")[0] in IMPURE
        ],
        "let the store or origin.py do it, and take what it gives as an argument.",
    )


def test_facts_and_their_meaning_read_no_clock() -> None:
    """Nothing in events/ and projections/ asks what time it is, but for the default that origin gives."""
    refuse(
        [
            f"{name}:{line}: {ast.unparse(node)}"
            for name, line, node in nodes(ast.Attribute, under=PURE)
            if isinstance(node, ast.Attribute)
            and node.attr in {"now", "utcnow", "today"}
            and ast.unparse(node.value) != "origin"
        ],
        "take the moment as an argument.",
    )
