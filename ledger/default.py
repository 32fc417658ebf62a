"""The documented functions, on the ledger that the environment names at the time of the call."""

from __future__ import annotations

import atexit
import functools
import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from ledger.api import Ledger
from ledger.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

_ledgers: dict[Settings, Ledger] = {}


def default_ledger() -> Ledger:
    """Return the ledger that the environment names, the same one for the same words, closed at exit."""
    settings = Settings.read()
    found = _ledgers.get(settings)
    # Two threads may both make one here; opening nothing, the one that is not kept needs no closing.
    return _ledgers.setdefault(settings, Ledger(settings.url)) if found is None else found


@atexit.register
def _close_all() -> None:
    for ledger in _ledgers.values():
        ledger.close()


def _of_default(method: Callable[Concatenate[Ledger, P], R]) -> Callable[P, R]:
    @functools.wraps(method)
    def on_default(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(default_ledger(), *args, **kwargs)

    # By its own name it can be sent to another process, as pools do.
    on_default.__module__, on_default.__qualname__ = "ledger", method.__name__
    # Without this, help() and frameworks that bind by signature would see the method's `self`.
    signature = inspect.signature(method)
    vars(on_default)["__signature__"] = signature.replace(parameters=list(signature.parameters.values())[1:])
    return on_default


init_db = _of_default(Ledger.init_db)
insert_run = _of_default(Ledger.insert_run)
update_run_status = _of_default(Ledger.update_run_status)
attach_conversation = _of_default(Ledger.attach_conversation)
attach_crash_data = _of_default(Ledger.attach_crash_data)
attach_blog_post = _of_default(Ledger.attach_blog_post)
get_run = _of_default(Ledger.get_run)
query_runs = _of_default(Ledger.query_runs)
count_runs = _of_default(Ledger.count_runs)
get_history = _of_default(Ledger.get_history)
get_stats = _of_default(Ledger.get_stats)
annotate = _of_default(Ledger.annotate)
amend = _of_default(Ledger.amend)
void = _of_default(Ledger.void)
unvoid = _of_default(Ledger.unvoid)
timeline = _of_default(Ledger.timeline)
new_chain_of_custody_id = _of_default(Ledger.new_chain_of_custody_id)
replay = _of_default(Ledger.replay)
verify = _of_default(Ledger.verify)
track = _of_default(Ledger.track)
start_run = _of_default(Ledger.start_run)
insert_objective = _of_default(Ledger.insert_objective)
update_objective_metric = _of_default(Ledger.update_objective_metric)
record_scaffolds = _of_default(Ledger.record_scaffolds)
get_run_objectives = _of_default(Ledger.get_run_objectives)
get_run_scaffolds = _of_default(Ledger.get_run_scaffolds)
get_run_metrics = _of_default(Ledger.get_run_metrics)
query_runs_by_objectives = _of_default(Ledger.query_runs_by_objectives)
get_objective_statistics = _of_default(Ledger.get_objective_statistics)
compare_gradient_methods = _of_default(Ledger.compare_gradient_methods)
pareto_front = _of_default(Ledger.pareto_front)
best_runs = _of_default(Ledger.best_runs)
config_diff = _of_default(Ledger.config_diff)
cost = _of_default(Ledger.cost)
crashes = _of_default(Ledger.crashes)
durations = _of_default(Ledger.durations)
effects = _of_default(Ledger.effects)
importance = _of_default(Ledger.importance)
last_good_first_crashed = _of_default(Ledger.last_good_first_crashed)
outcomes = _of_default(Ledger.outcomes)
throughput = _of_default(Ledger.throughput)
time_to_crash = _of_default(Ledger.time_to_crash)
