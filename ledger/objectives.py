"""What runs reached: objectives, scaffolds and metrics of a run, and runs by their objectives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from ledger.errors import InvalidValue, UnknownColumn, UnknownOrder, nearest
from ledger.events.envelope import storable_text
from ledger.projections.details import DETAILS
from ledger.projections.filters import parse_filters, parse_whole_number
from ledger.projections.metrics import STATISTICS
from ledger.projections.objectives import DOCUMENTED, VALUES, base_of, direction_in
from ledger.projections.pareto import DIRECTIONS, Direction, front
from ledger.projections.run import COLUMNS, STATUSES
from ledger.projections.scaffolds import SCAFFOLD_COLUMNS

if TYPE_CHECKING:
    from ledger.projections.liveness import Present
    from ledger.store.answers import Answers
    from ledger.store.statements import Row, StoredRow

__all__ = ["Objectives", "Reached", "RunReached"]

Constraints = Mapping[str, Mapping[str, float]]

_OBJECTIVES, _SCAFFOLDS, _METRICS = DETAILS
_BOUNDS = ("min", "max")
OBJECTIVES_MAX = 16


class RunReached(NamedTuple):
    """A run, and its value of each objective."""

    run_id: str
    run_name: str | None
    values: tuple[float, ...]


class Reached(NamedTuple):
    """Objectives, which direction of each is better, and the runs with a finite value of all of them."""

    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]
    runs: list[RunReached]


class Objectives:
    """The part of asking that is about what runs reached. Raises NoLedger where there is no ledger."""

    if TYPE_CHECKING:

        @property
        def _answers(self) -> Answers: ...
        def _present(self) -> Present: ...
        def query_runs(
            self, filters: Mapping[str, object] | None = None, order_by: str = ..., limit: int | None = ...
        ) -> list[Row]: ...
        def count_runs(self) -> int: ...

    def get_run_objectives(self, run_id: str) -> list[Row]:
        """Return a run's objectives by name: what the config says of each, and what the run reached.

        Of a voided run too. Raises RunNotFound for an unknown run.
        """
        return self._answers.rows_of_run(_OBJECTIVES, _text("run_id", run_id), DOCUMENTED)

    def get_run_scaffolds(self, run_id: str) -> list[Row]:
        """Return what was recorded of a run's scaffolds, the best Pareto rank first; `scores_json` is JSON text."""
        return self._answers.rows_of_run(_SCAFFOLDS, _text("run_id", run_id), tuple(SCAFFOLD_COLUMNS))

    def get_run_metrics(self, run_id: str) -> list[Row]:
        """Return, of each metric that a run logged, last, min, max and best with their steps, and counts."""
        return self._answers.rows_of_run(_METRICS, _text("run_id", run_id), ("run_id", "name", *STATISTICS))

    def query_runs_by_objectives(  # noqa: PLR0917 -- existing scripts call it so
        self,
        objective_filters: Constraints,
        gradient_method: str | None = None,
        status: str | None = None,
        host: str | None = None,
        order_by: str = "created_at DESC",
        limit: int | None = 100,
    ) -> list[Row]:
        """Return the rows of runs whose `raw_mean` on all these objectives is within bounds.

        `{"COMT_activity": {"min": 0.8, "max": 1.0}, "DRD5_activity": {}}`; without bounds the objective has to be
        there with a value. *order_by* may also name one of these objectives.
        """
        filters = dict(_constrained(objective_filters))
        said = {"gradient_method": gradient_method, "status": status, "host": host}
        filters |= {name: value for name, value in said.items() if value is not None}
        return self.query_runs(filters, _ordered(order_by, objective_filters), limit)

    def get_objective_statistics(
        self, name: str, gradient_method: str | None = None, status: str | None = "completed"
    ) -> dict[str, float | None]:
        """Return count, mean, min and max of what runs reached on an objective (`raw_mean`), and the mean of `raw_std`.

        Runs without a finite value do not count; *status* None means any. Where nothing counts, all but count is None.
        """
        from ledger.store import results

        objective, state = _text("name", name), _status(status)
        method = None if gradient_method is None else _text("gradient_method", gradient_method)
        return self._answers.ask(lambda connection: results.statistics(connection, objective, method, state))

    def compare_gradient_methods(self, name: str, status: str | None = "completed") -> list[Row]:
        """Return gradient_method, count, avg and best of each method on an objective (`raw_mean`), the best first.

        What is best is the smallest where the objective is to be minimized. Runs without a method are left out.
        """
        from ledger.store import results

        objective, state = _text("name", name), _status(status)
        found = self._answers.ask(lambda connection: results.by_method(connection, objective, state))
        stated, less = (sum(row[place] for row in found) for place in (5, 6))
        said = direction_in(objective)
        minimizes = 2 * less > stated if said is None else said == "minimize"
        made: list[Row] = [
            {"gradient_method": method, "count": count, "avg": mean, "best": least if minimizes else most}
            for method, count, mean, least, most, *_ in found
        ]
        return sorted(made, key=lambda row: (row["best"], row["avg"]), reverse=not minimizes)

    def pareto_front(
        self,
        objectives: Sequence[str] | Mapping[str, str],
        filters: Mapping[str, object] | None = None,
        *,
        metric_type: str = "raw_mean",
    ) -> list[Row]:
        """Return the runs that no other one dominates on all these objectives: run_id, run_name and each value.

        Directions are those of the objectives; a mapping states them (`{"QED": "maximize"}`). Runs without a finite
        value of each, and those that do not meet the *filters*, take no part. The best on the first come first.
        """
        names, directions, found = self._values(objectives, filters, metric_type)
        chosen = [found[at] for at in front([row[1:] for row in found], directions)]
        chosen.sort(key=itemgetter(0))
        chosen.sort(key=itemgetter(1), reverse=directions[0] == "maximize")
        known = self._named(chosen)
        return [
            {"run_id": row[0], "run_name": known[row[0]][1], **dict(zip(names, row[1:], strict=True))}
            for row in chosen
            if row[0] in known  # else it was voided just now
        ]

    def reached(
        self,
        objectives: Sequence[str] | Mapping[str, str],
        filters: Mapping[str, object] | None = None,
        *,
        metric_type: str = "raw_mean",
        limit: int | None = None,
    ) -> Reached:
        """Return what runs reached on all these objectives, the newest run first, and what is better of each.

        Raises UnknownColumn for an objective that no run of this ledger has.
        """
        at_most = None if limit is None else parse_whole_number("limit", limit)
        names, directions, found = self._values(objectives, filters, metric_type)
        known = self._named(found)
        made = sorted((row for row in found if row[0] in known), key=itemgetter(0))
        made.sort(key=lambda row: known[row[0]][0], reverse=True)
        runs = [RunReached(row[0], known[row[0]][1], row[1:]) for row in made[:at_most]]
        return Reached(tuple(names), tuple(directions), runs)

    def _values(
        self, objectives: object, filters: Mapping[str, object] | None, metric_type: str
    ) -> tuple[list[str], list[Direction], list[StoredRow]]:
        """The names, their directions, and run_id and each objective's value by run."""
        from ledger.store import results, runs

        names = _names(objectives)
        if metric_type not in VALUES:
            wanted = f"one of {', '.join(VALUES)} is wanted"
            raise InvalidValue("metric_type", metric_type, wanted, nearest(str(metric_type), VALUES))
        present = self._present()
        clauses, values = runs.clauses(parse_filters(filters, present.moment), present)
        found, stated = self._answers.ask(
            lambda connection: results.reached(connection, names, metric_type, clauses, values)
        )
        if not found and self.count_runs():
            _refuse_unknown(names, self._answers.ask(results.known_objectives))
        return names, [_direction(*each, objectives) for each in zip(names, stated, strict=True)], found

    def _named(self, found: Sequence[StoredRow]) -> dict[str, StoredRow]:
        """created_at and run_name of the runs that were found."""
        from ledger.store import results

        return self._answers.ask(lambda connection: results.named_runs(connection, [row[0] for row in found]))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not storable_text(value):
        raise InvalidValue(name, value, "text is wanted")
    return value


def _status(status: object) -> str | None:
    if status is not None and status not in STATUSES:
        wanted = f"one of {', '.join(STATUSES)} is wanted, or None for any"
        raise InvalidValue("status", status, wanted, nearest(str(status), STATUSES))
    return None if status is None else str(status)


def _constrained(said: Constraints) -> Iterator[tuple[str, object]]:
    """The filters of query_runs that say the same."""
    if not isinstance(said, Mapping):
        raise InvalidValue("objective_filters", said, "a mapping of objectives to {'min': ..., 'max': ...} is wanted")
    for name, bounds in said.items():
        objective = _text("objective_filters", name)
        if not isinstance(bounds, Mapping):
            raise InvalidValue(f"objective_filters[{name!r}]", bounds, "{'min': ..., 'max': ...} is wanted")
        for bound in bounds:
            if bound not in _BOUNDS:
                raise InvalidValue(
                    f"objective_filters[{name!r}]", bound, "min and max can be said", nearest(str(bound), _BOUNDS)
                )
        limits = {bound: limit for bound, limit in bounds.items() if limit is not None}
        yield from ((f"{bound}_objectives.{objective}:raw_mean", limit) for bound, limit in limits.items())
        if not limits:
            yield f"has_objectives.{objective}:raw_mean", True


def _ordered(order_by: str, objectives: Iterable[str]) -> str:
    """The order as query_runs takes it, in which an objective that is asked for may stand by its name alone."""
    if not isinstance(order_by, str):
        raise UnknownOrder(order_by, COLUMNS)
    named = {name: f"objectives.{name}:raw_mean" for name in objectives if name not in COLUMNS}
    parts = (part.split() for part in order_by.split(","))
    return ", ".join(" ".join(named.get(word, word) for word in part) for part in parts)


def _names(objectives: object) -> list[str]:
    listed = [objectives] if isinstance(objectives, str) else objectives
    names = [_text("objectives", name) for name in listed] if isinstance(listed, Iterable) else []
    if not 1 <= len(set(names)) == len(names) <= OBJECTIVES_MAX:
        raise InvalidValue("objectives", objectives, f"1 to {OBJECTIVES_MAX} different names of objectives are wanted")
    return names


def _refuse_unknown(names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if base_of(name) not in known:
            raise UnknownColumn(name, known, " That is what runs of this ledger have as objectives.")


def _direction(name: str, stated: Counter[str | None], objectives: object) -> Direction:
    """What was asked for, else what the name or most runs say; more is better where nobody says anything."""
    said = objectives.get(name) if isinstance(objectives, Mapping) else direction_in(name)
    if said is None:
        said = "minimize" if stated["minimize"] > stated["maximize"] else "maximize"
    if said not in DIRECTIONS:
        raise InvalidValue(
            f"objectives[{name!r}]", said, "'maximize' or 'minimize' is wanted", nearest(str(said), DIRECTIONS)
        )
    return "minimize" if said == "minimize" else "maximize"
