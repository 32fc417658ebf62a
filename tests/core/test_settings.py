"""What the environment says of where the ledger is, and what is said of variables that make no sense."""

from __future__ import annotations

import pytest

from ledger.errors import HalfConfigured
from ledger.settings import Settings

GROUP = {
    "TRAINING_DB_HOST": "hub",
    "TRAINING_DB_PORT": "5433",
    "TRAINING_DB_NAME": "runs",
    "TRAINING_DB_USER": "ada",
    "TRAINING_DB_PASSWORD": "p@ss",
}


def configured(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return the URL that these variables give."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.read().url


def test_a_group_gives_one_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The five variables together name a ledger."""
    assert configured(monkeypatch, **GROUP) == "postgresql://ada:p%40ss@hub:5433/runs"


@pytest.mark.parametrize("said", GROUP)
def test_a_half_set_group_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Where one variable is set, the error names the other four, the port among them."""
    with pytest.raises(HalfConfigured) as refused:
        configured(monkeypatch, **{said: GROUP[said]})

    named = str(refused.value).split(":")[1].split(" missing")[0].strip().split(", ")
    assert named == [name for name in GROUP if name != said]


@pytest.mark.parametrize("missing", GROUP)
def test_a_group_that_lacks_one_is_half_set(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Also where it is only the port, and where it is empty."""
    with pytest.raises(HalfConfigured, match=f": {missing} missing"):
        configured(monkeypatch, **{**GROUP, missing: ""})


@pytest.mark.parametrize("url", ["sqlite:///runs.db", "postgresql://ada:secret@hub/runs"])
def test_a_url_is_no_path(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A path that is a URL would make a folder called `sqlite:`; the error names the variable for URLs."""
    with pytest.raises(HalfConfigured, match="Set TRAINING_DB_URL") as refused:
        configured(monkeypatch, TRAINING_DB_PATH=url)

    assert "secret" not in str(refused.value)
