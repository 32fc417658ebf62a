"""The doctor's words: what is wrong with a ledger, what is only worth knowing, and the mend for each.

A problem wants something done; a remark is to be known.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.api import Ledger
from ledger.errors import HalfConfigured, LedgerError, NotConfigured, Unreachable, shortened
from ledger.settings import IN_MEMORY, OFF, Settings, is_spool, pasted
from ledger.spool.places import open_spool
from ledger.store.filesystem import on_network
from ledger.store.inspect import Inspection, copies_beside
from ledger.store.sqlite import SQLITE_FIXED

if TYPE_CHECKING:
    from ledger.store.postgres.state import ServerState

__all__ = ["Report", "examine"]

NAMED_MAX = 5  # of many runs so many are named
CONNECTIONS_SHARE_MAX = 0.8


@dataclass
class Report:
    """What was found: *facts* by name, *problems* and *remarks* as sentences."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def examine(place: str | None = None, *, verify: bool = True) -> Report:
    """Inspect the ledger at *place*, else the one that the environment names; say so when there is none."""
    report = Report()
    try:
        with Ledger(place) as ledger:
            report.facts["place"] = ledger.url
            if ledger.url in (OFF, IN_MEMORY) or is_spool(ledger.url):
                report.remarks.append(f"No ledger was inspected: {ledger.url!r} keeps none. Give a file with --db.")
            else:
                _examine(report, ledger, verify=verify)
    except NotConfigured as exc:
        # A machine without a ledger is in order; half-set variables are not.
        sentences = report.problems if isinstance(exc, HalfConfigured) else report.remarks
        sentences.append(f"No ledger was inspected: {exc}")
    except Unreachable as exc:
        report.problems.append(str(exc))
    if not report.facts.get("place", "").startswith("postgres"):
        _library(report)
    return report


def _examine(report: Report, ledger: Ledger, *, verify: bool) -> None:
    found, damaged = ledger.inspect(damages=verify)
    _facts(report, found)
    if found.replay_is_due:
        report.problems.append(
            "The tables were folded by other rules than this version's, or nobody knows by which: old rows may lack "
            "what new ones have. See what would change with `ledger replay --dry-run`, then run `ledger replay`."
        )
    if found.server is not None:
        _server(report, found.server)
    else:
        _file(report, found, Path(ledger.url))
    _spooled(report)
    for judge in (_contested, _unreadable, _ahead, _relaunched, _conflicting, _parked):
        judge(report, found)
    if damaged:
        report.problems.append(f"The file is damaged ({damaged}). Put a backup in its place: ledger restore-backup SRC")
    if verify:
        _verification(report, ledger)


def _facts(report: Report, found: Inspection) -> None:
    if found.journal_mode is not None:
        report.facts["journal mode"] = found.journal_mode
    report.facts["events"] = f"{found.events}"
    report.facts["runs"] = f"{found.runs}" + (f", and {found.voided} voided" if found.voided else "")
    report.facts["migrations"] = ", ".join(f"{name} ({applied_at[:10]})" for name, applied_at in found.migrations)


def _spooled(report: Report) -> None:
    """What lies in the spool that is fallen back to, for this ledger or another one."""
    url = Settings.read(IN_MEMORY).spool
    if url is None:
        return
    spool = open_spool(url)
    try:
        count = sum(1 for _ in spool.files())
    except LedgerError:  # nothing was spooled yet, or nobody may look
        return
    if count:
        report.remarks.append(
            f"{count} file(s) lie in the spool {spool.place}, for this ledger or for others. What processes of this "
            "machine left for this one comes in by itself; all of it comes in with "
            f"`ledger sync {pasted(spool.place)}`."
        )


def _library(report: Report) -> None:
    report.facts["SQLite library"] = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < SQLITE_FIXED:
        fixed = ".".join(map(str, SQLITE_FIXED))
        report.remarks.append(
            f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug (mended in {fixed}): two processes of which one "
            "commits and one checkpoints at the same moment can damage the file. The ledger's own processes never do "
            "that; another program that writes to the file might. Let nothing else write to it."
        )


def _file(report: Report, found: Inspection, path: Path) -> None:
    _journal(report, found, network=on_network(path))
    if copies := copies_beside(path):
        report.remarks.append(f"Former copies lie beside the ledger: {_named(copies)}. Remove them when of no use.")


def _server(report: Report, server: ServerState) -> None:
    report.facts["server"] = f"PostgreSQL {server.version}" + (", a standby" if server.is_standby else "")
    report.facts["connections"] = f"{server.connections} of {server.connections_max}"
    if server.connections > CONNECTIONS_SHARE_MAX * server.connections_max:
        report.problems.append(
            f"{server.connections} of the server's {server.connections_max} connections are in use, and who finds none "
            "cannot record. Raise max_connections, or put a pooler before the server."
        )
    if server.oldest is not None:
        report.problems.append(
            f"A transaction of process {server.oldest.pid} ({shortened(server.oldest.program)}) has been open for "
            f"{server.oldest.seconds:.0f} s; until it ends, followers and subscriptions see no event after it. End it "
            f"with SELECT pg_terminate_backend({server.oldest.pid}), if nobody is at work there."
        )


def _journal(report: Report, found: Inspection, *, network: bool) -> None:
    if not network:
        return
    if found.journal_mode == "wal":
        report.problems.append(
            "The file lies on a network filesystem and is in WAL mode, which works on one machine only. "
            "Move it to a local disk, or stop all writers and run: PRAGMA journal_mode = DELETE"
        )
    else:
        report.remarks.append(
            "The file lies on a network filesystem, whose locks SQLite has to trust. A local disk is safer."
        )


def _contested(report: Report, found: Inspection) -> None:
    for claim in found.contested:
        if claim.others:
            report.problems.append(
                f"W&B run {claim.wandb_run_id} is claimed by several runs: {claim.holder} holds it, "
                f"{_named(claim.others)} cannot. Void what is bogus, amend it with --clear wandb_run_id, or say with "
                "resumes_run_id which run goes on from which."
            )
        else:
            report.remarks.append(
                f"W&B run {claim.wandb_run_id} is held by {claim.holder}, which goes on from {_named(claim.resumed)}."
            )


def _unreadable(report: Report, found: Inspection) -> None:
    if found.unreadable:
        count = sum(events for _, events in found.unreadable)
        report.remarks.append(
            f"Not understood by this version, and left out of the rows: {count} event(s) of "
            f"{_named([run_id for run_id, _ in found.unreadable])}. Nothing is lost; "
            "update with: pip install --upgrade training-run-ledger"
        )


def _ahead(report: Report, found: Inspection) -> None:
    if found.ahead:
        count = sum(run.events for run in found.ahead)
        hours = max(run.hours_max for run in found.ahead)
        report.remarks.append(
            f"Dated more than an hour after this ledger accepted them ({hours:.1f} h at most): {count} event(s) of "
            f"{_named([run.run_id for run in found.ahead])}. See to the clocks of those machines."
        )


def _relaunched(report: Report, found: Inspection) -> None:
    if found.relaunched:
        report.remarks.append(
            f"Launched more than once, with different configs: {_named(found.relaunched)}. The earliest launch counts; "
            "see ledger timeline RUN."
        )


def _parked(report: Report, found: Inspection) -> None:
    for name, count in found.parked:
        report.problems.append(
            f"Subscription {name!r} gave up on {count} event(s) whose handler failed, and went on without. See ledger "
            f"subscriptions {shlex.quote(name)}; mend the handler and deliver them with Subscription.retry(handler)."
        )


def _conflicting(report: Report, found: Inspection) -> None:
    if found.conflicts:
        kept = [f"event {c.event_id} of run {c.run_id} (from {c.came_from})" for c in found.conflicts]
        report.remarks.append(
            f"Came with an id that was known with other content: {_named(kept)}. The first accepted counts, and the "
            "other is kept in the table training_conflicts. Compare the two; where the other is right, amend the run."
        )


def _verification(report: Report, ledger: Ledger) -> None:
    found = ledger.verify()
    report.facts["verify"] = "no difference" if found else f"{len(found.differences)} found"
    for first in found.differences:
        run = f"run {first.run_id}, " if first.run_id is not None else ""
        report.problems.append(
            f"verify: {first.kind}: {run}{first.column}: stored {shortened(first.stored)}, "
            f"computed {shortened(first.computed)}"
        )


def _named(names: Sequence[str]) -> str:
    listed = ", ".join(names[:NAMED_MAX])
    return f"{listed} and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else listed
