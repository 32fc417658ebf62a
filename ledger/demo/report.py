"""Print what a user would ask of the sweep's ledger, with its answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from ledger import Ledger
from ledger.demo import answers
from ledger.demo.answers import Row
from ledger.table import table

RUN_COLUMNS = (
    "run_name",
    "status",
    "gradient_method",
    "learning_rate",
    "batch_size",
    "num_objectives",
    "num_scaffolds",
    "duration_seconds",
    "chain_of_custody_id",
)
ALIAS = "digit_accuracy_maximize"
TITLES = {
    "best_runs": f"Best runs by {ALIAS}",
    "gradient_methods": "Gradient methods compared",
    "without_post": "Completed runs without a post",
    "crashes_by_method": "Crashes by gradient method",
}


@dataclass(frozen=True)
class DemoResult:
    """What the sweep left in its ledger. *folder* is None where nothing was kept."""

    folder: str | None
    seconds: float
    runs: list[Row]
    crashed_chain: str | None
    timeline: list[Row]
    stats: Mapping[str, object]
    answers: dict[str, list[Row]]


def gather(book: Ledger, *, folder: str | None, seconds: float) -> DemoResult:
    crashed = book.query_runs(filters={"status": "crashed"}, order_by="created_at ASC", limit=1)
    chain = str(crashed[0]["chain_of_custody_id"]) if crashed else None
    return DemoResult(
        folder=folder,
        seconds=seconds,
        runs=list(book.query_runs(order_by="created_at ASC", limit=None)),
        crashed_chain=chain,
        timeline=[dict(entry) for entry in book.timeline(chain_of_custody_id=chain)] if chain else [],
        stats=book.get_stats(),
        answers={
            "best_runs": answers.best_by(book, ALIAS),
            "gradient_methods": answers.compare_methods(book),
            "without_post": answers.without_post(book),
            "crashes_by_method": answers.crashes_by_method(book),
        },
    )


def write(result: DemoResult, out: TextIO) -> None:
    section("The runs", table(result.runs, RUN_COLUMNS), out)
    if result.crashed_chain:
        section(f"The chain of custody {result.crashed_chain}", timeline_text(result.timeline), out)
    counts = "\n".join(f"{name:<20} {count}" for name, count in result.stats.items())
    section("Stats", counts, out)
    for name, rows in result.answers.items():
        section(TITLES[name], table(rows, list(rows[0])) if rows else "none", out)
    out.write(f"\n{len(result.runs)} runs in {result.seconds:.1f} s.\n{look_around(result.folder)}\n")


def section(title: str, body: str, out: TextIO) -> None:
    out.write(f"\n{title}\n\n{body}\n")


def timeline_text(entries: Sequence[Row]) -> str:
    """Say what happened, and who says so: the launcher, the process itself, or the exec around it."""
    columns = [
        (str(entry["occurred_at"])[11:23], str(entry["run_id"]), str(entry["type"]), str(entry["source"]))
        for entry in entries
    ]
    run_width, type_width, source_width = (max(len(texts[i]) for texts in columns) for i in (1, 2, 3))
    return "\n".join(
        f"{clock}  {run_id:<{run_width}}  {type_:<{type_width}}  {source:<{source_width}}  {entry['summary']}"
        for (clock, run_id, type_, source), entry in zip(columns, entries, strict=True)
    )


def look_around(folder: str | None) -> str:
    if folder is None:
        return "Nothing was kept. To look around afterwards: ledger demo --keep DIR"
    db = shlex.quote(f"{folder}/runs.db")
    return (
        f"Look around in {folder}:\n"
        f"  ledger --db {db} runs\n"
        f"  sqlite3 {db} 'SELECT run_id, status, gradient_method FROM training_runs'"
    )
