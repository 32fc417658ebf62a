"""The handle of a run inside its training process."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from types import TracebackType
from typing import ParamSpec, Self, TypeVar, cast

from pydantic import JsonValue

from ledger import origin, porch
from ledger.errors import AskedWrongly, InvalidValue
from ledger.events import CheckpointSaved, Event, Heartbeat, Started
from ledger.settings import OFF, Settings
from ledger.tracking import hooks
from ledger.tracking.batching import plain_metrics
from ledger.tracking.endings import Ending, by_exception
from ledger.tracking.entry import Book, Known, Said, known_of, launch_events
from ledger.tracking.harmless import harmless, say_once
from ledger.tracking.last import Last, save
from ledger.tracking.plan import Plan
from ledger.tracking.surroundings import hand_down
from ledger.tracking.wandb_link import WandbLink
from ledger.tracking.writer import Counted, Writer
from ledger.witness_word import RUNNING, leave_word

__all__ = ["TrackedRun", "current_run"]

P = ParamSpec("P")
R = TypeVar("R")

ENTRY_SECONDS_MAX = 2.0
DRAIN_SECONDS_MAX = 10.0
LEASE_BEATS = 5  # so many heartbeats may be missed before a run is late
METRICS_BEATS = 5  # every so many heartbeats tell the metrics so far

_NOT_BEGUN = "run.{0}(...) before the run has begun is not recorded; begin it with `with ledger.track(...)`"
_ENDED = "run.{0}(...) after the run has ended is not recorded; track it again to go on"
_FORKED = "run.{0}(...) in a process forked from the one that tracks the run is not recorded; call it in the parent"

_log = logging.getLogger("ledger")


class TrackedRun:
    """One run, from its process: a context manager and a decorator, or begun by `start_run` and ended by `finish`.

    Once it has begun nothing here raises, and nothing waits for a database. `summary` holds what is to be
    among the final metrics.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._writer: Writer | None = None
        # Why calls are not recorded: a saying with the call's name in it, "" where that is as it should be.
        self._silence: str | None = _NOT_BEGUN
        self._summary: dict[str, object] = {}
        self.counted = Counted()
        self._latest: dict[str, JsonValue] = {}
        self._step = -1
        self._beats = 0
        self._spoke_at = 0.0
        self._began_at = 0.0
        self._wandb = WandbLink()
        self._guest = False  # in a block that is inside of another one of the same run
        self._in_block = False
        self._ended = threading.Event()

    @property
    def run_id(self) -> str:
        return self._plan.said.run_id

    @property
    def summary(self) -> dict[str, object]:
        """What is to be among the final metrics, by name."""
        return self._summary

    @property
    def speaks(self) -> bool:
        """Whether this process speaks for the run: it is the first rank, and no child of one that tracks the run."""
        return self._plan.is_first

    @property
    def chain_of_custody_id(self) -> str | None:
        return self._plan.chain_of_custody_id

    def begin(self) -> Self:
        """Record the start. Raises what the arguments or the configuration are at fault for, and nothing later."""
        if self._writer is not None:
            return self
        if self._plan.is_silent:
            self._silence = ""
            hooks.watch(self)
            return self
        for other in hooks.active():
            if isinstance(other, TrackedRun) and other.run_id == self.run_id:
                if other.joined_by(self):
                    return self
                other.give_up()  # a cell that was run again: its run goes on here
        book = self._plan.open_book()
        events = self._opening(known_of(book, self._plan.said))
        self._writer = Writer(book, self.run_id, self._beat, self._plan.heartbeat_seconds)
        self.counted = self._writer.counted
        self._began_at = self._spoke_at = time.monotonic()
        for event in (*events, self._beat()):
            self._writer.put(event)
        self._silence = None
        hooks.watch(self)
        _hand_down()
        self._writer.start()
        if self._plan.is_first:
            leave_word(RUNNING, run_id=self.run_id)
        self._writer.settle(ENTRY_SECONDS_MAX)
        return self

    def _opening(self, known: Known) -> list[Event]:
        """The first events; a process that does not speak for the run only joins it."""
        if not self.speaks:
            return []
        at = origin.now()
        return [*launch_events(self._plan.said, known, at), Started(run_id=self.run_id, process=origin.process())]

    def __enter__(self) -> Self:
        self._in_block = True
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        exits = isinstance(exc, SystemExit)
        self.end((exits and hooks.signalled()) or by_exception(exc), DRAIN_SECONDS_MAX)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Track every call of *function*; inside, `ledger.current_run()` is its run."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise AskedWrongly(
                f"{function.__name__} is a generator, which ends when somebody stops asking it; write "
                "`with ledger.track(...)` inside it."
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
                with type(self)(self._plan):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", awaited)

        @functools.wraps(function)
        def tracked(*args: P.args, **kwargs: P.kwargs) -> R:
            with type(self)(self._plan):
                return function(*args, **kwargs)

        return tracked

    @harmless
    def log(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Record metrics of a step; without *step* it is the one after the last."""
        writer = self._writer
        if writer is None:
            self._unheard("log")
            return
        if type(metrics) is not dict and not isinstance(metrics, Mapping):
            wanted = 'a mapping of names to values is wanted, as in run.log({"train/loss": 0.5}, step=1)'
            raise InvalidValue("metrics", metrics, wanted)
        values = plain_metrics(metrics)
        said = values.pop("step", None) if "step" in values else None
        self._step = self._counted_step(said if step is None else step)
        self._latest.update(values)
        self._spoke_at = time.monotonic()
        writer.log((origin.now(), self._step, values))

    def _counted_step(self, step: object) -> int:
        if type(step) is int and -(2**63) <= step < 2**63:
            return step
        if step is None:
            return self._step + 1
        if isinstance(step, Integral) and not isinstance(step, int):
            return self._counted_step(int(step))
        if isinstance(step, float) and step.is_integer():
            return self._counted_step(int(step))
        raise InvalidValue("step", step, "a whole number of 64 bits is wanted")

    @harmless
    def checkpoint(
        self, uri: str | os.PathLike[str], *, step: int | None = None, metrics: Mapping[str, object] | None = None
    ) -> None:
        """Record that the model as of a step was written to *uri*."""
        said = None if step is None else self._counted_step(step)
        self._put(
            "checkpoint", lambda: CheckpointSaved(run_id=self.run_id, uri=os.fspath(uri), step=said, metrics=metrics)
        )

    @harmless
    def note(self, /, note: str | None = None, *, tags: str | Iterable[str] | None = None, **metadata: object) -> None:
        """Record a remark: the latest note shows, tags gather, metadata is merged key by key."""
        self._put("note", lambda: porch.annotated(self.run_id, note, tags, metadata, None))

    @harmless
    def attach_wandb(self, wandb_run: object = None) -> None:
        """Record which W&B run this one reports to: *wandb_run*, or the process's own.

        Its summary is among the final metrics. A disabled W&B run is none.
        """
        if self._writer is None:
            self._unheard("attach_wandb")
            return
        for event in self._wandb.attach(self.run_id, wandb_run):
            self._writer.put(event)

    @harmless
    def flush(self, seconds_max: float = DRAIN_SECONDS_MAX) -> bool:
        """Wait, for a bounded time, until what was recorded is on disk; return whether it is."""
        return self._writer is not None and self._writer.settle(seconds_max)

    @harmless
    def finish(
        self,
        status: str = "completed",
        *,
        end_reason: str | None = None,
        exit_code: int | None = None,
        error_log: str = "",
    ) -> None:
        """Record the end, after all that was recorded before it. A second call, like any other, does nothing."""
        self.end(Ending.said(status, end_reason, exit_code, error_log), DRAIN_SECONDS_MAX)

    @harmless
    def end(self, ending: Ending, seconds_max: float) -> None:
        """Drain for a bounded time, record the end, and record nothing after it."""
        writer, self._writer = self._writer, None
        if writer is None:  # not begun, silent, forked, or its end is being recorded by another thread
            if self._silence is _ENDED and not self._guest:
                self._ended.wait(seconds_max)
            hooks.release(self)
            return
        self._silence = _ENDED
        if self._guest:
            return
        metrics = {**self._latest, **self._wandb.summary(), **self._summary}
        last = Last(self._plan, ending.meaning(self._plan.stopped_means), metrics, origin.now())
        if save(self._plan, writer.close(last.events, seconds_max)):
            last.leave_word()
        self._ended.set()
        hooks.release(self)
        _hand_down()
        self._wandb.let_go()
        self._say_what_waits(writer)
        if writer.interrupted is not None:
            raise writer.interrupted

    def give_up(self) -> None:
        """Write what waits and record no end: another handle of the same process goes on with the run."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._silence = _ENDED
            save(self._plan, writer.close(lambda: (), DRAIN_SECONDS_MAX))
            self._ended.set()
            hooks.release(self)
            _hand_down()

    def joined_by(self, other: TrackedRun) -> bool:
        """Let a block inside of ours record to the same writer; its end is none of the run's."""
        if not (self._in_block and other._in_block) or self._writer is None:
            return False
        other._writer, other._silence, other._guest, other.counted = self._writer, None, True, self.counted
        return True

    def last_word_at(self) -> float:
        """When training last said something, by the monotonic clock."""
        return self._spoke_at

    def was_forked(self) -> None:
        """Leave everything to the parent."""
        if self._writer is not None:
            self._writer, self._silence = None, _FORKED

    def _put(self, name: str, make: Callable[[], Event]) -> None:
        if self._writer is None:
            self._unheard(name)
            return
        self._spoke_at = time.monotonic()
        self._writer.put(make())

    def _unheard(self, name: str) -> None:
        if self._silence:
            say_once(self._silence.format(name), self._silence)

    def _beat(self) -> Event:
        with_metrics = self._beats % METRICS_BEATS == METRICS_BEATS - 1 and bool(self._latest)
        self._beats += 1
        return Heartbeat(
            run_id=self.run_id,
            step=self._step if self._step >= 0 else None,
            duration_seconds=time.monotonic() - self._began_at,
            metrics=dict(self._latest) if with_metrics else None,
            lease_seconds=max(1, LEASE_BEATS * self._plan.heartbeat_seconds),
        )

    def _say_what_waits(self, writer: Writer) -> None:
        counted, place = self.counted, writer.waits_in
        lost = counted.given_up + counted.rows_lost
        if lost:
            _log.error(
                "run %s: %d event(s) and %d row(s) of metrics could not be kept",
                self.run_id,
                counted.given_up,
                counted.rows_lost,
            )
        if place is not None:
            _log.warning(
                "run %s: %d event(s) recorded; what has not come to the ledger waits in the spool %s, "
                "and `ledger --db %s sync %s` moves it in",
                self.run_id, self.counted.written, place, self._plan.ledger_of_spool, place,
            )  # fmt: skip


def _hand_down() -> None:
    tracked = [run for run in hooks.active() if isinstance(run, TrackedRun) and run.speaks]
    hand_down([(run.run_id, run.chain_of_custody_id) for run in tracked])


_NOTHING = Plan(Said("none"), Settings(OFF), lambda: Book(OFF))


def current_run() -> TrackedRun:
    """Return the run that this process tracks, the latest where there are several.

    Where there is none, it is one that records nothing and says so once.
    """
    runs = [run for run in hooks.active() if isinstance(run, TrackedRun)]
    return runs[-1] if runs else TrackedRun(_NOTHING)
