"""The projected tables as some of the events make them, in a temporary database of their own.

It lies in a file without a name that SQLite removes by itself, so that memory does not grow with it;
nothing in it has to survive, so it has no journal and waits for no disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter

import sqlalchemy as sa

from ledger.projections.claims import Claim, settle
from ledger.projections.life import Row
from ledger.store.bounds import Bounds, Folded, every_fold
from ledger.store.migrations import creating
from ledger.store.sqlite import connect
from ledger.store.statements import Connection, compiled, inserting, updating
from ledger.store.tables import training_claims, training_runs, voided_runs

__all__ = ["prepared"]

_TABLES = (training_runs, voided_runs, training_claims)
_CHUNK = 500


def prepared(ledger: Connection, bounds: Bounds) -> Connection:
    """Return a database with the rows and claims that the events within *bounds* fold to.

    The ledger's connection has to be in a transaction, so that all of it is of one moment.
    """
    made = connect("")
    try:
        made.execute("PRAGMA journal_mode = OFF")
        made.execute("PRAGMA synchronous = OFF")
        made.execute("BEGIN")
        _fill(made, every_fold(ledger, bounds))
        made.execute("COMMIT")
        made.execute("PRAGMA query_only = ON")
    except BaseException:
        made.close()
        raise
    return made


def _fill(made: Connection, folds: Iterable[Folded]) -> None:
    for table in _TABLES:
        made.execute(creating(table)[0])
    for chunk in _chunks(folds):
        _write(made, chunk)
    _settle(made)
    for table in _TABLES:  # an index is made faster of all rows at once
        for statement in creating(table)[1:]:
            made.execute(statement)


def _chunks(folds: Iterable[Folded]) -> Iterator[list[Folded]]:
    following = iter(folds)
    while chunk := list(islice(following, _CHUNK)):
        yield chunk


def _write(made: Connection, chunk: Sequence[Folded]) -> None:
    lives = [(folded, folded.life) for folded in chunk if folded.life is not None]
    rows = [{**folded.row(life), "wandb_run_id": None} for folded, life in lives]
    _insert(made, training_runs, [row for row in rows if row["reason"] is None])
    _insert(made, voided_runs, [row for row in rows if row["reason"] is not None])
    _insert(made, training_claims, [claim._asdict() for _, life in lives if (claim := life.claimed()) is not None])


def _insert(made: Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    statement = inserting(table)
    made.executemany(statement.sql, [[row[name] for name in statement.names] for row in rows])


def _settle(made: Connection) -> None:
    claims = training_claims.c
    every = compiled(sa.select(*(claims[name] for name in Claim._fields)).order_by(claims.wandb_run_id)).ask(made)
    give = updating(training_runs, ("wandb_run_id",))
    for wandb_run_id, rows in groupby((Claim(*row) for row in every), key=itemgetter(0)):
        give.run(made, {"the_run": settle(rows), "wandb_run_id": wandb_run_id})
