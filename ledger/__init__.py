"""The ledger of training runs: record what happens to a run, ask what is true of it.

Every name here is loaded on first use, so that `import ledger` opens no file and loads no driver.
"""

from __future__ import annotations

from importlib import import_module

from ledger.version import __version__ as __version__

# As good as typing's to a type checker, and the import of typing would be most of this module's time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.default import (
        amend,
        annotate,
        attach_blog_post,
        attach_conversation,
        attach_crash_data,
        best_runs,
        compare_gradient_methods,
        config_diff,
        cost,
        count_runs,
        crashes,
        durations,
        effects,
        get_history,
        get_objective_statistics,
        get_run,
        get_run_metrics,
        get_run_objectives,
        get_run_scaffolds,
        get_stats,
        importance,
        init_db,
        insert_objective,
        insert_run,
        last_good_first_crashed,
        new_chain_of_custody_id,
        outcomes,
        pareto_front,
        query_runs,
        query_runs_by_objectives,
        record_scaffolds,
        replay,
        start_run,
        throughput,
        time_to_crash,
        timeline,
        track,
        unvoid,
        update_objective_metric,
        update_run_status,
        verify,
        void,
    )
    from ledger.errors import LedgerError
    from ledger.tracking.run import current_run

__all__ = [
    "Ledger",
    "LedgerError",
    "amend",
    "annotate",
    "attach_blog_post",
    "attach_conversation",
    "attach_crash_data",
    "best_runs",
    "compare_gradient_methods",
    "config_diff",
    "cost",
    "count_runs",
    "crashes",
    "current_run",
    "durations",
    "effects",
    "get_history",
    "get_objective_statistics",
    "get_run",
    "get_run_metrics",
    "get_run_objectives",
    "get_run_scaffolds",
    "get_stats",
    "importance",
    "init_db",
    "insert_objective",
    "insert_run",
    "last_good_first_crashed",
    "new_chain_of_custody_id",
    "outcomes",
    "pareto_front",
    "query_runs",
    "query_runs_by_objectives",
    "record_scaffolds",
    "replay",
    "start_run",
    "throughput",
    "time_to_crash",
    "timeline",
    "track",
    "unvoid",
    "update_objective_metric",
    "update_run_status",
    "verify",
    "void",
]

_HOMES = {"Ledger": "ledger.api", "LedgerError": "ledger.errors", "current_run": "ledger.tracking.run"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES.get(name, "ledger.default")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "annotations", "import_module"})
