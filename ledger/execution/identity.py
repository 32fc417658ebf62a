"""Who a run is: from the words of its caller and from the environment, and what its process inherits of that."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger import origin
from ledger.errors import InvalidValue
from ledger.settings import WITNESS_FILE, location

__all__ = ["Identity", "environment_of", "identified", "is_past_time_limit", "is_scheduled"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RANDOM_LENGTH = 8
_NAME_LENGTH_MAX = 100


@dataclass(frozen=True)
class Identity:
    """What a launch says of who the run is."""

    run_id: str
    chain_of_custody_id: str | None = None
    run_name: str | None = None
    instance_id: str | None = None
    resumes_run_id: str | None = None
    config_file_path: str | None = None


def identified(
    command: Sequence[str],
    *,
    run_id: str | None,
    chain_of_custody_id: str | None,
    run_name: str | None,
    resumes_run_id: str | None,
    config_path: str | os.PathLike[str] | None,
) -> Identity:
    """Return who the run is; what its caller does not say, the environment may, and a run id is made up.

    Raises InvalidValue for what no event can hold.
    """
    instance = os.environ.get("SLURM_JOB_ID") or None
    config_path = None if config_path is None else os.path.abspath(config_path)  # noqa: PTH100 -- keeps symbolic links
    name = _name_of(command, config_path)
    known = _checked("run_id", run_id if run_id is not None else os.environ.get("RUN_ID") or None)
    chain = chain_of_custody_id if chain_of_custody_id is not None else os.environ.get("CHAIN_OF_CUSTODY_ID") or None
    resumes = resumes_run_id if resumes_run_id is not None else os.environ.get("RESUMES_RUN_ID") or None
    return Identity(
        known or f"{name}_{instance or origin.random_text(_ALPHABET, _RANDOM_LENGTH)}",
        _checked("chain_of_custody_id", chain),
        _checked("run_name", run_name),
        _checked("instance_id", instance),
        _checked("resumes_run_id", resumes),
        None if config_path is None else _storable(config_path),
    )


def environment_of(
    identity: Identity, place: str | os.PathLike[str] | None, witness_file: str | None
) -> dict[str, str]:
    """Return the environment that the run's process gets: ours, and who it is."""
    said = {
        "RUN_ID": identity.run_id,
        "CHAIN_OF_CUSTODY_ID": identity.chain_of_custody_id,
        "RESUMES_RUN_ID": identity.resumes_run_id,
        "TRAINING_DB_URL": None if place is None else location(place),
    }
    inherited = {name: value for name, value in os.environ.items() if name != WITNESS_FILE}
    made = inherited | {name: value for name, value in said.items() if value is not None}
    return made if witness_file is None else made | {WITNESS_FILE: witness_file}


def is_scheduled() -> bool:
    """Whether Slurm started us."""
    return bool(os.environ.get("SLURM_JOB_ID"))


def is_past_time_limit() -> bool:
    """Whether the time that Slurm gives the job is over."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return end.isascii() and end.isdigit() and time.time() >= int(end)


def _name_of(command: Sequence[str], config_path: str | None) -> str:
    """The config's, else the script's, else the command's, as a part of an id."""
    script = next((word for word in command[:3] if word.endswith(".py")), command[0])
    return _storable(Path(config_path or script).stem)[:_NAME_LENGTH_MAX] or "run"


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _checked(name: str, text: str | None) -> str | None:
    if text is not None and (not text.strip() or "\0" in text or text != _storable(text)):
        raise InvalidValue(name, text, "text that is not empty and is UTF-8 is wanted")
    return text
