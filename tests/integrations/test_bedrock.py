"""A model of Bedrock is asked through a real boto3 client, and its words are the analysis."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from ledger import Ledger
from ledger.errors import MissingExtra
from ledger.integrations import bedrock as module
from ledger.integrations.bedrock import PROMPT, bedrock
from ledger.integrations.crash import CrashEvidence, notify_and_analyze_crash

MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
EVIDENCE = CrashEvidence(
    "r", {"status": "crashed", "note": None}, (), {"lr": 1}, "Traceback\nValueError: x\n", 1, "exception"
)


def answer(*blocks: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    """Return what Bedrock answers."""
    return {
        "output": {"message": {"role": "assistant", "content": list(blocks)}},
        "stopReason": stop,
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
        "metrics": {"latencyMs": 1},
    }


@pytest.fixture
def stubbed() -> Iterator[Stubber]:
    """Give a real client whose wire is botocore's stub, which checks both shapes."""
    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_the_model_reads_the_evidence(stubbed: Stubber) -> None:
    """All of it, as data, behind the prompt; its text comes back."""
    asked = {
        "modelId": MODEL,
        "system": [{"text": PROMPT}],
        "messages": [{"role": "user", "content": [{"text": module.evidence_text(EVIDENCE)}]}],
        "inferenceConfig": {"maxTokens": 1500},
    }
    stubbed.add_response("converse", answer({"text": "# Cause\n"}), asked)

    assert bedrock(MODEL, client=stubbed.client)(EVIDENCE) == "# Cause\n"
    for part in ('"status":"crashed"', '"exit_code":1', '{"lr":1}', "ValueError: x"):
        assert part in module.evidence_text(EVIDENCE)


def test_what_is_said_is_asked(stubbed: Stubber) -> None:
    """Another prompt, another limit; blocks that are no text are passed over, and a cut answer says so."""
    asked = {"modelId": "m", "system": [{"text": "Be brief."}], "messages": ANY, "inferenceConfig": {"maxTokens": 5}}
    reasoning = {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    stubbed.add_response("converse", answer(reasoning, {"text": "a"}, {"text": "b"}, stop="max_tokens"), asked)
    said = bedrock("m", client=stubbed.client, prompt="Be brief.", max_tokens=5)(EVIDENCE)

    assert said == "a\n\nb\n\n(The answer was cut off at its limit of tokens.)"


def test_a_long_log_is_cut_at_its_beginning() -> None:
    """The end is what tells of the end."""
    text = module.evidence_text(CrashEvidence("r", error_log="begin" + "x" * 10**6 + "the end"))

    assert len(text) < module.LOG_LENGTH_MAX + 1000
    assert ("begin" in text, "the end" in text) == (False, True)


@pytest.mark.parametrize(
    ("blocks", "code"), [([], None), (None, "ThrottlingException"), (None, "AccessDeniedException")]
)
def test_a_model_that_gives_nothing_costs_only_the_analysis(
    blocks: Any, code: str | None, stubbed: Stubber, book: Ledger, tmp_path: Path
) -> None:
    """Whether it refuses, is too busy, or has nothing to say."""
    book.insert_run("r", None, {})
    if code:
        stubbed.add_client_error("converse", code)
    else:
        stubbed.add_response("converse", answer(*blocks))
    made = notify_and_analyze_crash("r", folder=tmp_path, analyze=bedrock("m", client=stubbed.client), ledger=book)

    assert (made.analysis, made.crash_report_s3_key) == (None, "crash-reports/r/report.md")
    assert len(made.problems) == 1
    assert (code or "no text") in made.problems[0]


class Bedrock(BaseHTTPRequestHandler):
    """Answers like Bedrock, over a real wire."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"asked {self.path} with {len(asked['messages'])} message"
        body = json.dumps(answer({"text": text})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        """Say nothing."""


def test_a_client_is_made_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not before: neither a missing region nor missing credentials can come before the crash is recorded."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    analyze, elsewhere = bedrock("m"), bedrock("m", region="eu-west-1")
    with pytest.raises(Exception, match="region"):
        analyze(EVIDENCE)
    server = HTTPServer(("127.0.0.1", 0), Bedrock)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    try:
        assert elsewhere(EVIDENCE) == "asked /model/m/converse with 1 message"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the analysis is due."""
    real = builtins.__import__

    def without(name: str, *said: Any) -> Any:
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(name)
        return real(name, *said)

    analyze = bedrock("m")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[aws\]"):
        analyze(EVIDENCE)
