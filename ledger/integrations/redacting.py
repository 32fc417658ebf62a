"""Secrets in free text, as logs have them: what is one by its look, or by the name before it."""

from __future__ import annotations

import re

from ledger.events.redaction import REDACTED, is_secret

__all__ = ["redacted_text"]

_BY_LOOK = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bhf_[A-Za-z0-9]{20,}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}\b|\bgithub_pat_\w{20,}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
)
_BEARER = re.compile(r"\b((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_LOGIN = re.compile(r"(\w://[^\s:/@]{0,200}:)[^\s/@]{1,500}@")
_NAMED = re.compile(r"""(?<![\w-])([\w-]{2,80})(['"]?[ \t]{0,3}[:=][ \t]{0,3})("[^"\n]*"|'[^'\n]*'|[^\s,;'"&]+)""")
_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*(?:-----END [A-Z ]*PRIVATE KEY-----)?")


def redacted_text(text: str) -> str:
    """Return *text* without keys, tokens and passwords that can be told for such. It is no proof that none is left."""
    text = _KEY_BLOCK.sub(REDACTED, text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _LOGIN.sub(rf"\1{REDACTED}@", text)
    text = _BY_LOOK.sub(REDACTED, text)
    return _NAMED.sub(_without_value, text)


def _without_value(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    if not is_secret(name) or value.strip("'\"") in {"", "None", "null", "True", "False", "true", "false", REDACTED}:
        return found[0]
    quote = value[0] if value[0] in "'\"" else ""
    return f"{name}{between}{quote}{REDACTED}{quote}"
