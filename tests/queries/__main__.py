"""Ask one question again: `python -m tests.queries --seed 3 --question 141 --database sqlite`."""

from __future__ import annotations

import argparse
import sys

import pytest

from tests.queries.databases import DATABASES, empty_ledgers
from tests.queries.proof import prove_one


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.queries", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="of the runs and of the questions")
    parser.add_argument("--question", type=int, required=True, help="its number")
    parser.add_argument("--database", choices=list(DATABASES), action="append", help="one to ask (all)")
    said = parser.parse_args()
    with empty_ledgers(said.database or list(DATABASES)) as books:
        try:
            print(f"all answer the same: {prove_one(books, said.seed, said.question)}")
        except pytest.fail.Exception as differing:
            print(differing)
            return 1
    return 0


sys.exit(main())
