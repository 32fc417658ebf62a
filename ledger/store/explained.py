"""One run's explanation, from its events and from who holds the W&B id that it claims."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from ledger.projections.explain import Explanation, explain
from ledger.store.bounds import EVERYTHING, accepted
from ledger.store.statements import Connection, Statement, compiled
from ledger.store.tables import training_runs

__all__ = ["explained"]


def explained(connection: Connection, run_id: str) -> list[Explanation]:
    """Return the explanation of each column of a run; none where the run has no row.

    The connection has to be in a transaction, so that all of it is of one moment.
    """

    def holder(wandb_run_id: str) -> str | None:
        found = _holding().run(connection, {"the_id": wandb_run_id}).fetchone()
        return None if found is None else str(found[0])

    return explain(accepted(connection, run_id, EVERYTHING), holder)


@cache
def _holding() -> Statement:
    the_id = sa.bindparam("the_id", type_=sa.Text())
    return compiled(sa.select(training_runs.c.run_id).where(training_runs.c.wandb_run_id == the_id))
