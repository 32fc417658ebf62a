"""What the documents show is what happens, and what they point at is there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.cli.parser import parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("bench/*.md")))
}
FORBIDDEN = ("pypi.org", "pythonhosted", "index-url", "/work/", "/root/", "/tmp/", "shared/", "shared folder")

# What differs each time: when, and who says so. Columns are as wide as their content, so spaces differ, too.
MASKS = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "WHEN"),
    (r"\S+@\S+ \S+ \(pid \d+\)", "WHO"),
    (r"-{3,}", "---"),
    (r"[ \t]+", " "),
    (r" $", ""),
)
SQLITE_SHELL = """\
#!{python}
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print(*row, sep="|")
"""


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def masked(text: str) -> str:
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text, flags=re.MULTILINE)
    return text.strip()


def conversations() -> Iterator[tuple[str, str]]:
    """Yield each command at a prompt of the README, and what it is said to print."""
    for block in fenced(README, "console"):
        for turn in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = turn.partition("\n")
            yield command, answer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a home in which the README's Python block was saved as a script."""
    home = tmp_path_factory.mktemp("home")
    (home / "a.py").write_text(fenced(README, "python")[0])
    tools = home / "bin"
    tools.mkdir()
    if shutil.which("sqlite3") is None:  # the shell is no part of the ledger; what it is asked is
        (tools / "sqlite3").write_text(SQLITE_SHELL.format(python=sys.executable))
        (tools / "sqlite3").chmod(0o755)
    return home


def at_the_prompt(home: Path, command: str) -> str:
    """Run one command as the README has it, in the home, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_DB_")}
    places = [str(Path(sys.executable).parent), str(home / "bin"), inherited.get("PATH", "")]
    env = {**inherited, "HOME": str(home), "PATH": os.pathsep.join(places), "COLUMNS": "200"}
    (exported,) = set(re.findall(r"`(export TRAINING_DB_PATH=\S+)`", README))
    shell = ["sh", "-c", f"{exported} && {command}"]
    made = subprocess.run(shell, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_the_readme_is_true(home: Path) -> None:
    """The README's script and then its commands, run in a fresh home, print what is printed there."""
    script = at_the_prompt(home, f"{shlex.quote(sys.executable)} a.py")
    answers = [at_the_prompt(home, command) for command, _ in conversations()]

    assert script == fenced(README, "text")[0]
    assert (home / "training_runs.db").exists()
    assert [masked(answer) for answer in answers] == [masked(printed) for _, printed in conversations()]
    assert len(answers) == 6


def test_following_is_true(tmp_path: Path) -> None:
    """The examples of the page on following, run one after the other, print what is printed there."""
    page = DOCUMENTS["docs/following.md"]
    command = [sys.executable, "-c", "\n".join(fenced(page, "python"))]
    made = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )

    assert (made.stderr, made.stdout) == ("", "".join(fenced(page, "text")))


def links() -> list[tuple[str, str]]:
    """Return each link of each document that leads to a file."""
    prose = {
        name: re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL) for name, text in DOCUMENTS.items()
    }
    found = [(name, target) for name, text in prose.items() for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [(name, target) for name, target in found if not re.match(r"\w+:", target)]


@pytest.mark.parametrize(("name", "target"), links())
def test_links_lead_somewhere(name: str, target: str) -> None:
    """A link leads to a file of the project, and its anchor to one of that file's headings."""
    file, _, anchor = target.partition("#")
    path = (ROOT / name).parent / file if file else ROOT / name

    assert path.exists(), f"{name}: {target} is not there"
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert not anchor or anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def named_verbs() -> set[tuple[str, str]]:
    """Return each verb of the command line that a document names, in code spans and at prompts."""
    found: set[tuple[str, str]] = set()
    for name, text in DOCUMENTS.items():
        blocks = [*fenced(text, "console"), *fenced(text, "bash"), *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)]
        for block in blocks:
            found |= {(name, verb) for verb in re.findall(r"(?:^\$? ?|bin/)ledger ([a-z][a-z-]*)", block, re.MULTILINE)}
    return found


def test_every_named_command_exists() -> None:
    """Each `ledger VERB` in the documents is a verb that the command line has, and the README names some."""
    verbs = next(action.choices for action in parser()._actions if action.dest == "verb")
    named = named_verbs()

    assert verbs is not None
    assert [(name, verb) for name, verb in sorted(named) if verb not in verbs] == []
    assert {"demo", "timeline", "explain", "replay", "verify", "backup", "restore-backup"} <= {
        v for n, v in named if n == "README.md"
    }


def named_paths() -> list[tuple[str, str]]:
    """Return each file and folder that the pages for who changes the code name in backticks."""
    pages = (
        "docs/architecture.md",
        "docs/adding.md",
        *(name for name in DOCUMENTS if name.startswith("docs/decisions/")),
    )
    spans = [(name, span) for name in pages for span in re.findall(r"`([\w./-]+)`", DOCUMENTS[name])]
    return sorted(
        {(name, span) for name, span in spans if "/" in span or re.search(r"\.(py|md|toml|sql|jsonl)$", span)}
    )


@pytest.mark.parametrize(("name", "named"), named_paths())
def test_every_named_file_is_there(name: str, named: str) -> None:
    """A path in backticks is one of the project, from its root or from inside `ledger/`."""
    inside = [*ROOT.glob(f"ledger/**/{named.rstrip('/')}")]
    assert (ROOT / named).exists() or inside, f"{name} names {named}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_nothing_of_one_machine(name: str) -> None:
    """No page names a package registry's host or a folder of the machine on which it was written."""
    lines = enumerate(DOCUMENTS[name].splitlines(), 1)
    found = [f"{name}:{line}: {word}" for line, text in lines for word in FORBIDDEN if word in text]
    assert found == []
