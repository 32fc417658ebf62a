"""Secrets are taken out before an event gets its digest, and what only sounds like one is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger import Ledger
from ledger.events import Event
from ledger.events.redaction import is_secret, redact
from tests.builders import amended, annotated, heartbeat, imported, launched, metrics_logged

SECRETS = (
    "api_key", "apikey", "API_KEY", "apiKey", "openai_api_key", "OPENAI_API_KEY", "wandb_api_key", "secret", "client_secret",
    "aws_secret_access_key", "aws_access_key", "password", "db_password", "DB-Password", "passwd", "pwd", "passphrase",
    "access_token", "accessToken", "auth_token", "hf_token", "github_token", "refresh_token", "session_token",
    "bearer_token", "private_key", "ssh_key", "credentials", "aws.credentials", "aws_secret", "apiToken",
)  # fmt: skip
NO_SECRETS = (
    "pad_token", "max_tokens", "tokenizer", "tokenizer_name", "bos_token", "eos_token", "num_tokens", "token", "tokens",
    "token_count", "max_new_tokens", "key", "keys", "s3_key", "conversation_s3_key", "primary_key", "sort_key", "passes",
    "password_length", "secretary", "use_api_key_auth", "mask_token_id", "monkey", "keyword", "compass", "author_name",
    "special_tokens", "unk_token", "tokens_per_second", "batch_size", "attention", "hidden_size",
)  # fmt: skip


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_is_known_by_its_key(key: str) -> None:
    """However it is spelled, a key that names a secret is one."""
    assert is_secret(key)


@pytest.mark.parametrize("key", NO_SECRETS)
def test_what_training_is_full_of_is_no_secret(key: str) -> None:
    """Tokens of a vocabulary, counts of them and keys of objects stay readable."""
    assert not is_secret(key)


def test_secrets_are_redacted_at_any_depth_and_counted() -> None:
    """Inside lists and mappings, each secret becomes "[redacted]"."""
    config: dict[str, Any] = {
        "llm": [{"api_key": "sk-1", "model": "m"}, {"api_key": "sk-2"}],
        "db": {"password": "p", "port": 5432},
        "credentials": {"user": "u", "key": "k"},
        "tokenizer": {"pad_token": "<pad>"},
    }

    assert redact(config) == (
        {
            "llm": [{"api_key": "[redacted]", "model": "m"}, {"api_key": "[redacted]"}],
            "db": {"password": "[redacted]", "port": 5432},
            "credentials": "[redacted]",
            "tokenizer": {"pad_token": "<pad>"},
        },
        4,
    )


@pytest.mark.parametrize("switch", [True, False, None, "", [], {}, "[redacted]"], ids=repr)
def test_a_switch_is_no_secret(switch: Any) -> None:
    """What says nothing under such a key stays as it is, and nothing is counted."""
    assert redact({"api_key": switch}) == ({"api_key": switch}, 0)


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize("number", [0, 123456, 0.5], ids=repr)
def test_a_number_may_be_a_secret(key: str, number: float) -> None:
    """Somebody's key or token is all digits."""
    assert redact({key: number}) == ({key: "[redacted]"}, 1)


@pytest.mark.parametrize("key", [*NO_SECRETS, "num_api_keys", "maxAccessTokens", "n_secrets", "num_credentials"])
def test_a_number_of_what_training_is_full_of_stays(key: str) -> None:
    """Counts of tokens and keys, and bounds to them, are what people filter by."""
    assert redact({key: 512}) == ({key: 512}, 0)


CARRIERS: dict[str, Callable[[], Event]] = {
    "launched": lambda: launched(0, config={"deep": [{"api_key": "sk-1"}]}),
    "annotated": lambda: annotated(0, metadata={"api_key": "sk-1"}),
    "amended": lambda: amended(0, config_json={"api_key": "sk-1"}),
    "imported": lambda: imported(0, system="old", row={"config_json": {"api_key": "sk-1"}}),
}


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_no_secret_reaches_the_ledger(carrier: Callable[[], Event]) -> None:
    """The stored event has no secret, says how many there were, and is understood; nor do rows have one."""
    with Ledger(":memory:") as book:
        recorded = book.append(carrier())

        assert "sk-1" not in recorded.payload + repr(book.query_runs())
        assert (json.loads(recorded.payload)["redacted"], book.count_runs()) == (1, 1)


def test_metrics_are_no_place_of_secrets() -> None:
    """Config and metadata are searched for secrets; a metric that sounds like one is a number and stays."""
    with Ledger(":memory:") as book:
        book.append([metrics_logged(1, columns={"secret": [1]}), heartbeat(2, metrics={"password": 0.5})])

        assert [json.loads(event.payload) for event in book.events()] == [
            {"columns": {"secret": [1]}},
            {"metrics": {"password": 0.5}},
        ]
        assert book.query_runs({"status": "running", "metrics.password": 0.5})


def test_an_event_without_secrets_counts_none() -> None:
    """Nothing is said of redaction where there was none."""
    with Ledger(":memory:") as book:
        assert json.loads(book.append(launched(0, config={"a": 1})).payload) == {"config": {"a": 1}}


def test_recording_again_what_was_redacted_is_known() -> None:
    """A retry, or the event as it was read back, has the same digest: it was made after redaction."""
    with Ledger(":memory:") as book:
        event = launched(0, config={"api_key": "sk-1"})
        first = book.append(event)

        assert [book.append(event).digest, book.append(first.event).digest, book.append(first).digest] == [
            first.digest
        ] * 3
        assert len(list(book.events())) == 1


def test_a_setting_turns_redaction_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRAINING_DB_REDACT=off stores what was said."""
    monkeypatch.setenv("TRAINING_DB_REDACT", "off")
    with Ledger(":memory:") as book:
        recorded = book.append(launched(0, config={"api_key": "sk-1"}))

        assert json.loads(recorded.payload) == {"config": {"api_key": "sk-1"}}
