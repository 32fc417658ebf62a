"""Each fact about the data is written down once: what is made from the declarations is what they say."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

import ledger.events
from ledger import Ledger
from ledger.events import EVENT_TYPES, AnyEvent, Event, UnknownEvent
from ledger.projections.filters import FILTERS
from ledger.projections.objectives import DOCUMENTED
from ledger.projections.run import COLUMNS, Run
from ledger.store.guards import GUARDS
from ledger.store.tables import metadata, training_runs, voided_runs

OF_AN_EXPRESSION = "training_events_wandb_run_id"
ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/training-runs-database-api.md").read_text(encoding="utf-8")

# What is stored under these names stays there for ever, so they are written down a second time, here.
WIRE_NAMES = {
    "launched": "Launched",
    "conversation_attached": "ConversationAttached",
    "started": "Started",
    "wandb_attached": "WandbAttached",
    "described": "Described",
    "heartbeat": "Heartbeat",
    "metrics_logged": "MetricsLogged",
    "checkpoint_saved": "CheckpointSaved",
    "completed": "Completed",
    "failed": "Failed",
    "crashed": "Crashed",
    "resumed": "Resumed",
    "crash_data_attached": "CrashDataAttached",
    "blog_attached": "BlogAttached",
    "annotated": "Annotated",
    "amended": "Amended",
    "voided": "Voided",
    "unvoided": "Unvoided",
    "imported": "Imported",
    "objective_stated": "ObjectiveStated",
    "scaffolds_recorded": "ScaffoldsRecorded",
}

STATED = tuple(name for name in DOCUMENTED if name not in ("run_id", "objective_name"))
NO_COLUMNS = {
    "checkpoint_saved.metrics": "the model's at that step; the row shows the run's",
    "checkpoint_saved.step": "the row shows no steps",
    "checkpoint_saved.uri": "a run has many; the timeline lists them",
    "heartbeat.lease_seconds": "says how long silence means nothing; liveness is derived from it",
    "heartbeat.message": "for the timeline",
    "heartbeat.metrics": "final_metrics_json, while the run runs",
    "heartbeat.step": "the row shows no steps",
    "metrics_logged.columns": "curves; training_metrics sums them up",
    "launched.config": "config_json, as text",
    "launched.hyperparameters": "each is a column",
    "started.process": "by which the process can be looked for",
    "resumed.resumed_by_run_id": "for the timeline; the other run has the column",
    "failed.error_log": "what a person reads of it; error_log_s3_key says where the whole lies",
    "crashed.error_log": "the same",
    "launched.self_reported": "who launched matters to insert_run alone",
    "completed.final_metrics": "final_metrics_json, as text",
    "failed.final_metrics": "final_metrics_json, as text",
    "crashed.final_metrics": "final_metrics_json, as text",
    **dict.fromkeys((f"{end}.detected_by" for end in ("completed", "failed", "crashed")), "for the timeline"),
    **dict.fromkeys((f"{end}.testimony" for end in ("completed", "failed", "crashed")), "the same"),
    "crashed.presumed": "decides whether a sign of life revives the run",
    "annotated.metadata": "metadata_json, merged key by key",
    "annotated.tags": "tags_json, gathered",
    "amended.columns": "each is a column",
    "amended.reason": "for the timeline",
    "voided.reason": "a column of voided_runs",
    "unvoided.reason": "for the timeline",
    "imported.row": "fills what nobody else has said",
    "imported.system": "for the timeline",
    **dict.fromkeys((f"objective_stated.{name}" for name in ("objective_name", *STATED)), "training_objectives"),
    **dict.fromkeys(("scaffolds_recorded.columns", "scaffolds_recorded.scores"), "training_scaffolds"),
    **dict.fromkeys((f"{n}.redacted" for n in ("launched", "annotated", "amended", "imported")), "counts secrets"),
}


def section(start: str, end: str) -> str:
    """Return what the document says between two of its lines."""
    return DOCUMENT.partition(f"\n{start}\n")[2].partition(f"\n{end}")[0]


def listed(text: str) -> list[str]:
    """Return the names in backticks that the list items begin with, in order."""
    items = re.findall(r"^- (.*)$", text, re.MULTILINE)
    return [name for item in items for name in re.findall(r"`(\w+)`", re.split(r": | \(", item)[0])]


def kinds(base: type[Event] = Event) -> Iterator[type[Event]]:
    """Yield every class of events in the package that can be made."""
    for kind in base.__subclasses__():
        yield from kinds(kind)
        if kind.__module__.startswith("ledger.") and kind is not UnknownEvent and not kind.__name__.startswith("_"):
            yield kind


def test_the_tables_have_the_columns_of_run() -> None:
    """`training_runs` has the fields of Run, in their order; `voided_runs` has the reason besides."""
    fields = [field.name for field in dataclasses.fields(Run)]

    assert [column.name for column in training_runs.columns] == fields
    assert [column.name for column in voided_runs.columns] == [*fields, "reason"]


def test_the_documented_columns_come_first() -> None:
    """The fields of Run begin with the documented ones, in the documented order."""
    documented = listed(section("### `training_runs` Table", "## API Reference"))

    assert len(documented) == 29
    assert list(COLUMNS)[: len(documented)] == documented


def test_the_union_has_every_event() -> None:
    """A class of events is in AnyEvent and nothing else is."""
    for module in pkgutil.iter_modules(ledger.events.__path__, "ledger.events."):
        importlib.import_module(module.name)

    assert sorted(kind.__name__ for kind in kinds()) == sorted(kind.__name__ for kind in get_args(AnyEvent))


def test_wire_names_never_change() -> None:
    """Each event is stored under the written name, which no other has."""
    assert {name: kind.__name__ for name, kind in EVENT_TYPES.items()} == WIRE_NAMES
    assert len(EVENT_TYPES) == len(get_args(AnyEvent))
    assert [kind.model_fields["type"].default for kind in EVENT_TYPES.values()] == list(EVENT_TYPES)


def test_wire_names_are_in_snake_case() -> None:
    """A wire name is its class's name, as both are today."""
    spelled = {re.sub(r"(?<=.)(?=[A-Z])", "_", kind).lower() for kind in WIRE_NAMES.values()}
    assert spelled == WIRE_NAMES.keys()


def test_every_field_is_a_column_or_says_why_not() -> None:
    """What an event says shows in the row, or NO_COLUMNS says why it does not."""
    fields = {f"{name}.{field}" for name, kind in EVENT_TYPES.items() for field in kind.payload_fields}
    hidden = {field for field in fields if field.partition(".")[2] not in COLUMNS}

    assert hidden == NO_COLUMNS.keys()


def test_every_documented_filter_exists() -> None:
    """The named filters are there, and for every column those that the document promises for its kind."""
    text = section("**Filter Options:**", "**Example:**")
    forms = re.findall(r"`(\w*<column>\w*)`", text)
    kinds = {"<column>_contains": "text", "<column>_after": "moment", "<column>_before": "moment"}
    promised = {
        form.replace("<column>", name)
        for form in forms
        for name, column in COLUMNS.items()
        if column.kind == kinds.get(form, column.kind)
    }

    assert (len(listed(text)), len(forms)) == (7, 8)
    assert {*listed(text), *promised} <= FILTERS.keys()


def reflected(path: Path) -> sa.MetaData:
    engine = sa.create_engine(f"sqlite:///{path}")
    found = sa.MetaData()
    with warnings.catch_warnings():  # SQLAlchemy reads no indexes on expressions back; their SQL is compared elsewhere
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        found.reflect(engine)
    engine.dispose()
    return found


def shape(table: sa.Table) -> dict[str, object]:
    """Return what of a table the database tells, too."""
    rules = {*table.constraints}.union(*(column.constraints for column in table.columns))
    return {
        "columns": [(c.name, c.type.compile(sqlite.dialect()), c.nullable, c.primary_key) for c in table.columns],
        "checks": sorted(str(rule.sqltext) for rule in rules if isinstance(rule, sa.CheckConstraint)),
        "uniques": sorted([*rule.columns.keys()] for rule in rules if isinstance(rule, sa.UniqueConstraint)),
        "indexes": sorted((str(i.name), bool(i.unique), [*i.columns.keys()]) for i in table.indexes if i.name != OF_AN_EXPRESSION),
    }  # fmt: skip


def test_the_migrations_make_the_declared_schema(path: Path) -> None:
    """A fresh file has the tables, columns, checks, indexes and triggers that the declarations say."""
    with Ledger(path) as book:
        book.init_db()
    found = reflected(path)

    assert found.tables.keys() == metadata.tables.keys()
    for name, table in metadata.tables.items():
        assert shape(found.tables[name]) == shape(table), name
    with closing(sqlite3.connect(path)) as connection:
        triggers = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    assert triggers == GUARDS


@pytest.mark.parametrize("name", ["reference.md", "schema.sql", "schema-postgresql.sql"])
def test_the_generated_documents_are_up_to_date(name: str) -> None:
    """docs/reference.md and the schemas are what docs/generate.py makes."""
    command = [sys.executable, "docs/generate.py", "--check"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert name not in made.stderr, made.stderr
