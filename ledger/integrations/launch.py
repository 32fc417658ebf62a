"""What a launcher calls: `record_launch(config, instance_id, ...)`, and `user_data(...)` for a new EC2 instance."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ledger.api import Ledger
from ledger.default import default_ledger
from ledger.errors import AskedWrongly, InvalidValue, MissingExtra, Unreachable
from ledger.events.plain import plain
from ledger.integrations.instance import OWN_INSTANCE, user_data
from ledger.integrations.keeping import Keeper, keeper_of, key_of
from ledger.integrations.problems import Problems

__all__ = ["OWN_INSTANCE", "Launch", "record_launch", "run_id_for", "user_data"]

Config = Mapping[str, object] | str | os.PathLike[str]
Conversation = Mapping[str, object] | Sequence[object] | str | bytes | os.PathLike[str]


@dataclass(frozen=True)
class Launch:
    """A launch that is recorded. *problems* says what of its conversation is not."""

    run_id: str
    chain_of_custody_id: str
    conversation_s3_key: str | None = None
    problems: tuple[str, ...] = ()


def run_id_for(config_path: str | os.PathLike[str], instance_id: str) -> str:
    """Return the documented id of a run: the name of its config and its instance, as in `mgda_i-abc123`."""
    stem = Path(config_path).stem
    for name, value in (("config_path", stem), ("instance_id", instance_id)):
        if not isinstance(value, str) or not value.strip():
            raise InvalidValue(name, value, "a run is named by its config file and its instance")
    return f"{stem}_{instance_id}"


def record_launch(
    config: Config,
    instance_id: str,
    *,
    run_id: str | None = None,
    run_name: str | None = None,
    chain_of_custody_id: str | None = None,
    conversation: Conversation | None = None,
    conversation_s3_key: str | None = None,
    bucket: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    host: str = "ec2",
    instance_type: str | None = None,
    wandb_run_id: str | None = None,
    resumes_run_id: str | None = None,
    ledger: Ledger | None = None,
) -> Launch:
    """Record a launch, then keep its conversation in the bucket or folder and attach it; return what it is known by.

    *config* is the path of a YAML or JSON file, or a mapping. The chain of custody is made where none is given. Once
    the launch is recorded nothing is raised: what became of the conversation is in `problems`, and on the log.
    """
    place = _place_of(conversation, conversation_s3_key, keeper_of(bucket=bucket, folder=folder))
    named = _Named.of(config, instance_id, run_id, run_name)
    book = default_ledger() if ledger is None else ledger
    chain = chain_of_custody_id or _chain_of(book, named.run_id)
    book.insert_run(
        named.run_id,
        wandb_run_id,
        _read(config),
        chain,
        run_name=named.run_name,
        config_file_path=named.config_file_path,
        host=host,
        instance_id=instance_id,
        instance_type=instance_type,
        resumes_run_id=resumes_run_id,
    )
    problems = Problems(named.run_id)
    key = conversation_s3_key
    if conversation is not None and place is not None:
        key = _kept(place, named.run_id, conversation, problems)
    if key is not None:
        with problems.step("attaching the conversation"):
            book.attach_conversation(named.run_id, key)
    return Launch(named.run_id, chain, key, problems.all())


@dataclass(frozen=True)
class _Named:
    """What a run is called, and where its config lies."""

    run_id: str
    run_name: str | None
    config_file_path: str | None

    @classmethod
    def of(cls, config: Config, instance_id: str, run_id: str | None, run_name: str | None) -> _Named:
        if isinstance(config, str | os.PathLike):
            path = Path(config).expanduser()
            return cls(run_id or run_id_for(path, instance_id), run_name or path.stem, str(path.absolute()))
        if run_id is None and run_name is None:
            raise AskedWrongly("a config that is no file has no name: give run_name=... (or the whole run_id=...).")
        return cls(run_id or run_id_for(run_name or "", instance_id), run_name, None)


def _place_of(conversation: object, key: str | None, keeper: Keeper | None) -> Keeper | None:
    if conversation is None:
        return keeper
    if key is not None:
        raise AskedWrongly("conversation=... and conversation_s3_key=... are both given: which of them is it?")
    if keeper is None:
        raise AskedWrongly("a conversation needs bucket=... or folder=... to be kept in.")
    return keeper


def _chain_of(book: Ledger, run_id: str) -> str:
    """The chain of this run where it was launched before, so that a launcher may do the same again; else a new one."""
    with suppress(Unreachable):
        known = (book.get_run(run_id) or {}).get("chain_of_custody_id")
        if known:
            return str(known)
    return book.new_chain_of_custody_id()


def _read(config: Config) -> object:
    if not isinstance(config, str | os.PathLike):
        return config
    path = Path(config).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else _from_yaml(text)
    except (OSError, ValueError, RecursionError) as exc:
        raise InvalidValue("config", os.fspath(config), f"a file of YAML or JSON is wanted ({exc})") from exc


def _from_yaml(text: str) -> object:
    try:
        import yaml
    except ImportError as exc:
        raise MissingExtra("yaml") from exc
    try:
        made: object = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(" ".join(str(exc).split())) from exc
    return made


def _kept(place: Keeper, run_id: str, conversation: Conversation, problems: Problems) -> str | None:
    with problems.step("keeping the conversation"):
        key = key_of("conversations", run_id, "conversation.json")
        return place.keep(key, _as_json(conversation), "application/json")
    return None


def _as_json(conversation: Conversation) -> bytes | str:
    """The conversation as JSON: text that is JSON as it stands, other text as a JSON text."""
    if isinstance(conversation, os.PathLike):
        conversation = Path(conversation).read_bytes()
    if not isinstance(conversation, str | bytes):
        return json.dumps(plain(conversation), indent=2, ensure_ascii=False)
    try:
        json.loads(conversation)
    except (ValueError, RecursionError):
        text = conversation if isinstance(conversation, str) else conversation.decode("utf-8", "backslashreplace")
        return json.dumps(text)
    return conversation
