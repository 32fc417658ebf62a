"""The verbs that ask: runs, show, timeline, stats, events."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.cli.delivering import deliver, note
from ledger.cli.formats import BINARY, encoded, format_of
from ledger.cli.output import (
    flush,
    say,
    say_array,
    say_document,
    say_record,
    short_moment,
    status_paint,
    width,
)
from ledger.cli.place import asked, opened
from ledger.errors import AskedWrongly, RunNotFound, UnknownColumn
from ledger.table import table, visible

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.events import Recorded

Row = Mapping[str, object]

SHOWN = ("run_id", "status", "liveness", "gradient_method", "host", "created_at", "duration_seconds", "run_name")


def runs(said: Namespace) -> int:
    """List runs: those that need a look (lost, then late), and then the newest first.

    Each is a row as query_runs returns it, with its liveness: alive, late, lost, ended, unknown.

    Filters are those of query_runs (docs/reference.md): -f status=crashed -f min_duration_hours=2
    -f config.training.max_steps=2000 -f has_blog_post=false -f tags=good.
    --format json, or --json: {"total": how many there are, "runs": [rows]}; the *_json columns are JSON text.
    jsonl, csv and parquet have a row a run, with all columns; what --limit leaves out is said on stderr.
    """
    filters = filters_of(said)
    limit = None if said.limit == "all" else said.limit
    columns = _columns(said)
    form = format_of(said)
    with asked(said) as ledger:
        rows = ledger.query_runs(filters, said.order_by, limit, said.offset, include_voided=said.include_voided)
        total = ledger.count_runs(filters, include_voided=said.include_voided)
    if form == "table":
        _say_table(rows, total, columns, said.output)
    elif form == "json":
        chosen = [{name: row[name] for name in said.columns} for row in rows] if said.columns else rows
        say_document({"total": total, "runs": chosen}, said.output)
    else:
        deliver(encoded(rows, said.columns or _all_columns(said), form), said.output, binary=form in BINARY)
        if len(rows) < total:
            note(f"{len(rows)} of {total} runs; --limit all gives all.")
    return 0


def _say_table(rows: Sequence[Row], total: int, columns: Sequence[str], output: str | None) -> None:
    wide, paint = (width(), status_paint) if output is None else (None, None)
    lines: list[str] = []
    if rows:
        shown = [_readable(row) for row in rows]
        headings = [_heading(name) for name in columns]
        lines.append(table(shown, headings, width=wide, gives_way=headings[-1], paint=paint))
    if len(rows) < total:
        lines.append(f"{len(rows)} of {total} shown")
    elif not rows:
        lines.append("no runs")
    say("\n".join(lines), output)


def filters_of(said: Namespace) -> dict[str, object]:
    """The filters as query_runs takes them."""
    pairs = [*said.filters]
    pairs += [("status", word) for word in said.status]
    pairs += [("host", word) for word in said.host]
    pairs += [("gradient_method", word) for word in said.method]
    pairs += [("created_after", said.since)] if said.since is not None else []
    return gathered(pairs)


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Return filters by name; one that is said several times means one of its values."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: each if len(each) > 1 else each[0] for name, each in values.items()}


def _columns(said: Namespace) -> list[str]:
    known = _all_columns(said)
    for name in said.columns or ():
        if name not in known:
            raise UnknownColumn(name, known)
    return said.columns or [*SHOWN, *(["voided"] if said.include_voided else [])]


def _all_columns(said: Namespace) -> list[str]:
    """What a row of query_runs has, in its order."""
    from ledger.projections.run import COLUMNS

    return [*COLUMNS, "liveness", *(["reason", "voided"] if said.include_voided else [])]


def _heading(column: str) -> str:
    return column.removesuffix("_seconds")


def _readable(row: Row) -> dict[str, object]:
    """The row as people write it, under the table's headings."""
    from ledger.cli.card import readable

    return {_heading(name): readable(name, value) for name, value in row.items()}


def show(said: Namespace) -> int:
    """Show all that is known of one run, voided or not. With --json: the row, as get_run returns it."""
    from ledger.cli.card import card

    with asked(said) as ledger:
        row = ledger.get_run(said.run_id)
    if row is None:
        raise RunNotFound(said.run_id, by_then=(said.as_of, said.known_at) != (None, None))
    if said.as_json:
        say_document(row)
    else:
        say(card(row))
    return 0


def timeline(said: Namespace) -> int:
    """Tell what happened to a run, or to all runs of a chain of custody, in the order in which it happened.

    With --json: a list of occurred_at, run_id, type, summary, source and event_id.
    """
    if said.run_id is None and said.chain is None:
        raise AskedWrongly("timeline needs a RUN or --chain ID. See: ledger timeline --help")
    with asked(said) as ledger:
        entries = ledger.timeline(run_id=said.run_id, chain_of_custody_id=said.chain)
    if said.as_json:
        say_document(entries)
        return 0
    lines = [{**entry, "occurred_at": short_moment(entry.occurred_at)} for entry in entries]
    several = ["run_id"] if len({entry.run_id for entry in entries}) > 1 else []
    say(table(lines, ["occurred_at", *several, "type", "source", "summary"]))
    return 0


def stats(said: Namespace) -> int:
    """Count the runs: all, by status, with a blog post, with a crash analysis. With --json: an object."""
    with asked(said) as ledger:
        counts = ledger.get_stats()
    if said.as_json:
        say_document(counts)
        return 0
    names, numbers = (max(map(len, map(str, part))) for part in (counts.keys(), counts.values()))
    say("\n".join(f"{name:<{names}}  {number:>{numbers}}" for name, number in counts.items()))
    return 0


def events(said: Namespace) -> int:
    """Print the events themselves, in order of acceptance: position, time, run, type, and what it says.

    With --follow it goes on with those that come, until it is interrupted; the run may be yet to come.
    With --json: an array, one event a line as it is stored, and with --follow JSON Lines; `source` and
    `payload` are the texts that the digest covers.
    """
    with opened(said) as ledger:
        if said.follow:
            return _follow(ledger, said)
        found = ledger.events(said.run_id, said.chain, said.after, said.types)
        if said.as_json:
            say_array(map(_stored, found))
            return 0
        for event in found:
            say(_event_line(event))
    return 0


def _follow(ledger: Ledger, said: Namespace) -> int:
    if said.chain is not None:
        raise AskedWrongly("--follow takes no --chain: a run may join a chain late. Follow its runs with --run RUN.")
    for event in ledger.follow(said.after, said.types, said.run_id):
        if said.as_json:
            say_record(_stored(event))
        else:
            say(_event_line(event))
        flush()
    return 0


def _stored(event: Recorded) -> dict[str, object]:
    from ledger.events.times import text_of
    from ledger.store.reading import EVENT_COLUMNS

    times = {name: text_of(getattr(event, name)) for name in ("occurred_at", "recorded_at")}
    return {name: getattr(event, name) for name in EVENT_COLUMNS} | times


def _event_line(event: Recorded) -> str:
    from ledger.projections.timeline import summary

    fact = event.fact()
    said = f"{event.position:>6}  {short_moment(fact.occurred_at)}  {event.run_id}  {event.type:<19}  {summary(fact)}"
    return visible(said)
