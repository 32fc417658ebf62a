"""The words of the command line: verbs, options and their help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from ledger import __version__
from ledger.cli import (
    asking,
    carrying,
    executing,
    explaining,
    formats,
    granting,
    importing,
    plotting,
    recording,
    reporting,
    spooling,
    subscriptions,
    sweeping,
    verbs,
)
from ledger.cli.report_words import add_reports
from ledger.cli.words import (
    AGAIN,
    Words,
    add_as_of,
    add_common,
    add_filters,
    listed,
    pair,
    span,
    text,
)
from ledger.errors import AskedWrongly, nearest

__all__ = ["EXIT_CODES", "parse", "parser"]

Verb = Callable[[argparse.Namespace], int]

EXIT_CODES = """\
exit codes:
  0    done, and nothing is wrong
  1    verify or doctor found something, or merge, sync, import or adopt refused something
  2    asked wrongly: mend the command (an unknown run, filter, column or option)
  3    the ledger cannot be used: mend the place, then do the same again
  70   a bug of ours; the line says where the traceback is
  130  interrupted
  141  the reader of the output went away

An error is one line on stderr; with --json also {"error": ..., "kind": ...} on stdout.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong word is an error like any other: one line, with the mend."""

    def error(self, message: str) -> NoReturn:
        if found := re.match("argument VERB: invalid choice: '(.*?)'", message):
            message = f"unknown verb {found[1]!r}.{nearest(found[1], _VERBS)}"
        elif found := re.match("argument NAME: invalid choice: '(.*?)'", message):
            message = f"unknown report {found[1]!r}.{nearest(found[1], reporting.REPORTS)}"
        end = "" if message.endswith((".", "?")) else "."
        raise AskedWrongly(f"{message}{end} See: {self.prog} --help")


def parser() -> Parser:
    """Return the parser of all verbs."""
    top = Parser(
        prog="ledger",
        description="Record what happens to training runs, and ask what is true of them.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"ledger {__version__}")
    add_common(top, db=None, as_json=False)
    words = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (verb, help, add) in _VERBS.items():
        made = words.add_parser(
            name,
            help=help,
            description=_described(verb),
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # SUPPRESS: what was said before the verb is not taken back by what is not said behind it.
        add_common(made, db=argparse.SUPPRESS, as_json=argparse.SUPPRESS)
        add(made)
        made.set_defaults(run=verb)
    return top


def parse(argv: list[str]) -> argparse.Namespace:
    """Return what *argv* says. Raises AskedWrongly."""
    top = parser()
    said, rest = top.parse_known_args(argv)
    if said.verb == "amend":
        # argparse takes positionals in one go, and `amend RUN --reason R column=value` has them in two.
        said.columns += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest:
        raise AskedWrongly(f"unknown words: {' '.join(rest)}. See: ledger {said.verb} --help")
    return said


def _described(verb: Verb) -> str:
    return "\n".join(line.strip() for line in (verb.__doc__ or "").strip().splitlines())


def _nothing(_: Words) -> None:
    """This verb takes no further words."""


def _a_run(words: Words) -> None:
    words.add_argument("run_id", metavar="RUN", type=text, help="run_id")


def _show(words: Words) -> None:
    _a_run(words)
    add_as_of(words)


def _runs(words: Words) -> None:
    add = words.add_argument
    add_filters(words)
    add("--order-by", metavar="ORDER", default="liveness, created_at DESC",
        help="'column DESC, other' (default: %(default)s)")  # fmt: skip
    add("--limit", default="100", help="how many at most, or 'all' (default: %(default)s)")
    add("--offset", default="0", help="how many to skip")
    add("--include-voided", action="store_true", help="voided runs too")
    add("--columns", metavar="A,B,...", type=listed, help="these columns")
    add("--format", choices=formats.FORMATS, help="how they are written (default: table)")
    _output(words)
    add_as_of(words)


def _output(words: Words) -> None:
    words.add_argument("--output", metavar="FILE", type=text, help="write it into this file, in an older one's place")


def _timeline(words: Words) -> None:
    words.add_argument("run_id", metavar="RUN", nargs="?", type=text, help="run_id")
    words.add_argument("--chain", metavar="ID", type=text, help="all runs of a chain of custody")
    add_as_of(words)


def _explain(words: Words) -> None:
    _a_run(words)
    words.add_argument("--column", metavar="NAME", type=text, help="this column alone, with all that it ever was")


def _replay(words: Words) -> None:
    words.add_argument("--dry-run", action="store_true", help="change nothing, and print what would change")


def _events(words: Words) -> None:
    words.add_argument("--run", dest="run_id", metavar="RUN", type=text, help="of this run")
    words.add_argument("--chain", metavar="ID", type=text, help="of the runs of this chain of custody")
    words.add_argument("--after", metavar="POSITION", default="0", help="from behind this position")
    words.add_argument("--types", metavar="A,B,...", action="extend", type=listed, help=f"of these types; {AGAIN}")
    words.add_argument("--follow", action="store_true", help="go on with those that come")


def _subscription(words: Words) -> None:
    words.add_argument("name", metavar="NAME", nargs="?", type=text, help="this one, and what it has parked")


def _annotate(words: Words) -> None:
    _a_run(words)
    words.add_argument("--note", type=text, help="a remark; the latest shows")
    words.add_argument("--tag", dest="tags", metavar="TAG", action="append", default=[], type=text, help=AGAIN)
    words.add_argument(
        "--set", dest="metadata", metavar="KEY=VALUE", action="append", default=[], type=pair,
        help="further metadata; a VALUE that is JSON is taken as such",
    )  # fmt: skip
    _at(words)


def _amend(words: Words) -> None:
    _a_run(words)
    words.add_argument("columns", metavar="COLUMN=VALUE", nargs="*", help="a column's right value")
    words.add_argument("--clear", metavar="COLUMN", action="append", default=[], help=f"make it NULL; {AGAIN}")
    _reason(words)


def _with_reason(words: Words) -> None:
    _a_run(words)
    _reason(words)


def _reason(words: Words) -> None:
    words.add_argument("--reason", required=True, type=text, help="why; it stays in the history")
    _at(words)


def _at(words: Words) -> None:
    words.add_argument("--at", metavar="TIME", type=text, help="when it happened, if not now (ISO 8601)")


def _doctor(words: Words) -> None:
    words.add_argument("--no-verify", action="store_true", help="leave out reading the whole ledger")


def _sync(words: Words) -> None:
    words.add_argument("spools", metavar="SPOOL", nargs="+", help="a folder, a copy of one, or s3://bucket/prefix")
    words.add_argument("--clear", action="store_true", help="remove what the ledger has and nobody writes to any more")


def _sweep(words: Words) -> None:
    add = words.add_argument
    add("--every", metavar="SPAN", type=span, help="go on, and do it again so often: 5m, 90s, 1h")
    add("--dry-run", action="store_true", help="record nothing, and print what would be recorded")
    add("--witness", dest="witnesses", metavar="NAME", action="append", default=[], type=text,
        help=f"ask this one only: process, slurm, ec2, or a plug-in's; {AGAIN}")  # fmt: skip
    add(
        "--sacct",
        metavar="CMD",
        type=text,
        help="how Slurm is asked: 'ssh cluster sacct' (default: the one on the PATH)",
    )
    add("--scontrol", metavar="CMD", type=text, help="the same for a cluster without accounting")
    add("--region", dest="regions", metavar="REGION", action="append", default=[], type=text,
        help=f"of EC2, beside the one that is configured; {AGAIN}")  # fmt: skip


def _backup(words: Words) -> None:
    words.add_argument("destination", metavar="DEST", help="a file that is not there yet")


def _restore(words: Words) -> None:
    words.add_argument("source", metavar="SRC", help="a backup")


def _export(words: Words) -> None:
    words.add_argument(
        "destination", metavar="FILE", help="a file that is not there yet (.gz is zipped), or - for stdout"
    )


def _merge(words: Words) -> None:
    words.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="another ledger's file or URL, an export, or a spool's folder"
    )


def _import(words: Words) -> None:
    words.add_argument("system", metavar="SYSTEM", choices=("wandb",), help="where it is from: wandb")
    words.add_argument("path", metavar="PATH", help="a .wandb file, a run's folder, or a folder of several")
    words.add_argument("--run-id", metavar="ID", type=text, help="the run of this ledger that it is of")


def _adopt(words: Words) -> None:
    words.add_argument("old", metavar="OLD.db", type=text, help="a training_runs.db of the earlier API")


def _copy(words: Words) -> None:
    words.add_argument("--to", metavar="PLACE", required=True, help="where there is no ledger yet, or an empty one")


def _grants(words: Words) -> None:
    add = words.add_argument
    add("--role", metavar="KIND", required=True, choices=("reader", "writer"), help="what it may do: reader or writer")
    add("--to", metavar="NAME", type=text, help="the role's name (default: ledger_reader or ledger_writer)")


def _exec(words: Words) -> None:
    add = words.add_argument
    add("--config", metavar="FILE", help="the run's config, a file of YAML or JSON")
    add("--run-id", metavar="ID", type=text, help="else RUN_ID, else one is made of a name and the job's id")
    add("--chain", metavar="ID", type=text, help="its chain of custody; else CHAIN_OF_CUSTODY_ID")
    add("--run-name", metavar="NAME", type=text, help="a name for people")
    add("--resumes", metavar="RUN", type=text, help="the run that this one goes on from; else RESUMES_RUN_ID")
    add("--on-crash", metavar="CMD", help="what a shell runs when it crashed; $1 is the run id, $2 the error log")
    add(
        "--heartbeat",
        metavar="SPAN",
        type=span,
        default="60s",
        help="how often it says it lives (default: %(default)s)",
    )
    add("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its words, behind two dashes")


def _demo(words: Words) -> None:
    words.add_argument("--keep", metavar="DIR", help="keep everything there (the ledger is DIR/runs.db)")


_VERBS: dict[str, tuple[Verb, str, Callable[[Words], None]]] = {
    "init": (verbs.init, "create the ledger, if it is not there", _nothing),
    "exec": (executing.execute, "run a command as a recorded run, whose end is seen however it comes", _exec),
    "runs": (asking.runs, "list the runs that meet filters", _runs),
    "show": (asking.show, "all that is known of one run", _show),
    "timeline": (asking.timeline, "what happened to a run, or to a chain of custody", _timeline),
    "plot": (plotting.plot, "draw curves, objectives or a chain, in the terminal or into a file", plotting.words),
    "stats": (asking.stats, "how many runs, by status", add_as_of),
    "report": (
        reporting.report,
        "what many runs come to: outcomes, crashes, cost, what makes the difference",
        add_reports,
    ),
    "events": (asking.events, "the events themselves, in order of acceptance", _events),
    "explain": (explaining.explain, "which event gave each column of a run its value", _explain),
    "subscriptions": (subscriptions.subscriptions, "how far the consumers of events have come", _subscription),
    "annotate": (recording.annotate, "add a note, tags or metadata to a run", _annotate),
    "amend": (recording.amend, "correct columns of a run, with a reason", _amend),
    "void": (recording.void, "take a bogus run out of tables and counts", _with_reason),
    "unvoid": (recording.unvoid, "take back a void", _with_reason),
    "replay": (verbs.replay, "throw the tables away and fold all events again", _replay),
    "verify": (verbs.verify, "prove that nothing was changed and every row is right", _nothing),
    "sync": (spooling.sync, "move the events of spools into the ledger", _sync),
    "sweep": (sweeping.sweep, "end the runs that fell silent, after asking who may know of them", _sweep),
    "backup": (verbs.backup, "copy the ledger while writers write", _backup),
    "restore-backup": (verbs.restore_backup, "put a backup in the ledger's place", _restore),
    "export": (carrying.export, "write all events as lines of JSON", _export),
    "merge": (carrying.merge, "take in the events of other ledgers, exports and spools", _merge),
    "import": (importing.bring_in, "bring in what W&B kept of runs, offline too", _import),
    "adopt": (importing.adopt, "take over a training_runs.db of the earlier API", _adopt),
    "copy": (carrying.copy, "write the same ledger into an empty one", _copy),
    "grants": (granting.grants, "print the SQL that lets a role write to a ledger on PostgreSQL, or read it", _grants),
    "schema": (verbs.schema, "print the schema as SQL", _nothing),
    "doctor": (verbs.doctor, "prove every operation on a scratch ledger, then inspect yours", _doctor),
    "demo": (verbs.demo, "run a real little sweep and show what a ledger tells of it", _demo),
}
