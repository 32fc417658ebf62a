"""The verbs that record what a person says of a run: annotate, amend, void, unvoid."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ledger.cli.output import say, say_document
from ledger.cli.place import opened
from ledger.errors import AskedWrongly, Unreachable, shortened
from ledger.settings import is_spool, pasted
from ledger.table import visible

if TYPE_CHECKING:
    from ledger.api import Ledger

Row = Mapping[str, object]


def name_and_value(word: str) -> tuple[str, str]:
    """Return the two sides of `name=value`."""
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise AskedWrongly(f"{word!r} is not of the form NAME=VALUE.")
    return name, value


def _once_each(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    made: dict[str, str] = {}
    for name, value in pairs:
        if name in made:
            raise AskedWrongly(f"{name} is given twice. Say one of the two.")
        made[name] = value
    return made


def annotate(said: Namespace) -> int:
    """Add a note, tags or metadata to a run: --note 'looks odd' --tag odd --set gpu_hours=12.5.

    With --json: {"recorded": "annotated", "run": the row as it is now}. Where it went to a spool, "run" is null
    and "spool" says which.
    """
    metadata = _once_each(said.metadata)
    if said.note is None and not said.tags and not metadata:
        raise AskedWrongly("annotate needs --note, --tag or --set. See: ledger annotate --help")
    for name in ("note", "tags", "at", "run_id"):
        if name in metadata:
            raise AskedWrongly(f"--set {name}=...: metadata cannot be called {name!r}. Say --note, --tag or --at.")
    values = {name: _value(text) for name, text in metadata.items()}
    return _record(
        said,
        "annotated",
        lambda ledger: ledger.annotate(said.run_id, said.note, said.tags, at=said.at, **values),
    )


def _value(text: str) -> object:
    """What --set gives: JSON where it is JSON, else text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def amend(said: Namespace) -> int:
    """Correct columns of a run; the history keeps what was said before.

    ledger amend RUN --reason 'wrong machine' host=ec2 learning_rate=1e-4 --clear instance_id
    With --json: {"recorded": "amended", "run": the row as it is now}.
    """
    columns: dict[str, str | None] = {**_once_each(map(name_and_value, said.columns))}
    for name in said.clear:
        if name in columns:
            raise AskedWrongly(f"{name} is both set and cleared. Say one of the two.")
        columns[name] = None
    for name in ("run_id", "reason", "at"):  # the keywords that are no columns
        if name in columns:
            raise AskedWrongly(f"{name} is not a column that can be amended.")
    return _record(
        said,
        "amended",
        lambda ledger: ledger.amend(said.run_id, reason=said.reason, at=said.at, **columns),
    )


def void(said: Namespace) -> int:
    """Take a bogus run out of tables and counts; nothing is deleted, `show` still finds it, `unvoid` takes it back.

    With --json: {"recorded": "voided", "run": the row as it is now}.
    """
    return _record(said, "voided", lambda ledger: ledger.void(said.run_id, reason=said.reason, at=said.at))


def unvoid(said: Namespace) -> int:
    """Take back a void. With --json: {"recorded": "unvoided", "run": the row as it is now}."""
    return _record(said, "unvoided", lambda ledger: ledger.unvoid(said.run_id, reason=said.reason, at=said.at))


def _record(said: Namespace, word: str, record: Callable[[Ledger], None]) -> int:
    """Record, then tell what it did to the row, or where it waits when it went to a spool."""
    with opened(said) as ledger:
        before = _row(ledger, said.run_id)
        record(ledger)
        after = _row(ledger, said.run_id)
    if ledger.spooled:  # and closing did not bring it in
        _say_spooled(said, word, ledger)
    elif said.as_json:
        say_document({"recorded": word, "run": after})
    else:
        say(visible(f"{said.run_id}: {word}"))
        for line in _changes(before or {}, after or {}):
            say(f"  {line}")
    return 0


def _say_spooled(said: Namespace, word: str, ledger: Ledger) -> None:
    if said.as_json:
        say_document({"recorded": word, "spool": ledger.spooled, "run": None})
        return
    goes_to = "LEDGER" if is_spool(ledger.url) else pasted(ledger.url)
    mend = f"`ledger --db {goes_to} sync {pasted(ledger.spooled or '')}` moves it in"
    say(visible(f"{said.run_id}: {word}, recorded in the spool {ledger.spooled}; {mend}"))


def _row(ledger: Ledger, run_id: str) -> Row | None:
    """The row, where there is one to be had: a spool answers nothing, nor does a ledger that is away."""
    try:
        return ledger.get_run(run_id)
    except Unreachable:
        return None


def _changes(before: Row, after: Row) -> list[str]:
    from ledger.projections.run import COLUMNS

    made = [name for name, column in COLUMNS.items() if not column.column.local and before.get(name) != after.get(name)]
    return [f"{name}: {_plain(after.get(name))} (was {_plain(before.get(name))})" for name in made]


def _plain(value: object) -> str:
    return "nothing" if value is None else shortened(value)
