"""What makes the difference: configs that differ, and hyperparameters that go with a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ledger.errors import AskedWrongly, InvalidValue, RunNotFound, nearest
from ledger.projections.filters import Condition, Order, parse_filters, parse_whole_number
from ledger.projections.picks import Pick, metric_pick, parse_pick, parse_picks
from ledger.projections.run import HYPERPARAMETERS
from ledger.reporting import Filters

if TYPE_CHECKING:
    from ledger.analytics.configs import Flat
    from ledger.projections.liveness import Present
    from ledger.store.answers import Answers
    from ledger.store.statements import Row

__all__ = ["Tuning"]

T = TypeVar("T")

_LOOKED_AT = 500  # configs that are read to learn which hyperparameters there are
_PARAMETERS_MAX = 100
_BESIDE = ("host", "instance_type")  # what may matter beside the hyperparameters
_USUAL = "completed"
_BINS = 5
_BINS_MAX = 100
_FOREST_RUNS_MAX = 2_000
_NEWEST, _OLDEST = Order("created_at", descending=True), Order("created_at", descending=False)
_IDENTITY = ("run_id", "run_name", "gradient_method", "status", "duration_seconds")


class _Sample(NamedTuple):
    """What runs were given, and what came of it: the values of each parameter stand beside the metric's."""

    parameters: dict[str, list[object]]
    metric: list[float | None]


class Tuning:
    """What a ledger, or a view of its past, says of configs and hyperparameters."""

    if TYPE_CHECKING:

        @property
        def _answers(self) -> Answers: ...

        def _present(self) -> Present: ...

    def best_runs(
        self,
        metric: str,
        filters: Filters | None = None,
        limit: int | None = 10,
        *,
        minimize: bool = False,
        status: str | None = _USUAL,
    ) -> list[Row]:
        """Return the runs with the highest final *metric* (the lowest with *minimize*), the best first, ties by run_id.

        Each has its run_id, run_name, gradient_method, status, duration_seconds and the metric, by its name, before
        which "metrics." is put where it is one of these. A status among *filters* takes the place of completed.
        """
        wanted = metric_pick(metric)
        present = self._present()
        conditions = _conditions(filters, status, present)
        at_most = 2**63 - 1 if limit is None else parse_whole_number("limit", limit)
        picks = [*_picks(*_IDENTITY), wanted]
        found = self._answers.best(conditions, present, wanted, picks, minimize=minimize, limit=at_most)
        if not found and at_most:
            self._check_metric(wanted, conditions, present)
        name = f"metrics.{wanted.name}" if wanted.name in _IDENTITY else wanted.name
        return [dict(zip((*_IDENTITY, name), row, strict=True)) for row in found]

    def config_diff(self, one: str | Filters, other: str | Filters, *, at_most: int | None = 500) -> list[Row]:
        """Return what differs between two runs' configs, by path; or, given filters, between two groups of runs.

        Two runs: `change` is added, removed or changed, and `one` and `other` are the values. Two groups: `one` and
        `other` list values with numbers of runs, and `distance` is how differently they are spread, from 0 to 1; of a
        group *at_most* so many runs are looked at, spread evenly over its run_ids.
        """
        from ledger.analytics.configs import differences, group_differences

        if isinstance(one, str) and isinstance(other, str):
            return differences(*(self._known_config(run_id) for run_id in (one, other)))
        if isinstance(one, str) or isinstance(other, str):
            raise AskedWrongly("config_diff(...) compares two runs, or two groups: give two run_ids, or two filters.")
        present = self._present()
        number = None if at_most is None else parse_whole_number("at_most", at_most)
        of_one, of_other = (self._configs(group, present, number) for group in (one, other))
        return group_differences(of_one, of_other, _BINS)

    def last_good_first_crashed(self, filters: Filters | None = None) -> Row | None:
        """Return the newest completed run behind which one crashed, the first that did, and the diff of their configs.

        The keys are good, crashed (run_ids), good_created_at, crashed_created_at and diff, as config_diff has it (None
        where a config is not known); None where no run crashed after one that completed. Runs come in the order in
        which they were launched.
        """
        if filters is not None and "status" in filters:
            raise AskedWrongly(
                "last_good_first_crashed(...) looks at completed and crashed runs. Leave the status out."
            )
        from ledger.analytics.configs import differences

        present = self._present()
        conditions = parse_filters(filters, present.moment)
        newest = self._first(conditions, present, _NEWEST, _status("crashed"))
        before = newest and Condition("created_at", "before", (newest[1],))
        good = before and self._first(conditions, present, _NEWEST, _status("completed"), before)
        after = good and Condition("created_at", "after", (good[1],))
        crashed = after and self._first(conditions, present, _OLDEST, _status("crashed"), after)
        if not good or not crashed:
            return None
        configs = [config for run, _ in (good, crashed) if (config := self._config(run)) is not None]
        return {
            "good": good[0],
            "crashed": crashed[0],
            "good_created_at": good[1],
            "crashed_created_at": crashed[1],
            "diff": differences(*configs) if len(configs) == 2 else None,
        }

    def effects(
        self,
        metric: str,
        parameters: Sequence[str] | None = None,
        filters: Filters | None = None,
        status: str | None = _USUAL,
        *,
        bins: int = _BINS,
    ) -> list[Row]:
        """Return how a final metric goes with each value of each hyperparameter; what explains most comes first.

        *parameters* are columns and paths, else those that vary. Numbers of more than *bins* values are put in ranges.
        `eta_squared` is the share of the metric's spread that lies between the values, `epsilon_squared` the same less
        what chance gives; `left_out` runs have no finite metric.
        """
        from ledger.analytics.effects import effects

        levels = parse_whole_number("bins", bins)
        if not 2 <= levels <= _BINS_MAX:
            raise InvalidValue("bins", bins, f"a whole number from 2 to {_BINS_MAX} is wanted")
        sample = self._sample(metric, parameters, filters, status)
        return effects(sample.parameters, sample.metric, levels, constant_too=parameters is not None)

    def importance(
        self,
        metric: str,
        parameters: Sequence[str] | None = None,
        filters: Filters | None = None,
        status: str | None = _USUAL,
        *,
        repeats: int = 10,
        seed: int = 0,
        at_most: int | None = _FOREST_RUNS_MAX,
    ) -> list[Row]:
        """Return how much each hyperparameter matters to a model of a final metric (needs the extra `importance`).

        `importance` is what the model's R squared on held out runs loses when the parameter is shuffled, the mean of
        *repeats* times, and `std` their spread; `r_squared` is what the whole model reaches: where it is low, the rest
        says little. Of more than *at_most* runs so many are taken, spread evenly.
        """
        from ledger.analytics.importance import importance

        times, start = parse_whole_number("repeats", repeats), parse_whole_number("seed", seed)
        if times < 1:
            raise InvalidValue("repeats", repeats, "a whole number of 1 or more is wanted")
        number = None if at_most is None else parse_whole_number("at_most", at_most)
        sample = self._sample(metric, parameters, filters, status)
        there = [place for place, value in enumerate(sample.metric) if value is not None]
        taken = there if number is None else _spread(there, number)
        chosen = {name: [values[place] for place in taken] for name, values in sample.parameters.items()}
        found = [value for place in taken if (value := sample.metric[place]) is not None]
        return importance(chosen, found, repeats=times, seed=start % 2**32)

    def _sample(
        self, metric: str, parameters: Sequence[str] | None, filters: Filters | None, status: str | None
    ) -> _Sample:
        from ledger.analytics.numbers import finite

        wanted = metric_pick(metric)
        present = self._present()
        conditions = _conditions(filters, status, present)
        picks = self._varying(conditions, present) if parameters is None else parse_picks(parameters, "parameters")
        rows = self._answers.picked(conditions, present, [Pick("run_id", "run_id"), wanted, *picks])
        rows.sort()
        columns = list(zip(*rows, strict=True)) or [()] * (len(picks) + 2)
        measured = [finite(value) for value in columns[1]]
        if rows and all(value is None for value in measured):
            self._check_metric(wanted, conditions, present)
        return _Sample({pick.name: list(column) for pick, column in zip(picks, columns[2:], strict=True)}, measured)

    def _varying(self, conditions: Sequence[Condition], present: Present) -> list[Pick]:
        """The hyperparameters, and the paths that vary among configs that lie evenly among the runs' ids."""
        from ledger.analytics.configs import spelled, varying

        run_ids = self._run_ids(conditions, present, _LOOKED_AT)
        columns = _picks(*HYPERPARAMETERS, *_BESIDE)
        read = {path for column in HYPERPARAMETERS.values() for path in column.column.config}
        vary = dict.fromkeys(map(spelled, varying(self._configs_of(run_ids))))
        paths = [path for path in vary if path not in read and _can_be_named(path)]
        return [*columns, *(parse_pick(f"config.{path}") for path in paths[:_PARAMETERS_MAX])]

    def _configs(self, filters: Filters, present: Present, at_most: int | None) -> list[Flat]:
        found = self._configs_of(self._run_ids(parse_filters(filters, present.moment), present, at_most))
        if not found:
            raise AskedWrongly(f"no run with a config meets {dict(filters)!r}. Ask with other filters.")
        return found

    def _configs_of(self, run_ids: Sequence[str]) -> list[Flat]:
        from ledger.analytics.configs import flat

        rows = self._answers.picked_of(run_ids, _picks("run_id", "config_json"))
        return [flat(config) for _, config in sorted(rows) if config is not None]

    def _known_config(self, run_id: str) -> Flat:
        config = self._config(run_id)
        if config is None:
            raise AskedWrongly(f"run {run_id!r} has no config in this ledger. Record its launch, or compare another.")
        return config

    def _config(self, run_id: str) -> Flat | None:
        from ledger.analytics.configs import flat

        row = self._answers.get_run(run_id, self._present())
        if row is None:
            raise RunNotFound(run_id)
        return None if row["config_json"] is None else flat(row["config_json"])

    def _run_ids(self, conditions: Sequence[Condition], present: Present, at_most: int | None) -> list[str]:
        """The runs that meet conditions, or so many of them, spread evenly over their ids."""
        run_ids = sorted(row[0] for row in self._answers.picked(conditions, present, _picks("run_id")))
        return run_ids if at_most is None else _spread(run_ids, at_most)

    def _check_metric(self, metric: Pick, conditions: Sequence[Condition], present: Present) -> None:
        """Refuse a metric that none of the runs has as a finite number, where there are any."""
        from ledger.analytics.configs import flat, spelled

        run_ids = self._run_ids(conditions, present, _LOOKED_AT)
        if run_ids:
            rows = self._answers.picked_of(run_ids, _picks("final_metrics_json"))
            known = {spelled(path) for (text,) in rows for path in flat(text)}
            if metric.name in known:
                raise InvalidValue("metric", metric.name, "none of these runs has a finite number under this name")
            raise InvalidValue(
                "metric",
                metric.name,
                "the name of a number is wanted that some of these runs have among their final metrics",
                nearest(metric.name, known),
            )

    def _first(
        self, conditions: Sequence[Condition], present: Present, order: Order, *further: Condition
    ) -> tuple[str, str] | None:
        """The first run in this order of created_at, as run_id and created_at."""
        asked = [*conditions, *further]
        found = self._answers.query_runs(asked, [order], present, limit=1, offset=0, include_voided=False)
        return (found[0]["run_id"], found[0]["created_at"]) if found else None


def _spread(items: Sequence[T], at_most: int) -> list[T]:
    """So many of some items, evenly among all."""
    number = min(at_most, len(items))
    return [items[place * len(items) // number] for place in range(number)]


def _status(status: str) -> Condition:
    return Condition("status", "is", (status,))


def _conditions(filters: Filters | None, status: str | None, present: Present) -> list[Condition]:
    """What filters state, and the status, of which the usual one gives way to theirs."""
    gives_way = status == _USUAL and filters is not None and "status" in filters
    further = {} if status is None or gives_way else {"status": status}
    return [*parse_filters(filters, present.moment), *parse_filters(further, present.moment)]


def _can_be_named(path: str) -> bool:
    return path.isprintable() and not {'"', "\\"} & set(path) and "" not in path.split(".")


def _picks(*names: str) -> list[Pick]:
    return [Pick(name, name) for name in names]
