"""What may happen in a world, and how often: each act takes the world on by one step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import LedgerError
from ledger.events import Fact
from tests.simulation.audit import Broken
from tests.simulation.calls import Call, any_call
from tests.simulation.machines import Node, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["ACTS", "MEANWHILE"]


def record(world: World) -> None:
    node = _node(world)
    process = _process_of(world, node)
    if process is world.kernel.process:  # it is in the middle of something
        return
    call = any_call(world.chance, len(world.trace))
    fault = world.fault(9)
    caught: list[Fact] = []
    assert process.book is not None
    making = process.book._facts

    def catching(events: object) -> list[Fact]:
        made = making(events)
        caught.extend(made)
        return made

    process.book._facts = catching
    before = len(world.trace)
    done = world.do(process, call.said, fault, call.do)
    if process.book is not None:
        process.book._facts = making
    if done:
        copies = 2 if fault is not None and fault.kind == "lost answer" else 1
        world.promises.acknowledged(caught, call.report, copies)
        if "    -- meanwhile" not in world.trace[before:]:
            _check_own_word(world, node, process, call, caught)


def _node(world: World) -> Node:
    """Any; while a process is in the middle of something, rather one that records to the ledger that it uses."""
    used = {one.path for one in world.kernel.connections if one.owner is world.kernel.process}
    rather = [node for node in world.nodes if str(node.hub.path) in used and node.how != "spool"]
    return world.chance.choice(rather or world.nodes)


def _check_own_word(world: World, node: Node, process: Process, call: Call, facts: list[Fact]) -> None:
    """Where a ledger, and no spool, has answered, it shows that status."""
    if call.status is None or node.how == "spool" or node.hub.is_away:
        return
    with world.kernel.running(process):
        with suppress(LedgerError):
            assert process.book is not None
            if process.book.spooled is not None:  # which the question itself may bring in, as it was said there
                return
            row = process.book.get_run(call.run_id)
            there = {event.event_id for event in process.book.events(call.run_id)} if row else set()
            if row and all(fact.event_id in there for fact in facts) and row["status"] != call.status:
                raise Broken(f"run {call.run_id} shows {row['status']} after {call.said}")


def _process_of(world: World, node: Node) -> Process:
    node.processes = [process for process in node.processes if not process.dead]
    if len(node.processes) < 2 and (not node.processes or world.chance.random() < 0.3):
        url = f"spool://{node.spool}" if node.how == "spool" else str(node.hub.path)
        spool = node.spool if node.how == "fallback" else None
        node.processes.append(world.spawn(node.host, url, spool))
    return world.chance.choice(node.processes)


def finish(world: World) -> None:
    if processes := [process for node in world.nodes for process in node.processes if not process.dead]:
        world.end(world.chance.choice(processes), world.fault(6))


def kill_one(world: World) -> None:
    if processes := [process for node in world.nodes for process in node.processes if not process.dead]:
        process = world.chance.choice(processes)
        world.tell(f"  {process.name}")
        world.kernel.bury(process)


def cut_power(world: World) -> None:
    node = world.chance.choice(world.nodes)
    world.tell(f"  {node.host.name}")
    for process in [process for process in world.kernel.alive if process.host is node.host]:
        world.kernel.bury(process)
    node.host.boots += 1
    if node.spool in world.kernel.disks:
        world.kernel.disks[node.spool].cut(world.chance)


def set_clock(world: World) -> None:
    host = world.chance.choice([node.host for node in world.nodes])
    host.skew += timedelta(seconds=world.chance.choice([-90000, -7200, -7200, -1, 3600, 3600, 90000]))
    world.tell(f"  {host.name} is {host.skew} off")


def deliver(world: World) -> None:
    """Carry a spool, or a part, to a hub: whole, torn, later, or never."""
    filled = [node for node in world.nodes if any(node.spool.glob("*.jsonl"))]
    if not filled:
        return
    node = world.chance.choice(filled)
    hub = world.chance.choice(world.hubs)
    files = sorted(node.spool.glob("*.jsonl"))
    for file in files if world.chance.random() < 0.6 else world.chance.sample(files, len(files) // 2):
        target = hub.inbox / node.spool.name / file.name
        how = world.chance.choices(["whole", "torn", "late", "lost"], [5, 3, 2, 1])[0]
        world.tell(f"  {target} {how}")
        data = file.read_bytes()
        if how == "late":
            world.late.append((target, data))
        elif how != "lost":
            _put(target, data if how == "whole" else data[: world.chance.randint(0, len(data))])


def _put(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def deliver_late(world: World) -> None:
    world.chance.shuffle(world.late)
    for target, data in world.late[:3]:
        world.tell(f"  {target} {len(data)}")
        _put(target, data)
    del world.late[:3]


def sync(world: World) -> None:
    hub = world.chance.choice(world.hubs)
    places = [place for place in (hub.inbox, *(node.spool for node in world.nodes)) if place.is_dir()]
    if places:
        chosen = world.chance.sample(places, world.chance.randint(1, len(places)))
        clear = world.chance.random() < 0.5
        what = f"sync {[place.name for place in chosen]}, clear={clear}"
        world.at_hub(hub, what, lambda book: book.sync(*chosen, clear=clear), world.fault(25))


def merge(world: World) -> None:
    hub, other = world.chance.sample(world.hubs, 2)
    if other.is_away:
        return
    world.at_hub(hub, "merge", lambda book: book.merge(other.path), world.fault(30))


def merge_an_export(world: World) -> None:
    hub, other = world.chance.sample(world.hubs, 2)
    export = world.root / "export.jsonl.gz"
    export.unlink(missing_ok=True)
    if world.at_hub(other, "export", lambda book: book.export(export).events, None):
        world.at_hub(hub, "merge the export", lambda book: book.merge(export), world.fault(30))


def replay(world: World) -> None:
    hub = world.chance.choice(world.hubs)
    world.at_hub(hub, "replay", lambda book: book.replay(), world.fault(90))


def lock(world: World) -> None:
    """A stranger takes the write lock, for shorter or for longer than anybody waits."""
    hub = world.chance.choice(world.hubs)
    if hub.stranger is None and not hub.is_away:
        hub.lock(world.clock.seconds + world.chance.choice([0.1, 5, 700]))
        world.tell(f"  {hub.host.name} until {hub.locked_until:.3f}")


def go_away_or_come_back(world: World) -> None:
    """The disk of a ledger is not mounted for a while."""
    away = [hub for hub in world.hubs if hub.is_away]
    hub = world.chance.choice(away or world.hubs)
    world.tell(f"  {hub.host.name} {'comes back' if away else 'is away'}")
    if away:
        hub.come_back()
    else:
        hub.go_away()


def cut_or_mend_the_line(world: World) -> None:
    node = world.nodes[-1]
    world.kernel.cut_off ^= {(node.host.name, str(node.hub.path))}
    world.tell(f"  {node.host.name} {'cannot reach' if world.kernel.cut_off else 'reaches'} {node.hub.host.name}")


ACTS: list[tuple[int, Callable[[World], None]]] = [
    (46, record),
    (6, finish),
    (5, kill_one),
    (5, cut_power),
    (9, set_clock),
    (9, deliver),
    (3, deliver_late),
    (10, sync),
    (5, merge),
    (2, merge_an_export),
    (6, replay),
    (3, lock),
    (6, go_away_or_come_back),
    (4, cut_or_mend_the_line),
]

# What other processes do between two writes of one.
MEANWHILE: list[Callable[[World], None]] = [record, record, record, record, sync, sync, merge, replay]
