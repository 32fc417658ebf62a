"""A ledger of many realistic runs: configs of 1 to 2 KB with ten objectives, forty final metrics, all kinds of ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from ledger import Ledger
from ledger.events import BlogAttached, Completed, CrashDataAttached, Crashed, Event, Failed, Launched, Started

METHODS = ("mgda", "pcgrad", "imtlg", "aligned_mtl")
INSTANCES = ("g5.12xlarge", "p4d.24xlarge", "p5.48xlarge", "g6.48xlarge", None)
REASONS = ("oom", "exception", "preempted", "node_failure", "timeout", None)
ALIASES = tuple(
    f"{name}_{way}"
    for name, way in (
        ("COMT_activity", "maximize"), ("MAOB_activity", "maximize"), ("DRD2_activity", "maximize"),
        ("toxicity", "minimize"), ("solubility", "maximize"), ("permeability", "maximize"), ("hERG", "minimize"),
        ("synthesis", "maximize"), ("novelty", "maximize"), ("weight", "minimize"),
    )
)  # fmt: skip
METRIC = f"objectives/{ALIASES[0]}/raw_mean"
SIDES = ("raw_mean", "normalized_mean", "raw_std", "normalized_std")
BATCH = 1_000


def fill(path: Path, runs: int) -> Ledger:
    """Record *runs* lives in the year before now, a thousand at a time."""
    random = Random("analytics")
    book = Ledger(path)
    begin = datetime.now(UTC) - timedelta(days=365)
    apart = timedelta(days=365) / runs
    for first in range(0, runs, BATCH):
        of_runs = [_life(random, n, begin + n * apart) for n in range(first, min(first + BATCH, runs))]
        book.append([event for life in of_runs for event in life])
    return book


def _life(random: Random, number: int, at: datetime) -> list[Event]:
    run_id, config = f"run_{number:06}", _config(random)
    method = config["reward"]["gradient_method"]
    told: list[Event] = [
        Launched(
            run_id=run_id, occurred_at=at, config=config, host=random.choice(("ec2", "expanse")),
            run_name=f"run {number}", instance_type=random.choice(INSTANCES), chain_of_custody_id=f"C{number // 5:05}",
        )
    ]  # fmt: skip
    if random.random() < 0.02:
        return told
    started = at + timedelta(seconds=random.uniform(30, 900))
    told.append(Started(run_id=run_id, occurred_at=started, started_at=started))
    drawn = random.random()
    ended = started + timedelta(seconds=round(random.lognormvariate(9, 1.3), 3))
    if ended > datetime.now(UTC):
        return told
    if drawn < 0.65:
        told.append(Completed(run_id=run_id, occurred_at=ended, final_metrics=_metrics(random, method, config)))
        if drawn < 0.25:
            told.append(BlogAttached(run_id=run_id, occurred_at=ended, blog_post_url=f"https://example.org/{number}"))
        return told
    reason = random.choice(REASONS)
    ending = Failed if drawn < 0.72 else Crashed
    told.append(ending(run_id=run_id, occurred_at=ended, end_reason=reason, exit_code=random.choice((1, 137, None))))
    if random.random() < 0.5:
        keys = {"error_log_s3_key": f"{run_id}/error.log", "crash_analysis_s3_key": f"{run_id}/analysis.md"}
        told.append(CrashDataAttached(run_id=run_id, occurred_at=ended, **keys))
    return told


def _config(random: Random) -> dict[str, dict[str, object]]:
    return {
        "training": {
            "batch_size": random.choice((128, 256, 384, 512)), "learning_rate": 10 ** random.uniform(-5, -3),
            "num_processes": random.choice((1, 4, 8)), "max_steps": 2000, "seed": random.randrange(10**6),
            "optimizer": random.choice(("adamw", "lion", "sgd")), "warmup": {"steps": random.choice((0, 100, 500))},
        },
        "reward": {"gradient_method": random.choice(METHODS), "beta": random.choice((0.01, 0.05, 0.1))},
        "objectives": [
            {"name": alias.rpartition("_")[0], "alias": alias, "uniprot": f"P{21964 + n}",
             "weight": random.choice((1, 2)), "direction": alias.rpartition("_")[2]}
            for n, alias in enumerate(ALIASES)
        ],
        "generation": {"scaffolds": [{"name": f"scaffold {n}", "smiles": "c1ccccc1" + "C" * n} for n in range(4)]},
    }  # fmt: skip


def _metrics(random: Random, method: str, config: dict[str, dict[str, object]]) -> dict[str, float]:
    shift = METHODS.index(method) * 0.05 + float(str(config["reward"]["beta"])) * 2
    made = {f"objectives/{alias}/{side}": random.gauss(0.5 + shift, 0.1) for alias in ALIASES for side in SIDES}
    return {**made, METRIC: float("nan")} if random.random() < 0.01 else made
