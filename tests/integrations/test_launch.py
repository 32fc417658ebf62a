"""A launch is recorded first, whatever becomes of its conversation."""

from __future__ import annotations

import builtins
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, RunAlreadyExists
from ledger.integrations.launch import Launch, record_launch, run_id_for
from tests.store.test_fallback import locked

YAML = "training: {batch_size: 384, learning_rate: 1e-4}\nreward: {gradient_method: mgda}\n"
KEY = "conversations/mgda_i-1/conversation.json"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a config file."""
    (tmp_path / "mgda.yaml").write_text(YAML)
    return tmp_path / "mgda.yaml"


def row(book: Ledger, run_id: str = "mgda_i-1") -> dict[str, Any]:
    found = book.get_run(run_id)
    assert found is not None
    return found


@pytest.mark.parametrize("path", ["mgda.yaml", "/a/b/mgda.yml", Path("configs/mgda.json"), "mgda"])
def test_a_run_is_named_by_config_and_instance(path: str | Path) -> None:
    """`<config>_<instance>`, as in the document."""
    assert run_id_for(path, "i-abc123") == "mgda_i-abc123"


@pytest.mark.parametrize(
    ("path", "instance"), [("", "i-1"), ("mgda.yaml", ""), ("mgda.yaml", " "), ("mgda.yaml", None)]
)
def test_half_a_name_is_none(path: str, instance: Any) -> None:
    """Without a config or an instance a run has no id."""
    with pytest.raises(InvalidValue, match="named by its config file and its instance"):
        run_id_for(path, instance)


def test_launch_and_conversation_are_there(book: Ledger, config: Path, bucket: Any) -> None:
    """Everything that the document says of a launch, in one call."""
    said = {"messages": [{"role": "user", "content": "Try MGDA, please: ü"}]}
    made = record_launch(
        config, "i-1", chain_of_custody_id="ABC123", conversation=said, bucket="team", instance_type="g5", ledger=book
    )
    after = row(book)

    assert made == Launch("mgda_i-1", "ABC123", KEY)
    assert {name: after[name] for name in ("status", "host", "instance_id", "instance_type", "run_name")} == {
        "status": "launched", "host": "ec2", "instance_id": "i-1", "instance_type": "g5", "run_name": "mgda",
    }  # fmt: skip
    assert (after["batch_size"], after["learning_rate"], after["gradient_method"]) == (384, 1e-4, "mgda")
    assert (after["conversation_s3_key"], after["config_file_path"]) == (KEY, str(config))
    assert json.loads(bucket.Object(KEY).get()["Body"].read()) == said


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([{"role": "user"}], [{"role": "user"}]),
        ('{"a": 1}', {"a": 1}),
        (b'[1, "\xc3\xbc"]', [1, "ü"]),
        ("just a wish", "just a wish"),
        (b"bytes \xff", "bytes \\xff"),
        ({"when": float("nan"), "what": {1, 2}}, {"when": "NaN", "what": [1, 2]}),
        ({"text": "\udc80"}, {"text": "\udc80"}),
    ],
)
def test_a_conversation_is_kept_as_json(said: Any, kept: Any, book: Ledger, config: Path, tmp_path: Path) -> None:
    """Whatever form it has: as it stands where it is JSON, else as JSON; from a file, too."""
    made = record_launch(config, "i-1", conversation=said, folder=tmp_path / "kept", ledger=book)
    assert made.conversation_s3_key == KEY
    assert json.loads((tmp_path / "kept" / KEY).read_bytes()) == kept

    if isinstance(said, str | bytes):
        (tmp_path / "chat").write_bytes(said if isinstance(said, bytes) else said.encode())
        record_launch(config, "i-2", conversation=tmp_path / "chat", folder=tmp_path / "kept", ledger=book)
        assert json.loads((tmp_path / "kept" / KEY.replace("i-1", "i-2")).read_bytes()) == kept


def test_a_key_is_attached_as_it_is(book: Ledger, config: Path) -> None:
    """Where somebody else has uploaded the conversation."""
    made = record_launch(config, "i-1", conversation_s3_key="chats/7.json", ledger=book)

    assert made.conversation_s3_key == row(book)["conversation_s3_key"] == "chats/7.json"


@pytest.mark.parametrize("what", ["no bucket", "no folder", "no conversation", "no boto3"])
def test_a_conversation_that_is_not_kept_loses_no_launch(
    what: str, book: Ledger, config: Path, tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The launch is there; the answer and the log say what is missing."""
    (tmp_path / "kept").write_text("a file")
    said: dict[str, Any] = {"conversation": {"a": 1}, "bucket": "nowhere"}
    if what == "no folder":
        said = {"conversation": {"a": 1}, "folder": tmp_path / "kept"}
    if what == "no conversation":
        said = {"conversation": tmp_path / "none.json", "bucket": "team"}
    if what == "no boto3":
        real = builtins.__import__
        monkeypatch.setattr(
            builtins,
            "__import__",
            lambda name, *more: _missing(name) if name.startswith("boto") else real(name, *more),
        )
    with caplog.at_level(logging.WARNING, "ledger"):
        made = record_launch(config, "i-1", chain_of_custody_id="ABC123", ledger=book, **said)

    assert (row(book)["status"], row(book)["conversation_s3_key"]) == ("launched", None)
    assert (made.run_id, made.conversation_s3_key, len(made.problems)) == ("mgda_i-1", None, 1)
    assert made.problems[0].startswith("keeping the conversation: ")
    assert made.problems[0] in caplog.text


def _missing(name: str) -> Any:
    raise ImportError(name)


def test_a_ledger_that_refuses_the_attachment_keeps_the_launch(book: Ledger, config: Path, path: Path) -> None:
    """A ledger that is locked right behind the launch is a problem, and the launch stays."""
    with Ledger(path, busy_seconds_max=0.1) as impatient:
        lock = locked(path)

        class Locking(dict[str, object]):
            def items(self) -> Any:
                lock.__enter__()
                return super().items()

            def __iter__(self) -> Any:
                lock.__enter__()
                return super().__iter__()

        made = record_launch(config, "i-1", conversation=Locking(a=1), folder=path.parent, ledger=impatient)
        lock.__exit__(None, None, None)

    assert made.problems[0].startswith("attaching the conversation: the ledger at")
    assert made.conversation_s3_key == KEY
    assert row(book)["status"] == "launched"


def test_a_chain_is_made_once(book: Ledger, config: Path) -> None:
    """Where none is given; the same launch again has the same one, and changes nothing."""
    first = record_launch(config, "i-1", ledger=book)
    again = record_launch(config, "i-1", ledger=book)
    other = record_launch(config, "i-2", ledger=book)

    assert first == again
    assert len(first.chain_of_custody_id) == 6
    assert first.chain_of_custody_id != other.chain_of_custody_id
    assert [event.type for event in book.events()] == ["launched", "launched"]
    config.write_text("training: {batch_size: 1}")
    with pytest.raises(RunAlreadyExists):
        record_launch(config, "i-1", ledger=book)


def test_a_config_may_be_a_mapping(book: Ledger) -> None:
    """Then its name is the run's, or the id is given whole."""
    assert record_launch({"lr": 1}, "i-1", run_name="mgda", ledger=book).run_id == "mgda_i-1"
    assert record_launch({"lr": 1}, "i-1", run_id="r", ledger=book).run_id == "r"
    with pytest.raises(AskedWrongly, match="give run_name"):
        record_launch({"lr": 1}, "i-1", ledger=book)


def test_a_config_may_be_json(book: Ledger, tmp_path: Path) -> None:
    """By the end of its name."""
    (tmp_path / "mgda.json").write_text('{"lr": 0.5}')
    record_launch(str(tmp_path / "mgda.json"), "i-1", ledger=book)

    assert row(book)["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "a: [1"), ("a.json", "{"), ("none.yaml", None), ("b.yaml", b"\xff\xff")]
)
def test_a_config_that_cannot_be_read_is_an_error(name: str, text: Any, book: Ledger, tmp_path: Path) -> None:
    """One that names the file; nothing is recorded."""
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidValue, match=f"config='.*{name}' cannot be meant: a file of YAML or JSON is wanted"):
        record_launch(tmp_path / name, "i-1", ledger=book)
    assert list(book.events()) == []


def test_what_cannot_be_meant_is_refused_first(book: Ledger, config: Path) -> None:
    """Before anything is recorded."""
    with pytest.raises(AskedWrongly, match="needs bucket"):
        record_launch(config, "i-1", conversation={}, ledger=book)
    with pytest.raises(AskedWrongly, match="which of them"):
        record_launch(config, "i-1", conversation={}, conversation_s3_key="k", folder="kept", ledger=book)
    with pytest.raises(AskedWrongly, match="name the one"):
        record_launch(config, "i-1", conversation={}, bucket="team", folder="kept", ledger=book)
    assert list(book.events()) == []


def test_without_yaml_the_extra_is_named(book: Ledger, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is recorded."""
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *more: _missing(name) if name == "yaml" else real(name, *more)
    )
    with pytest.raises(MissingExtra, match=r"training-run-ledger\[yaml\]"):
        record_launch(config, "i-1", ledger=book)
    assert list(book.events()) == []


def test_a_launch_goes_to_a_spool_too(book: Ledger, config: Path, tmp_path: Path) -> None:
    """With its conversation; nobody there can be asked for a chain."""
    with Ledger(f"spool://{tmp_path}/spool") as spool:
        made = record_launch(config, "i-1", conversation="hello", folder=tmp_path / "kept", ledger=spool)
    book.sync(tmp_path / "spool")

    assert made.problems == ()
    assert (row(book)["chain_of_custody_id"], row(book)["conversation_s3_key"]) == (made.chain_of_custody_id, KEY)


def test_the_environment_names_the_ledger(config: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the first launch creates."""
    monkeypatch.setenv("TRAINING_DB_PATH", str(path))
    record_launch(config, "i-1", resumes_run_id="r0", wandb_run_id="w1", host="expanse", run_name="Mine")

    with Ledger(path) as book:
        after = row(book)
    assert (after["resumes_run_id"], after["wandb_run_id"], after["host"], after["run_name"]) == (
        "r0", "w1", "expanse", "Mine",
    )  # fmt: skip
