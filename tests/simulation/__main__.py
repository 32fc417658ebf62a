"""Live the worlds of many seeds: `python -m tests.simulation --seeds 1000`, or one again: `--seed 17 --verbose`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.world import STEPS, Failed, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of a world ({STEPS})")
    parser.add_argument("--verbose", action="store_true", help="tell every step and write")
    said = parser.parse_args()
    seeds = range(said.first, said.first + said.seeds) if said.seed is None else [said.seed]
    began, failed = time.monotonic(), []
    for seed in seeds:
        try:
            digest = simulate(seed, said.steps, print if said.verbose else None)
        except Failed as exc:
            failed.append(seed)
            print(exc)
        else:
            if said.seed is not None:
                print(f"seed {seed}: all holds; its trace is {digest}")
    print(f"{len(seeds)} seeds in {time.monotonic() - began:.0f} s, {len(failed)} failed: {failed}")
    return 1 if failed else 0


sys.exit(main())
