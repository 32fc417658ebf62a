"""What a new EC2 instance does first: a script that prepares the machine, trains, and tells of an early death."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from importlib.resources import files

from ledger.errors import AskedWrongly, InvalidValue
from ledger.settings import Settings, is_spool, shown, spool_location
from ledger.spool.s3 import key_of

__all__ = ["OWN_INSTANCE", "user_data"]

OWN_INSTANCE = "__INSTANCE_ID__"  # stands in a run id for what the instance will be called
LENGTH_BYTES_MAX = 16_384  # what EC2 takes
_REACHABLE = ("postgresql://", "postgres://")


def user_data(
    run_id: str,
    command: str | Sequence[str],
    *,
    setup: Sequence[str] = (),
    workdir: str | None = None,
    ledger_url: str | None = None,
    chain_of_custody_id: str | None = None,
    spool: str | os.PathLike[str] | None = None,
    bucket: str | None = None,
    log: str = "/var/log/training-run.log",
    shutdown: bool = True,
    allow_any_url: bool = False,
) -> str:
    """Return a bash script that runs the *setup* lines, then *command* through the verb `exec`, and then shuts down.

    It hands down RUN_ID, CHAIN_OF_CUSTODY_ID, TRAINING_DB_URL and TRAINING_DB_SPOOL. If it ends before the command has
    ended well, it records that the run crashed, unless that has ended, and keeps its log in the *bucket*, if any.
    In *run_id*, OWN_INSTANCE becomes the instance's id. A ledger that only this machine reaches is refused.
    """
    url = _reachable(Settings.read(ledger_url).url, allow_any_url=allow_any_url)
    exported = {
        "CHAIN_OF_CUSTODY_ID": chain_of_custody_id,
        "TRAINING_DB_URL": url,
        "TRAINING_DB_SPOOL": None if spool is None else spool_location(spool),
    }
    own = {"RUN_BUCKET": bucket or "", "RUN_LOG": log, "RUN_SHUTDOWN": "yes" if shutdown else "no"}
    if not any(word.strip() for word in command):
        raise InvalidValue("command", command, "the command that trains is wanted")
    words = ["bash", "-c", command] if isinstance(command, str) else list(command)
    script = [
        "#!/bin/bash",
        *(f"{name}={shlex.quote(value)}" for name, value in own.items()),
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items() if value),
        _BODY,
        *_naming(run_id),
        "set -e",
        *setup,
        *([f"cd -- {shlex.quote(workdir)}"] if workdir else []),
        f"train {shlex.join(words)}",
    ]
    return _checked("\n".join(script) + "\n")


_BODY = files("ledger.integrations").joinpath("instance.sh").read_text(encoding="utf-8")


def _naming(run_id: str) -> list[str]:
    """Lines that say which run this is; behind the traps, since asking the instance for its name may fail."""
    if not isinstance(run_id, str) or not run_id.strip():
        raise InvalidValue("run_id", run_id, "the id of the run is wanted")
    asking = ["INSTANCE_ID=$(instance_id) || exit 1"] if OWN_INSTANCE in run_id else []
    names = {"RUN_ID": run_id, "RUN_ID_JSON": json.dumps(run_id), "RUN_KEY": key_of(run_id)}
    return [*asking, *(f"{name}={_with_own_instance(text)}" for name, text in names.items()), "export RUN_ID"]


def _with_own_instance(text: str) -> str:
    return '"$INSTANCE_ID"'.join(shlex.quote(part) if part else "" for part in text.split(OWN_INSTANCE))


def _reachable(url: str, *, allow_any_url: bool) -> str:
    if allow_any_url or is_spool(url) or url.startswith(_REACHABLE):
        return url
    raise AskedWrongly(
        f"{shown(url)} is no place that an instance reaches: what it records would be lost with its disk. Give "
        "ledger_url='s3://bucket/prefix' and sync that into the ledger, or allow_any_url=True where the instance "
        "does reach it."
    )


def _checked(script: str) -> str:
    if "\0" in script:
        raise AskedWrongly("a script holds no NUL: take it out of the run id, the command or the setup.")
    length = len(script.encode("utf-8", "surrogatepass"))
    if length > LENGTH_BYTES_MAX:
        raise AskedWrongly(
            f"the script has {length} bytes, and EC2 takes {LENGTH_BYTES_MAX}: put the setup into the image or "
            "a bucket, and let one line of it fetch and run that."
        )
    return script
