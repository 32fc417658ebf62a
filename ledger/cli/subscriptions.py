"""The verb that shows how far the consumers of events have come."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from ledger.cli.output import say, say_document, short_moment
from ledger.cli.place import opened
from ledger.errors import UnknownSubscription
from ledger.table import table, visible

if TYPE_CHECKING:
    from ledger.subscription import Parked, Progress

__all__ = ["subscriptions"]


def subscriptions(said: Namespace) -> int:
    """List the subscriptions: where each has come to, how many wanted events lie behind that, and are parked.

    With a NAME: that one, and the events that it has parked, each with its error.
    With --json: {"subscriptions": [{"name", "position", "behind", "failures", "parked", "updated_at", "types",
    "run_id"}]}; with a NAME that one object, whose "parked" is a list of {"position", "event_id", "run_id", "type",
    "error", "parked_at"}.
    """
    with opened(said) as ledger:
        listed = ledger.subscriptions()
        if said.name is not None:
            listed = [one for one in listed if one.name == said.name]
            if not listed:
                raise UnknownSubscription(said.name, [one.name for one in ledger.subscriptions()])
            parked = ledger.subscription(said.name).parked()
    if said.name is not None:
        _say_one(listed[0], parked, as_json=said.as_json)
    elif said.as_json:
        say_document({"subscriptions": [one._asdict() for one in listed]})
    else:
        say(_table(listed) if listed else "no subscriptions")
    return 0


def _say_one(one: Progress, parked: list[Parked], *, as_json: bool) -> None:
    from ledger.events.times import text_of

    if as_json:
        say_document({**one._asdict(), "parked": [_parked(kept, text_of(kept.parked_at)) for kept in parked]})
        return
    say(_table([one]))
    for position, event, error, parked_at in parked:
        say(visible(f"{position:>6}  {short_moment(text_of(parked_at))}  {event.run_id}  {event.type}"))
        say(visible(f"        {' '.join(error.split())}"))


def _parked(kept: Parked, parked_at: str) -> dict[str, object]:
    event = {name: getattr(kept.event, name) for name in ("event_id", "run_id", "type")}
    return {"position": kept.position, **event, "error": kept.error, "parked_at": parked_at}


def _table(listed: list[Progress]) -> str:
    lines = [{**one._asdict(), "updated_at": short_moment(one.updated_at), "wanted": one.wanted} for one in listed]
    return table(lines, ["name", "position", "behind", "parked", "updated_at", "wanted"])
