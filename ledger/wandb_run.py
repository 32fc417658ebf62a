"""The W&B run of this process: what it is called, its summary, and the moment just before W&B finishes it.

W&B itself is never imported here; what is given may be live, offline or disabled, or of the public API.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import JsonValue

from ledger.events.envelope import storable_text
from ledger.events.plain import plain

__all__ = ["Attachment", "current", "described", "summary_of", "watch_finish"]

Summary = dict[str, JsonValue]
T = TypeVar("T")

_log = logging.getLogger("ledger")
_INTERNAL = "_wandb"
_EARLY = 1  # W&B's own TeardownStage for what still needs the run to be unfinished


@dataclass(frozen=True)
class Attachment:
    """What the ledger keeps of a W&B run; an offline run has no url."""

    wandb_run_id: str
    wandb_url: str | None = None
    wandb_name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


def current() -> object | None:
    """Return the W&B run of this process, None where there is none or W&B was never imported."""
    module = sys.modules.get("wandb")
    return None if module is None else _read(module, "run")


def described(wandb_run: object) -> Attachment | None:
    """Return what a W&B run is called; None for no run and for a disabled one, whose id means nothing."""
    if wandb_run is None or _read(wandb_run, "disabled") is True:
        return None
    wandb_run_id = _text(_read(wandb_run, "id"))
    if wandb_run_id is None:
        return None
    tags = plain(_read(wandb_run, "tags"))
    return Attachment(
        wandb_run_id,
        _text(_read(wandb_run, "url")),
        _text(_read(wandb_run, "name")),
        _text(_read(wandb_run, "group")),
        tuple(tag for tag in map(_text, tags) if tag is not None) if isinstance(tags, list) else (),
    )


def summary_of(wandb_run: object) -> Summary | None:
    """Return the summary as plain data without W&B's bookkeeping; None where there is none, and after `finish()`."""
    made = _safely(lambda: plain(_read(wandb_run, "summary")))
    if not isinstance(made, dict):
        return None
    return {name: value for name, value in made.items() if name != _INTERNAL} or None


def watch_finish(wandb_run: object, taken: Callable[[Summary], None]) -> Callable[[], None]:
    """Call *taken* once with the summary just before W&B finishes the run; return what undoes the watch.

    That is before `run.finish()`, `wandb.finish()`, the end of `with wandb.init()` and the end of the process.
    It is not called where the summary is empty. What *taken* raises is logged, and W&B goes on.
    """
    watch = _Watch(wandb_run, taken)
    hooks = _read(wandb_run, "_teardown_hooks")
    undo_finish = _hook_into(hooks, watch) if isinstance(hooks, list) else _wrap_finish(wandb_run, watch)
    # At the end of the process W&B finishes runs by its own atexit, which was registered before: ours comes first.
    atexit.register(watch)

    def undo() -> None:
        watch.is_over = True
        atexit.unregister(watch)
        undo_finish()

    return undo


class _Watch:
    """Takes the summary, the first time that it is called."""

    def __init__(self, wandb_run: object, taken: Callable[[Summary], None]) -> None:
        self._wandb_run = wandb_run
        self._taken = taken
        self._pid = os.getpid()
        self.is_over = False

    def __call__(self) -> None:
        if self.is_over or os.getpid() != self._pid:  # the run of a fork's child is still its parent's
            return
        self.is_over = True
        summary = summary_of(self._wandb_run)
        if summary:
            _safely(lambda: self._taken(summary))


class _Hook(NamedTuple):
    """As W&B's own TeardownHook."""

    call: Callable[[], None]
    stage: int = _EARLY


def _hook_into(hooks: list[object], watch: _Watch) -> Callable[[], None]:
    """All of W&B's Python ways to finish a run call its hooks first."""
    hook = _Hook(watch)
    hooks.append(hook)

    def undo() -> None:
        if hook in hooks:
            hooks.remove(hook)

    return undo


def _wrap_finish(wandb_run: object, watch: _Watch) -> Callable[[], None]:
    """For a W&B without such hooks: `run.finish()` and `wandb.finish()` come through here."""
    finish = _read(wandb_run, "finish")
    if not callable(finish):
        return lambda: None

    def watched(*args: object, **kwargs: object) -> object:
        watch()
        return finish(*args, **kwargs)

    _safely(lambda: setattr(wandb_run, "finish", watched))  # one that takes no attribute is read at the process's end

    def undo() -> None:
        if getattr(wandb_run, "__dict__", {}).get("finish") is watched:
            delattr(wandb_run, "finish")

    return undo


def _text(value: object) -> str | None:
    return str.__str__(value) if isinstance(value, str) and value.strip() and storable_text(value) else None


def _read(holder: object, name: str) -> object:
    return _safely(lambda: getattr(holder, name, None))


def _safely(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Exception as exc:  # noqa: BLE001 -- W&B's objects may raise anything, and no training ends for that
        _log.warning("the W&B run could not be asked: %s: %s", type(exc).__name__, exc)
        return None
