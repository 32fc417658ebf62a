"""Secrets in logs are taken out where they can be told for such, and nothing else is."""

from __future__ import annotations

import pytest

from ledger.integrations.redacting import redacted_text

# Put together here, so that no scanner of repositories takes them for real ones.
KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
SECRET = "wJalrXUtnFEMI/" + "K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        (f"using {KEY} now", "using [redacted] now"),
        (f"aws_secret_access_key = {SECRET}\nnext", "aws_secret_access_key = [redacted]\nnext"),
        (f'{{"wandb_api_key": "{SECRET}", "lr": 1}}', '{"wandb_api_key": "[redacted]", "lr": 1}'),
        (f"{{'password': '{SECRET}'}}", "{'password': '[redacted]'}"),
        (f"export HF_TOKEN={SECRET}; go", "export HF_TOKEN=[redacted]; go"),
        (f"train --api-key={SECRET} --lr 1", "train --api-key=[redacted] --lr 1"),
        ("hf_" + "a" * 30, "[redacted]"),
        ("remote: ghp_" + "a" * 36, "remote: [redacted]"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer [redacted]"),
        ("postgresql://ana:hunter2@db/runs", "postgresql://ana:[redacted]@db/runs"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nend", "[redacted]\nend"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE/\n[cut] and the rest stays", "[redacted][cut] and the rest stays"),
    ],
)
def test_a_secret_goes(log: str, kept: str) -> None:
    """By its look, or by the name before it; what stands around it stays."""
    assert redacted_text(log) == kept


@pytest.mark.parametrize(
    "log",
    [
        "FloatingPointError: the loss became nan at step 7",
        "pad_token=0 max_tokens=2048 tokenizer: bert",
        "api_key=None password: ''",
        'File "/opt/train.py", line 3, in <module>',
        "https://wandb.ai/team/project/runs/3k9f2x1q",
        "see http://host:8080/path and a@b.c",
        "torch.cuda.OutOfMemoryError: tried to allocate 2.00 GiB",
    ],
)
def test_all_else_stays(log: str) -> None:
    """A log is read by people who look for what happened."""
    assert redacted_text(log) == log


def test_it_takes_any_text_in_time_that_grows_with_its_length() -> None:
    """Long runs of anything that a pattern begins with come back whole."""
    for text in ("a" * 10**6, "a_" * 10**5, "=" * 10**6, "x://" * 10**5, "'" * 10**5, "key:" * 10**5):
        assert redacted_text(text) == text
