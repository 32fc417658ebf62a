"""The verb that runs a command as a recorded run: exec."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from ledger.settings import is_spool, location, pasted, shown
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.execution.run import Outcome

__all__ = ["execute"]


def execute(said: Namespace) -> int:
    """Run a command as a recorded run: ledger exec --config c.yaml -- python train.py --lr 1e-4

    Its terminal, signals and exit code are as without; its end is seen however it comes. A line on stderr says how it
    went, unless it completed and all is recorded. --on-crash gets the run id and the error log's path as $1 and $2.
    With --json that line is always there: {"run_id", "status", "end_reason", "exit_code", "error_log", "spool", ...}.
    """
    from ledger.execution.run import witness

    outcome = witness(
        said.command[1:] if said.command[:1] == ["--"] else said.command,
        place=said.db,
        run_id=said.run_id,
        config=said.config,
        chain_of_custody_id=said.chain,
        run_name=said.run_name,
        resumes_run_id=said.resumes,
        heartbeat_seconds=said.heartbeat,
        on_crash=said.on_crash,
    )
    if said.as_json:
        _say(json.dumps(asdict(outcome)))
    else:
        for line in _lines(outcome, said.db):
            _say(visible(f"ledger: {line}"))
    return outcome.exit_code


def _lines(outcome: Outcome, db: str | None) -> list[str]:
    """What is to be known: nothing of what went well."""
    made = [] if outcome.refusal is None else [outcome.refusal]
    if outcome.recorded and (outcome.status != "completed" or outcome.spool or outcome.trouble):
        made.append(" ".join([_how_it_ended(outcome), *_where_it_is(outcome, db)]))
    if outcome.handler_exit_code:
        made.append(f"the handler of the crash failed, with exit code {outcome.handler_exit_code}.")
    return made


def _how_it_ended(outcome: Outcome) -> str:
    reason = f"{outcome.end_reason}, " if outcome.end_reason else ""
    log = f"; its error log is {outcome.error_log}" if outcome.error_log else ""
    return f"run {outcome.run_id} {outcome.status} ({reason}exit code {outcome.exit_code}){log}."


def _where_it_is(outcome: Outcome, db: str | None) -> list[str]:
    made = [] if outcome.trouble is None else [" ".join(outcome.trouble.split())]
    if outcome.spool is not None:
        place = None if db is None else location(db)
        goes_to = "LEDGER" if place is None or is_spool(place) else pasted(shown(place))
        mend = f"`ledger --db {goes_to} sync {pasted(outcome.spool)}` moves it in"
        made.append(f"What was recorded is in the spool {outcome.spool}; {mend}.")
    return made


def _say(line: str) -> None:
    """Say it on stderr, if anybody takes it: the command's exit code is what counts."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)
