"""Who a run is: from the words of its caller and from the environment, and what its process inherits of that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger import origin
from ledger.errors import InvalidValue
from ledger.settings import WITNESS_FILE, location
from ledger.tracking import surroundings

__all__ = ["Identity", "environment_of", "identified"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RANDOM_LENGTH = 8
_NAME_LENGTH_MAX = 100
_STEPS_END = 0xFFFFFFF0  # from here on Slurm's numbers mean what is no step of `srun`, such as the batch script


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
    instance = _checked("instance_id", surroundings.instance_id())
    config_path = None if config_path is None else os.path.abspath(config_path)  # noqa: PTH100 -- keeps symbolic links
    name = _name_of(command, config_path)
    known = _checked("run_id", run_id if run_id is not None else os.environ.get("RUN_ID") or None)
    run_id = known or _made_up(name, instance)
    chain = chain_of_custody_id if chain_of_custody_id is not None else os.environ.get("CHAIN_OF_CUSTODY_ID") or None
    resumes = resumes_run_id if resumes_run_id is not None else os.environ.get("RESUMES_RUN_ID") or None
    return Identity(
        run_id,
        _checked("chain_of_custody_id", chain),
        _checked("run_name", run_name),
        instance,
        None if resumes == run_id else _checked("resumes_run_id", resumes),  # no run goes on from itself
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
    if inherited.get("RESUMES_RUN_ID") == identity.run_id:
        del inherited["RESUMES_RUN_ID"]
    made = inherited | {name: value for name, value in said.items() if value is not None}
    return made if witness_file is None else made | {WITNESS_FILE: witness_file}


def _made_up(name: str, instance: str | None) -> str:
    """A run id that no other command of the job gets, and all processes of one step of Slurm do."""
    step = os.environ.get("SLURM_STEP_ID", "") if surroundings.under_slurm() else ""
    if instance is not None and step.isascii() and step.isdigit() and int(step) < _STEPS_END:
        return f"{name}_{instance}.{step}"
    return "_".join([name, *([] if instance is None else [instance]), origin.random_text(_ALPHABET, _RANDOM_LENGTH)])


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
