"""What the doctor asks of a ledger, as plain data: nothing here changes anything or judges."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ledger.events.upcast import understood
from ledger.projections.claims import Claim, settle
from ledger.projections.stamp import fold_stamp
from ledger.store import state
from ledger.store.spelling import seconds_between
from ledger.store.statements import Connection, compiled, is_sqlite
from ledger.store.tables import (
    conflicts,
    migrations,
    parked,
    training_claims,
    training_events,
    training_heads,
    training_runs,
    voided_runs,
)

if TYPE_CHECKING:
    from ledger.store.postgres.state import ServerState

__all__ = ["Ahead", "Conflict", "Contested", "Inspection", "copies_beside", "damage", "inspect", "replay_is_due"]

AHEAD_HOURS_MAX = 1


@dataclass(frozen=True)
class Ahead:
    """A run whose events bear times far after this ledger accepted them: how many, and the largest lead."""

    run_id: str
    events: int
    hours_max: float


@dataclass(frozen=True)
class Contested:
    """A W&B id that several runs claim: who holds it, who yields because it was resumed, and who else claims it."""

    wandb_run_id: str
    holder: str | None
    resumed: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Conflict:
    """An event whose id was known with other content when it came, and where it came from."""

    event_id: str
    run_id: str
    came_from: str


@dataclass(frozen=True)
class Inspection:
    """A ledger at one moment."""

    journal_mode: str | None  # of a file
    server: ServerState | None  # where it is on one
    replay_is_due: bool
    events: int
    runs: int
    voided: int
    unreadable: tuple[tuple[str, int], ...]
    ahead: tuple[Ahead, ...]
    contested: tuple[Contested, ...]
    relaunched: tuple[str, ...]
    parked: tuple[tuple[str, int], ...]
    conflicts: tuple[Conflict, ...]
    migrations: tuple[tuple[str, str], ...]


def inspect(connection: Connection) -> Inspection:
    """Look at the whole ledger; the connection has to be in a transaction, so that it is of one moment."""
    return Inspection(
        journal_mode=_journal_mode(connection),
        server=_server(connection),
        replay_is_due=replay_is_due(connection),
        events=_count(connection, training_events),
        runs=_count(connection, training_runs),
        voided=_count(connection, voided_runs),
        unreadable=_unreadable(connection),
        ahead=_ahead(connection),
        contested=tuple(_contested(connection)),
        relaunched=tuple(_relaunched(connection)),
        parked=_parked(connection),
        conflicts=_conflicts(connection),
        migrations=_migrations(connection),
    )


def _journal_mode(connection: Connection) -> str | None:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]) if is_sqlite(connection) else None


def _server(connection: Connection) -> ServerState | None:
    if is_sqlite(connection):
        return None
    from ledger.store.postgres.state import state_of

    return state_of(connection)


def replay_is_due(connection: Connection) -> bool:
    """Whether the tables were folded by other rules than this code's, as far as anybody wrote it down."""
    by = state.named(connection, state.FOLDED_BY).get(state.FOLDED_BY)
    return by != fold_stamp() and _count(connection, training_heads) > 0


def damage(connection: Connection) -> str | None:
    """Return the first thing that SQLite itself finds wrong with the file, None where it finds nothing."""
    if not is_sqlite(connection):
        return None
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if verdict == "ok" else str(verdict)


def copies_beside(path: Path) -> list[str]:
    """Return the copies of the ledger's file that migrations and restores have left beside it."""
    return sorted(str(file) for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.before-"))


def _count(connection: Connection, table: sa.Table) -> int:
    number: int = compiled(sa.select(sa.func.count()).select_from(table)).ask(connection).fetchone()[0]
    return number


def _unreadable(connection: Connection) -> tuple[tuple[str, int], ...]:
    heads = training_heads.c
    asked = sa.select(heads.run_id, heads.unreadable).where(heads.unreadable > 0).order_by(heads.run_id)
    return tuple(compiled(asked).ask(connection).fetchall())


def _ahead(connection: Connection) -> tuple[Ahead, ...]:
    events = training_events.c
    hours = seconds_between(events.occurred_at, events.recorded_at) / sa.literal_column("3600.0")
    asked = (
        sa.select(events.run_id, sa.func.count(), sa.func.max(hours))
        .where(events.occurred_at > events.recorded_at, hours > AHEAD_HOURS_MAX)
        .group_by(events.run_id)
        .order_by(events.run_id)
    )
    return tuple(Ahead(run_id, number, float(most)) for run_id, number, most in compiled(asked).ask(connection))


def _contested(connection: Connection) -> Iterable[Contested]:
    claims = training_claims.c
    several = sa.select(claims.wandb_run_id).group_by(claims.wandb_run_id).having(sa.func.count() > 1)
    named = [claims[name] for name in Claim._fields]
    asked = sa.select(*named).where(claims.wandb_run_id.in_(several)).order_by(claims.wandb_run_id, claims.run_id)
    rows = [Claim(*row) for row in compiled(asked).ask(connection)]
    for wandb_run_id, group in groupby(rows, key=attrgetter("wandb_run_id")):
        claimants = list(group)
        holder = settle(claimants)
        resumed = _resumed_by(holder, claimants)
        others = tuple(claim.run_id for claim in claimants if claim.run_id not in {holder, *resumed})
        yield Contested(wandb_run_id, holder, resumed, others)


def _resumed_by(holder: str | None, claimants: Iterable[Claim]) -> tuple[str, ...]:
    """The claimants that the holder goes on from, itself or step by step."""
    earlier = {claim.run_id: claim.resumes_run_id for claim in claimants}
    found: list[str] = []
    following = earlier.get(holder or "")
    while following in earlier and following not in {holder, *found}:
        found.append(following)
        following = earlier[following]
    return tuple(found)


def _relaunched(connection: Connection) -> Iterable[str]:
    """The runs of which two launches state different configs."""
    events = training_events.c
    is_launch = events.type == "launched"
    several = sa.select(events.run_id).where(is_launch).group_by(events.run_id).having(sa.func.count() > 1)
    asked = (
        sa.select(events.run_id, events.schema_version, events.payload)
        .where(is_launch, events.run_id.in_(several))
        .order_by(events.run_id, events.version)
    )
    for run_id, rows in groupby(compiled(asked).ask(connection), key=itemgetter(0)):
        said = [understood("launched", version, json.loads(payload)) or {} for _, version, payload in rows]
        configs = [launch["config"] for launch in said if launch.get("config")]
        if any(config != configs[0] for config in configs):
            yield run_id


def _parked(connection: Connection) -> tuple[tuple[str, int], ...]:
    asked = sa.select(parked.c.name, sa.func.count()).group_by(parked.c.name).order_by(parked.c.name)
    return tuple(compiled(asked).ask(connection).fetchall())


def _conflicts(connection: Connection) -> tuple[Conflict, ...]:
    kept = conflicts.c
    asked = sa.select(kept.event_id, kept.run_id, kept.came_from).order_by(kept.event_id, kept.digest)
    return tuple(Conflict(*row) for row in compiled(asked).ask(connection))


def _migrations(connection: Connection) -> tuple[tuple[str, str], ...]:
    asked = sa.select(migrations.c.name, migrations.c.applied_at).order_by(migrations.c.name)
    return tuple(compiled(asked).ask(connection).fetchall())
