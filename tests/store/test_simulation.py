"""Hubs, nodes and spools in a world where everything goes wrong: nothing acknowledged is lost, nothing is there twice.

Again, by its seed: `python -m tests.simulation --seed 17 --verbose`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import trials
from tests.simulation.world import World, simulate

ROOT = Path(__file__).parents[2]
SEEDS = trials(200, 2000)
SEEDS_A_TEST = trials(20, 100)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
def test_no_law_is_broken_whatever_goes_wrong(first: int) -> None:
    """After every step window = ledger and all that was acknowledged is there; at the end two ledgers are equal."""
    for seed in range(first, first + SEEDS_A_TEST):
        simulate(seed)


def trace_of(seed: int, hash_seed: str) -> str:
    """Live a seed in an interpreter of its own and return what it says at the end."""
    asked = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def test_a_seed_is_a_world() -> None:
    """The same steps, writes and answers, in whatever process and whatever order its sets have."""
    here = f"seed 3: all holds; its trace is {simulate(3)}"

    assert here == trace_of(3, "1") == trace_of(3, "2")
    assert simulate(3) != simulate(4)


def test_everything_goes_wrong(tmp_path: Path) -> None:
    """The seeds that are tried meet every fault, between writes and within them, and every way of being away."""
    told: set[str] = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        world = World(seed, tmp_path / str(seed))
        world.run()
        told |= {word for line in world.trace for word in FAULTS if word in line}

    assert told == set(FAULTS)


FAULTS = (
    "-- before", "-- within", "-- after", "-- full", "-- lost answer", "cut back to", "cut_power", "kill_one",
    " torn", " late", " lost", " off", "LedgerBusy", "is away", "cannot reach", "cleared=1",
)  # fmt: skip
