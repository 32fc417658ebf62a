"""The fold alone: one run of many heartbeats, as a refold would walk it."""

from __future__ import annotations

import time

from bench.floor import CONFIG
from ledger.events import Fact, Heartbeat, Launched, Started
from ledger.projections.fold import fold_facts


def folded_per_second(events: int = 50_000) -> float:
    life = [Launched(run_id="r", config=CONFIG), Started(run_id="r")]
    beats = [Heartbeat(run_id="r", step=step, metrics={"loss": 1 / (step + 1)}) for step in range(events)]
    facts = [Fact.of(event, redacting=False) for event in (*life, *beats)]
    start = time.perf_counter()
    fold_facts(facts)
    return len(facts) / (time.perf_counter() - start)
