"""Secrets are taken out before an event gets its digest: an append-only ledger would keep them for ever."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import JsonValue

__all__ = ["REDACTED", "is_secret", "redact"]

REDACTED = "[redacted]"

_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
# A number under such a name counts or bounds them, and is none of them.
_COUNT = re.compile(r"^(?:num|n|max|min|total|count)_")
_SECRET = re.compile(
    r"(?:^|_)(?:"
    r"api_?keys?|access_?keys?|secret_?(?:access_?)?keys?|private_?keys?|ssh_?keys?|signing_?keys?|encryption_?keys?"
    r"|secrets?|client_?secret|passwords?|passwd|pwd|passphrase|credentials?|creds"
    r"|(?:access|auth|api|bearer|refresh|session|security|oauth|hub|hf|github|gitlab|slack|wandb|bot|personal)_?tokens?"
    r")$"
)


@lru_cache(maxsize=4096)  # of a history of a thousand steps the keys are the same in each
def is_secret(key: str) -> bool:
    """Whether a value under *key* is a secret by its name; `pad_token`, `max_tokens`, `tokenizer` are not."""
    return _SECRET.search(_words(key)) is not None


def _words(key: str) -> str:
    return "_".join(_WORD_BREAK.split(key)).lower()


def _holds_secret(key: str, value: JsonValue) -> bool:
    if isinstance(value, bool) or value in (None, "", REDACTED, [], {}):
        return False
    counts = isinstance(value, int | float) and _COUNT.match(_words(key)) is not None
    return is_secret(key) and not counts


def redact(value: JsonValue) -> tuple[JsonValue, int]:
    """Return *value* with its secrets replaced by "[redacted]", and how many there were.

    A switch or nothing at all (true, null, "", an empty list) is no secret and stays; a number may be one.
    """
    if isinstance(value, dict):
        return _redact_mapping(value)
    if isinstance(value, list):
        pairs = [redact(item) for item in value]
        return [item for item, _ in pairs], sum(count for _, count in pairs)
    return value, 0


def _redact_mapping(value: dict[str, JsonValue]) -> tuple[JsonValue, int]:
    made: dict[str, JsonValue] = {}
    total = 0
    for key, item in value.items():
        if _holds_secret(key, item):
            made[key], count = REDACTED, 1
        else:
            made[key], count = redact(item)
        total += count
    return made, total
