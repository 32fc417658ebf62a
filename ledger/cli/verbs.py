"""The verbs that keep and prove a ledger: init, replay, verify, backup, restore-backup, schema, doctor, demo."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.cli import explaining
from ledger.cli.output import counted, say, say_document, watched
from ledger.cli.place import lies_on_server, opened
from ledger.errors import NoLedger, shortened
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.doctor import Report
    from ledger.proof import Proof

__all__ = ["backup", "demo", "doctor", "init", "replay", "restore_backup", "schema", "verify"]

FOUND = 1  # the exit code of a proof that failed


def init(said: Namespace) -> int:
    """Create the ledger, with its folders, if it is not there. With --json: {"ledger": its place, "created": ...}."""
    with opened(said) as ledger:
        there = _is_there(ledger) if lies_on_server(said) else Path(ledger.url.removeprefix("spool://")).exists()
        ledger.init_db()
    if said.as_json:
        say_document({"ledger": ledger.url, "created": not there})
    else:
        say(f"{visible(ledger.url)}: {'is there already' if there else 'created'}")
    return 0


def _is_there(ledger: Ledger) -> bool:
    try:
        ledger.count_runs()
    except NoLedger:
        return False
    return True


def replay(said: Namespace) -> int:
    """Throw the projected tables away and fold all events again. With --json: {"runs": how many}.

    With --dry-run nothing is changed, and each column that would change is printed; with --json as an
    array of run_id, column, stored and computed. A row that would come or go bears its table's name.
    """
    if said.dry_run:
        return explaining.replay_changes(said)
    with opened(said) as ledger, watched("replaying") as watcher:
        count = ledger.replay(progress=watcher)
    if said.as_json:
        say_document({"runs": count})
    else:
        say(f"{counted(count, 'run')} folded again")
    return 0


def verify(said: Namespace) -> int:
    """Check digests, chains, the append-only triggers, and that every row equals the fold of its events.

    Prints the first difference of each kind; the exit code is 1 when there is one.
    With --json: {"ok", "events", "runs", "differences": [{"kind", "run_id", "column", "stored", "computed"}]}.
    """
    with opened(said) as ledger:
        found = ledger.verify()
    if said.as_json:
        say_document({"ok": found.ok, **asdict(found)})
        return 0 if found else FOUND
    for difference in found.differences:
        run = f"run {shortened(difference.run_id)}, " if difference.run_id is not None else ""
        say(visible(f"{difference.kind}: {run}{difference.column}"))
        say(f"  stored    {shortened(difference.stored)}\n  computed  {shortened(difference.computed)}")
    kinds = len(found.differences)
    verdict = "no difference" if found else f"{counted(kinds, 'kind')} of difference, the first of each above"
    say(f"{counted(found.events, 'event')} of {counted(found.runs, 'run')} checked: {verdict}")
    return 0 if found else FOUND


def backup(said: Namespace) -> int:
    """Copy the ledger into one new file, as of one moment, while writers go on.

    `cp` is no backup: it misses what is not yet in the main file. With --json: {"backup": the file, "bytes": its size}.
    """
    with opened(said) as ledger:
        copy = ledger.backup(said.destination)
    size = copy.stat().st_size
    if said.as_json:
        say_document({"backup": str(copy), "bytes": size})
    else:
        say(f"{visible(str(copy))}: {size:,} bytes")
    return 0


def restore_backup(said: Namespace) -> int:
    """Put a backup in the ledger's place. The former files are set aside, not deleted.

    With --json: {"ledger", "set_aside": [files], "newer_events": what the backup lacks, "newer_runs": [...]}.
    """
    with opened(said) as ledger:
        restored = ledger.restore_backup(said.source)
    if said.as_json:
        say_document({"ledger": ledger.url, **asdict(restored)})
        return 0
    say(visible(f"{ledger.url}: now as in {said.source}"))
    for file in restored.set_aside:
        say(visible(f"the former file is {file}"))
    if restored.newer_events:
        runs = ", ".join(restored.newer_runs)
        say(visible(f"it has {counted(restored.newer_events, 'event')} that the backup lacks, of: {runs}"))
    elif restored.newer_events is None and restored.set_aside:
        say("it could not be read, so nobody knows what it has that the backup lacks")
    elif restored.set_aside:
        say("it has no event that the backup lacks")
    return 0


def schema(said: Namespace) -> int:
    """Print the schema as SQL: that of a file, or of PostgreSQL where the ledger lies there, which is not asked.

    The sqlite3 shell and psql run it. With --json: {"schema": the same text}.
    """
    from ledger.schema import schema_text, server_schema_text

    text = server_schema_text() if lies_on_server(said) else schema_text()
    if said.as_json:
        say_document({"schema": text})
    else:
        say(text.rstrip())
    return 0


def doctor(said: Namespace) -> int:
    """Prove every operation on a scratch ledger, never on yours; then inspect yours, if there is one.

    Problems want something done (exit code 1), remarks are to be known.
    With --json: {"proofs": [{"operation", "claim", "failure"}], "facts", "problems", "remarks"}.
    """
    from ledger.doctor import examine
    from ledger.proof import prove

    proofs = []
    if not said.as_json:
        say("Operations, on scratch ledgers")
    for proof in prove():
        proofs.append(proof)
        if not said.as_json:
            _say_proof(proof)
    report = examine(said.db, verify=not said.no_verify)
    if said.as_json:
        say_document({"proofs": [asdict(proof) for proof in proofs], **asdict(report)})
    else:
        _say_report(report)
    return 0 if all(proof.ok for proof in proofs) and not report.problems else FOUND


def _say_proof(proof: Proof) -> None:
    say(f"  {'ok' if proof.ok else 'FAILED':<8}{proof.operation:<19}{proof.claim}")
    if proof.failure:
        say(visible(f"{'':<10}{proof.failure}"))


def _say_report(report: Report) -> None:
    say("\nThe ledger")
    for name, fact in report.facts.items():
        say(visible(f"  {name:<16}{fact}"))
    for title, sentences in (("Problems", report.problems), ("Remarks", report.remarks)):
        if sentences:
            say(f"\n{title}")
        for sentence in sentences:
            say(visible(f"  - {' '.join(sentence.split())}"))
    say(f"\n{counted(len(report.problems), 'problem')}, {counted(len(report.remarks), 'remark')}")


def demo(said: Namespace) -> int:
    """Train a little sweep in real processes, and show what its ledger tells (under a minute).

    With --json: the result as one object on stdout, and all else on stderr.
    """
    from ledger.demo.sweep import run_demo

    keep = Path(said.keep).expanduser() if said.keep else None
    result = run_demo(keep, out=sys.stderr if said.as_json else sys.stdout)
    if said.as_json:
        say_document(asdict(result))
    return 0
