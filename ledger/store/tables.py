"""The tables as SQLAlchemy Core sees them; those of the projection are made from the fields of `Run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from ledger.projections.columns import Declared, Kind
from ledger.projections.details import DETAILS, Detail
from ledger.projections.run import COLUMNS
from ledger.store.spelling import MOMENT, stated

__all__ = [
    "DERIVED_NAMES",
    "PROJECTION",
    "TIMELINE",
    "Projection",
    "conflicts",
    "metadata",
    "migrations",
    "parked",
    "projection_named",
    "state",
    "subscriptions",
    "training_claims",
    "training_events",
    "training_heads",
    "training_metrics",
    "training_objectives",
    "training_runs",
    "training_scaffolds",
    "voided_runs",
]

# `sqlite_strict`: a value of another type is refused by SQLite too, as every other database refuses it.
metadata = sa.MetaData()

_integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_real: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_TYPES: Mapping[Kind, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "integer": _integer,
    "real": _real,
    "moment": MOMENT,
    "json": sa.Text(),
}

training_events = sa.Table(
    "training_events",
    metadata,
    # AUTOINCREMENT: a position is never given out twice, whatever was deleted behind the ledger's back.
    sa.Column("position", _integer, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("version", _integer, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("schema_version", _integer, nullable=False),
    sa.Column("occurred_at", MOMENT, nullable=False),
    sa.Column("recorded_at", MOMENT, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("chain", sa.Text, nullable=False),
    sa.UniqueConstraint("run_id", "version", name="training_events_version"),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

# Which runs ever stated a W&B id: who asks for one run as of a moment need not fold all the others.
stated_wandb_id = stated(training_events.c.payload)
states_wandb_id = training_events.c.type.in_([sa.literal_column("'wandb_attached'"), sa.literal_column("'amended'")])
sa.Index(
    "training_events_wandb_run_id", stated_wandb_id, sqlite_where=states_wandb_id, postgresql_where=states_wandb_id
)

# Bookkeeping of each run that is local to this ledger: `version` is also the count of its events, and
# `beside` what the fold carries along beside the row (see projections/life.py).
training_heads = sa.Table(
    "training_heads",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("version", _integer, nullable=False),
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("newest_occurred_at", sa.Text, nullable=False),
    sa.Column("newest_event_id", sa.Text, nullable=False),
    sa.Column("first_recorded_at", sa.Text, nullable=False),
    sa.Column("placed", _integer, nullable=False, comment="Checksum of its events' position and recorded_at."),
    sa.Column("unreadable", _integer, nullable=False),
    sa.Column("beside", sa.Text, nullable=False),
    # A process of earlier code, which knows of no rows beside, leaves it as it is.
    sa.Column(
        "detailed",
        _integer,
        nullable=False,
        server_default="0",
        comment="The version up to which its rows in other tables are written.",
    ),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)


def _column(declared: Declared, *, primary_key: bool) -> sa.Column[object]:
    checks: tuple[sa.schema.SchemaItem, ...] = ()
    if declared.choices:
        choices = ", ".join(f"'{choice}'" for choice in declared.choices)
        checks = (sa.CheckConstraint(f"{declared.name} IN ({choices})"),)
    return sa.Column(
        declared.name,
        _TYPES[declared.kind],
        *checks,
        primary_key=primary_key,
        nullable=declared.nullable,
        comment=declared.column.doc,
    )


def _columns_of_runs() -> Iterator[sa.Column[object]]:
    for declared in COLUMNS.values():
        yield _column(declared, primary_key=declared.name == "run_id")


training_runs = sa.Table("training_runs", metadata, *_columns_of_runs(), sqlite_strict=True)
voided_runs = sa.Table(
    "voided_runs",
    metadata,
    *_columns_of_runs(),
    sa.Column("reason", sa.Text, nullable=False, comment="Why the run was taken out."),
    sqlite_strict=True,
)

sa.Index("training_runs_wandb_run_id", training_runs.c.wandb_run_id, unique=True)
# What query_runs asks most, each in the order in which it answers; tests/store/test_plans.py reads the plans.
_ASKED = ((), ("status",), ("host",), ("gradient_method",), ("gradient_method", "status"), ("chain_of_custody_id",))
for _names in _ASKED:
    sa.Index(
        "_".join(("training_runs", *_names, "newest")),
        *(training_runs.c[name] for name in _names),
        training_runs.c.created_at.desc(),
        training_runs.c.run_id,
    )

sa.Index("voided_runs_chain_of_custody_id", voided_runs.c.chain_of_custody_id)

# Which run claims which W&B id; `settle` chooses among those of one id.
training_claims = sa.Table(
    "training_claims",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("wandb_run_id", sa.Text, nullable=False, index=True),
    sa.Column("occurred_at", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("resumes_run_id", sa.Text),
    sqlite_strict=True,
)

# Events whose id was known with other content when they were merged in: kept verbatim, and left out of every fold.
conflicts = sa.Table(
    "training_conflicts",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("schema_version", _integer, nullable=False),
    sa.Column("occurred_at", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("refused_at", sa.Text, nullable=False, comment="When this ledger refused it."),
    sa.Column("came_from", sa.Text, nullable=False, comment="The ledger, export or spool that had it."),
    sqlite_strict=True,
)

# How far each named subscription has come, how often the event behind that has failed, which events it wants, and
# which process began with the event behind it and has not come back from its handler.
subscriptions = sa.Table(
    "ledger_subscriptions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", _integer, nullable=False),
    sa.Column("failures", _integer, nullable=False),
    sa.Column("updated_at", sa.Text, nullable=False),
    sa.Column("wanted", sa.Text),
    sa.Column("begun_by", sa.Text),
    sqlite_strict=True,
)

# Events that a subscription gave up on, so that the rest could go on.
parked = sa.Table(
    "ledger_parked",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", _integer, primary_key=True),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("parked_at", sa.Text, nullable=False),
    sqlite_strict=True,
)

# What is true of this ledger as a whole, such as by which rules its tables were folded.
state = sa.Table(
    "ledger_state",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_strict=True,
)

migrations = sa.Table(
    "ledger_migrations",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("applied_at", sa.Text, nullable=False),
    sqlite_strict=True,
)


def _detail(detail: Detail) -> sa.Table:
    columns = [
        _column(declared, primary_key=declared.name in ("run_id", detail.key)) for declared in detail.columns.values()
    ]
    return sa.Table(detail.name, metadata, *columns, sqlite_with_rowid=False, sqlite_strict=True)


_DETAILED = [_detail(detail) for detail in DETAILS]
training_objectives, training_scaffolds, training_metrics = _DETAILED
sa.Index(
    "training_objectives_by_name",
    *(training_objectives.c[name] for name in ("objective_base", "raw_mean", "run_id", "direction", "raw_std")),
)
sa.Index("training_metrics_by_name", training_metrics.c.name, training_metrics.c.run_id)


class Projection(NamedTuple):
    """The tables that the projector keeps equal to the fold: those that people ask, or those of a replay."""

    runs: sa.Table
    voided: sa.Table
    claims: sa.Table
    objectives: sa.Table
    scaffolds: sa.Table
    metrics: sa.Table
    heads: sa.Table

    def details(self) -> Iterator[tuple[Detail, sa.Table]]:
        """Yield the tables that have several rows of a run, each with what it is."""
        yield from zip(DETAILS, (self.objectives, self.scaffolds, self.metrics), strict=True)


PROJECTION = Projection(
    training_runs,
    voided_runs,
    training_claims,
    training_objectives,
    training_scaffolds,
    training_metrics,
    training_heads,
)

# The timeline for who asks by SQL: every event with its run, voided or not, and its chain of custody.
TIMELINE = """\
CREATE VIEW training_timeline AS
SELECT e.occurred_at, e.run_id, coalesce(r.run_name, v.run_name) AS run_name,
  coalesce(r.chain_of_custody_id, v.chain_of_custody_id) AS chain_of_custody_id,
  coalesce(r.status, v.status) AS status, v.reason AS void_reason, e.type, e.payload, e.source,
  e.position, e.version, e.recorded_at, e.event_id
FROM training_events e
LEFT JOIN training_runs r ON r.run_id = e.run_id
LEFT JOIN voided_runs v ON v.run_id = e.run_id"""


# What follows from events, and a replay makes anew: all but the heads, which are evidence.
DERIVED_NAMES = (*(table.name for table in PROJECTION[:-1]), "training_timeline")


def projection_named(prefix: str) -> Projection:
    """Return tables of the same shape, with *prefix* before every name."""
    beside = sa.MetaData()
    return Projection(*(table.to_metadata(beside, name=f"{prefix}{table.name}") for table in PROJECTION))
