"""Reports: what many runs come to, as plain rows. docs/analytics.md has each with its keys and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.errors import InvalidValue, nearest
from ledger.projections.filters import Condition, parse_filters
from ledger.projections.picks import Pick, listed_names, parse_pick, parse_picks

if TYPE_CHECKING:
    from ledger.analytics.prices import Given
    from ledger.projections.liveness import Present
    from ledger.store.answers import Answers
    from ledger.store.statements import Row, StoredRow

__all__ = ["Filters", "Reporting"]

Filters = Mapping[str, object]
By = str | Sequence[str] | None


class Reporting:
    """What a ledger, or a view of its past, reports of the runs that meet filters."""

    if TYPE_CHECKING:

        @property
        def _answers(self) -> Answers: ...

        def _present(self) -> Present: ...

    def outcomes(self, by: By = "gradient_method", filters: Filters | None = None) -> list[Row]:
        """Return how runs ended, for each value of a column or path: counts by status, and the share that completed.

        `success_rate` is completed / (completed + failed + crashed), with Wilson's 95 % interval in `success_low`
        and `success_high`. What has most runs comes first; a value that is not there is None.
        """
        from ledger.analytics.outcomes import outcomes

        picks = parse_picks(by)
        present = self._present()
        conditions = parse_filters(filters, present.moment)
        return outcomes(self._answers.tallied(conditions, present, [*picks, *_picks("status")]), _names(picks))

    def durations(self, by: By = None, filters: Filters | None = None) -> list[Row]:
        """Return how long runs took, in seconds: mean, median, p90, min, max, total; a running one up to now.

        `count` are those whose duration is known; of them `running` run, `lost` of which fell silent and count up
        to their last sign of life. `unknown` are the others.
        """
        from ledger.analytics.durations import durations
        from ledger.analytics.spans import instant_of

        picks = parse_picks(by)
        rows, now = self._picked(filters, [*picks, *_picks(*_SPAN)])
        return durations(rows, _names(picks), instant_of(now.moment))

    def crashes(self, by: By = "end_reason", filters: Filters | None = None) -> list[Row]:
        """Return what crashed and failed, for each value of a column or path, what has most of both first.

        `share` is of all that crashed or failed; `with_analysis` have a crash analysis; `median_seconds` and
        `p90_seconds` say how long they ran, and of `unknown` runs nobody knows.
        """
        from ledger.analytics.outcomes import crashes

        picks = parse_picks(by)
        wanted = [*picks, *_picks("status", "crash_analysis_s3_key", "duration_seconds")]
        return crashes(self._picked(filters, wanted, _BROKEN)[0], _names(picks))

    def time_to_crash(self, by: By = None, filters: Filters | None = None) -> list[Row]:
        """Return how many runs crashed and failed within a minute, ten, an hour, six, a day, and later.

        Each value of *by* has a row for each span, also where nothing crashed in it.
        """
        from ledger.analytics.outcomes import time_to_crash

        picks = parse_picks(by)
        rows, _ = self._picked(filters, [*picks, *_picks("status", "duration_seconds")], _BROKEN)
        return time_to_crash(rows, _names(picks))

    def throughput(self, per: str = "week", filters: Filters | None = None) -> list[Row]:
        """Return what was launched, completed, failed and crashed in each week (or day, month), and hours of compute.

        In UTC; weeks are those of ISO 8601. From the first to the last there is a row for each, also where nothing was.
        """
        from ledger.analytics.spans import instant_of
        from ledger.analytics.throughput import PERIODS, throughput

        if per not in PERIODS:
            raise InvalidValue("per", per, f"one of {', '.join(PERIODS)} is wanted", nearest(str(per), PERIODS))
        rows, now = self._picked(filters, _picks("created_at", *_SPAN))
        return throughput(rows, per, instant_of(now.moment))

    def cost(self, prices: Given, by: By = "instance_type", filters: Filters | None = None) -> list[Row]:
        """Return compute hours and money, for each value of a column or path, or for each "month".

        *prices* are rows of instance_type, price_per_hour and, if they change, from; or a CSV, JSON or YAML file.
        Hours whose price is not known are `unpriced_hours`, and in no sum of money.
        """
        from ledger.analytics.cost import MONTH, cost
        from ledger.analytics.prices import read_prices
        from ledger.analytics.spans import instant_of

        names = listed_names(by)
        picks = [parse_pick(name, beside=[MONTH]) for name in names if name != MONTH]
        table = read_prices(prices)
        rows, now = self._picked(filters, [*picks, *_picks("instance_type", *_SPAN)])
        return cost(rows, names, table, instant_of(now.moment))

    def _picked(
        self, filters: Filters | None, picks: Sequence[Pick], further: Sequence[Condition] = ()
    ) -> tuple[list[StoredRow], Present]:
        present = self._present()
        conditions = [*parse_filters(filters, present.moment), *further]
        return self._answers.picked(conditions, present, picks), present


_SPAN = (  # what span_of takes
    *("status", "started_at", "ended_at", "duration_seconds"),
    *("active_seconds", "last_seen_at", "liveness", "runs_since"),
)
_BROKEN = (Condition("status", "is", ("crashed", "failed"), several=True),)


def _picks(*names: str) -> list[Pick]:
    return [Pick(name, name) for name in names]


def _names(picks: Sequence[Pick]) -> list[str]:
    return [pick.name for pick in picks]
