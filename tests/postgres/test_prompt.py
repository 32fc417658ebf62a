"""A server's ledger at a prompt: no password is shown, and what is there already is not called new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.settings import shown
from tests.builders import launched

Ask = Callable[..., tuple[int, str, str]]
SECRET = "geheim"


@pytest.fixture
def secretive(postgres_url: str) -> str:
    """Give the URL of an empty database, with a password in it."""
    return postgres_url.replace("@", f":{SECRET}@", 1)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command."""

    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(list(words)), *capsys.readouterr()

    return ask


@pytest.mark.parametrize("password", ["secret", "sec?ret", "sec:ret", "se/c?r@et", "?secret", "secret?"])
def test_no_part_of_a_password_is_shown(password: str) -> None:
    """Whatever characters it has, and whatever stands behind it."""
    for behind in ("", "?sslmode=require", "?password=secret"):
        assert shown(f"postgresql://ana:{password}@host:1/runs{behind}") == "postgresql://ana:***@host:1/runs"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_merge_names_its_source_without_the_password(
    ask: Ask, secretive: str, path: Path, form: tuple[str, ...]
) -> None:
    """In words and as JSON."""
    with Ledger(secretive) as book:
        book.append(launched(0))
    code, out, err = ask("--db", str(path), *form, "merge", secretive)

    assert (code, SECRET in out + err) == (0, False)
    assert shown(secretive) in out


def test_a_url_is_no_file_to_adopt(ask: Ask, secretive: str, path: Path) -> None:
    """The refusal names the URL as it was given, but for its password."""
    code, out, err = ask("--db", str(path), "adopt", secretive)

    assert (code != 0, SECRET in out + err, shown(secretive) in err) == (True, False, True)
    assert not path.exists()


def test_init_says_what_is_there_already(ask: Ask, postgres_url: str) -> None:
    """Created once, and then it is there."""
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("CREATE SCHEMA other")
    url = f"{postgres_url}&options=-csearch_path%3Dother"

    assert ask("--db", url, "init")[1].endswith(": created\n")
    assert ask("--db", url, "init")[1].endswith(": is there already\n")


@pytest.mark.parametrize(
    "said", ["CREATE VIEW training_events AS SELECT 1", "CREATE FUNCTION ledger_json(text) RETURNS int RETURN 1"]
)
def test_what_bears_a_name_of_the_ledgers(ask: Ask, postgres_url: str, said: str) -> None:
    """It is left alone, and another place is asked for."""
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("CREATE SCHEMA other")
        owner.execute("SET search_path = other")
        owner.execute(said)
    code, _, err = ask("--db", f"{postgres_url}&options=-csearch_path%3Dother", "init")

    assert (code != 0, "Choose another database" in err, "bug" in err) == (True, True, False)


def test_a_schema_that_is_not_there(ask: Ask, postgres_url: str) -> None:
    """The mend is to create it."""
    code, _, err = ask("--db", f"{postgres_url}&options=-csearch_path%3Dnowhere", "init")

    assert (code != 0, "CREATE SCHEMA" in err) == (True, True)


@pytest.mark.parametrize("schema", ["ledger", "a b", 'a"b', "a.b", "ON"])
def test_a_schema_of_any_name_is_verified(postgres_url: str, schema: str) -> None:
    """What the server puts before a table's name is no difference."""
    quoted = '"{}"'.format(schema.replace('"', '""'))
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(f"CREATE SCHEMA {quoted}")
    path = quoted.replace(" ", "\\ ").replace('"', "%22").replace("\\", "%5C").replace(" ", "%20")
    with Ledger(f"{postgres_url}&options=-csearch_path%3D{path}") as book:
        book.append(launched(0))
        assert book.verify().differences == ()
